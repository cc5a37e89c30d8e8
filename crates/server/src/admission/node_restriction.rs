//! NodeRestriction: a node writes its own node, its own pods and little else (api-facts §6.4).

use mizzen_api::key;
use mizzen_api::status::{ApiError, Subject};
use serde_json::{Map, Value};

use super::plugin::Plugin;
use super::pods::{is_mirror, items, text};
use super::{Admitted, Operation, Request};
use crate::auth::Attributes;

pub const PLUGIN: Plugin = Plugin { resources: RESOURCES, mutate: Some(admit), validate: None };

const RESOURCES: &[(&str, &str)] = &[
    ("", "pods"),
    ("", "nodes"),
    ("", "persistentvolumeclaims"),
    ("", "serviceaccounts"),
    ("coordination.k8s.io", "leases"),
    ("storage.k8s.io", "csinodes"),
];

/// Labels under `kubernetes.io` and `k8s.io` that a node may set on itself.
const OWN_LABELS: [&str; 13] = [
    "kubernetes.io/hostname",
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
    "node.kubernetes.io/instance-type",
    "beta.kubernetes.io/instance-type",
    "kubernetes.io/os",
    "beta.kubernetes.io/os",
    "kubernetes.io/arch",
    "beta.kubernetes.io/arch",
    "node.kubernetes.io/exclude-from-external-load-balancers",
    "node.kubernetes.io/windows-build",
];
/// Domains in which it may set any.
const OWN_DOMAINS: [&str; 2] = ["kubelet.kubernetes.io", "node.kubernetes.io"];
const RESTRICTED_DOMAIN: &str = "node-restriction.kubernetes.io";

fn admit(request: &Request<'_>, object: &mut Value, old: Option<&Value>, _: &mut Admitted) -> Result<(), ApiError> {
    let Some(node) = request.identity.as_node() else {
        return Ok(());
    };
    match request.kind.plural.as_ref() {
        "pods" => pod(request, node, object, old),
        "nodes" => own_node(request, node, object, old),
        "persistentvolumeclaims" => claim(request, node, object, old),
        "serviceaccounts" => token(request, node, object),
        // Leases of the node's own components live elsewhere under their own identities.
        "leases" if request.namespace != "kube-node-lease" => {
            Err(request.forbidden(object, "can only access leases in the \"kube-node-lease\" system namespace"))
        }
        _ => named_like_node(request, node, object),
    }
}

fn named_like_node(request: &Request<'_>, node: &str, object: &Value) -> Result<(), ApiError> {
    let name = if request.name.is_empty() { text(&object["metadata"], "name") } else { request.name };
    if name == node {
        return Ok(());
    }
    let kind = &request.kind.singular;
    Err(request.forbidden(object, &format!("can only access {kind} with the same name as the requesting node")))
}

fn pod(request: &Request<'_>, node: &str, object: &Value, old: Option<&Value>) -> Result<(), ApiError> {
    let bound = |pod: &Value| text(&pod["spec"], "nodeName") == node;
    let refuse = |why: &str| Err(request.forbidden(object, why));
    match (request.operation, request.subresource, old) {
        (Operation::Create, "", _) => new_pod(request, node, object),
        (Operation::Delete, "" | "eviction", Some(old)) if bound(old) => Ok(()),
        (Operation::Delete, "" | "eviction", _) => {
            refuse(&format!("node {node:?} can only delete pods with spec.nodeName set to itself"))
        }
        (Operation::Update, "status", Some(old)) if !bound(old) => {
            refuse(&format!("node {node:?} can only update pod status for pods with spec.nodeName set to itself"))
        }
        (Operation::Update, "status", Some(old)) => {
            if object["metadata"].get("labels") != old["metadata"].get("labels") {
                return refuse(&format!("node {node:?} cannot update labels through pod status"));
            }
            Ok(())
        }
        (Operation::Create, "eviction", _) => {
            let stored = stored(request, "pods", request.namespace, request.name);
            match stored {
                Some(pod) if bound(&pod) => Ok(()),
                Some(_) => refuse(&format!("node {node:?} can only evict pods with spec.nodeName set to itself")),
                None => Err(ApiError::not_found(Subject { group: "", resource: "pods" }, request.name)),
            }
        }
        _ => refuse(&format!("unexpected operation on pods by node {node:?}")),
    }
}

