//! What the server itself decides about metadata: identity, times, generation, what updates may not touch.
//!
//! Pure functions of objects in their storage version.

use jiff::Timestamp;
use mizzen_api::field::FieldError;
use mizzen_api::kind::{Generation, Kind};
use mizzen_api::status::ApiError;
use serde_json::{Map, Value, json};

/// A time as metadata carries it.
pub(crate) fn time(now: Timestamp) -> String {
    now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// `metadata`, created where it is missing or no object.
pub(crate) fn metadata(object: &mut Value) -> &mut Map<String, Value> {
    if !object.is_object() {
        *object = json!({});
    }
    let slot = &mut object["metadata"];
    if !slot.is_object() {
        *slot = json!({});
    }
    match slot {
        Value::Object(fields) => fields,
        _ => unreachable!("made an object above"),
    }
}

/// A text of metadata, empty where there is none.
pub(crate) fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object["metadata"][field].as_str().unwrap_or_default()
}

/// Whether deletion has begun.
pub(crate) fn is_deleting(object: &Value) -> bool {
    !text(object, "deletionTimestamp").is_empty()
}

/// The finalizers.
pub(crate) fn finalizers(object: &Value) -> Vec<&str> {
    object["metadata"]["finalizers"].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

/// What clients may not set on create, and the namespace (api-facts §3.1).
pub(crate) fn incoming(object: &mut Value, kind: &Kind, namespace: &str) -> Result<(), ApiError> {
    let fields = metadata(object);
    if fields.get("resourceVersion").and_then(Value::as_str).is_some_and(|v| !v.is_empty()) {
        return Err(ApiError::plain(500, "", "resourceVersion should not be set on objects to be created"));
    }
    for field in [
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "selfLink",
        "resourceVersion",
        "generation",
    ] {
        fields.shift_remove(field);
    }
    place(fields, kind, namespace)
}

/// Makes the namespace that of the URL; another one in the body is refused.
pub(crate) fn place(metadata: &mut Map<String, Value>, kind: &Kind, namespace: &str) -> Result<(), ApiError> {
    if !kind.namespaced {
        metadata.shift_remove("namespace");
        return Ok(());
    }
    match metadata.get("namespace").and_then(Value::as_str).unwrap_or_default() {
        "" => {
            metadata.insert("namespace".into(), namespace.into());
            Ok(())
        }
        same if same == namespace => Ok(()),
        _ => Err(ApiError::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        )),
    }
}

/// Identity of a new object.
pub(crate) fn born(object: &mut Value, kind: &Kind, uid: String, now: Timestamp) {
    let fields = metadata(object);
    fields.insert("uid".into(), uid.into());
    fields.insert("creationTimestamp".into(), time(now).into());
    if kind.rules.generation != Generation::None {
        fields.insert("generation".into(), 1.into());
    }
}

/// Metadata that an update cannot change is taken from the stored object (api-facts §3.5).
pub(crate) fn carry_over(new: &mut Value, old: &Value) {
    let fields = metadata(new);
    for field in ["uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation"] {
        match old["metadata"].get(field) {
            Some(kept) => fields.insert(field.into(), kept.clone()),
            None => fields.shift_remove(field),
        };
    }
    fields.shift_remove("selfLink");
    if let Some(kept) = old["metadata"].get("generateName") {
        fields.entry("generateName").or_insert_with(|| kept.clone());
    }
}

