//! autoscaling/v2 HorizontalPodAutoscaler.

use serde_json::{Value, json};

use crate::field::FieldError;
use crate::kind::{Column, Rules};
use crate::names;
use crate::rules::cells::{self, NONE, UNSET, list, number, scalar_or, text};
use crate::rules::check::{At, Errors, same};
use crate::rules::fill;
use crate::rules::plain::{self, WITH_STATUS};
use crate::rules::{resources, workload};

/// Rules of HorizontalPodAutoscalers (autoscaling/v2).
pub static AUTOSCALER: Rules = Rules {
    default: default_autoscaler,
    validate,
    validate_update: |new, old| if same(&new["spec"], &old["spec"]) { Vec::new() } else { validate(new) },
    validate_status_update: |new, _| {
        let mut errors = Errors::default();
        let at = At::ROOT.field("status");
        workload::counts(&new["status"], &["currentReplicas", "desiredReplicas"], &at, &mut errors);
        errors.0
    },
    prepare_create: |object| plain::set_status(object, json!({"desiredReplicas": 0, "currentMetrics": null})),
    columns: AUTOSCALER_COLUMNS,
    row: autoscaler_row,
    ..WITH_STATUS
};

fn default_autoscaler(object: &mut Value) {
    let Some(spec) = object.as_object_mut().and_then(|o| fill::child(o, "spec")) else {
        return;
    };
    fill::optional(spec, "minReplicas", 1);
    if fill::is_empty(spec, "metrics") {
        let cpu = json!([{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}}]);
        spec.insert("metrics".into(), cpu);
    }
    let Some(behavior) = fill::existing(spec, "behavior") else {
        return;
    };
    let percent = json!({"type": "Percent", "value": 100, "periodSeconds": 15});
    if let Some(up) = fill::child(behavior, "scaleUp") {
        fill::optional(up, "stabilizationWindowSeconds", 0);
        fill::optional(up, "selectPolicy", "Max");
        fill::optional(up, "policies", json!([{"type": "Pods", "value": 4, "periodSeconds": 15}, percent]));
    }
    if let Some(down) = fill::child(behavior, "scaleDown") {
        fill::optional(down, "selectPolicy", "Max");
        fill::optional(down, "policies", json!([percent]));
    }
}

const AUTOSCALER_COLUMNS: &[Column] = &[
    Column::NAME,
    Column::text("Reference", "What is scaled."),
    Column::text("Targets", "Measured and wanted values."),
    Column::text("MinPods", "Fewest pods."),
    Column::text("MaxPods", "Most pods."),
    Column::text("Replicas", "Pods now."),
    Column::AGE,
];

fn autoscaler_row(object: &Value, now: i64) -> Vec<Value> {
    let (spec, status) = (&object["spec"], &object["status"]);
    let target = &spec["scaleTargetRef"];
    vec![
        cells::name(object),
        format!("{}/{}", text(&target["kind"]), text(&target["name"])).into(),
        targets(spec, status).into(),
        scalar_or(&spec["minReplicas"], UNSET).into(),
        number(&spec["maxReplicas"]).into(),
        number(&status["currentReplicas"]).into(),
        cells::age(object, now),
    ]
}

/// Metrics shown in a cell; further ones are counted.
const METRICS_SHOWN: usize = 2;

fn targets(spec: &Value, status: &Value) -> String {
    let current = list(&status["currentMetrics"]);
    let each = |(i, metric)| measured(metric, current.get(i).unwrap_or(&Value::Null));
    let texts: Vec<String> = list(&spec["metrics"]).iter().enumerate().map(each).collect();
    cells::shortened(&texts, METRICS_SHOWN, ", ", NONE)
}

