//! Taint eviction: pods leave nodes with `NoExecute` taints that they do not tolerate, or no longer (api-facts §9.10).
//!
//! Reads Pods and Nodes. Marks the pod as disrupted, then deletes it. Each taint counts from `timeAdded`, which
//! [`crate::node_lifecycle`] fills in where it is missing.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Node, Pod, Taint, Toleration};
use mizzen_api::key;
use mizzen_api::pod::{is_active, tolerates};
use mizzen_store::{Change, Event, Snapshot};

use crate::meta::{self, Meta};
use crate::plan::{ControllerError, Note, Plan, Write};
use crate::pods::{self, Disruption};
use crate::shell::Wake;
use crate::wake::head_of;

/// The reason in the condition of pods that are evicted.
const REASON: &str = "DeletionByTaintManager";

/// The writes about the pod at `pod_key`.
///
/// # Errors
/// None: what cannot be read is left alone.
pub fn reconcile(snapshot: &Snapshot, pod_key: &str, now: Timestamp) -> Result<Plan, ControllerError> {
    let mut plan = Plan::default();
    let Some(pod) = snapshot.get_as::<Pod>(pod_key).filter(|p| is_active(p)) else { return Ok(plan) };
    let Some(node) = snapshot.get_as::<Node>(&key::of::<Node>("", pods::node(&pod))) else { return Ok(plan) };
    let Some(due) = due(&pod, &no_execute(&node), now) else { return Ok(plan) };
    if due > now {
        plan.again(std::time::Duration::try_from(due.duration_since(now)).unwrap_or_default());
        return Ok(plan);
    }
    if pods::disrupted_since(&pod, REASON).is_none() {
        let message = "Taint manager: deleting due to NoExecute taint".to_string();
        plan.write(pods::disrupt(&pod, Some(Disruption { reason: REASON, message }), None, now));
        return Ok(plan); // The commit wakes us again, to delete it.
    }
    plan.notes.push(Note {
        about: meta::reference(&*pod),
        warning: false,
        reason: "TaintManagerEviction",
        message: format!("Marking for deletion Pod {}/{}", pod.namespace(), pod.name()),
    });
    plan.write(Write::delete(&*pod));
    Ok(plan)
}

fn no_execute(node: &Node) -> Vec<Taint> {
    let taints = node.spec.as_ref().and_then(|s| s.taints.clone()).unwrap_or_default();
    taints.into_iter().filter(|t| t.effect == "NoExecute").collect()
}

/// When the pod has to leave; `None` if it may stay.
fn due(pod: &Pod, taints: &[Taint], now: Timestamp) -> Option<Timestamp> {
    let none = Vec::new();
    let tolerations = pod.spec.as_ref().and_then(|s| s.tolerations.as_ref()).unwrap_or(&none);
    taints.iter().filter_map(|taint| leaves(pod, taint, tolerations, now)).min()
}

fn leaves(pod: &Pod, taint: &Taint, tolerations: &[Toleration], now: Timestamp) -> Option<Timestamp> {
    let tolerating: Vec<&Toleration> = tolerations.iter().filter(|t| tolerates(t, taint)).collect();
    if tolerating.is_empty() {
        return Some(now);
    }
    let seconds = tolerating.iter().filter_map(|t| t.toleration_seconds).min()?;
    let placed = pod.status.as_ref().and_then(|s| s.start_time.as_ref()).map(|t| t.0).or(pod.created());
    let since = taint.time_added.as_ref().map(|t| t.0).max(placed).unwrap_or(now);
    since.checked_add(SignedDuration::from_secs(seconds.max(0))).ok()
}

/// A node whose `NoExecute` taints changed wakes its pods.
pub(crate) fn woken_by_nodes() -> (String, Wake) {
    let wake = |snapshot: &Snapshot, event: &Event| {
        let Change::Put { entry, previous } = &event.change else { return Vec::new() };
        let taints = |e| no_execute(&head_of::<Node>(e));
        if previous.as_ref().map(|p| taints(p)).unwrap_or_default() == taints(entry) {
            return Vec::new();
        }
        let Some((_, _, _, name)) = key::parse(event.key()) else { return Vec::new() };
        pods::on_node(snapshot, name).map(|p| key::of::<Pod>(p.namespace(), p.name())).collect()
    };
    (key::all::<Node>(), Arc::new(wake))
}

#[cfg(test)]
mod tests {
    use crate::testing::check;

    #[test]
    fn pods_leave_when_they_no_longer_tolerate() {
        let taint = |at: &str| {
            format!(r#"node/n spec.taints=[{{"key":"k","effect":"NoExecute","timeAdded":"1970-01-12T{at}Z"}}]"#)
        };
        let marked = r#"status.conditions=[{"type":"DisruptionTarget","status":"True","reason":"DeletionByTaintManager","lastTransitionTime":"1970-01-12T13:00:00Z"}]"#;
        let some = r#"spec.tolerations=[{"key":"k","operator":"Exists","tolerationSeconds":60}]"#;
        let ever = r#"spec.tolerations=[{"operator":"Exists"}]"#;
        for (case, pod, node, writes) in [
            ("no taint", "", "node/n".into(), ""),
            ("only for scheduling", "", r#"node/n spec.taints=[{"key":"k","effect":"NoSchedule"}]"#.into(), ""),
            ("first it is marked", "", taint("13:46:00"), "patch pods/status d/a"),
            ("then it goes", marked, taint("13:46:00"), "delete pods d/a"),
            ("tolerated", ever, taint("13:00:00"), ""),
            ("tolerated for a while", some, taint("13:46:00"), ""),
            ("and no longer", some, taint("13:45:00"), "patch pods/status d/a"),
            ("on its way out", "deleting", taint("13:46:00"), ""),
        ] {
            check(case, &format!("pod/d/a node=n {pod}; {node}"), "core/pods/d/a", super::reconcile, writes);
        }
    }
}
