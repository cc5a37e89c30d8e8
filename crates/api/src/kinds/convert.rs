//! Conversion between the versions of a kind that differ in form: events (core and events.k8s.io), HPA (v1 and v2).
//!
//! Every other pair differs in `apiVersion` alone. Fields that one version lacks travel in annotations, as in Kubernetes.

use std::borrow::Cow;

use serde_json::{Map, Value, json};

use crate::kind::Kind;

/// `value`, an object of `from`, as an object of `to`. Both must be versions of one resource.
pub fn convert(mut value: Value, from: &Kind, to: &Kind) -> Value {
    if from.group == to.group && from.version == to.version {
        return value;
    }
    let Some(object) = value.as_object_mut() else {
        return value;
    };
    object.insert("apiVersion".into(), to.api_version().into());
    match (&*from.kind, &*from.group, &*from.version, &*to.group, &*to.version) {
        ("Event", "", _, _, _) => rename(object, EVENT_FIELDS.iter().copied()),
        ("Event", _, _, "", _) => rename(object, EVENT_FIELDS.iter().map(|(core, new)| (*new, *core))),
        ("HorizontalPodAutoscaler", _, "v2", _, "v1") => hpa_to_v1(object),
        ("HorizontalPodAutoscaler", _, "v1", _, "v2") => hpa_to_v2(object),
        _ => {}
    }
    value
}

/// The selectable field of the stored version that a kind's field label means.
pub fn stored_label<'a>(kind: &Kind, label: &'a str) -> Cow<'a, str> {
    if kind.kind == "Event" && kind.group == "events.k8s.io" {
        let (first, rest) = label.split_once('.').map_or((label, None), |(first, rest)| (first, Some(rest)));
        if let Some((core, _)) = EVENT_FIELDS.iter().find(|(_, new)| *new == first) {
            return rest.map_or_else(|| (*core).into(), |rest| format!("{core}.{rest}").into());
        }
    }
    label.into()
}

/// The fields of an event that have another name in events.k8s.io/v1: (core/v1, events.k8s.io/v1).
const EVENT_FIELDS: &[(&str, &str)] = &[
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
    ("reportingComponent", "reportingController"),
];

fn rename<'a>(object: &mut Map<String, Value>, names: impl Iterator<Item = (&'a str, &'a str)>) {
    for (old, new) in names {
        if let Some(value) = object.shift_remove(old) {
            object.insert(new.into(), value);
        }
    }
}

/// What autoscaling/v1 cannot say, as annotations: (annotation, the part of the v2 object, the field in it).
const HPA_ANNOTATIONS: &[(&str, &str, &str)] = &[
    ("autoscaling.alpha.kubernetes.io/metrics", "spec", "metrics"),
    ("autoscaling.alpha.kubernetes.io/behavior", "spec", "behavior"),
    ("autoscaling.alpha.kubernetes.io/current-metrics", "status", "currentMetrics"),
    ("autoscaling.alpha.kubernetes.io/conditions", "status", "conditions"),
];

fn hpa_to_v1(object: &mut Map<String, Value>) {
    let target = take_cpu(object, "spec", "metrics", "/resource/target/averageUtilization");
    let current = take_cpu(object, "status", "currentMetrics", "/resource/current/averageUtilization");
    for (part, field, value) in
        [("spec", "targetCPUUtilizationPercentage", target), ("status", "currentCPUUtilizationPercentage", current)]
    {
        if let (Some(part), Some(value)) = (object.get_mut(part).and_then(Value::as_object_mut), value) {
            part.insert(field.into(), value);
        }
    }
    for (annotation, part, field) in HPA_ANNOTATIONS {
        let Some(value) = object.get_mut(*part).and_then(Value::as_object_mut).and_then(|p| p.shift_remove(*field))
        else {
            continue;
        };
        let empty = value.as_array().is_some_and(Vec::is_empty);
        if !empty && let Some(annotations) = annotations(object) {
            let text = if *field == "metrics" || *field == "currentMetrics" { flat_metrics(value) } else { value };
            annotations.insert((*annotation).into(), text.to_string().into());
        }
    }
}