/// One metric: measured value over wanted value.
fn measured(metric: &Value, status: &Value) -> String {
    let kind = text(&metric["type"]);
    let Some(source) = source_field(kind) else {
        return "<unknown type>".into();
    };
    let (target, current) = (&metric[source]["target"], &status[source]["current"]);
    let is_resource = matches!(kind, "Resource" | "ContainerResource");
    let label = if is_resource { format!("{}: ", text(&metric[source]["name"])) } else { String::new() };
    let percent = |value: &Value, other: &str| value.as_i64().map_or(other.to_string(), |n| format!("{n}%"));
    if !target["averageValue"].is_null() || kind == "Pods" {
        let suffix = if is_resource || kind == "Pods" { "" } else { " (avg)" };
        let wanted = scalar_or(&target["averageValue"], "0");
        format!("{label}{}/{wanted}{suffix}", scalar_or(&current["averageValue"], "<unknown>"))
    } else if is_resource {
        let wanted = percent(&target["averageUtilization"], "<auto>");
        format!("{label}{}/{wanted}", percent(&current["averageUtilization"], "<unknown>"))
    } else {
        format!("{}/{}", scalar_or(&current["value"], "<unknown>"), scalar_or(&target["value"], "0"))
    }
}

/// The kinds of metrics.
const SOURCES: [&str; 5] = ["ContainerResource", "External", "Object", "Pods", "Resource"];

fn source_field(kind: &str) -> Option<&'static str> {
    Some(match kind {
        "External" => "external",
        "Pods" => "pods",
        "Object" => "object",
        "Resource" => "resource",
        "ContainerResource" => "containerResource",
        _ => return None,
    })
}

fn validate(object: &Value) -> Vec<FieldError> {
    let (spec, at, mut errors) = (&object["spec"], At::ROOT.field("spec"), Errors::default());
    let (least, most) = (&spec["minReplicas"], number(&spec["maxReplicas"]));
    if least.as_i64().is_some_and(|least| least < 1) {
        errors.invalid(&at.field("minReplicas"), least, "must be greater than or equal to 1");
    }
    if most < 1 {
        errors.required(&at.field("maxReplicas"), "must be set and greater than 0");
    } else if number(least) > most {
        errors.invalid(&at.field("maxReplicas"), most, "must be greater than or equal to `minReplicas`");
    }
    reference(&spec["scaleTargetRef"], &at.field("scaleTargetRef"), &mut errors);
    let metrics_at = at.field("metrics");
    for (i, metric) in list(&spec["metrics"]).iter().enumerate() {
        validate_metric(metric, &metrics_at.index(i), &mut errors);
    }
    let behavior_at = at.field("behavior");
    for direction in ["scaleUp", "scaleDown"] {
        scaling_rules(&spec["behavior"][direction], &behavior_at.field(direction), &mut errors);
    }
    errors.0
}

fn validate_metric(metric: &Value, at: &At<'_>, errors: &mut Errors) {
    let kind = text(&metric["type"]);
    if kind.is_empty() {
        errors.required(&at.field("type"), "must specify a metric source type");
        return;
    }
    let Some(field) = source_field(kind) else {
        errors.one_of(&at.field("type"), &metric["type"], &SOURCES);
        return;
    };
    let (source, metric_at, at) = (&metric[field], at, at.field(field));
    if source.is_null() {
        errors.required(&at, "must populate information for the given metric source");
        return;
    }
    match field {
        "resource" | "containerResource" => {
            errors.required_text(&at.field("name"), &source["name"], "must specify a resource name");
        }
        _ => metric_name(&source["metric"], &at.field("metric"), errors),
    }
    match field {
        "containerResource" => {
            errors.required_text(&at.field("container"), &source["container"], "must specify a container");
        }
        "object" => reference(&source["describedObject"], &at.field("describedObject"), errors),
        _ => {}
    }
    target(&source["target"], &at.field("target"), errors);
    amounts(field, &source["target"], &at.field("target"), errors);
    for other in SOURCES.iter().filter_map(|kind| source_field(kind)).filter(|other| *other != field) {
        if !metric[other].is_null() {
            errors.forbidden(&metric_at.field(other), "must populate the given metric source only");
        }
    }
}

