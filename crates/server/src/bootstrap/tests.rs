use jiff::Timestamp;
use mizzen_store::{Entry, Expect, Revision, Snapshot};
use serde_json::{Value, json};

use super::{Write, reconcile};
use crate::auth::{Attributes, Authorizer, Identity};

fn run(snapshot: &Snapshot) -> Vec<Write> {
    let mut count = 0;
    let mut uid = || {
        count += 1;
        format!("uid-{count}")
    };
    reconcile(snapshot, Timestamp::from_second(1_790_000_000).unwrap(), &mut uid)
}

fn stored(writes: &[Write], change: impl Fn(&str, &mut Value) -> bool) -> Snapshot {
    let entries = writes.iter().filter_map(|write| {
        let mut object = write.object.clone();
        let kept = change(&write.key, &mut object);
        let bytes = serde_json::to_vec(&object).unwrap();
        kept.then(|| Entry::new(write.key.as_str().into(), bytes.into(), Revision(7), Revision(7), 0..0))
    });
    entries.collect()
}

#[test]
fn a_second_start_writes_nothing() {
    let first = run(&Snapshot::default());
    assert!(first.iter().all(|write| write.expect == Expect::Absent));
    assert_eq!(first[0].key, "core/namespaces//default");
    assert_eq!(first[0].object["metadata"]["creationTimestamp"], "2026-09-21T14:13:20Z");
    assert_eq!(run(&stored(&first, |_, _| true)), []);
}

#[test]
fn what_is_missing_comes_back_and_what_users_added_stays() {
    let role = "rbac.authorization.k8s.io/clusterroles//system:discovery";
    let binding = "rbac.authorization.k8s.io/clusterrolebindings//system:basic-user";
    let own = json!({"verbs": ["get"], "nonResourceURLs": ["/own"]});
    /// Changes a stored object; false removes it.
    type Change<'a> = &'a dyn Fn(&mut Value) -> bool;
    let cases: [(&str, &str, Change<'_>, &str, Value); 7] = [
        ("role deleted", role, &|_| false, "/metadata/name", json!("system:discovery")),
        (
            "rule removed",
            role,
            &|role| {
                role["rules"] = json!([]);
                true
            },
            "/rules/0/verbs",
            json!(["get"]),
        ),
        (
            "rules replaced",
            role,
            &|role| {
                role["rules"] = json!([own]);
                true
            },
            "/rules/0",
            own.clone(),
        ),
        (
            "rule added",
            role,
            &|role| {
                role["rules"].as_array_mut().unwrap().push(own.clone());
                true
            },
            "",
            Value::Null,
        ),
        (
            "label removed",
            role,
            &|role| {
                role["metadata"]["labels"] = json!({});
                true
            },
            "/metadata/labels/kubernetes.io~1bootstrapping",
            json!("rbac-defaults"),
        ),
        (
            "subjects removed",
            binding,
            &|binding| {
                binding.as_object_mut().unwrap().remove("subjects");
                true
            },
            "/subjects/0/name",
            json!("system:authenticated"),
        ),
        (
            "switched off",
            role,
            &|role| {
                role["metadata"]["annotations"]["rbac.authorization.kubernetes.io/autoupdate"] = "false".into();
                role["rules"] = json!([]);
                true
            },
            "",
            Value::Null,
        ),
    ];
    for (case, key, change, pointer, value) in cases {
        let state = stored(&run(&Snapshot::default()), |at, object| at != key || change(object));
        let writes = run(&state);
        let changed = writes.iter().map(|write| (write.key.as_str(), write.object.pointer(pointer).cloned()));
        let wanted = (!pointer.is_empty()).then_some((key, Some(value)));
        assert_eq!(changed.collect::<Vec<_>>(), Vec::from_iter(wanted), "{case}");
    }
}

#[test]
fn the_defaults_let_everyone_do_their_part() {
    let state = stored(&run(&Snapshot::default()), |_, _| true);
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
        "metadata": {"name": "b", "namespace": "ns"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "ROLE"},
        "subjects": [{"kind": "User", "name": "u"}],
    });
    let bound = |role: &str| {
        let text = binding.to_string().replace("ROLE", role);
        let key = "rbac.authorization.k8s.io/rolebindings/ns/b";
        let entry = Entry::new(key.into(), text.into_bytes().into(), Revision(9), Revision(9), 0..0);
        let all = state
            .prefix("")
            .map(|entry| Entry::new(entry.key.clone(), entry.value.clone(), entry.revision, entry.created, 0..0));
        all.chain([entry]).collect::<Snapshot>()
    };
    let user = |name: &str| Identity::part(name);
    let controller = |name: &str| Identity::service_account("kube-system", name);
    let node =
        Identity { groups: vec!["system:nodes".into(), "system:authenticated".into()], ..user("system:node:n1") };
    let can = |state: &Snapshot, who: &Identity, request: &str| {
        let what = match request.split(' ').collect::<Vec<_>>().as_slice() {
            [verb, path] => Attributes { verb, path, ..Attributes::default() },
            [verb, group, resource] => {
                let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
                Attributes {
                    verb,
                    resource_request: true,
                    group,
                    resource,
                    subresource,
                    namespace: "ns",
                    name: "x",
                    ..Attributes::default()
                }
            }
            _ => panic!("{request}"),
        };
        Authorizer::new().authorize(state, who, &what).is_ok()
    };
    for (who, request, allowed) in [
        (Identity::anonymous(), "get /healthz", true),
        (Identity::anonymous(), "get /version", true),
        (Identity::anonymous(), "get /api", false),
        (Identity::anonymous(), "get /openid/v1/jwks", false),
        (user("u"), "get /apis/apps/v1", true),
        (user("u"), "get /openapi/v3", true),
        (user("u"), "get /metrics", false),
        (user("u"), "create authorization.k8s.io selfsubjectaccessreviews", true),
        (user("u"), "list  pods", false),
        (controller("anyone"), "get /.well-known/openid-configuration", true),
        (user("system:kube-scheduler"), "create  pods/binding", true),
        (user("system:kube-scheduler"), "list  nodes", true),
        (user("system:kube-scheduler"), "create  pods", false),
        (controller("deployment-controller"), "create apps replicasets", true),
        (controller("replicaset-controller"), "delete  pods", true),
        (controller("replicaset-controller"), "patch apps replicasets/status", true),
        (controller("namespace-controller"), "deletecollection apps deployments", true),
        (controller("job-controller"), "create  secrets", false),
        (node.clone(), "watch discovery.k8s.io endpointslices", true),
        (node, "list  secrets", false),
    ] {
        assert_eq!(can(&state, &who, request), allowed, "{} {request}", who.user);
    }
    for (role, request, allowed) in [
        ("view", "list apps deployments", true),
        ("view", "get  secrets", false),
        ("view", "create  pods", false),
        ("edit", "list apps deployments", true),
        ("edit", "get  secrets", true),
        ("edit", "create  pods/exec", true),
        ("edit", "create rbac.authorization.k8s.io roles", false),
        ("admin", "list apps deployments", true),
        ("admin", "create rbac.authorization.k8s.io roles", true),
        ("admin", "delete  namespaces", false),
    ] {
        assert_eq!(can(&bound(role), &user("u"), request), allowed, "{role} {request}");
    }
}
