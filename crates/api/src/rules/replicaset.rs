//! apps/v1 ReplicaSet and core/v1 ReplicationController.

use serde_json::{Value, json};

use crate::kind::{Column, Rules, SelectableField};
use crate::rules::cells::{self, number};
use crate::rules::fill;
use crate::rules::plain::{self, WITH_SPEC_AND_STATUS};
use crate::rules::pod;

/// Rules of ReplicaSets.
pub static REPLICA_SET: Rules = Rules {
    default,
    prepare_create,
    columns: COLUMNS,
    row: set_row,
    ..WITH_SPEC_AND_STATUS
};

/// Rules of ReplicationControllers.
pub static REPLICATION_CONTROLLER: Rules = Rules {
    default: default_controller,
    prepare_create,
    orphans_by_default: true,
    selectable: &[SelectableField {
        label: "status.replicas",
        value: replicas,
    }],
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
