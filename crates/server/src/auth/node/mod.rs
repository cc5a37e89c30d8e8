//! What a node may do: its own node, its own pods, and what these refer to (api-facts §6.4).
//!
//! A node must not read the secrets of pods that run elsewhere. What its pods refer to is read from the snapshot at each
//! question: nodes ask rarely, and there is nothing to keep up to date.

use k8s_openapi::api::core::v1::PersistentVolume;
use mizzen_api::key;
use mizzen_api::selector::{FieldSelector, LabelSelector, Requirement};
use mizzen_api::volumes::local;
use mizzen_store::Snapshot;

mod references;
#[cfg(test)]
mod tests;

use super::{Attributes, Decision};
use references::Target;

/// Verbs that read one object.
const READ: [&str; 3] = ["get", "list", "watch"];
const OWN_OBJECT: [&str; 5] = ["get", "create", "update", "patch", "delete"];

/// Rules that hold for every node, whatever runs on it: group, resource with sub-resource, verbs. NodeRestriction then
/// refuses writes to other nodes' objects.
const FIXED: &[(&str, &str, &[&str])] = &[
    ("authentication.k8s.io", "tokenreviews", &["create"]),
    ("authorization.k8s.io", "subjectaccessreviews", &["create"]),
    ("authorization.k8s.io", "localsubjectaccessreviews", &["create"]),
    ("", "services", &READ),
    ("", "nodes", &["create", "update", "patch"]),
    ("", "nodes/status", &["update", "patch"]),
    ("", "events", &["create", "update", "patch"]),
    ("events.k8s.io", "events", &["create", "update", "patch"]),
    ("", "pods", &["create", "delete"]),
    ("", "pods/status", &["update", "patch"]),
    ("", "pods/eviction", &["create"]),
    ("certificates.k8s.io", "certificatesigningrequests", &["create", "get", "list", "watch"]),
    ("storage.k8s.io", "csidrivers", &READ),
    ("node.k8s.io", "runtimeclasses", &READ),
];

/// Whether the node `name` may.
pub fn decide(snapshot: &Snapshot, node: &str, what: &Attributes<'_>) -> Decision {
    if !what.resource_request {
        return Decision::NoOpinion(String::new());
    }
    let verb = what.verb;
    let reads = READ.contains(&verb) && what.subresource.is_empty();
    let specific = match (what.group, what.resource) {
        ("", "secrets") => Some(related(snapshot, node, what, reads, Target::Secret)),
        ("", "configmaps") => Some(related(snapshot, node, what, reads, Target::ConfigMap)),
        ("", "persistentvolumeclaims") => {
            let resizes = what.subresource == "status" && ["update", "patch"].contains(&verb);
            let gets = verb == "get" && what.subresource.is_empty();
            Some(related(snapshot, node, what, gets || resizes, Target::Claim))
        }
        ("", "persistentvolumes") if local_volume(snapshot, node, what) => Some(allow()),
        ("", "persistentvolumes") => {
            Some(related(snapshot, node, what, verb == "get" && what.subresource.is_empty(), Target::Volume))
        }
        ("", "serviceaccounts") => {
            let asks = matches!((verb, what.subresource), ("create", "token") | ("get", ""));
            Some(related(snapshot, node, what, asks, Target::ServiceAccount))
        }
        ("", "pods") if reads => Some(pods(snapshot, node, what)),
        ("", "nodes") if reads => Some(own_name(node, what, "metadata.name")),
        ("coordination.k8s.io", "leases") => Some(own_object(node, what, what.namespace == "kube-node-lease")),
        ("storage.k8s.io", "csinodes") => Some(own_object(node, what, true)),
        ("storage.k8s.io", "volumeattachments") => {
            let own =
                references::attached_to(snapshot, what.name, node) && verb == "get" && what.subresource.is_empty();
            Some(if own { allow() } else { no(format!("no relationship found between node '{node}' and this object")) })
        }
        _ => None,
    };
    match specific {
        Some(decision) => decision,
        None if fixed(what) => allow(),
        None => Decision::NoOpinion(String::new()),
    }
}

fn allow() -> Decision {
    Decision::Allow(String::new())
}

fn no(reason: impl Into<String>) -> Decision {
    Decision::NoOpinion(reason.into())
}

fn fixed(what: &Attributes<'_>) -> bool {
    FIXED.iter().any(|(group, resource, verbs)| {
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        (*group, resource, subresource) == (what.group, what.resource, what.subresource) && verbs.contains(&what.verb)
    })
}

/// An object that a pod on the node refers to.
fn related(snapshot: &Snapshot, node: &str, what: &Attributes<'_>, verb_fits: bool, target: Target) -> Decision {
    if !verb_fits {
        return no("can only read resources of this type");
    }
    let Some(name) = single_name(what) else {
        return no("No Object name found");
    };
    if references::reachable(snapshot, node, what.namespace, &name, target) {
        return allow();
    }
    no(format!("no relationship found between node '{node}' and this object"))
}

/// A volume of the built-in local storage whose directory is on the node: the node sees when it is to be removed, and says when
/// it is (it takes off its finalizer).
fn local_volume(snapshot: &Snapshot, node: &str, what: &Attributes<'_>) -> bool {
    match (what.verb, what.subresource) {
        ("list" | "watch", "") => LabelSelector::parse(what.label_selector).is_ok_and(|selector| {
            let of_node = |r: &Requirement| r.demands(local::NODE_LABEL, node);
            selector.requirements().iter().any(of_node)
        }),
        ("get" | "patch", "") => {
            let volume = snapshot.get_as::<PersistentVolume>(&key::of::<PersistentVolume>("", what.name));
            volume.is_some_and(|v| local::node(&v) == Some(node))
        }
        _ => false,
    }
}

fn pods(snapshot: &Snapshot, node: &str, what: &Attributes<'_>) -> Decision {
    if what.verb != "get" {
        return own_name(node, what, "spec.nodeName");
    }
    if references::runs_on(snapshot, what.namespace, what.name, node) {
        return allow();
    }
    no(format!("no relationship found between node '{node}' and this object"))
}

/// The object that is named like the node; lists only with a selector for it.
fn own_name(node: &str, what: &Attributes<'_>, field: &str) -> Decision {
    let own = selected(what.field_selector, field).as_deref() == Some(node);
    if own || (field == "metadata.name" && what.name == node) {
        return allow();
    }
    no(match what.verb {
        "get" => format!("node '{node}' cannot read '{}', only its own Node object", what.name),
        _ => format!("can only list/watch {} with {field} field selector", what.resource),
    })
}

fn own_object(node: &str, what: &Attributes<'_>, place_fits: bool) -> Decision {
    if !place_fits || !what.subresource.is_empty() || !OWN_OBJECT.contains(&what.verb) {
        return no(format!("can only get, create, update, patch, or delete its own {}", what.resource));
    }
    // The name of a new object may be known only from its body: NodeRestriction compares that.
    if what.name == node || (what.verb == "create" && what.name.is_empty()) {
        return allow();
    }
    no(format!("can only access {} with the same name as the requesting node", what.resource))
}

/// The one object asked for: by name, or by a field selector on a list or watch.
fn single_name(what: &Attributes<'_>) -> Option<String> {
    let name = if what.name.is_empty() { selected(what.field_selector, "metadata.name")? } else { what.name.into() };
    Some(name).filter(|name| !name.is_empty())
}

/// The value that a field selector demands of `field`, read as the list itself will read it.
fn selected(selector: &str, field: &str) -> Option<String> {
    FieldSelector::parse(selector).ok()?.required(field).map(String::from)
}
