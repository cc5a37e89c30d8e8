//! apps/v1 Deployment.

use serde_json::Value;

use crate::field::FieldError;
use crate::kind::{Column, Generation, Rules};
use crate::rules::cells::{self, number, text};
use crate::rules::check::{At, Errors, same};
use crate::rules::fill::{self, Fields};
use crate::rules::plain::{self, WITH_STATUS};
use crate::rules::{pod, workload};

/// Rules of Deployments.
pub static RULES: Rules = Rules {
    default,
    prepare_status_update,
    validate,
    warnings: pod::warnings::workload,
    validate_update,
    validate_status_update: |new, old| {
        workload::status(new, old, "replicas", &["updatedReplicas", "readyReplicas", "availableReplicas"])
    },
    prepare_create: plain::empty_status,
    generation: Generation::SpecAndAnnotations,
    columns: COLUMNS,
    row,
    ..WITH_STATUS
};

fn default(object: &mut Value) {
    let Some(spec) = object.as_object_mut().and_then(|o| fill::child(o, "spec")) else {
        return;
    };
    fill::optional(spec, "replicas", 1);
    pod::defaults::template(spec, "template");
    strategy(spec);
    fill::optional(spec, "revisionHistoryLimit", 10);
    fill::optional(spec, "progressDeadlineSeconds", 600);
}

fn strategy(spec: &mut Fields) {
    let Some(strategy) = fill::child(spec, "strategy") else {
        return;
    };
    fill::text(strategy, "type", "RollingUpdate");
    if strategy["type"] == "RollingUpdate"
        && let Some(rolling) = fill::child(strategy, "rollingUpdate")
    {
        fill::optional(rolling, "maxUnavailable", "25%");
        fill::optional(rolling, "maxSurge", "25%");
    }
}

/// Status writers change neither spec nor labels.
fn prepare_status_update(new: &mut Value, old: &Value) {
    plain::keep_all_but_status(new, old);
    let labels = old["metadata"].get("labels").cloned();
    let Some(metadata) = new.get_mut("metadata").and_then(Value::as_object_mut) else {
        return;
    };
    match labels {
        Some(labels) => metadata.insert("labels".into(), labels),
        None => fill::remove(metadata, "labels"),
    };
}

const COLUMNS: &[Column] = &[
    Column::NAME,
    Column::text("Ready", "Ready pods, of all that are wanted."),
    Column::text("Up-to-date", "Pods made from the current template."),
    Column::text("Available", "Pods that were ready for long enough."),
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
        format!("{}/{}", number(&status["readyReplicas"]), number(&spec["replicas"])).into(),
        number(&status["updatedReplicas"]).into(),
        number(&status["availableReplicas"]).into(),
        cells::age(object, now),
        names,
        images,
        cells::selector(&spec["selector"]).into(),
    ]
}

fn validate(object: &Value) -> Vec<FieldError> {
    let (spec, at, mut errors) = (&object["spec"], At::ROOT.field("spec"), Errors::default());
    workload::counts(spec, &["replicas"], &at, &mut errors);
    workload::selector(spec, "deployment", &at, &mut errors);
    workload::template(spec, "ReplicaSet", &at, &mut errors);
    validate_strategy(&spec["strategy"], &at.field("strategy"), &mut errors);
    let counts = ["minReadySeconds", "revisionHistoryLimit", "progressDeadlineSeconds"];
    workload::counts(spec, &counts, &at, &mut errors);
    let deadline = &spec["progressDeadlineSeconds"];
    if deadline.as_i64().is_some_and(|seconds| seconds <= number(&spec["minReadySeconds"])) {
        errors.invalid(&at.field("progressDeadlineSeconds"), deadline, "must be greater than minReadySeconds");
    }
    errors.0
}

