//! The objects that exist in every cluster: default roles and bindings, priority classes, system namespaces.
//!
//! They are tables; [`reconcile`] compares them with a snapshot at start. As in Kubernetes, what users added to a default
//! role or binding stays, what is missing comes back, and the annotation `autoupdate: "false"` switches this off.

use jiff::Timestamp;
use mizzen_api::key;
use mizzen_store::{Entry, Expect, Snapshot};
use serde_json::{Value, json};

mod bindings;
mod cluster_roles;
mod controller_roles;
mod desired;
mod rules;
#[cfg(test)]
mod tests;

use desired::Desired;

/// An object to write, with the key it belongs to.
#[derive(Debug, Clone, PartialEq)]
pub struct Write {
    /// Key in the store.
    pub key: String,
    /// The condition under which it may be written.
    pub expect: Expect,
    /// The whole object with uid and creationTimestamp; of a changed one the resourceVersion is still the old.
    pub object: Value,
}

/// What is missing from, or differs in, `snapshot`: on an empty store everything, later mostly nothing. The caller
/// commits all of it in one transaction. `uid` makes a fresh UUID.
pub fn reconcile(snapshot: &Snapshot, now: Timestamp, uid: &mut dyn FnMut() -> String) -> Vec<Write> {
    let created = now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let writes = desired::all().into_iter().filter_map(|desired| {
        let key = key::object(desired.group, desired.plural, desired.namespace, &desired.name);
        if let Some(entry) = snapshot.get(&key) {
            let object = mended(entry, &desired, &created, uid)?;
            return Some(Write { key, expect: Expect::At(entry.revision), object });
        }
        Some(Write { key, expect: Expect::Absent, object: stamped(desired.object, &created, &uid()) })
    });
    writes.collect()
}

fn stamped(mut object: Value, created: &str, uid: &str) -> Value {
    object["metadata"]["uid"] = uid.into();
    object["metadata"]["creationTimestamp"] = created.into();
    object
}

/// The stored object with what it lacks; `None` if it lacks nothing, or is none of our business.
fn mended(entry: &Entry, desired: &Desired, created: &str, uid: &mut dyn FnMut() -> String) -> Option<Value> {
    if !matches!(desired.plural, "clusterroles" | "roles" | "clusterrolebindings" | "rolebindings") {
        return None;
    }
    let mut object: Value = serde_json::from_slice(&entry.value).ok()?;
    let auto = "/metadata/annotations/rbac.authorization.kubernetes.io~1autoupdate";
    if object.pointer(auto).is_some_and(|auto| auto == "false") {
        return None;
    }
    // What a binding refers to cannot be changed, so a wrong one is replaced as a whole.
    if object.get("roleRef") != desired.object.get("roleRef") {
        return Some(stamped(desired.object.clone(), created, &uid()));
    }
    let mut changed = false;
    for map in ["labels", "annotations"] {
        for (name, value) in desired.object["metadata"][map].as_object().into_iter().flatten() {
            if object["metadata"][map].get(name).is_none() {
                object["metadata"][map][name] = value.clone();
                changed = true;
            }
        }
    }
    for list in ["rules", "subjects"] {
        changed |= complete(&mut object, list, desired.object.get(list));
    }
    if let Some(aggregation) = desired.object.get("aggregationRule") {
        let selectors = aggregation.get("clusterRoleSelectors");
        if !object["aggregationRule"].is_object() {
            object["aggregationRule"] = json!({});
        }
        changed |= complete(&mut object["aggregationRule"], "clusterRoleSelectors", selectors);
    }
    changed.then_some(object)
}

/// Adds the items that the list lacks; true if there were any.
fn complete(object: &mut Value, list: &str, wanted: Option<&Value>) -> bool {
    let wanted = wanted.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let present = object.get(list).and_then(Value::as_array).cloned().unwrap_or_default();
    let missing: Vec<Value> = wanted.iter().filter(|item| !present.contains(item)).cloned().collect();
    if missing.is_empty() {
        return false;
    }
    object[list] = present.into_iter().chain(missing).collect();
    true
}
