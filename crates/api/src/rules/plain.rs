//! The plain case of every rule, and the one with a `status` sub-resource; kinds name only what they do differently.

use serde_json::Value;

use crate::field::FieldError;
use crate::kind::{Column, Generation, Rules};
use crate::rules::cells;

/// No defaults, no status, no generation, everything else as most kinds have it.
pub const PLAIN: Rules = Rules {
    default: nothing,
    prepare_create: nothing,
    prepare_update: keep_nothing,
    prepare_status_update: keep_nothing,
    validate: no_errors,
    validate_update: no_update_errors,
    validate_status_update: no_update_errors,
    warnings: no_warnings,
    generation: Generation::None,
    selectable: &[],
    create_on_update: false,
    unconditional_update: true,
    returns_deleted: false,
    orphans_by_default: false,
    columns: &[Column::NAME, Column::AGE],
    row: cells::name_and_age,
};

/// As [`PLAIN`], with a `status` that only the sub-resource writes.
pub const WITH_STATUS: Rules = Rules {
    prepare_create: empty_status,
    prepare_update: keep_status,
    prepare_status_update: keep_all_but_status,
    ..PLAIN
};

/// As [`WITH_STATUS`], and the generation counts changes of `spec`.
pub const WITH_SPEC_AND_STATUS: Rules = Rules { generation: Generation::Spec, ..WITH_STATUS };

fn nothing(_: &mut Value) {}
fn keep_nothing(_: &mut Value, _: &Value) {}
fn no_errors(_: &Value) -> Vec<FieldError> {
    Vec::new()
}
fn no_update_errors(_: &Value, _: &Value) -> Vec<FieldError> {
    Vec::new()
}
fn no_warnings(_: &Value) -> Vec<String> {
    Vec::new()
}

/// A new object has no status yet, whatever the client says.
pub fn drop_status(object: &mut Value) {
    if let Some(fields) = object.as_object_mut() {
        fields.shift_remove("status");
    }
}

/// As [`drop_status`] for kinds that show an empty status from the start, as almost all that have one do: a JSON patch
/// of the status finds it there.
pub fn empty_status(object: &mut Value) {
    set_status(object, Value::Object(serde_json::Map::new()));
}

/// A new object starts with this status.
pub fn set_status(object: &mut Value, status: Value) {
    if let Some(fields) = object.as_object_mut() {
        fields.insert("status".into(), status);
    }
}

/// The main resource does not write status: the stored one stays.
pub fn keep_status(new: &mut Value, old: &Value) {
    keep_field(new, old, "status");
}

/// Makes a top-level field of `new` what it is in `old`, present or not.
pub fn keep_field(new: &mut Value, old: &Value, field: &str) {
    let Some(fields) = new.as_object_mut() else { return };
    match old.get(field) {
        Some(kept) => {
            fields.insert(field.to_string(), kept.clone());
        }
        None => {
            fields.shift_remove(field);
        }
    }
}

/// `/status` writes status only: every other field outside `metadata` stays as stored, and so do the labels'
/// owners. Metadata stays as the client sent it, for the generic code decides about it.
pub fn keep_all_but_status(new: &mut Value, old: &Value) {
    let Some(old_fields) = old.as_object() else { return };
    let Some(fields) = new.as_object_mut() else { return };
    fields.retain(|name, _| is_written_by_status(name) || old_fields.contains_key(name));
    for (name, kept) in old_fields.iter().filter(|(name, _)| !is_written_by_status(name)) {
        if fields.get(name) != Some(kept) {
            fields.insert(name.clone(), kept.clone());
        }
    }
}

fn is_written_by_status(field: &str) -> bool {
    matches!(field, "status" | "metadata" | "apiVersion" | "kind")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    #[test]
    fn status_and_spec_have_one_writer_each() {
        let stored = json!({"metadata": {"name": "a"}, "spec": {"n": 1}, "status": {"ready": 1}});
        let sent = json!({"metadata": {"name": "a"}, "spec": {"n": 2}, "data": {}, "status": {"ready": 2}});
        let mut main = sent.clone();
        super::keep_status(&mut main, &stored);
        assert_eq!(main, json!({"metadata": {"name": "a"}, "spec": {"n": 2}, "data": {}, "status": {"ready": 1}}));
        let mut status = sent.clone();
        super::keep_all_but_status(&mut status, &stored);
        assert_eq!(status, json!({"metadata": {"name": "a"}, "spec": {"n": 1}, "status": {"ready": 2}}));
        let mut shown = sent.clone();
        (super::WITH_STATUS.prepare_create)(&mut shown);
        assert_eq!(shown["status"], json!({}));
        let mut created = sent;
        super::drop_status(&mut created);
        assert_eq!(created, json!({"metadata": {"name": "a"}, "spec": {"n": 2}, "data": {}}));
    }
}
