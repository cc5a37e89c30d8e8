//! The tables as objects.

use k8s_openapi::api::rbac::v1::ClusterRole;
use serde::Deserialize;
use serde_json::{Value, json};

use super::bindings::{CLUSTER, NAMESPACED, ROLES as NAMESPACED_ROLES};
use super::cluster_roles::ROLES;
use super::controller_roles::CONTROLLERS;
use super::rules::rule;
use crate::auth::resolve_aggregation;

const FLOW: &str = "flowcontrol.apiserver.k8s.io";
const RBAC: &str = "rbac.authorization.k8s.io";
/// Each takes in the roles labelled for it; each but the last is itself a part of the next.
const AGGREGATED: [(&str, Option<&str>); 3] = [("view", Some("edit")), ("edit", Some("admin")), ("admin", None)];
const NAMESPACES: [&str; 4] = ["default", "kube-node-lease", "kube-public", "kube-system"];
const PRIORITIES: [(&str, i64, &str); 2] = [
    (
        "system-cluster-critical",
        2_000_000_000,
        "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
    ),
    (
        "system-node-critical",
        2_000_001_000,
        "Used for system critical pods that must not be moved from their current node.",
    ),
];

/// An object that every cluster has.
pub struct Desired {
    pub group: &'static str,
    pub plural: &'static str,
    pub namespace: &'static str,
    pub name: String,
    /// Without uid and creation time.
    pub object: Value,
}

/// All of them, namespaces first.
pub fn all() -> Vec<Desired> {
    let mut all: Vec<Desired> = NAMESPACES.iter().map(|name| namespace(name)).collect();
    all.extend(PRIORITIES.iter().map(|(name, value, description)| priority(name, *value, description)));
    let flow = crate::flow::defaults().into_iter();
    all.extend(flow.map(|default| desired(FLOW, default.plural, "", default.name, default.object)));
    all.extend(cluster_roles());
    all.extend(NAMESPACED_ROLES.iter().map(|(namespace, name, rules)| {
        let mut object = rbac("Role", name);
        object["rules"] = rules.iter().map(|text| rule(text)).collect();
        desired(RBAC, "roles", namespace, name, object)
    }));
    let controllers = CONTROLLERS.iter().map(|(name, _)| {
        let role = format!("system:controller:{name}");
        cluster_binding(&role, &role, &[&format!("ServiceAccount kube-system/{name}")])
    });
    all.extend(controllers.chain(CLUSTER.iter().map(|(name, role, subjects)| cluster_binding(name, role, subjects))));
    all.extend(NAMESPACED.iter().map(|(namespace, name, role, subjects)| {
        let mut object = rbac("RoleBinding", name);
        object["subjects"] = subjects.iter().map(|text| subject(text)).collect();
        object["roleRef"] = json!({"apiGroup": RBAC, "kind": "Role", "name": role});
        desired(RBAC, "rolebindings", namespace, name, object)
    }));
    all
}

fn desired(
    group: &'static str,
    plural: &'static str,
    namespace: &'static str,
    name: &str,
    mut object: Value,
) -> Desired {
    if !namespace.is_empty() {
        object["metadata"]["namespace"] = namespace.into();
    }
    Desired { group, plural, namespace, name: name.into(), object }
}

fn namespace(name: &str) -> Desired {
    let object = json!({
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": name, "labels": {"kubernetes.io/metadata.name": name}},
        "spec": {"finalizers": ["kubernetes"]},
        "status": {"phase": "Active"},
    });
    desired("", "namespaces", "", name, object)
}

fn priority(name: &str, value: i64, description: &str) -> Desired {
    let object = json!({
        "apiVersion": "scheduling.k8s.io/v1",
        "kind": "PriorityClass",
        "metadata": {"name": name, "generation": 1},
        "value": value,
        "description": description,
        "preemptionPolicy": "PreemptLowerPriority",
    });
    desired("scheduling.k8s.io", "priorityclasses", "", name, object)
}

/// The head of an RBAC object, marked as one of the defaults.
fn rbac(kind: &str, name: &str) -> Value {
    json!({
        "apiVersion": format!("{RBAC}/v1"),
        "kind": kind,
        "metadata": {
            "name": name,
            "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"},
            "annotations": {"rbac.authorization.kubernetes.io/autoupdate": "true"},
        },
    })
}

fn label(role: &str) -> String {
    format!("rbac.authorization.k8s.io/aggregate-to-{role}")
}

fn cluster_roles() -> Vec<Desired> {
    let role = |name: &str, part_of: Option<&str>| {
        let mut object = rbac("ClusterRole", name);
        if let Some(whole) = part_of {
            object["metadata"]["labels"][label(whole)] = "true".into();
        }
        object
    };
    let mut objects: Vec<Value> = Vec::new();
    for (name, part_of) in AGGREGATED {
        let mut object = role(name, part_of);
        object["aggregationRule"] = json!({"clusterRoleSelectors": [{"matchLabels": {label(name): "true"}}]});
        objects.push(object);
    }
    let with_rules = |mut object: Value, rules: &[&str]| {
        object["rules"] = rules.iter().map(|text| rule(text)).collect();
        object
    };
    objects.extend(ROLES.iter().map(|own| with_rules(role(own.name, own.part_of), own.rules)));
    objects.extend(
        CONTROLLERS.iter().map(|(name, rules)| with_rules(role(&format!("system:controller:{name}"), None), rules)),
    );
    // The rules of the aggregated roles are there from the start, not only once a controller has run.
    let mut typed: Vec<ClusterRole> =
        objects.iter().filter_map(|object| ClusterRole::deserialize(object).ok()).collect();
    resolve_aggregation(&mut typed);
    for (object, typed) in objects.iter_mut().zip(typed).take(AGGREGATED.len()) {
        object["rules"] = json!(typed.rules);
    }
    let named = objects.into_iter().map(|object| {
        let name = object["metadata"]["name"].as_str().unwrap_or_default().to_string();
        desired(RBAC, "clusterroles", "", &name, object)
    });
    named.collect()
}

fn cluster_binding(name: &str, role: &str, subjects: &[&str]) -> Desired {
    let mut object = rbac("ClusterRoleBinding", name);
    if !subjects.is_empty() {
        object["subjects"] = subjects.iter().map(|text| subject(text)).collect();
    }
    object["roleRef"] = json!({"apiGroup": RBAC, "kind": "ClusterRole", "name": role});
    desired(RBAC, "clusterrolebindings", "", name, object)
}

fn subject(text: &str) -> Value {
    let (kind, name) = text.split_once(' ').unwrap_or((text, ""));
    match name.split_once('/') {
        Some((namespace, name)) if kind == "ServiceAccount" => {
            json!({"kind": kind, "name": name, "namespace": namespace})
        }
        _ => json!({"kind": kind, "apiGroup": RBAC, "name": name}),
    }
}