/// An object as stored. The node's own requests are few, so it is read without keeping it decoded.
fn stored(request: &Request<'_>, plural: &str, namespace: &str, name: &str) -> Option<Value> {
    let entry = request.snapshot.get(&key::object("", plural, namespace, name))?;
    serde_json::from_slice(&entry.value).ok()
}

fn new_pod(request: &Request<'_>, node: &str, pod: &Value) -> Result<(), ApiError> {
    let refuse = |why: String| Err(request.forbidden(pod, &why));
    if !is_mirror(pod) {
        return refuse(format!(
            "pod does not have \"kubernetes.io/config.mirror\" annotation, node {node:?} can only create mirror pods"
        ));
    }
    let spec = &pod["spec"];
    if text(spec, "nodeName") != node {
        return refuse(format!("node {node:?} can only create pods with spec.nodeName set to itself"));
    }
    let [owner] = items(&pod["metadata"], "ownerReferences") else {
        return refuse(format!("node {node:?} can only create pods with an owner reference set to itself"));
    };
    let own = text(owner, "apiVersion") == "v1" && text(owner, "kind") == "Node" && text(owner, "name") == node;
    if !own || owner["controller"] != true || owner["blockOwnerDeletion"] == true {
        return refuse(format!("node {node:?} can only create pods with an owner reference set to itself"));
    }
    let uid = stored(request, "nodes", "", node).map(|node| text(&node["metadata"], "uid").to_string());
    if uid.as_deref() != Some(text(owner, "uid")) {
        return refuse(format!("node {node:?} can only create pods with the UID of its own node as owner"));
    }
    if !text(spec, "serviceAccountName").is_empty() {
        return refuse(format!("node {node:?} can not create pods that reference a service account"));
    }
    let forbidden = ["secret", "configMap", "persistentVolumeClaim", "projected", "ephemeral"];
    let refers = |volume: &Value| forbidden.iter().find(|source| volume.get(**source).is_some());
    if let Some(source) = items(spec, "volumes").iter().find_map(refers) {
        return refuse(format!("node {node:?} can not create pods that reference {source} volumes"));
    }
    Ok(())
}

fn own_node(request: &Request<'_>, node: &str, object: &Value, old: Option<&Value>) -> Result<(), ApiError> {
    let name = if request.name.is_empty() { text(&object["metadata"], "name") } else { request.name };
    let refuse = |why: String| Err(request.forbidden(object, &why));
    if name != node {
        return refuse(format!("node {node:?} is not allowed to modify node {name:?}"));
    }
    let none = Map::new();
    let labels = |object: &'_ Value| object["metadata"]["labels"].as_object().cloned().unwrap_or_else(|| none.clone());
    match (request.operation, old) {
        (Operation::Create, _) => {
            let wrong: Vec<String> = labels(object).keys().filter(|label| !may_set(label)).cloned().collect();
            if wrong.is_empty() {
                return Ok(());
            }
            refuse(format!("node {node:?} is not allowed to set the following labels: {}", wrong.join(", ")))
        }
        (Operation::Update, Some(old)) => {
            if object["spec"].get("taints") != old["spec"].get("taints") {
                return refuse(format!("node {node:?} is not allowed to modify taints"));
            }
            if object["metadata"].get("ownerReferences") != old["metadata"].get("ownerReferences") {
                return refuse(format!("node {node:?} is not allowed to modify ownerReferences"));
            }
            let (new, old) = (labels(object), labels(old));
            let changed = new.keys().chain(old.keys()).filter(|label| new.get(*label) != old.get(*label));
            let mut wrong: Vec<&str> = changed.filter(|label| !may_set(label)).map(String::as_str).collect();
            wrong.sort_unstable();
            wrong.dedup();
            if wrong.is_empty() {
                return Ok(());
            }
            refuse(format!("is not allowed to modify labels: {}", wrong.join(", ")))
        }
        _ => Ok(()),
    }
}