/// Takes the first metric on CPU utilization out of a list of metrics; answers its percentage.
fn take_cpu(object: &mut Map<String, Value>, part: &str, list: &str, percentage: &str) -> Option<Value> {
    let metrics = object.get_mut(part)?.get_mut(list)?.as_array_mut()?;
    let is_cpu =
        |m: &Value| m["type"] == "Resource" && m["resource"]["name"] == "cpu" && m.pointer(percentage).is_some();
    let at = metrics.iter().position(is_cpu)?;
    metrics.remove(at).pointer(percentage).cloned()
}

fn hpa_to_v2(object: &mut Map<String, Value>) {
    for (annotation, part, field) in HPA_ANNOTATIONS {
        let Some(text) = object
            .get_mut("metadata")
            .and_then(|m| m.get_mut("annotations"))
            .and_then(Value::as_object_mut)
            .and_then(|a| a.shift_remove(*annotation))
        else {
            continue;
        };
        let parsed = text.as_str().and_then(|t| serde_json::from_str::<Value>(t).ok());
        let Some(parsed) = parsed else { continue }; // Not JSON: Kubernetes drops it as well.
        let side = if *part == "spec" { "target" } else { "current" };
        let parsed =
            if *field == "metrics" || *field == "currentMetrics" { nested_metrics(parsed, side) } else { parsed };
        if let Some(part) = object.entry(*part).or_insert_with(|| json!({})).as_object_mut() {
            part.insert((*field).into(), parsed);
        }
    }
    if object.get("metadata").and_then(|m| m["annotations"].as_object()).is_some_and(Map::is_empty)
        && let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut)
    {
        metadata.shift_remove("annotations");
    }
    put_cpu(object, "spec", "targetCPUUtilizationPercentage", "metrics", "target");
    put_cpu(object, "status", "currentCPUUtilizationPercentage", "currentMetrics", "current");
}

fn put_cpu(object: &mut Map<String, Value>, part: &str, field: &str, list: &str, side: &str) {
    let Some(part) = object.get_mut(part).and_then(Value::as_object_mut) else {
        return;
    };
    let Some(percentage) = part.shift_remove(field) else {
        return;
    };
    let mut value = json!({"averageUtilization": percentage});
    if side == "target" {
        value["type"] = "Utilization".into();
    }
    let metric = json!({"type": "Resource", "resource": {"name": "cpu", side: value}});
    if let Some(metrics) = part.entry(list).or_insert_with(|| json!([])).as_array_mut() {
        metrics.insert(0, metric);
    }
}

fn annotations(object: &mut Map<String, Value>) -> Option<&mut Map<String, Value>> {
    let metadata = object.entry("metadata").or_insert_with(|| json!({})).as_object_mut()?;
    metadata.entry("annotations").or_insert_with(|| json!({})).as_object_mut()
}

/// Fields of a metric that v1's annotations hold beside the source: (v1 name, side of v2, field in it).
const FLAT: &[(&str, &str, &str)] = &[
    ("targetAverageUtilization", "target", "averageUtilization"),
    ("targetAverageValue", "target", "averageValue"),
    ("targetValue", "target", "value"),
    ("currentAverageUtilization", "current", "averageUtilization"),
    ("currentAverageValue", "current", "averageValue"),
    ("currentValue", "current", "value"),
];

/// v2 metrics as v1's annotation writes them: target and current value beside the metric's name.
fn flat_metrics(mut metrics: Value) -> Value {
    for source in sources(&mut metrics) {
        for side in ["target", "current"] {
            let Some(Value::Object(values)) = source.shift_remove(side) else {
                continue;
            };
            for (flat, _, field) in FLAT.iter().filter(|(_, s, _)| *s == side) {
                if let Some(value) = values.get(*field) {
                    source.insert((*flat).into(), value.clone());
                }
            }
        }
        if let Some(target) = source.shift_remove("describedObject") {
            source.insert("target".into(), target);
        }
        if let Some(Value::Object(mut metric)) = source.shift_remove("metric") {
            for (from, to) in [("name", "metricName"), ("selector", "selector")] {
                if let Some(value) = metric.shift_remove(from) {
                    source.insert(to.into(), value);
                }
            }
        }
    }
    metrics
}