/// Checks that the body of an update is about the stored object: name, namespace, uid, resourceVersion.
pub(crate) fn same_object(new: &Value, old: &Value, kind: &Kind) -> Result<(), ApiError> {
    let name = text(old, "name");
    let (sent, stored) = (text(new, "uid"), text(old, "uid"));
    if !sent.is_empty() && sent != stored {
        let why = format!("Precondition failed: UID in precondition: {sent}, UID in object meta: {stored}");
        return Err(ApiError::conflict(kind.subject(), name, &why));
    }
    let sent = text(new, "resourceVersion");
    if sent.is_empty() || sent == "0" {
        if kind.rules.unconditional_update {
            return Ok(());
        }
        let error = FieldError::invalid("metadata.resourceVersion", 0, "must be specified for an update");
        return Err(ApiError::invalid(&kind.group, &kind.kind, name, &[error]));
    }
    if sent != text(old, "resourceVersion") {
        return Err(ApiError::modified(kind.subject(), name));
    }
    Ok(())
}

/// Counts the generation up where the change is of the kind that counts (api-facts §3.2).
pub(crate) fn generation(new: &mut Value, old: &Value, kind: &Kind) {
    let counts = match kind.rules.generation {
        Generation::None | Generation::Once => false,
        Generation::Spec => differs(new, old, "spec"),
        Generation::SpecAndAnnotations => {
            differs(new, old, "spec") || differs(&new["metadata"], &old["metadata"], "annotations")
        }
        Generation::Content => content_differs(new, old, kind),
        Generation::ContentAndLabels => {
            content_differs(new, old, kind) || differs(&new["metadata"], &old["metadata"], "labels")
        }
    };
    if counts {
        next_generation(new);
    }
}

/// Counts the generation up, if there is one.
pub(crate) fn next_generation(object: &mut Value) {
    if let Some(generation) = object["metadata"]["generation"].as_i64().filter(|g| *g > 0) {
        metadata(object).insert("generation".into(), (generation + 1).into());
    }
}

/// Whether a field differs; missing, null and empty are the same.
fn differs(new: &Value, old: &Value, field: &str) -> bool {
    let (new, old) = (new.get(field).unwrap_or(&Value::Null), old.get(field).unwrap_or(&Value::Null));
    !(new == old || is_empty(new) && is_empty(old))
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    }
}

fn content_differs(new: &Value, old: &Value, kind: &Kind) -> bool {
    let has_status = kind.subresource("status").is_some();
    let counted = |name: &str| name != "metadata" && !(has_status && name == "status");
    let names = [new, old].into_iter().filter_map(Value::as_object).flat_map(|o| o.keys());
    names.filter(|name| counted(name)).any(|name| differs(new, old, name))
}

#[cfg(test)]
mod tests {
    use mizzen_api::kinds::kinds;

    use super::*;

    #[test]
    fn generation_counts_changes_of_the_spec() {
        let kind = Kind {
            rules: &mizzen_api::rules::plain::WITH_SPEC_AND_STATUS,
            ..kinds().by_resource("apps", "v1", "deployments").unwrap().clone()
        };
        let old = json!({"metadata": {"generation": 2}, "spec": {"replicas": 1}, "status": {}});
        for (new, expected) in [
            (json!({"metadata": {"generation": 2}, "spec": {"replicas": 1}, "status": {"x": 1}}), 2),
            (json!({"metadata": {"generation": 2}, "spec": {"replicas": 2}}), 3),
            (json!({"metadata": {"generation": 2}}), 3),
        ] {
            let mut new = new;
            generation(&mut new, &old, &kind);
            assert_eq!(new["metadata"]["generation"], expected);
        }
    }

    #[test]
    fn an_update_speaks_of_the_stored_object() {
        let kind = kinds().by_resource("", "v1", "configmaps").unwrap();
        let old = json!({"metadata": {"name": "a", "uid": "u1", "resourceVersion": "7"}});
        for (sent, code) in [
            (json!({}), None),
            (json!({"resourceVersion": "7"}), None),
            (json!({"resourceVersion": "6"}), Some(409)),
            (json!({"uid": "u2"}), Some(409)),
            (json!({"uid": "u1"}), None),
        ] {
            let new = json!({"metadata": sent});
            assert_eq!(same_object(&new, &old, kind).err().map(|e| e.code), code, "{new}");
        }
    }
}