/// A node may label itself outside Kubernetes' own domains, and inside with what describes it.
fn may_set(label: &str) -> bool {
    let Some((domain, _)) = label.split_once('/') else {
        return true;
    };
    let within = |parent: &str| domain.strip_suffix(parent).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
    if within(RESTRICTED_DOMAIN) {
        return false;
    }
    let reserved = within("kubernetes.io") || within("k8s.io");
    !reserved || OWN_LABELS.contains(&label) || OWN_DOMAINS.into_iter().any(within)
}

/// Only the status of a claim, and of it nothing that decides what is mounted.
fn claim(request: &Request<'_>, node: &str, object: &Value, old: Option<&Value>) -> Result<(), ApiError> {
    if request.operation != Operation::Update || request.subresource != "status" {
        return Err(request.forbidden(object, &format!("node {node:?} can only update PersistentVolumeClaim status")));
    }
    let same = |field: &str| old.is_some_and(|old| old.get(field) == object.get(field));
    let same_labels = old.is_some_and(|old| old["metadata"].get("labels") == object["metadata"].get("labels"));
    if same("spec") && same_labels {
        return Ok(());
    }
    let why = format!("node {node:?} is not allowed to update fields other than status.capacity and status.conditions");
    Err(request.forbidden(object, &why))
}

/// Tokens for the accounts of its pods, bound to the pod, for audiences that the pod asks for.
fn token(request: &Request<'_>, node: &str, object: &Value) -> Result<(), ApiError> {
    let refuse = |why: String| Err(request.forbidden(object, &why));
    if request.operation != Operation::Create || request.subresource != "token" {
        return Ok(());
    }
    let bound = &object["spec"]["boundObjectRef"];
    if text(bound, "apiVersion") != "v1" || text(bound, "kind") != "Pod" || text(bound, "name").is_empty() {
        return refuse("node requested token not bound to a pod".into());
    }
    let name = text(bound, "name");
    let Some(pod) = stored(request, "pods", request.namespace, name) else {
        return refuse(format!("pod {name:?} not found"));
    };
    if text(bound, "uid") != text(&pod["metadata"], "uid") {
        return refuse(format!(
            "the UID in the bound object reference ({}) does not match the pod's",
            text(bound, "uid")
        ));
    }
    if text(&pod["spec"], "nodeName") != node {
        return refuse("node requested token bound to a pod scheduled on a different node".into());
    }
    let audiences = items(&object["spec"], "audiences").iter().filter_map(Value::as_str);
    for audience in audiences.filter(|audience| !audience.is_empty()) {
        let sources = items(&pod["spec"], "volumes").iter().flat_map(|volume| items(&volume["projected"], "sources"));
        let mut asked = sources.map(|source| text(&source["serviceAccountToken"], "audience"));
        if !asked.any(|asked| asked == audience) && !may_request(request, audience) {
            return refuse(format!(
                "audience {audience:?} not found in pod spec volume, {} is not authorized to request tokens for this audience",
                request.identity.user
            ));
        }
    }
    Ok(())
}

