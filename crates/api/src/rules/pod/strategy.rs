//! What the server sets and keeps when pods are written.

use serde_json::{Value, json};

use crate::pod;
use crate::rules::fill::{self, Fields};
use crate::rules::plain;

/// Selectors that take values from the pod's own labels get them now, so that a later change of labels moves nothing:
/// a key of `matchLabelKeys` becomes `key in (value)`, one of `mismatchLabelKeys` becomes `key notin (value)`.
fn label_keys(object: &mut Value) {
    let labels = object["metadata"]["labels"].clone();
    let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) else { return };
    for constraint in fill::items(spec, "topologySpreadConstraints") {
        merge_label_keys(constraint, &labels);
    }
    let Some(affinity) = fill::existing(spec, "affinity") else { return };
    for kind in ["podAffinity", "podAntiAffinity"] {
        let Some(pods) = fill::existing(affinity, kind) else { continue };
        for term in fill::items(pods, "requiredDuringSchedulingIgnoredDuringExecution") {
            merge_label_keys(term, &labels);
        }
        for weighted in fill::items(pods, "preferredDuringSchedulingIgnoredDuringExecution") {
            if let Some(term) = fill::existing(weighted, "podAffinityTerm") {
                merge_label_keys(term, &labels);
            }
        }
    }
}

fn merge_label_keys(term: &mut Fields, labels: &Value) {
    if fill::is_unset(term, "labelSelector") {
        return;
    }
    let mut expressions = Vec::new();
    for (field, operator) in [("matchLabelKeys", "In"), ("mismatchLabelKeys", "NotIn")] {
        for key in term.get(field).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str) {
            if let Some(value) = labels.get(key) {
                expressions.push(json!({"key": key, "operator": operator, "values": [value]}));
            }
        }
    }
    if expressions.is_empty() {
        return;
    }
    let Some(selector) = fill::existing(term, "labelSelector") else { return };
    fill::optional(selector, "matchExpressions", json!([]));
    if let Some(list) = selector.get_mut("matchExpressions").and_then(Value::as_array_mut) {
        list.extend(expressions);
    }
}

/// A new pod is Pending; its QoS class never changes again. A pod with scheduling gates says so in a condition.
pub fn prepare_create(object: &mut Value) {
    label_keys(object);
    let class = pod::qos_class(&object["spec"]);
    let mut status = json!({"phase": "Pending", "qosClass": class.name()});
    if object["spec"]["schedulingGates"].as_array().is_some_and(|gates| !gates.is_empty()) {
        status["conditions"] = json!([{
            "type": "PodScheduled", "status": "False", "reason": "SchedulingGated",
            "message": "Scheduling is blocked due to non-empty scheduling gates",
        }]);
    }
    plain::set_status(object, status);
}

/// Status writers change neither spec nor owners, cannot mark a pod as deleted, and keep what they leave out of the
/// QoS class and the observed generations.
pub fn prepare_status_update(new: &mut Value, old: &Value) {
    plain::keep_all_but_status(new, old);
    let Some(fields) = new.as_object_mut() else { return };
    if let Some(metadata) = fill::existing(fields, "metadata") {
        for name in ["ownerReferences", "deletionTimestamp"] {
            match old["metadata"].get(name) {
                Some(kept) => metadata.insert(name.into(), kept.clone()),
                None => fill::remove(metadata, name),
            };
        }
    }
    let Some(status) = fill::existing(fields, "status") else {
        return;
    };
    if let Some(class) = old["status"]["qosClass"].as_str() {
        fill::text(status, "qosClass", class);
    }
    keep_observed_generation(status, &old["status"]);
    let empty = Vec::new();
    let old_conditions = old["status"]["conditions"].as_array().unwrap_or(&empty);
    for condition in fill::items(status, "conditions") {
        let same = old_conditions.iter().find(|c| Some(&c["type"]) == condition.get("type"));
        if let Some(same) = same {
            keep_observed_generation(condition, same);
        }
    }
}

fn keep_observed_generation(new: &mut Fields, old: &Value) {
    if let Some(kept) = old["observedGeneration"].as_i64() {
        fill::number(new, "observedGeneration", kept);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_pod_is_pending_whatever_it_says() {
        let mut pod = json!({"spec": {"containers": [{"name": "a"}]}, "status": {"phase": "Running"}});
        prepare_create(&mut pod);
        assert_eq!(pod["status"], json!({"phase": "Pending", "qosClass": "BestEffort"}));
        let mut gated = json!({"spec": {"schedulingGates": [{"name": "a"}]}});
        prepare_create(&mut gated);
        assert_eq!(gated["status"]["conditions"][0]["reason"], "SchedulingGated");
    }

    #[test]
    fn status_keeps_what_its_writer_may_not_change() {
        let old = json!({"metadata": {"name": "a", "ownerReferences": [{"uid": "1"}]}, "spec": {"nodeName": "n"},
            "status": {"qosClass": "Burstable", "observedGeneration": 2, "conditions": [{"type": "Ready", "observedGeneration": 2}]}});
        let mut new = json!({"metadata": {"name": "a", "deletionTimestamp": "x"}, "spec": {},
            "status": {"phase": "Running", "conditions": [{"type": "Ready"}, {"type": "Other"}]}});
        prepare_status_update(&mut new, &old);
        assert_eq!(
            new,
            json!({"metadata": {"name": "a", "ownerReferences": [{"uid": "1"}]}, "spec": {"nodeName": "n"},
                "status": {"phase": "Running", "qosClass": "Burstable", "observedGeneration": 2,
                    "conditions": [{"type": "Ready", "observedGeneration": 2}, {"type": "Other"}]}})
        );
    }

    #[test]
    fn selectors_take_the_pod_s_own_labels() {
        let mut pod = json!({"metadata": {"labels": {"app": "web"}}, "spec": {"topologySpreadConstraints": [
            {"matchLabelKeys": ["app", "none"], "labelSelector": {"matchLabels": {"a": "b"}}}, {"matchLabelKeys": ["app"]}]}});
        prepare_create(&mut pod);
        let constraints = &pod["spec"]["topologySpreadConstraints"];
        assert_eq!(
            constraints[0]["labelSelector"],
            json!({"matchLabels": {"a": "b"}, "matchExpressions": [{"key": "app", "operator": "In", "values": ["web"]}]})
        );
        assert_eq!(constraints[1], json!({"matchLabelKeys": ["app"]}));
    }
}
