use mizzen_store::Revision;
use serde_json::{Value, json};

use super::super::testing::{Case, object};

fn pod(request: &str) -> Value {
    json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": request}}}]}})
}

fn case(spec: Value) -> Case {
    let stored = |name: &str, phase: &str| {
        let mut fields = pod("1");
        fields["status"] = json!({"phase": phase});
        fields["metadata"] = json!({});
        object("v1", "Pod", &format!("ns/{name}"), fields)
    };
    let claim = json!({"spec": {"storageClassName": "fast", "resources": {"requests": {"storage": "1Gi"}}}});
    Case::new(vec![
        object("v1", "Namespace", "ns", json!({})),
        object("v1", "ServiceAccount", "ns/default", json!({"automountServiceAccountToken": false})),
        stored("running", "Running"),
        stored("done", "Succeeded"),
        object("v1", "ConfigMap", "ns/c", json!({})),
        object("v1", "Service", "ns/s", json!({"spec": {"type": "NodePort", "ports": [{}, {}]}})),
        object("v1", "PersistentVolumeClaim", "ns/v", claim),
        object("v1", "ResourceQuota", "ns/q", json!({"spec": spec, "status": {"used": {"pods": "9", "secrets": "4"}}})),
    ])
}

#[test]
fn quotas_hold() {
    let hard = |name: &str, amount: &str| json!({"hard": {name: amount}});
    let claim = |size: &str| json!({"metadata": {"name": "p"}, "spec": {"storageClassName": "fast", "resources": {"requests": {"storage": size}}}});
    let node_port = || json!({"metadata": {"name": "p"}, "spec": {"type": "NodePort", "ports": [{}]}});
    let plain = || json!({"metadata": {"name": "p"}});
    for (quota, resource, object, refused) in [
        (hard("pods", "2"), "pods", pod("1"), None),
        (
            hard("pods", "1"),
            "pods",
            pod("1"),
            Some("exceeded quota: q, requested: pods=1, used: pods=1, limited: pods=1"),
        ),
        (
            hard("count/pods", "2"),
            "pods",
            pod("1"),
            Some("exceeded quota: q, requested: count/pods=1, used: count/pods=2, limited: count/pods=2"),
        ),
        (hard("cpu", "2"), "pods", pod("1"), None),
        (hard("cpu", "2"), "pods", pod("2"), Some("exceeded quota: q, requested: cpu=2, used: cpu=1, limited: cpu=2")),
        (
            hard("requests.cpu", "1500m"),
            "pods",
            pod("501m"),
            Some("exceeded quota: q, requested: requests.cpu=501m, used: requests.cpu=1, limited: requests.cpu=1500m"),
        ),
        (hard("limits.memory", "1Gi"), "pods", pod("1"), Some("failed quota: q: must specify limits.memory for: c")),
        (
            json!({"hard": {"cpu": "9", "memory": "9Gi"}}),
            "pods",
            json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "b"}, {"name": "a"}]}}),
            Some("failed quota: q: must specify cpu for: a,b; memory for: a,b"),
        ),
        (
            hard("configmaps", "1"),
            "configmaps",
            plain(),
            Some("exceeded quota: q, requested: configmaps=1, used: configmaps=1, limited: configmaps=1"),
        ),
        (hard("configmaps", "1"), "secrets", plain(), None),
        (
            hard("count/deployments.apps", "0"),
            "deployments.apps",
            plain(),
            Some(
                "exceeded quota: q, requested: count/deployments.apps=1, used: count/deployments.apps=0, limited: count/deployments.apps=0",
            ),
        ),
        (
            hard("services.nodeports", "2"),
            "services",
            node_port(),
            Some(
                "exceeded quota: q, requested: services.nodeports=1, used: services.nodeports=2, limited: services.nodeports=2",
            ),
        ),
        (hard("services.nodeports", "2"), "services", plain(), None),
        (hard("requests.storage", "2Gi"), "persistentvolumeclaims", claim("1Gi"), None),
        (
            hard("fast.storageclass.storage.k8s.io/requests.storage", "2Gi"),
            "persistentvolumeclaims",
            claim("2Gi"),
            Some(
                "exceeded quota: q, requested: fast.storageclass.storage.k8s.io/requests.storage=2Gi, used: fast.storageclass.storage.k8s.io/requests.storage=1Gi, limited: fast.storageclass.storage.k8s.io/requests.storage=2Gi",
            ),
        ),
        (json!({"hard": {"pods": "0"}, "scopes": ["BestEffort"]}), "pods", pod("1"), None),
        (
            json!({"hard": {"pods": "0"}, "scopes": ["NotBestEffort", "NotTerminating"]}),
            "pods",
            pod("1"),
            Some("exceeded quota: q, requested: pods=1, used: pods=1, limited: pods=0"),
        ),
        (
            json!({"hard": {"pods": "0"}, "scopeSelector": {"matchExpressions": [{"scopeName": "PriorityClass", "operator": "In", "values": ["high"]}]}}),
            "pods",
            pod("1"),
            None,
        ),
        (json!({"hard": {"configmaps": "0"}, "scopes": ["BestEffort"]}), "configmaps", plain(), None),
    ] {
        let name = resource
            .split_once('.')
            .map_or_else(|| resource.to_string(), |(plural, group)| format!("{plural}.{group}"));
        let refused = refused.map(|why| format!("{name} \"p\" is forbidden: {why}"));
        case(quota).of("create", resource, "ns/p").refused(object, refused.as_deref());
    }
}

#[test]
fn usage_is_written_with_the_object() {
    let quota = json!({"hard": {"pods": "5", "cpu": "4", "secrets": "9"}});
    let writes = case(quota).of("create", "pods", "ns/p").run(pod("500m")).unwrap().1.writes;
    let [write] = writes.as_slice() else { panic!("{writes:?}") };
    assert_eq!((write.key.as_str(), write.expect), ("core/resourcequotas/ns/q", Revision(8)));
    // What is counted replaces what the status said; what another resource's requests count stays.
    assert_eq!(write.object["status"]["used"], json!({"pods": "2", "secrets": "4", "cpu": "1500m"}));
    assert_eq!(write.object["status"]["hard"], json!({"pods": "5", "cpu": "4", "secrets": "9"}));
}

#[test]
fn an_update_counts_the_difference() {
    let service = |kind: &str| json!({"metadata": {"name": "s"}, "spec": {"type": kind, "ports": [{}, {}]}});
    for (old, new, limit, allowed) in [
        ("NodePort", "NodePort", "0", true),
        ("NodePort", "ClusterIP", "0", true),
        ("ClusterIP", "NodePort", "4", true),
        ("ClusterIP", "NodePort", "3", false),
    ] {
        let case =
            case(json!({"hard": {"services.nodeports": limit}})).of("update", "services", "ns/s").was(service(old));
        assert_eq!(case.run(service(new)).is_ok(), allowed, "{old} {new} {limit}");
    }
}