fn may_request(request: &Request<'_>, audience: &str) -> bool {
    let what = Attributes {
        verb: "request-serviceaccounts-token-audience",
        resource_request: true,
        resource: audience,
        namespace: request.namespace,
        name: request.name,
        ..Attributes::default()
    };
    request.authorizer.allows(request.snapshot, request.identity, &what)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::testing::{Case, object};
    use crate::auth::Identity;

    fn node() -> Identity {
        let groups = vec!["system:nodes".into(), "system:authenticated".into()];
        Identity { user: "system:node:n1".into(), groups, ..Identity::default() }
    }

    fn world() -> Vec<Value> {
        let pod = |name: &str, node: &str| {
            let token = json!({"serviceAccountToken": {"audience": "vault"}});
            let spec = json!({"nodeName": node, "volumes": [{"name": "t", "projected": {"sources": [token]}}]});
            object("v1", "Pod", &format!("ns/{name}"), json!({"spec": spec}))
        };
        vec![
            object("v1", "Namespace", "ns", json!({})),
            object("v1", "Namespace", "kube-node-lease", json!({})),
            object("v1", "Node", "n1", json!({})),
            pod("a", "n1"),
            pod("b", "n2"),
        ]
    }

    /// Whether the node may, and whether someone else may.
    fn check(
        case: &str,
        operation: &str,
        resource: &'static str,
        at: &str,
        old: Value,
        new: Value,
        refused: Option<&str>,
    ) {
        let result = Case::new(world()).of(operation, resource, at).by(node()).was(old).run(new).err();
        let fits = match (&result, refused) {
            (Some(text), Some(refused)) => text.contains(refused),
            (got, wanted) => got.is_none() && wanted.is_none(),
        };
        assert!(fits, "{case}: {result:?}");
    }

    #[test]
    fn its_own_node() {
        let labelled = |label: &str| json!({"metadata": {"name": "n1", "labels": {label: "x"}}});
        let plain = || json!({"metadata": {"name": "n1"}});
        let taint = json!({"metadata": {"name": "n1"}, "spec": {"taints": [{"key": "a", "effect": "NoSchedule"}]}});
        let owned = json!({"metadata": {"name": "n1", "ownerReferences": []}});
        for (case, operation, at, old, new, refused) in [
            ("register", "create", "n1", plain(), labelled("kubernetes.io/hostname"), None),
            (
                "register with foreign label",
                "create",
                "n1",
                plain(),
                labelled("node-restriction.kubernetes.io/a"),
                Some("not allowed to set the following labels: node-restriction.kubernetes.io/a"),
            ),
            ("another node", "update", "n2", plain(), plain(), Some("is not allowed to modify node \"n2\"")),
            ("own label", "update", "n1", plain(), labelled("example.com/a"), None),
            ("kubelet's domain", "update", "n1", plain(), labelled("a.node.kubernetes.io/b"), None),
            (
                "reserved label",
                "update",
                "n1",
                plain(),
                labelled("node-role.kubernetes.io/master"),
                Some("is not allowed to modify labels: node-role.kubernetes.io/master"),
            ),
            (
                "reserved label removed",
                "update",
                "n1",
                labelled("a.k8s.io/b"),
                plain(),
                Some("is not allowed to modify labels: a.k8s.io/b"),
            ),
            ("taints", "update", "n1", plain(), taint, Some("is not allowed to modify taints")),
            ("owners", "update", "n1", plain(), owned, Some("is not allowed to modify ownerReferences")),
        ] {
            check(case, operation, "nodes", at, old, new, refused);
        }
    }

    #[test]
    fn its_own_pods() {
        let on = |node: &str| json!({"metadata": {"name": "p"}, "spec": {"nodeName": node, "containers": []}});
        let owner = json!({"apiVersion": "v1", "kind": "Node", "name": "n1", "uid": "uid-n1", "controller": true});
        let mirror = |owner: &Value, spec: Value| json!({"metadata": {"name": "p", "annotations": {"kubernetes.io/config.mirror": "x"}, "ownerReferences": [owner]}, "spec": spec});
        let spec = json!({"nodeName": "n1", "containers": []});
        let mut stale = owner.clone();
        stale["uid"] = "old".into();
        let mut labelled = on("n1");
        labelled["metadata"]["labels"] = json!({"a": "b"});
        for (case, operation, resource, at, old, new, refused) in [
            ("plain pod", "create", "pods", "ns/p", Value::Null, on("n1"), Some("can only create mirror pods")),
            ("mirror pod", "create", "pods", "ns/p", Value::Null, mirror(&owner, spec.clone()), None),
            (
                "elsewhere",
                "create",
                "pods",
                "ns/p",
                Value::Null,
                mirror(&owner, json!({"nodeName": "n2"})),
                Some("with spec.nodeName set to itself"),
            ),
            ("stale owner", "create", "pods", "ns/p", Value::Null, mirror(&stale, spec), Some("UID of its own node")),
            ("status", "update", "pods/status", "ns/a", on("n1"), on("n1"), None),
            (
                "status elsewhere",
                "update",
                "pods/status",
                "ns/b",
                on("n2"),
                on("n2"),
                Some("can only update pod status for pods with spec.nodeName set to itself"),
            ),
            (
                "labels through status",
                "update",
                "pods/status",
                "ns/a",
                on("n1"),
                labelled,
                Some("cannot update labels through pod status"),
            ),
            ("spec", "update", "pods", "ns/a", on("n1"), on("n1"), Some("unexpected operation")),
            ("delete", "delete", "pods", "ns/a", on("n1"), Value::Null, None),
            (
                "delete elsewhere",
                "delete",
                "pods",
                "ns/b",
                on("n2"),
                Value::Null,
                Some("can only delete pods with spec.nodeName set to itself"),
            ),
            ("evict", "create", "pods/eviction", "ns/a", Value::Null, json!({}), None),
            (
                "evict elsewhere",
                "create",
                "pods/eviction",
                "ns/b",
                Value::Null,
                json!({}),
                Some("can only evict pods with spec.nodeName set to itself"),
            ),
        ] {
            check(case, operation, resource, at, old, new, refused);
        }
    }

    #[test]
    fn tokens_and_leases() {
        let bound = |pod: &str, uid: &str, audience: &str| json!({"spec": {"audiences": [audience], "boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": pod, "uid": uid}}});
        let lease = |name: &str| json!({"metadata": {"name": name}});
        for (case, operation, resource, at, new, refused) in [
            ("own pod", "create", "serviceaccounts/token", "ns/default", bound("a", "uid-a", ""), None),
            (
                "audience of the pod",
                "create",
                "serviceaccounts/token",
                "ns/default",
                bound("a", "uid-a", "vault"),
                None,
            ),
            (
                "another audience",
                "create",
                "serviceaccounts/token",
                "ns/default",
                bound("a", "uid-a", "bank"),
                Some("audience \"bank\" not found in pod spec volume"),
            ),
            (
                "pod elsewhere",
                "create",
                "serviceaccounts/token",
                "ns/default",
                bound("b", "uid-b", ""),
                Some("scheduled on a different node"),
            ),
            ("old uid", "create", "serviceaccounts/token", "ns/default", bound("a", "x", ""), Some("does not match")),
            (
                "unbound",
                "create",
                "serviceaccounts/token",
                "ns/default",
                json!({"spec": {}}),
                Some("not bound to a pod"),
            ),
            ("own lease", "create", "leases.coordination.k8s.io", "kube-node-lease/n1", lease("n1"), None),
            (
                "another lease",
                "create",
                "leases.coordination.k8s.io",
                "kube-node-lease/",
                lease("n2"),
                Some("with the same name as the requesting node"),
            ),
            ("lease elsewhere", "update", "leases.coordination.k8s.io", "ns/n1", lease("n1"), Some("kube-node-lease")),
        ] {
            check(case, operation, resource, at, Value::Null, new, refused);
        }
    }

    #[test]
    fn others_are_not_restricted() {
        let pod = json!({"metadata": {"name": "p"}, "spec": {"nodeName": "n9", "serviceAccountName": "default", "containers": []}});
        let mut world = world();
        world.push(object("v1", "ServiceAccount", "ns/default", json!({})));
        Case::new(world).of("create", "pods", "ns/p").refused(pod, None);
    }
}