fn metric_name(metric: &Value, at: &At<'_>, errors: &mut Errors) {
    let (name, at) = (text(&metric["name"]), at.field("name"));
    if name.is_empty() {
        errors.required(&at, "must specify a metric name");
    } else {
        errors.all(&at, name, names::path_segment(name));
    }
}

/// A reference to an object of any kind.
fn reference(reference: &Value, at: &At<'_>, errors: &mut Errors) {
    for field in ["kind", "name"] {
        errors.required_form(&at.field(field), &reference[field], names::path_segment);
    }
}

fn target(target: &Value, at: &At<'_>, errors: &mut Errors) {
    match text(&target["type"]) {
        "" => errors.required(&at.field("type"), "must specify a metric target type"),
        "Utilization" | "Value" | "AverageValue" => {}
        other => {
            errors.invalid(&at.field("type"), other, "must be either Utilization, Value, or AverageValue");
        }
    }
    for field in ["value", "averageValue"] {
        let amount = resources::quantity(&target[field]);
        if amount.is_some_and(|amount| amount.is_negative() || amount.is_zero()) {
            errors.invalid(&at.field(field), &target[field], "must be positive");
        }
    }
    errors.positive(&at.field("averageUtilization"), &target["averageUtilization"]);
}

/// Which of its amounts a target must and may have.
fn amounts(source: &str, target: &Value, at: &At<'_>, errors: &mut Errors) {
    let has = |field: &str| !target[field].is_null();
    let average = at.field("averageValue");
    match source {
        "object" if !has("value") && !has("averageValue") => {
            errors.required(&average, "must set either a target value or averageValue");
        }
        "external" if !has("value") && !has("averageValue") => {
            errors.required(&average, "must set either a target value for metric or a per-pod target");
        }
        "external" if has("value") && has("averageValue") => {
            let detail = "may not set both a target value for metric and a per-pod target";
            errors.forbidden(&at.field("value"), detail);
        }
        "pods" if !has("averageValue") => {
            errors.required(&average, "must specify a positive target averageValue");
        }
        "resource" | "containerResource" if !has("averageUtilization") && !has("averageValue") => {
            let detail = "must set either a target raw value or a target utilization";
            errors.required(&at.field("averageUtilization"), detail);
        }
        "resource" | "containerResource" if has("averageUtilization") && has("averageValue") => {
            errors.forbidden(&average, "may not set both a target raw value and a target utilization");
        }
        _ => {}
    }
}

