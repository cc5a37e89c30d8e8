//! Kinds that set bounds for others: PodDisruptionBudget, HorizontalPodAutoscaler, ResourceQuota, LimitRange,
//! PriorityClass, RuntimeClass.

use serde_json::{Value, json};

use crate::kind::{Generation, Rules};
use crate::rules::cells::text;
use crate::rules::fill::{self, Fields};
use crate::rules::plain::{self, PLAIN, WITH_SPEC_AND_STATUS, WITH_STATUS};

/// Rules of PodDisruptionBudgets.
pub static DISRUPTION_BUDGET: Rules =
    Rules { prepare_create: prepare_budget, unconditional_update: false, ..WITH_SPEC_AND_STATUS };

/// Rules of HorizontalPodAutoscalers (autoscaling/v2).
pub static AUTOSCALER: Rules = Rules {
    default: default_autoscaler,
    prepare_create: |object| plain::set_status(object, json!({"desiredReplicas": 0, "currentMetrics": null})),
    ..WITH_STATUS
};

/// Rules of ResourceQuotas.
pub static QUOTA: Rules = Rules { prepare_create: plain::empty_status, returns_deleted: true, ..WITH_STATUS };

/// Rules of LimitRanges.
pub static LIMIT_RANGE: Rules = Rules { default: default_limits, create_on_update: true, ..PLAIN };

/// Rules of PriorityClasses.
pub static PRIORITY_CLASS: Rules = Rules { default: default_priority, generation: Generation::Once, ..PLAIN };

/// Rules of RuntimeClasses.
pub static RUNTIME_CLASS: Rules = Rules { create_on_update: true, unconditional_update: false, ..PLAIN };

fn prepare_budget(object: &mut Value) {
    let counters = json!({"disruptionsAllowed": 0, "currentHealthy": 0, "desiredHealthy": 0, "expectedPods": 0});
    plain::set_status(object, counters);
}

fn default_autoscaler(object: &mut Value) {
    let Some(spec) = object.as_object_mut().and_then(|o| fill::child(o, "spec")) else { return };
    fill::optional(spec, "minReplicas", 1);
    if fill::is_empty(spec, "metrics") {
        let cpu = json!([{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}}]);
        spec.insert("metrics".into(), cpu);
    }
    let Some(behavior) = fill::existing(spec, "behavior") else { return };
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

fn default_limits(object: &mut Value) {
    let Some(spec) = object.as_object_mut().and_then(|o| fill::child(o, "spec")) else { return };
    for item in fill::items(spec, "limits") {
        if text(item.get("type").unwrap_or(&Value::Null)) == "Container" {
            for (from, to) in [("max", "default"), ("default", "defaultRequest"), ("min", "defaultRequest")] {
                copy_missing(item, from, to);
            }
        }
    }
}

/// Every entry of the map `from` that the map `to` does not have goes there.
fn copy_missing(item: &mut Fields, from: &str, to: &str) {
    let Some(Value::Object(source)) = item.get(from) else { return };
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
}
