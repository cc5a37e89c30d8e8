//! policy/v1 PodDisruptionBudget.

use serde_json::{Value, json};

use crate::field::FieldError;
use crate::kind::{Column, Rules};
use crate::rules::cells::{self, number, scalar_or};
use crate::rules::check::{At, Errors, same};
use crate::rules::plain::{self, WITH_SPEC_AND_STATUS};
use crate::rules::{selector, workload};

/// Rules of PodDisruptionBudgets.
pub static DISRUPTION_BUDGET: Rules = Rules {
    prepare_create: prepare_budget,
    validate,
    validate_update: |new, old| if same(&new["spec"], &old["spec"]) { Vec::new() } else { validate(new) },
    validate_status_update: |new, _| {
        let (at, mut errors) = (At::ROOT.field("status"), Errors::default());
        let counts = ["disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods"];
        workload::counts(&new["status"], &counts, &at, &mut errors);
        errors.0
    },
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

fn validate(object: &Value) -> Vec<FieldError> {
    let (spec, at, mut errors) = (&object["spec"], At::ROOT.field("spec"), Errors::default());
    if !spec["minAvailable"].is_null() && !spec["maxUnavailable"].is_null() {
        errors.invalid(&at, spec, "minAvailable and maxUnavailable cannot be both set");
    }
    for field in ["minAvailable", "maxUnavailable"] {
        workload::number_or_part(&spec[field], &at.field(field), &mut errors);
    }
    selector::label_selector(&spec["selector"], &at.field("selector"), &mut errors);
    let policy = &spec["unhealthyPodEvictionPolicy"];
    errors.one_of(&at.field("unhealthyPodEvictionPolicy"), policy, &["AlwaysAllow", "IfHealthyBudget"]);
    errors.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::check::testing::check;

    #[test]
    fn one_bound_and_no_more() {
        for (case, spec, errors) in [
            ("good", json!({"minAvailable": "50%"}), &[][..]),
            ("both", json!({"minAvailable": 1, "maxUnavailable": 1}), &["spec: Invalid value: {"]),
            (
                "more than all",
                json!({"maxUnavailable": "150%"}),
                &["spec.maxUnavailable: Invalid value: \"150%\": must not be greater than 100%"],
            ),
        ] {
            check(case, &validate(&json!({"spec": spec})), errors);
        }
    }
}