fn validate_strategy(strategy: &Value, at: &At<'_>, errors: &mut Errors) {
    let (rolling, rolling_at) = (&strategy["rollingUpdate"], at.field("rollingUpdate"));
    match text(&strategy["type"]) {
        "Recreate" if !rolling.is_null() => {
            errors.forbidden(&rolling_at, "may not be specified when strategy `type` is 'Recreate'");
        }
        "Recreate" => {}
        "RollingUpdate" => {
            let (unavailable, surge) = (&rolling["maxUnavailable"], &rolling["maxSurge"]);
            workload::number_or_part(unavailable, &rolling_at.field("maxUnavailable"), errors);
            workload::number_or_percent(surge, &rolling_at.field("maxSurge"), errors);
            if workload::is_zero(unavailable) && workload::is_zero(surge) {
                let detail = "may not be 0 when `maxSurge` is 0";
                errors.invalid(&rolling_at.field("maxUnavailable"), unavailable, detail);
            }
        }
        other => errors.0.push(FieldError::not_supported(at.to_string(), other, &["Recreate", "RollingUpdate"])),
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
    use crate::rules::check::testing::{Case, check};
    use serde_json::json;

    #[test]
    fn rolls_by_quarters_unless_told_otherwise() {
        for (sent, strategy) in [
            (
                json!({}),
                json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "25%", "maxSurge": "25%"}}),
            ),
            (json!({"type": "Recreate"}), json!({"type": "Recreate"})),
            (
                json!({"rollingUpdate": {"maxSurge": 1}}),
                json!({"rollingUpdate": {"maxSurge": 1, "maxUnavailable": "25%"}, "type": "RollingUpdate"}),
            ),
        ] {
            let mut object = json!({"spec": {"strategy": sent}});
            default(&mut object);
            assert_eq!(object["spec"]["strategy"], strategy);
            assert_eq!(object["spec"]["replicas"], 1);
            assert_eq!(object["spec"]["template"]["spec"]["restartPolicy"], "Always");
        }
    }

    fn web(change: impl Fn(&mut Value)) -> Value {
        let mut object = json!({"spec": {"selector": {"matchLabels": {"app": "web"}}, "template": {
            "metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "nginx:1"}]}}}});
        change(&mut object["spec"]);
        default(&mut object);
        object
    }

    #[test]
    fn new_deployments() {
        let cases: &[Case] = &[
            ("good", |_| {}, &[]),
            ("no selector", |s| s["selector"] = Value::Null, &["spec.selector: Required value"]),
            (
                "empty selector",
                |s| s["selector"] = json!({}),
                &["spec.selector: Invalid value: {}: empty selector is invalid for deployment"],
            ),
            (
                "other pods",
                |s| s["selector"]["matchLabels"]["app"] = json!("db"),
                &[
                    "spec.template.metadata.labels: Invalid value: {\"app\":\"web\"}: `selector` does not match template `labels`",
                ],
            ),
            (
                "stands still",
                |s| s["strategy"] = json!({"rollingUpdate": {"maxSurge": 0, "maxUnavailable": "0%"}}),
                &[
                    "spec.strategy.rollingUpdate.maxUnavailable: Invalid value: \"0%\": may not be 0 when `maxSurge` is 0",
                ],
            ),
            (
                "no percentage",
                |s| s["strategy"] = json!({"rollingUpdate": {"maxSurge": "x"}}),
                &["spec.strategy.rollingUpdate.maxSurge: Invalid value: \"x\": a valid percent string must be"],
            ),
            (
                "restart policy",
                |s| s["template"]["spec"]["restartPolicy"] = json!("Never"),
                &["spec.template.spec.restartPolicy: Unsupported value: \"Never\": supported values: \"Always\""],
            ),
            (
                "negative",
                |s| s["replicas"] = json!(-1),
                &["spec.replicas: Invalid value: -1: must be greater than or equal to 0"],
            ),
            (
                "container",
                |s| s["template"]["spec"]["containers"][0]["name"] = json!("-"),
                &["spec.template.spec.containers[0].name: Invalid value: \"-\": a lowercase RFC 1123 label"],
            ),
        ];
        for (case, change, errors) in cases {
            check(case, &validate(&web(change)), errors);
        }
    }

    #[test]
    fn the_selector_stays() {
        let other = web(|s| {
            s["selector"]["matchLabels"]["app"] = json!("db");
            s["template"]["metadata"]["labels"]["app"] = json!("db");
        });
        let errors = ["spec.selector: Invalid value: {\"matchLabels\":{\"app\":\"db\"}}: field is immutable"];
        check("selector", &validate_update(&other, &web(|_| {})), &errors);
        check("replicas", &validate_update(&web(|s| s["replicas"] = json!(3)), &web(|_| {})), &[]);
    }
}
