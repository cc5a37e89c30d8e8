//! Small worlds for tests: objects as JSON, one revision each.

use mizzen_api::key;
use mizzen_store::{Entry, Revision, Snapshot};
use serde_json::Value;

/// A snapshot of these objects, the first at revision 1. The plural of a kind is its lower-case name and `s`, or `es`.
pub fn snapshot(objects: impl IntoIterator<Item = Value>) -> Snapshot {
    let entries = objects.into_iter().enumerate().map(|(at, object)| {
        let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_string();
        let (version, kind) = (text("/apiVersion"), text("/kind").to_lowercase());
        let group = version.split_once('/').map_or("", |(group, _)| group);
        let plural = if kind.ends_with('s') { format!("{kind}es") } else { format!("{kind}s") };
        let key = key::object(group, &plural, &text("/metadata/namespace"), &text("/metadata/name"));
        let revision = Revision(at as u64 + 1);
        let bytes = serde_json::to_vec(&object).unwrap();
        Entry::new(key.into(), bytes.into(), revision, revision, 0..0)
    });
    entries.collect()
}

/// `apiVersion kind namespace/name` and further fields.
pub fn object(version: &str, kind: &str, at: &str, fields: Value) -> Value {
    let (namespace, name) = at.split_once('/').unwrap_or(("", at));
    let mut object = serde_json::json!({
        "apiVersion": version, "kind": kind, "metadata": {"name": name, "uid": format!("uid-{name}")},
    });
    if !namespace.is_empty() {
        object["metadata"]["namespace"] = namespace.into();
    }
    for (field, value) in fields.as_object().unwrap() {
        if field == "metadata" {
            for (field, value) in value.as_object().unwrap() {
                object["metadata"][field] = value.clone();
            }
        } else {
            object[field] = value.clone();
        }
    }
    object
}
