//! apps/v1 DaemonSet.

use serde_json::{Value, json};

use crate::field::FieldError;
use crate::kind::{Column, Rules};
use crate::rules::cells::{self, number, text};
use crate::rules::check::{At, Errors, same};
use crate::rules::fill;
use crate::rules::plain::{self, WITH_SPEC_AND_STATUS};
use crate::rules::{pod, workload};

/// Rules of DaemonSets.
pub static RULES: Rules = Rules {
    default,
    prepare_create,
    validate,
    warnings: pod::warnings::workload,
    validate_update,
    validate_status_update: |new, old| workload::status(new, old, "", &[]),
    columns: COLUMNS,
    row,
    ..WITH_SPEC_AND_STATUS
};

fn default(object: &mut Value) {
    let Some(spec) = object.as_object_mut().and_then(|o| fill::child(o, "spec")) else {
        return;
    };
    pod::defaults::template(spec, "template");
    if let Some(strategy) = fill::child(spec, "updateStrategy") {
        fill::text(strategy, "type", "RollingUpdate");
        if strategy["type"] == "RollingUpdate"
            && let Some(rolling) = fill::child(strategy, "rollingUpdate")
        {
            fill::optional(rolling, "maxUnavailable", 1);
            fill::optional(rolling, "maxSurge", 0);
        }
    }
    fill::optional(spec, "revisionHistoryLimit", 10);
}

fn prepare_create(object: &mut Value) {
    let counters =
        json!({"currentNumberScheduled": 0, "numberMisscheduled": 0, "desiredNumberScheduled": 0, "numberReady": 0});
    plain::set_status(object, counters);
}

const COLUMNS: &[Column] = &[
    Column::NAME,
    Column::integer("Desired", "Nodes that should run the pod."),
    Column::integer("Current", "Nodes that should run the pod and do."),
    Column::integer("Ready", "Nodes whose pod is ready."),
    Column::integer("Up-to-date", "Nodes whose pod is made from the current template."),
    Column::integer("Available", "Nodes whose pod was ready for long enough."),
    Column::text("Node Selector", "Labels of the nodes that should run the pod."),
    Column::AGE,
    Column::CONTAINERS,
    Column::IMAGES,
    Column::SELECTOR,
];

fn row(object: &Value, now: i64) -> Vec<Value> {
    let (spec, status) = (&object["spec"], &object["status"]);
    let [names, images] = cells::containers(&spec["template"]["spec"]);
    vec![
        cells::name(object),
        number(&status["desiredNumberScheduled"]).into(),
        number(&status["currentNumberScheduled"]).into(),
        number(&status["numberReady"]).into(),
        number(&status["updatedNumberScheduled"]).into(),
        number(&status["numberAvailable"]).into(),
        cells::labels(&spec["template"]["spec"]["nodeSelector"]).into(),
        cells::age(object, now),
        names,
        images,
        cells::selector(&spec["selector"]).into(),
    ]
}

fn validate(object: &Value) -> Vec<FieldError> {
    let (spec, at, mut errors) = (&object["spec"], At::ROOT.field("spec"), Errors::default());
    workload::selector(spec, "daemonset", &at, &mut errors);
    workload::template(spec, "DaemonSet", &at, &mut errors);
    workload::counts(spec, &["minReadySeconds", "revisionHistoryLimit"], &at, &mut errors);
    let (strategy, at) = (&spec["updateStrategy"], at.field("updateStrategy"));
    match text(&strategy["type"]) {
        "OnDelete" => {}
        "RollingUpdate" => rolling(&strategy["rollingUpdate"], &at.field("rollingUpdate"), &mut errors),
        other => errors.0.push(FieldError::not_supported(at.to_string(), other, &["OnDelete", "RollingUpdate"])),
    }
    errors.0
}

fn rolling(rolling: &Value, at: &At<'_>, errors: &mut Errors) {
    if rolling.is_null() {
        errors.required(at, "");
        return;
    }
    let (unavailable, surge) = (&rolling["maxUnavailable"], &rolling["maxSurge"]);
    workload::number_or_part(unavailable, &at.field("maxUnavailable"), errors);
    workload::number_or_part(surge, &at.field("maxSurge"), errors);
    match (workload::is_zero(unavailable), workload::is_zero(surge)) {
        (true, true) => errors.required(&at.field("maxUnavailable"), "cannot be 0 when maxSurge is 0"),
        (false, false) => {
            errors.invalid(&at.field("maxSurge"), surge, "may not be set when maxUnavailable is non-zero")
        }
        _ => {}
    }
}

fn validate_update(new: &Value, old: &Value) -> Vec<FieldError> {
    if same(&new["spec"], &old["spec"]) {
        return Vec::new();
    }
    let mut errors = Errors(validate(new));
    errors.immutable(&At::ROOT.field("spec").field("selector"), &new["spec"]["selector"], &old["spec"]["selector"]);
    errors.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::check::testing::check;

    #[test]
    fn one_of_surge_and_unavailable() {
        for (case, strategy, errors) in [
            ("defaults", json!({}), &[][..]),
            ("surge", json!({"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}), &[]),
            (
                "both",
                json!({"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 1}}),
                &[
                    "spec.updateStrategy.rollingUpdate.maxSurge: Invalid value: 1: may not be set when maxUnavailable is non-zero",
                ],
            ),
            (
                "none",
                json!({"rollingUpdate": {"maxUnavailable": 0}}),
                &["spec.updateStrategy.rollingUpdate.maxUnavailable: Required value: cannot be 0 when maxSurge is 0"],
            ),
        ] {
            let mut object = json!({"spec": {"updateStrategy": strategy, "selector": {"matchLabels": {"a": "b"}},
                "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "a:1"}]}}}});
            default(&mut object);
            check(case, &validate(&object), errors);
        }
    }
}