/// The reverse of [`flat_metrics`].
fn nested_metrics(mut metrics: Value, side: &str) -> Value {
    for source in sources(&mut metrics) {
        if let Some(described) = source.shift_remove("target") {
            source.insert("describedObject".into(), described);
        }
        let mut metric = Map::new();
        for (from, to) in [("metricName", "name"), ("selector", "selector")] {
            if let Some(value) = source.shift_remove(from) {
                metric.insert(to.into(), value);
            }
        }
        if !metric.is_empty() {
            source.insert("metric".into(), metric.into());
        }
        let mut values = Map::new();
        for (flat, _, field) in FLAT.iter().filter(|(_, s, _)| *s == side) {
            if let Some(value) = source.shift_remove(*flat) {
                values.insert((*field).into(), value);
            }
        }
        if side == "target" {
            let kinds = [("averageUtilization", "Utilization"), ("averageValue", "AverageValue"), ("value", "Value")];
            if let Some((_, kind)) = kinds.iter().find(|(field, _)| values.contains_key(*field)) {
                values.insert("type".into(), (*kind).into());
            }
        }
        source.insert(side.into(), values.into());
    }
    metrics
}

/// The one object in each metric that is not its type.
fn sources(metrics: &mut Value) -> impl Iterator<Item = &mut Map<String, Value>> {
    let items = metrics.as_array_mut().map(|m| m.iter_mut()).into_iter().flatten();
    items.filter_map(Value::as_object_mut).flat_map(|m| m.iter_mut()).filter_map(|(_, v)| v.as_object_mut())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::convert;
    use crate::kinds::kinds;

    fn check(plural: &str, a: (&str, &str, Value), b: (&str, &str, Value)) {
        let kind =
            |(group, version, _): &(&str, &str, Value)| kinds().by_resource(group, version, plural).expect("kind");
        let there = convert(a.2.clone(), kind(&a), kind(&b));
        assert_eq!(there, b.2);
        assert_eq!(convert(there, kind(&b), kind(&a)), a.2);
    }

    #[test]
    fn events_are_one_object_in_two_groups() {
        let core = json!({"apiVersion": "v1", "kind": "Event", "involvedObject": {"name": "a"}, "message": "m", "count": 2,
            "reason": "R", "source": {"component": "c"}, "reportingComponent": "rc"});
        let new = json!({"apiVersion": "events.k8s.io/v1", "kind": "Event", "regarding": {"name": "a"}, "note": "m",
            "deprecatedCount": 2, "reason": "R", "deprecatedSource": {"component": "c"}, "reportingController": "rc"});
        check("events", ("", "v1", core), ("events.k8s.io", "v1", new));
    }

    #[test]
    fn an_autoscaler_survives_v1() {
        let cpu = json!({"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}});
        let memory = json!({"type": "Resource", "resource": {"name": "memory", "target": {"averageValue": "1Gi", "type": "AverageValue"}}});
        let v2 = json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "a"},
            "spec": {"maxReplicas": 3, "metrics": [cpu, memory]}});
        let v1 = convert(
            v2.clone(),
            kinds().by_resource("autoscaling", "v2", "horizontalpodautoscalers").expect("v2"),
            kinds().by_resource("autoscaling", "v1", "horizontalpodautoscalers").expect("v1"),
        );
        assert_eq!(v1["spec"], json!({"maxReplicas": 3, "targetCPUUtilizationPercentage": 80}));
        check("horizontalpodautoscalers", ("autoscaling", "v2", v2), ("autoscaling", "v1", v1));
    }
}
