//! What the server sets and keeps when pods are written.

use serde_json::{Value, json};

use crate::pod;
use crate::rules::fill::{self, Fields};
use crate::rules::plain;

/// A new pod is Pending; its QoS class never changes again. A pod with scheduling gates says so in a condition.
pub fn prepare_create(object: &mut Value) {
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
}
