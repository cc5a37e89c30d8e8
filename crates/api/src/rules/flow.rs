//! flowcontrol.apiserver.k8s.io/v1: FlowSchema, PriorityLevelConfiguration.

mod valid;

use serde_json::Value;

use crate::kind::{Column, Rules};
use crate::rules::cells::{self, NONE, number, text, text_or};
use crate::rules::fill;
use crate::rules::plain::WITH_SPEC_AND_STATUS;

/// Rules of FlowSchemas.
pub static FLOW_SCHEMA: Rules = Rules {
    default: default_flow_schema,
    validate: valid::flow_schema,
    validate_update: |new, _| valid::flow_schema(new),
    columns: FLOW_COLUMNS,
    row: flow_row,
    ..WITH_SPEC_AND_STATUS
};

/// Rules of PriorityLevelConfigurations.
pub static PRIORITY_LEVEL: Rules = Rules {
    default: default_priority_level,
    validate: valid::priority_level,
    validate_update: |new, _| valid::priority_level(new),
    columns: LEVEL_COLUMNS,
    row: level_row,
    ..WITH_SPEC_AND_STATUS
};

fn default_flow_schema(object: &mut Value) {
    if let Some(spec) = object.as_object_mut().and_then(|o| fill::child(o, "spec")) {
        fill::number(spec, "matchingPrecedence", 1000);
    }
}

fn default_priority_level(object: &mut Value) {
    let Some(spec) = object.as_object_mut().and_then(|o| fill::child(o, "spec")) else {
        return;
    };
    if let Some(exempt) = fill::existing(spec, "exempt") {
        fill::optional(exempt, "nominalConcurrencyShares", 0);
        fill::optional(exempt, "lendablePercent", 0);
    }
    let Some(limited) = fill::existing(spec, "limited") else {
        return;
    };
    fill::optional(limited, "nominalConcurrencyShares", 30);
    fill::optional(limited, "lendablePercent", 0);
    let response = fill::existing(limited, "limitResponse");
    if let Some(queuing) = response.and_then(|r| fill::existing(r, "queuing")) {
        fill::number(queuing, "queues", 64);
        fill::number(queuing, "handSize", 8);
        fill::number(queuing, "queueLengthLimit", 50);
    }
}

const FLOW_COLUMNS: &[Column] = &[
    Column::NAME,
    Column::text("PriorityLevel", "The level its requests go to."),
    Column::text("MatchingPrecedence", "Lower is tried first."),
    Column::text("DistinguisherMethod", "How flows are told apart."),
    Column::AGE,
    Column::text("MissingPL", "Whether the level does not exist."),
];

fn flow_row(object: &Value, now: i64) -> Vec<Value> {
    let spec = &object["spec"];
    vec![
        cells::name(object),
        text(&spec["priorityLevelConfiguration"]["name"]).into(),
        number(&spec["matchingPrecedence"]).into(),
        text_or(&spec["distinguisherMethod"]["type"], NONE).into(),
        cells::age(object, now),
        cells::condition(object, "Dangling").map_or("?", |condition| text(&condition["status"])).into(),
    ]
}

const LEVEL_COLUMNS: &[Column] = &[
    Column::NAME,
    Column::text("Type", "Exempt or limited."),
    Column::text("NominalConcurrencyShares", "Its part of the server's capacity."),
    Column::text("Queues", "Number of queues."),
    Column::text("HandSize", "Queues one flow may use."),
    Column::text("QueueLengthLimit", "Requests that may wait in one queue."),
    Column::AGE,
];

fn level_row(object: &Value, now: i64) -> Vec<Value> {
    let limited = &object["spec"]["limited"];
    let queuing = &limited["limitResponse"]["queuing"];
    let shown = |value: &Value| if value.is_number() { value.clone() } else { NONE.into() };
    vec![
        cells::name(object),
        text(&object["spec"]["type"]).into(),
        shown(&limited["nominalConcurrencyShares"]),
        shown(&queuing["queues"]),
        shown(&queuing["handSize"]),
        shown(&queuing["queueLengthLimit"]),
        cells::age(object, now),
    ]
}
