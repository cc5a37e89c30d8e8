//! The difference between two statuses as a strategic merge patch. Pure.
//!
//! Only what changed is sent, so conditions and fields that others write stay theirs. The uid makes the API refuse it
//! for another pod of the same name.

use k8s_openapi::api::core::v1::PodStatus;
use serde_json::{Map, Value, json};

/// Lists that the API merges by a key: the key.
const MERGED: [(&str, &str); 3] = [("conditions", "type"), ("podIPs", "ip"), ("hostIPs", "ip")];

/// Fields that this node takes away when they no longer apply; others may belong to someone else.
const OURS: [&str; 9] = [
    "resources",
    "allocatedResources",
    "reason",
    "message",
    "podIP",
    "podIPs",
    "containerStatuses",
    "initContainerStatuses",
    "ephemeralContainerStatuses",
];

/// Conditions that this node takes away when they no longer apply.
const PASSING: [&str; 3] = ["PodResizePending", "PodResizeInProgress", "AllContainersRestarting"];

/// The patch that turns `before` into `after`.
pub fn status(uid: &str, before: &PodStatus, after: &PodStatus) -> Value {
    // Plain data: it always serialises.
    let to_map = |status: &PodStatus| match serde_json::to_value(status) {
        Ok(Value::Object(map)) => map,
        _ => Map::new(),
    };
    let (before, after) = (to_map(before), to_map(after));
    let mut changes = Map::new();
    for (field, value) in &after {
        let old = before.get(field);
        if old == Some(value) {
            continue;
        }
        let merge = MERGED.iter().find(|(name, _)| name == field);
        let change = match merge {
            Some((name, key)) => merged(old.unwrap_or(&Value::Null), value, key, |gone| {
                *name != "conditions" || PASSING.iter().any(|passing| gone == passing)
            }),
            None => value.clone(),
        };
        if change.as_array().is_none_or(|items| !items.is_empty() || merge.is_none()) {
            changes.insert(field.clone(), change);
        }
    }
    for field in OURS.iter().filter(|f| before.contains_key(**f) && !after.contains_key(**f)) {
        changes.insert((*field).to_string(), Value::Null);
    }
    json!({"metadata": {"uid": uid}, "status": changes})
}

/// Items that changed, and a directive for each that is gone and, by its key, ours.
///
/// Items are merged field by field, so a field that an item has no more is taken away by name.
fn merged(before: &Value, after: &Value, key: &str, ours: impl Fn(&Value) -> bool) -> Value {
    let items = |list: &Value| list.as_array().cloned().unwrap_or_default();
    let (before, after) = (items(before), items(after));
    let change = |item: &Value| {
        let mut change = item.clone();
        let old = before.iter().find(|b| b[key] == item[key]).and_then(Value::as_object);
        for field in old.into_iter().flatten().map(|(field, _)| field).filter(|f| item.get(f).is_none()) {
            change[field] = Value::Null;
        }
        change
    };
    let mut changes: Vec<Value> = after.iter().filter(|item| !before.contains(item)).map(change).collect();
    for gone in before.iter().filter(|b| ours(&b[key]) && !after.iter().any(|a| a[key] == b[key])) {
        changes.push(json!({"$patch": "delete", key: gone[key]}));
    }
    Value::Array(changes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sends_only_what_changed() {
        let parse = |v: Value| -> PodStatus { serde_json::from_value(v).unwrap() };
        let ready = |s: &str| json!({"type": "Ready", "status": s});
        let scheduled = json!({"type": "PodScheduled", "status": "True"});
        for (case, before, after, want) in [
            ("nothing", json!({"phase": "Running"}), json!({"phase": "Running"}), json!({})),
            (
                "a field",
                json!({"phase": "Pending", "reason": "x"}),
                json!({"phase": "Running"}),
                json!({"phase": "Running", "reason": null}),
            ),
            (
                "one condition",
                json!({"conditions": [ready("False"), scheduled]}),
                json!({"conditions": [ready("True"), scheduled]}),
                json!({"conditions": [ready("True")]}),
            ),
            (
                "a condition without its reason",
                json!({"conditions": [{"type": "Ready", "status": "False", "reason": "x", "message": "y"}]}),
                json!({"conditions": [ready("True")]}),
                json!({"conditions": [{"type": "Ready", "status": "True", "reason": null, "message": null}]}),
            ),
            (
                "a condition of someone else",
                json!({"conditions": [{"type": "Gate", "status": "True"}, ready("True")], "resize": "x"}),
                json!({"conditions": [ready("True")]}),
                json!({}),
            ),
            (
                "a condition that passes",
                json!({"conditions": [ready("True"), {"type": "PodResizeInProgress", "status": "True"}]}),
                json!({"conditions": [ready("True")]}),
                json!({"conditions": [{"$patch": "delete", "type": "PodResizeInProgress"}]}),
            ),
            (
                "an address",
                json!({"podIPs": [{"ip": "1.1.1.1"}]}),
                json!({"podIPs": [{"ip": "2.2.2.2"}]}),
                json!({"podIPs": [{"ip": "2.2.2.2"}, {"$patch": "delete", "ip": "1.1.1.1"}]}),
            ),
        ] {
            let got = status("u", &parse(before), &parse(after));
            assert_eq!(got, json!({"metadata": {"uid": "u"}, "status": want}), "{case}");
        }
    }
}
