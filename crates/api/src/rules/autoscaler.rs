//! autoscaling/v2 HorizontalPodAutoscaler.

use serde_json::{Value, json};

use crate::kind::{Column, Rules};
use crate::rules::cells::{self, NONE, UNSET, list, number, scalar_or, text};
use crate::rules::fill;
use crate::rules::plain::{self, WITH_STATUS};

/// Rules of HorizontalPodAutoscalers (autoscaling/v2).
pub static AUTOSCALER: Rules = Rules {
    default: default_autoscaler,
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

#[cfg(test)]
mod tests {
    use super::*;

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
}