fn scaling_rules(rules: &Value, at: &At<'_>, errors: &mut Errors) {
    /// An hour, as long as recommendations are remembered.
    const WINDOW_MAX: i64 = 3600;
    /// Half an hour, as long as changes are remembered.
    const PERIOD_MAX: i64 = 1800;
    if rules.is_null() {
        return;
    }
    let window = &rules["stabilizationWindowSeconds"];
    if window.as_i64().is_some_and(|seconds| seconds < 0) {
        errors.invalid(&at.field("stabilizationWindowSeconds"), window, "must be greater than or equal to zero");
    } else if number(window) > WINDOW_MAX {
        let detail = format!("must be less than or equal to {WINDOW_MAX}");
        errors.invalid(&at.field("stabilizationWindowSeconds"), window, detail);
    }
    errors.one_of(&at.field("selectPolicy"), &rules["selectPolicy"], &["Disabled", "Max", "Min"]);
    let (policies, at) = (list(&rules["policies"]), at.field("policies"));
    if policies.is_empty() {
        errors.required(&at, "must specify at least one Policy");
    }
    for (i, policy) in policies.iter().enumerate() {
        let at = at.index(i);
        errors.required_one_of(&at.field("type"), &policy["type"], &["Percent", "Pods"]);
        for field in ["value", "periodSeconds"] {
            if number(&policy[field]) <= 0 {
                errors.invalid(&at.field(field), number(&policy[field]), "must be greater than zero");
            }
        }
        if number(&policy["periodSeconds"]) > PERIOD_MAX {
            let detail = format!("must be less than or equal to {PERIOD_MAX}");
            errors.invalid(&at.field("periodSeconds"), &policy["periodSeconds"], detail);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::check::testing::{Case, check};

    #[test]
    fn metrics_read_as_measured_over_wanted() {
        let cpu = json!({"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}});
        let pods = json!({"type": "Pods", "pods": {"target": {"averageValue": "10"}}});
        let external = json!({"type": "External", "external": {"target": {"averageValue": "2"}}});
        let current = json!([{"type": "Resource", "resource": {"current": {"averageUtilization": 42}}}]);
        for (metrics, status, text) in [
            (json!([]), json!({}), "<none>"),
            (json!([cpu]), json!({"currentMetrics": null}), "cpu: <unknown>/80%"),
            (json!([cpu, pods]), json!({"currentMetrics": current}), "cpu: 42%/80%, <unknown>/10"),
            (json!([external, cpu, pods]), json!({}), "<unknown>/2 (avg), cpu: <unknown>/80% + 1 more..."),
        ] {
            assert_eq!(targets(&json!({"metrics": metrics}), &status), text);
        }
    }

    #[test]
    fn new_autoscalers() {
        let scaler = |change: fn(&mut Value)| {
            let mut object =
                json!({"spec": {"maxReplicas": 3, "scaleTargetRef": {"kind": "Deployment", "name": "web"}}});
            change(&mut object["spec"]);
            default_autoscaler(&mut object);
            object
        };
        let cases: [Case; 7] = [
            ("good", |_| {}, &[]),
            (
                "bounds",
                |s| s["minReplicas"] = json!(5),
                &["spec.maxReplicas: Invalid value: 3: must be greater than or equal to `minReplicas`"],
            ),
            (
                "target",
                |s| s["scaleTargetRef"] = json!({}),
                &["spec.scaleTargetRef.kind: Required value", "spec.scaleTargetRef.name: Required value"],
            ),
            (
                "metric",
                |s| s["metrics"] = json!([{"type": "Pods"}]),
                &["spec.metrics[0].pods: Required value: must populate information"],
            ),
            (
                "two sources",
                |s| {
                    let resource = json!({"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}});
                    s["metrics"] = json!([{"type": "Resource", "resource": resource, "pods": {}}]);
                },
                &["spec.metrics[0].pods: Forbidden: must populate the given metric source only"],
            ),
            (
                "two targets",
                |s| {
                    let target = json!({"type": "Value", "value": "1", "averageValue": "0"});
                    s["metrics"] =
                        json!([{"type": "External", "external": {"metric": {"name": "q"}, "target": target}}]);
                },
                &[
                    "spec.metrics[0].external.target.averageValue: Invalid value: \"0\": must be positive",
                    "spec.metrics[0].external.target.value: Forbidden: may not set both",
                ],
            ),
            (
                "an object without a kind",
                |s| {
                    let object = json!({"metric": {"name": "a/b"}, "describedObject": {"name": "o"}, "target": {"type": "Value", "value": "1"}});
                    s["metrics"] = json!([{"type": "Object", "object": object}]);
                },
                &[
                    "spec.metrics[0].object.metric.name: Invalid value: \"a/b\": may not contain '/'",
                    "spec.metrics[0].object.describedObject.kind: Required value",
                ],
            ),
        ];
        for (case, change, errors) in cases {
            check(case, &validate(&scaler(change)), errors);
        }
        let object = scaler(|s| {
            s["behavior"] = json!({"scaleDown": {"policies": [{"type": "Pods", "value": 0, "periodSeconds": 15}]}})
        });
        assert_eq!(
            object["spec"]["behavior"]["scaleUp"]["policies"][0],
            json!({"type": "Pods", "value": 4, "periodSeconds": 15})
        );
        check(
            "policy",
            &validate(&object),
            &["spec.behavior.scaleDown.policies[0].value: Invalid value: 0: must be greater than zero"],
        );
    }
}
