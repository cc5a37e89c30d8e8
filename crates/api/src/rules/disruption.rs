//! policy/v1 PodDisruptionBudget.

use serde_json::{Value, json};

use crate::kind::{Column, Rules};
use crate::rules::cells::{self, number, scalar_or};
use crate::rules::plain::{self, WITH_SPEC_AND_STATUS};

/// Rules of PodDisruptionBudgets.
pub static DISRUPTION_BUDGET: Rules = Rules {
    prepare_create: prepare_budget,
    unconditional_update: false,
    columns: BUDGET_COLUMNS,
    row: budget_row,
    ..WITH_SPEC_AND_STATUS
};

fn prepare_budget(object: &mut Value) {
    let counters = json!({"disruptionsAllowed": 0, "currentHealthy": 0, "desiredHealthy": 0, "expectedPods": 0});
    plain::set_status(object, counters);
}

const BUDGET_COLUMNS: &[Column] = &[
    Column::NAME,
    Column::text("Min Available", "Pods that must stay available."),
    Column::text("Max Unavailable", "Pods that may be unavailable."),
    Column::integer("Allowed Disruptions", "Pods that may be disrupted now."),
    Column::AGE,
];

fn budget_row(object: &Value, now: i64) -> Vec<Value> {
    let spec = &object["spec"];
    vec![
        cells::name(object),
        scalar_or(&spec["minAvailable"], "N/A").into(),
        scalar_or(&spec["maxUnavailable"], "N/A").into(),
        number(&object["status"]["disruptionsAllowed"]).into(),
        cells::age(object, now),
    ]
}
