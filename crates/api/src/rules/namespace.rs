//! core/v1 Namespace.

use serde_json::{Value, json};

use crate::field::FieldError;
use crate::kind::{Column, Rules, SelectableField};
use crate::names;
use crate::rules::cells::{self, list, text};
use crate::rules::check::{At, Errors};
use crate::rules::fill;
use crate::rules::plain::{self, WITH_STATUS};

/// The label that carries a namespace's name, so that selectors can pick namespaces by name.
pub const NAME_LABEL: &str = "kubernetes.io/metadata.name";
/// The entry of `spec.finalizers` that the namespace controller removes when nothing is left inside.
const FINALIZER: &str = "kubernetes";

/// Rules of Namespaces.
pub static RULES: Rules = Rules {
    default,
    prepare_create,
    prepare_update,
    validate,
    validate_status_update,
    returns_deleted: true,
    selectable: &[SelectableField { label: "status.phase", value: |ns| text(&ns["status"]["phase"]).into() }],
    columns: &[Column::NAME, Column::text("Status", "Whether the namespace is in use or going away."), Column::AGE],
    row: |object, now| vec![cells::name(object), text(&object["status"]["phase"]).into(), cells::age(object, now)],
    ..WITH_STATUS
};

fn default(object: &mut Value) {
    let Some(object) = object.as_object_mut() else { return };
    if let Some(metadata) = fill::existing(object, "metadata") {
        let name = metadata.get("name").and_then(Value::as_str).unwrap_or_default().to_string();
        if !name.is_empty()
            && let Some(labels) = fill::child(metadata, "labels")
        {
            labels.insert(NAME_LABEL.into(), name.into());
        }
    }
    if let Some(status) = fill::child(object, "status") {
        fill::text(status, "phase", "Active");
    }
}

fn prepare_create(object: &mut Value) {
    plain::set_status(object, json!({"phase": "Active"}));
    // A generated name is known only now.
    default(object);
    let Some(spec) = object.as_object_mut().and_then(|o| fill::child(o, "spec")) else {
        return;
    };
    fill::optional(spec, "finalizers", json!([]));
    let Some(finalizers) = spec.get_mut("finalizers").and_then(Value::as_array_mut) else {
        return;
    };
    if !finalizers.iter().any(|f| f == FINALIZER) {
        finalizers.push(FINALIZER.into());
    }
}

/// Finalizers of the spec change through `/finalize` only.
fn prepare_update(new: &mut Value, old: &Value) {
    plain::keep_status(new, old);
    plain::keep_field(new, old, "spec");
}

fn validate(object: &Value) -> Vec<FieldError> {
    let at = At::ROOT.field("spec");
    let (at, mut errors) = (at.field("finalizers"), Errors::default());
    for finalizer in list(&object["spec"]["finalizers"]) {
        let name = text(finalizer);
        errors.all(&at, name, names::qualified_name(name));
        if !name.contains('/') && !matches!(name, FINALIZER | "orphan" | "foregroundDeletion") {
            errors.invalid(&at, name, "name is neither a standard finalizer name nor is it fully qualified");
        }
    }
    errors.0
}

/// The phase follows deletion.
fn validate_status_update(new: &Value, _old: &Value) -> Vec<FieldError> {
    let (phase, at, mut errors) = (&new["status"]["phase"], At::ROOT.field("status"), Errors::default());
    let (wanted, detail) = if cells::is_terminating(new) {
        ("Terminating", "may only be 'Terminating' if `deletionTimestamp` is not empty")
    } else {
        ("Active", "may only be 'Active' if `deletionTimestamp` is empty")
    };
    if phase != wanted {
        errors.invalid(&at.field("Phase"), phase, detail);
    }
    errors.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_namespace_is_active_and_held_by_its_finalizer() {
        let mut object = json!({"metadata": {"name": "a"}, "status": {"phase": "Terminating"}});
        prepare_create(&mut object);
        assert_eq!(
            object,
            json!({"metadata": {"name": "a", "labels": {"kubernetes.io/metadata.name": "a"}},
                "status": {"phase": "Active"}, "spec": {"finalizers": ["kubernetes"]}})
        );
    }
}
