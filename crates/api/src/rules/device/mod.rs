//! resource.k8s.io: claims of devices, and what drivers offer.

mod forms;
mod request;
mod slice;

use serde_json::Value;

use crate::kind::{Column, Generation, Rules};
use crate::rules::cells::{self, list, text};
use crate::rules::plain::{PLAIN, WITH_SPEC_AND_STATUS, WITH_STATUS};

/// Rules of ResourceClaims.
pub static RESOURCE_CLAIM: Rules = Rules {
    default: request::default_claim,
    validate: request::claim,
    validate_update: request::update,
    validate_status_update: request::status_update,
    returns_deleted: true,
    columns: &[Column::NAME, Column::text("State", "Whether it is pending, allocated, reserved."), Column::AGE],
    row: |object, now| vec![cells::name(object), claim_state(object).into(), cells::age(object, now)],
    ..WITH_STATUS
};

/// Rules of ResourceSlices.
pub static RESOURCE_SLICE: Rules = Rules {
    validate: slice::validate,
    validate_update: slice::update,
    generation: Generation::Spec,
    returns_deleted: true,
    columns: SLICE_COLUMNS,
    row: slice_row,
    ..PLAIN
};

/// Rules of DeviceClasses.
pub static DEVICE_CLASS: Rules = Rules {
    validate: request::class,
    validate_update: |new, _| request::class(new),
    generation: Generation::Spec,
    returns_deleted: true,
    ..PLAIN
};

/// Rules of ResourceClaimTemplates.
pub static CLAIM_TEMPLATE: Rules = Rules {
    default: request::default_template,
    validate: request::template,
    validate_update: request::update,
    generation: Generation::Spec,
    returns_deleted: true,
    ..PLAIN
};

/// Rules of DeviceTaintRules and other resource.k8s.io kinds with a status.
pub static DEVICE_WITH_STATUS: Rules = Rules { returns_deleted: true, ..WITH_SPEC_AND_STATUS };

fn claim_state(object: &Value) -> String {
    let (deleting, status) = (cells::is_terminating(object), &object["status"]);
    let allocated = !status["allocation"].is_null();
    let states = [
        (deleting, "deleted"),
        (!allocated && !deleting, "pending"),
        (allocated, "allocated"),
        (allocated && !list(&status["reservedFor"]).is_empty(), "reserved"),
    ];
    states.into_iter().filter(|(holds, _)| *holds).map(|(_, word)| word).collect::<Vec<_>>().join(",")
}

const SLICE_COLUMNS: &[Column] = &[
    Column::NAME,
    Column::text("Node", "The node that has the devices."),
    Column::text("Driver", "The driver that serves them."),
    Column::text("Pool", "The pool they belong to."),
    Column::AGE,
];

fn slice_row(object: &Value, now: i64) -> Vec<Value> {
    let spec = &object["spec"];
    vec![
        cells::name(object),
        text(&spec["nodeName"]).into(),
        text(&spec["driver"]).into(),
        text(&spec["pool"]["name"]).into(),
        cells::age(object, now),
    ]
}
