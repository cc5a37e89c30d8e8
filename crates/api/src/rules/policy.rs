//! Kinds that set bounds for others: PodDisruptionBudget, HorizontalPodAutoscaler, ResourceQuota, LimitRange,
//! PriorityClass, RuntimeClass.

use serde_json::{Value, json};

use crate::kind::{Column, Generation, Rules};
use crate::rules::cells::{self, NONE, UNSET, list, number, scalar_or, text};
use crate::rules::fill::{self, Fields};
use crate::rules::plain::{self, PLAIN, WITH_SPEC_AND_STATUS, WITH_STATUS};

/// Rules of PodDisruptionBudgets.
pub static DISRUPTION_BUDGET: Rules = Rules {
    prepare_create: prepare_budget,
    unconditional_update: false,
    columns: BUDGET_COLUMNS,
    row: budget_row,
    ..WITH_SPEC_AND_STATUS
};

/// Rules of HorizontalPodAutoscalers (autoscaling/v2).
pub static AUTOSCALER: Rules = Rules {
    default: default_autoscaler,
    prepare_create: |object| plain::set_status(object, json!({"desiredReplicas": 0, "currentMetrics": null})),
    columns: AUTOSCALER_COLUMNS,
    row: autoscaler_row,
    ..WITH_STATUS
};

/// Rules of ResourceQuotas.
pub static QUOTA: Rules = Rules {
    prepare_create: plain::empty_status,
    returns_deleted: true,
    columns: QUOTA_COLUMNS,
    row: quota_row,
    ..WITH_STATUS
};

/// Rules of LimitRanges.
pub static LIMIT_RANGE: Rules = Rules {
    default: default_limits,
    create_on_update: true,
    columns: &[Column::NAME, Column::CREATED_AT],
    row: cells::name_and_created,
    ..PLAIN
};

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
    row: |object, now| {
        vec![
            cells::name(object),
            text(&object["handler"]).into(),
            cells::age(object, now),
        ]
    },
    ..PLAIN
};

fn prepare_budget(object: &mut Value) {
    let counters = json!({"disruptionsAllowed": 0, "currentHealthy": 0, "desiredHealthy": 0, "expectedPods": 0});
    plain::set_status(object, counters);
}

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
        fill::optional(
            up,
            "policies",
            json!([{"type": "Pods", "value": 4, "periodSeconds": 15}, percent]),
        );
    }
    if let Some(down) = fill::child(behavior, "scaleDown") {
        fill::optional(down, "selectPolicy", "Max");
        fill::optional(down, "policies", json!([percent]));
    }
}

fn default_limits(object: &mut Value) {
    let Some(spec) = object.as_object_mut().and_then(|o| fill::child(o, "spec")) else {
        return;
    };
    for item in fill::items(spec, "limits") {
        if text(item.get("type").unwrap_or(&Value::Null)) == "Container" {
            for (from, to) in [
                ("max", "default"),
                ("default", "defaultRequest"),
                ("min", "defaultRequest"),
            ] {
                copy_missing(item, from, to);
            }
        }
    }
}

/// Every entry of the map `from` that the map `to` does not have goes there.
fn copy_missing(item: &mut Fields, from: &str, to: &str) {
    let Some(Value::Object(source)) = item.get(from) else {
        return;
    };
    let source = source.clone();
    if source.is_empty() {
        return;
    }
    let Some(target) = fill::child(item, to) else { return };
    for (name, value) in source {
        target.entry(name).or_insert(value);
    }
}

fn default_priority(object: &mut Value) {
    if let Some(object) = object.as_object_mut() {
        fill::optional(object, "preemptionPolicy", "PreemptLowerPriority");
    }
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
    let label = if is_resource {
        format!("{}: ", text(&metric[source]["name"]))
    } else {
        String::new()
    };
    let percent = |value: &Value, other: &str| value.as_i64().map_or(other.to_string(), |n| format!("{n}%"));
    if !target["averageValue"].is_null() || kind == "Pods" {
        let suffix = if is_resource || kind == "Pods" { "" } else { " (avg)" };
        let wanted = scalar_or(&target["averageValue"], "0");
        format!(
            "{label}{}/{wanted}{suffix}",
            scalar_or(&current["averageValue"], "<unknown>")
        )
    } else if is_resource {
        let wanted = percent(&target["averageUtilization"], "<auto>");
        format!(
            "{label}{}/{wanted}",
            percent(&current["averageUtilization"], "<unknown>")
        )
    } else {
        format!(
            "{}/{}",
            scalar_or(&current["value"], "<unknown>"),
            scalar_or(&target["value"], "0")
        )
    }
}

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

const QUOTA_COLUMNS: &[Column] = &[
    Column::NAME,
    Column::text("Request", "Used and allowed requests and counts."),
    Column::text("Limit", "Used and allowed limits."),
    Column::AGE,
];

fn quota_row(object: &Value, now: i64) -> Vec<Value> {
    let status = &object["status"];
    let (mut requests, mut limits) = (Vec::new(), Vec::new());
    for (name, hard) in status["hard"].as_object().into_iter().flatten() {
        let line = format!(
            "{name}: {}/{}",
            scalar_or(&status["used"][name], "0"),
            scalar_or(hard, "0")
        );
        if name.starts_with("limits.") {
            &mut limits
        } else {
            &mut requests
        }
        .push(line);
    }
    requests.sort();
    limits.sort();
    vec![
        cells::name(object),
        requests.join(", ").into(),
        limits.join(", ").into(),
        cells::age(object, now),
    ]
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

const RUNTIME_COLUMNS: &[Column] = &[
    Column::NAME,
    Column::text("Handler", "The runtime that runs the pods."),
    Column::AGE,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_flow_from_max_to_request() {
        let mut range = json!({"spec": {"limits": [{"type": "Container", "max": {"cpu": "2"}, "min": {"memory": "1Mi"}}, {"type": "Pod", "max": {"cpu": "3"}}]}});
        default_limits(&mut range);
        assert_eq!(
            range["spec"]["limits"],
            json!([
                {"type": "Container", "max": {"cpu": "2"}, "min": {"memory": "1Mi"}, "default": {"cpu": "2"}, "defaultRequest": {"cpu": "2", "memory": "1Mi"}},
                {"type": "Pod", "max": {"cpu": "3"}},
            ])
        );
    }

    #[test]
    fn metrics_read_as_measured_over_wanted() {
        let cpu = json!({"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}});
        let pods = json!({"type": "Pods", "pods": {"target": {"averageValue": "10"}}});
        let external = json!({"type": "External", "external": {"target": {"averageValue": "2"}}});
        let current = json!([{"type": "Resource", "resource": {"current": {"averageUtilization": 42}}}]);
        for (metrics, status, text) in [
            (json!([]), json!({}), "<none>"),
            (json!([cpu]), json!({"currentMetrics": null}), "cpu: <unknown>/80%"),
            (
                json!([cpu, pods]),
                json!({"currentMetrics": current}),
                "cpu: 42%/80%, <unknown>/10",
            ),
            (
                json!([external, cpu, pods]),
                json!({}),
                "<unknown>/2 (avg), cpu: <unknown>/80% + 1 more...",
            ),
        ] {
            assert_eq!(targets(&json!({"metrics": metrics}), &status), text);
        }
    }
}
