//! Classes that pods name: scheduling.k8s.io/v1 PriorityClass, node.k8s.io/v1 RuntimeClass.

use serde_json::Value;

use crate::kind::{Column, Generation, Rules};
use crate::rules::cells::{self, number, text};
use crate::rules::fill;
use crate::rules::plain::PLAIN;

/// Rules of PriorityClasses.
pub static PRIORITY_CLASS: Rules = Rules {
    default: default_priority,
    generation: Generation::Once,
    columns: PRIORITY_COLUMNS,
    row: priority_row,
    ..PLAIN
};

/// Rules of RuntimeClasses.
pub static RUNTIME_CLASS: Rules = Rules {
    create_on_update: true,
    unconditional_update: false,
    columns: RUNTIME_COLUMNS,
    row: |object, now| vec![cells::name(object), text(&object["handler"]).into(), cells::age(object, now)],
    ..PLAIN
};

fn default_priority(object: &mut Value) {
    if let Some(object) = object.as_object_mut() {
        fill::optional(object, "preemptionPolicy", "PreemptLowerPriority");
    }
}

const PRIORITY_COLUMNS: &[Column] = &[
    Column::NAME,
    Column::integer("Value", "Higher goes first."),
    Column::boolean("Global-Default", "Whether pods without a class get this one."),
    Column::AGE,
    Column::text("PreemptionPolicy", "Whether pods of this class may displace others."),
];

fn priority_row(object: &Value, now: i64) -> Vec<Value> {
    vec![
        cells::name(object),
        number(&object["value"]).into(),
        cells::flag(&object["globalDefault"]).into(),
        cells::age(object, now),
        text(&object["preemptionPolicy"]).into(),
    ]
}

const RUNTIME_COLUMNS: &[Column] =
    &[Column::NAME, Column::text("Handler", "The runtime that runs the pods."), Column::AGE];
