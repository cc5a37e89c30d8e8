//! apps/v1 ReplicaSet and core/v1 ReplicationController.

use serde_json::{Value, json};

use crate::field::FieldError;
use crate::kind::{Column, Rules, SelectableField};
use crate::rules::cells::{self, number};
use crate::rules::check::{At, Errors, same};
use crate::rules::fill;
use crate::rules::plain::{self, WITH_SPEC_AND_STATUS};
use crate::rules::{pod, workload};

/// Rules of ReplicaSets.
pub static REPLICA_SET: Rules = Rules {
    default,
    prepare_create,
    validate: validate_set,
    warnings: pod::warnings::workload,
    validate_update: update_set,
    validate_status_update: update_status,
    columns: COLUMNS,
    row: set_row,
    ..WITH_SPEC_AND_STATUS
};

/// Rules of ReplicationControllers.
pub static REPLICATION_CONTROLLER: Rules = Rules {
    default: default_controller,
    prepare_create,
    validate: validate_controller,
    warnings: pod::warnings::workload,
    validate_update: update_controller,
    validate_status_update: update_status,
    orphans_by_default: true,
    selectable: &[SelectableField { label: "status.replicas", value: replicas }],
    columns: COLUMNS,
    row: controller_row,
    ..WITH_SPEC_AND_STATUS
};

fn default(object: &mut Value) {
    let Some(spec) = object.as_object_mut().and_then(|o| fill::child(o, "spec")) else {
        return;
    };
    fill::optional(spec, "replicas", 1);
    pod::defaults::template(spec, "template");
}

/// The template's labels are also the selector and the controller's own labels, where it has none.
fn default_controller(object: &mut Value) {
    let Some(object) = object.as_object_mut() else { return };
    let Some(spec) = fill::child(object, "spec") else {
        return;
    };
    fill::optional(spec, "replicas", 1);
    if fill::is_unset(spec, "template") {
        return;
    }
    pod::defaults::template(spec, "template");
    let labels = spec["template"]["metadata"]["labels"].clone();
    if !labels.is_object() {
        return;
    }
    if fill::is_empty(spec, "selector") {
        spec.insert("selector".into(), labels.clone());
    }
    let Some(metadata) = fill::child(object, "metadata") else {
        return;
    };
    if fill::is_empty(metadata, "labels") {
        metadata.insert("labels".into(), labels);
    }
}

fn prepare_create(object: &mut Value) {
    plain::set_status(object, json!({"replicas": 0}));
}

fn replicas(object: &Value) -> String {
    object["status"]["replicas"].as_i64().unwrap_or_default().to_string()
}

const COLUMNS: &[Column] = &[
    Column::NAME,
    Column::integer("Desired", "Pods that are wanted."),
    Column::integer("Current", "Pods that exist."),
    Column::integer("Ready", "Pods that are ready."),
    Column::AGE,
    Column::CONTAINERS,
    Column::IMAGES,
    Column::SELECTOR,
];

fn set_row(object: &Value, now: i64) -> Vec<Value> {
    row(object, cells::selector(&object["spec"]["selector"]), now)
}

fn controller_row(object: &Value, now: i64) -> Vec<Value> {
    row(object, cells::labels(&object["spec"]["selector"]), now)
}

fn row(object: &Value, selector: String, now: i64) -> Vec<Value> {
    let (spec, status) = (&object["spec"], &object["status"]);
    let [names, images] = cells::containers(&spec["template"]["spec"]);
    vec![
        cells::name(object),
        number(&spec["replicas"]).into(),
        number(&status["replicas"]).into(),
        number(&status["readyReplicas"]).into(),
        cells::age(object, now),
        names,
        images,
        selector.into(),
    ]
}

fn validate_set(object: &Value) -> Vec<FieldError> {
    let (spec, at, mut errors) = (&object["spec"], At::ROOT.field("spec"), Errors::default());
    workload::counts(spec, &["replicas", "minReadySeconds"], &at, &mut errors);
    workload::selector(spec, "deployment", &at, &mut errors);
    workload::template(spec, "ReplicaSet", &at, &mut errors);
    errors.0
}

fn update_set(new: &Value, old: &Value) -> Vec<FieldError> {
    if same(&new["spec"], &old["spec"]) {
        return Vec::new();
    }
    let mut errors = Errors(validate_set(new));
    errors.immutable(&At::ROOT.field("spec").field("selector"), &new["spec"]["selector"], &old["spec"]["selector"]);
    errors.0
}

fn validate_controller(object: &Value) -> Vec<FieldError> {
    let (spec, at, mut errors) = (&object["spec"], At::ROOT.field("spec"), Errors::default());
    workload::counts(spec, &["replicas", "minReadySeconds"], &at, &mut errors);
    let (selector, template) = (&spec["selector"], &spec["template"]);
    let at_template = at.field("template");
    if cells::len(selector) == 0 {
        errors.required(&at.field("selector"), "");
    }
    if template.is_null() {
        errors.required(&at_template, "");
        return errors.0;
    }
    let labels = &template["metadata"]["labels"];
    let picked = selector.as_object().into_iter().flatten().all(|(key, value)| labels.get(key) == Some(value));
    workload::unpicked(spec, picked, &at_template, &mut errors);
    pod::spec::template(template, &at_template, &mut errors);
    pod::spec::runs_forever(template, "ReplicationController", &at_template, &mut errors);
    errors.0
}

fn update_controller(new: &Value, old: &Value) -> Vec<FieldError> {
    if same(&new["spec"], &old["spec"]) { Vec::new() } else { validate_controller(new) }
}

fn update_status(new: &Value, old: &Value) -> Vec<FieldError> {
    workload::status(new, old, "replicas", &["fullyLabeledReplicas", "readyReplicas", "availableReplicas"])
}
