use serde_json::{Value, json};

use super::super::testing::{Case, object};

fn case(labels: Value) -> Case {
    let labels: serde_json::Map<String, Value> = labels
        .as_object()
        .unwrap()
        .iter()
        .map(|(name, level)| (format!("pod-security.kubernetes.io/{name}"), level.clone()))
        .collect();
    Case::new(vec![
        object("v1", "Namespace", "ns", json!({"metadata": {"labels": labels}})),
        object("v1", "ServiceAccount", "ns/default", json!({"automountServiceAccountToken": false})),
        object("v1", "Pod", "ns/a", json!({"spec": {"hostPID": true, "containers": []}})),
        object("v1", "Pod", "ns/b", json!({"spec": {"hostPID": true, "containers": []}})),
        object("v1", "Pod", "ns/c", json!({"spec": {"containers": []}})),
    ])
}

/// A pod that the restricted level allows, with these fields on top.
fn hardened(pod: Value, container: Value) -> Value {
    let mut spec = json!({"securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}}});
    let mut inner =
        json!({"name": "c", "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}}});
    for (target, changes) in [(&mut spec, pod), (&mut inner, container)] {
        for (field, value) in changes.as_object().unwrap() {
            match (field.as_str(), value.as_object()) {
                ("securityContext", Some(fields)) => {
                    fields.iter().for_each(|(field, value)| target["securityContext"][field] = value.clone());
                }
                _ => target[field] = value.clone(),
            }
        }
    }
    spec["containers"] = json!([inner]);
    json!({"metadata": {"name": "p"}, "spec": spec})
}

#[test]
fn levels_forbid_what_kubernetes_says() {
    let own = |field: &str, value: Value| json!({"securityContext": {field: value}});
    let none = || json!({});
    // Pod fields, container fields, why baseline and why restricted refuse it.
    for (pod, container, baseline, restricted) in [
        (none(), none(), "", ""),
        (
            json!({"hostNetwork": true, "hostPID": true}),
            none(),
            "host namespaces (hostNetwork=true, hostPID=true)",
            "host namespaces (hostNetwork=true, hostPID=true)",
        ),
        (
            none(),
            own("privileged", json!(true)),
            "privileged (container \"c\" must not set securityContext.privileged=true)",
            "privileged (container \"c\" must not set securityContext.privileged=true)",
        ),
        (
            none(),
            own("allowPrivilegeEscalation", json!(true)),
            "",
            "allowPrivilegeEscalation != false (container \"c\" must set securityContext.allowPrivilegeEscalation=false)",
        ),
        (
            none(),
            own("capabilities", json!({"add": ["CHOWN"]})),
            "",
            "unrestricted capabilities (container \"c\" must set securityContext.capabilities.drop=[\"ALL\"]; container \"c\" must not include \"CHOWN\" in securityContext.capabilities.add)",
        ),
        (
            none(),
            own("capabilities", json!({"add": ["SYS_ADMIN"], "drop": ["ALL"]})),
            "non-default capabilities (container \"c\" must not include \"SYS_ADMIN\" in securityContext.capabilities.add)",
            "unrestricted capabilities (container \"c\" must not include \"SYS_ADMIN\" in securityContext.capabilities.add)",
        ),
        (none(), own("capabilities", json!({"add": ["NET_BIND_SERVICE"], "drop": ["ALL"]})), "", ""),
        (
            json!({"volumes": [{"name": "v", "hostPath": {"path": "/"}}]}),
            none(),
            "hostPath volumes (volume \"v\")",
            "restricted volume types (volume \"v\" uses restricted volume type \"hostPath\")",
        ),
        (
            json!({"volumes": [{"name": "v", "nfs": {}}, {"name": "w", "emptyDir": {}}]}),
            none(),
            "",
            "restricted volume types (volume \"v\" uses restricted volume type \"nfs\")",
        ),
        (
            none(),
            json!({"ports": [{"hostPort": 80}, {"hostPort": 443}]}),
            "hostPort (container \"c\" uses hostPorts 443, 80)",
            "hostPort (container \"c\" uses hostPorts 443, 80)",
        ),
        (
            none(),
            json!({"livenessProbe": {"httpGet": {"host": "10.0.0.1"}}}),
            "probe or lifecycle host (container \"c\" uses probe or lifecycle host \"10.0.0.1\")",
            "probe or lifecycle host (container \"c\" uses probe or lifecycle host \"10.0.0.1\")",
        ),
        (
            none(),
            own("procMount", json!("Unmasked")),
            "procMount (container \"c\" must not set securityContext.procMount to \"Unmasked\")",
            "procMount (container \"c\" must not set securityContext.procMount to \"Unmasked\")",
        ),
        (
            json!({"hostUsers": false}),
            own("procMount", json!("Unmasked")),
            "",
            "procMount (container \"c\" must not set securityContext.procMount to \"Unmasked\")",
        ),
        (
            own("runAsNonRoot", Value::Null),
            none(),
            "",
            "runAsNonRoot != true (pod or container \"c\" must set securityContext.runAsNonRoot=true)",
        ),
        (
            own("runAsNonRoot", json!(false)),
            none(),
            "",
            "runAsNonRoot != true (pod must not set securityContext.runAsNonRoot=false)",
        ),
        (json!({"hostUsers": false, "securityContext": {"runAsNonRoot": false, "runAsUser": 0}}), none(), "", ""),
        (
            own("runAsUser", json!(0)),
            own("runAsUser", json!(0)),
            "",
            "runAsUser=0 (pod and container \"c\" must not set runAsUser=0)",
        ),
        (
            own("seccompProfile", Value::Null),
            none(),
            "",
            "seccompProfile (pod or container \"c\" must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")",
        ),
        (
            none(),
            own("seccompProfile", json!({"type": "Unconfined"})),
            "seccompProfile (container \"c\" must not set securityContext.seccompProfile.type to \"Unconfined\")",
            "seccompProfile (container \"c\" must not set securityContext.seccompProfile.type to \"Unconfined\")",
        ),
        (
            own("sysctls", json!([{"name": "kernel.msgmax"}, {"name": "net.ipv4.tcp_rmem"}])),
            none(),
            "forbidden sysctls (kernel.msgmax)",
            "forbidden sysctls (kernel.msgmax)",
        ),
        (
            own("seLinuxOptions", json!({"type": "spc_t", "user": "u"})),
            none(),
            "seLinuxOptions (pod set forbidden securityContext.seLinuxOptions: type \"spc_t\"; user may not be set)",
            "seLinuxOptions (pod set forbidden securityContext.seLinuxOptions: type \"spc_t\"; user may not be set)",
        ),
        (
            none(),
            own("appArmorProfile", json!({"type": "Unconfined"})),
            "forbidden AppArmor profile (container \"c\" must not set AppArmor profile type to \"Unconfined\")",
            "forbidden AppArmor profile (container \"c\" must not set AppArmor profile type to \"Unconfined\")",
        ),
        (
            own("windowsOptions", json!({"hostProcess": true})),
            none(),
            "hostProcess (pod must not set securityContext.windowsOptions.hostProcess=true)",
            "hostProcess (pod must not set securityContext.windowsOptions.hostProcess=true)",
        ),
    ] {
        for (level, why) in [("privileged", ""), ("baseline", baseline), ("restricted", restricted)] {
            let refused = format!("pods \"p\" is forbidden: violates PodSecurity \"{level}:latest\": {why}");
            let refused = (!why.is_empty()).then_some(refused.as_str());
            let case = case(json!({"enforce": level})).of("create", "pods", "ns/p");
            case.refused(hardened(pod.clone(), container.clone()), refused);
        }
    }
}

#[test]
fn workloads_are_warned_and_not_refused() {
    let deployment = || json!({"spec": {"template": {"spec": {"hostPID": true, "containers": []}}}});
    for (labels, warnings) in [
        (json!({"enforce": "baseline"}), vec![]),
        (
            json!({"warn": "baseline"}),
            vec!["would violate PodSecurity \"baseline:latest\": host namespaces (hostPID=true)"],
        ),
        (
            json!({"warn": "baseline", "warn-version": "v1.30"}),
            vec!["would violate PodSecurity \"baseline:v1.30\": host namespaces (hostPID=true)"],
        ),
    ] {
        let case = case(labels).of("create", "deployments.apps", "ns/d");
        assert_eq!(case.run(deployment()).unwrap().1.warnings, warnings);
    }
}

#[test]
fn updates_are_checked_only_when_the_spec_changes() {
    let pod = |image: &str| json!({"metadata": {"name": "p"}, "spec": {"hostPID": true, "tolerations": [{"operator": "Exists"}], "containers": [{"name": "c", "image": image}]}});
    for (old, refused) in [
        (pod("new"), None),
        (
            pod("old"),
            Some("pods \"p\" is forbidden: violates PodSecurity \"baseline:latest\": host namespaces (hostPID=true)"),
        ),
    ] {
        let mut new = pod("new");
        new["metadata"]["labels"] = json!({"a": "b"});
        case(json!({"enforce": "baseline"})).of("update", "pods", "ns/p").was(old).refused(new, refused);
    }
}

#[test]
fn tightening_a_namespace_names_the_pods_that_would_not_pass() {
    let namespace =
        |level: &str| json!({"metadata": {"name": "ns", "labels": {"pod-security.kubernetes.io/enforce": level}}});
    let run =
        |old: &str, new: &str| case(json!({})).of("update", "namespaces", "ns").was(namespace(old)).run(namespace(new));
    assert_eq!(
        run("privileged", "baseline").unwrap().1.warnings,
        [
            "existing pods in namespace \"ns\" violate the new PodSecurity enforce level \"baseline:latest\"",
            "a (and 1 other pod): host namespaces",
        ]
    );
    assert_eq!(run("restricted", "baseline").unwrap().1.warnings, Vec::<String>::new());
    assert_eq!(
        run("privileged", "strict").unwrap_err(),
        "Namespace \"ns\" is invalid: metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: \"strict\": must be one of privileged, baseline, restricted"
    );
}
