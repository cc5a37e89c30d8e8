//! Pod garbage collector: pods that nobody else will ever finish (core/v1 Pod; api-facts §9.10).
//!
//! Reads Pods and Nodes. Fails and deletes pods of nodes that are gone or out of service, fails pods that were deleted before
//! they had a node, and deletes the oldest ended pods when there are too many.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Node, Pod};
use mizzen_api::key;
use mizzen_api::pod::{is_terminal, is_terminating};
use mizzen_store::{Change, Event, Snapshot};

use crate::meta::Meta;
use crate::plan::{ControllerError, Plan, Write};
use crate::pods::{self, Disruption};
use crate::shell::Wake;

/// Ended pods that are kept for people to look at.
const TERMINATED_MAX: usize = 12_500;
/// A node that went may come back within this time and find its pods.
const QUARANTINE: SignedDuration = SignedDuration::from_secs(40);
/// The reason in the condition of pods that this controller ends.
const REASON: &str = "DeletionByPodGC";
const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";

/// The writes about the pod at `pod_key`; the prefix of all pods stands for their number.
///
/// # Errors
/// None: a pod that cannot be read is left alone.
pub fn reconcile(snapshot: &Snapshot, pod_key: &str, now: Timestamp) -> Result<Plan, ControllerError> {
    let mut plan = Plan::default();
    if pod_key == key::all::<Pod>() {
        thin_out(snapshot, TERMINATED_MAX, &mut plan);
        return Ok(plan);
    }
    let Some(pod) = snapshot.get_as::<Pod>(pod_key) else { return Ok(plan) };
    let node_name = pods::node(&pod);
    if node_name.is_empty() {
        if is_terminating(&pod) {
            end(&pod, None, now, &mut plan);
        }
        return Ok(plan);
    }
    match snapshot.get_as::<Node>(&key::of::<Node>("", node_name)) {
        Some(node) if is_terminating(&pod) && is_out_of_service(&node) => {
            let why = "PodGC: node out-of-service taint added";
            end(&pod, Some(Disruption { reason: REASON, message: why.into() }), now, &mut plan);
        }
        Some(_) => {}
        None => orphaned(&pod, now, &mut plan),
    }
    Ok(plan)
}

/// A pod whose node is gone is first marked, so that it is known since when, and ended after the quarantine.
fn orphaned(pod: &Pod, now: Timestamp, plan: &mut Plan) {
    let why = || Disruption { reason: REASON, message: "PodGC: node no longer exists".into() };
    if is_terminal(pod) {
        end(pod, None, now, plan);
        return;
    }
    let Some(since) = pods::disrupted_since(pod, REASON) else {
        plan.write(pods::disrupt(pod, Some(why()), None, now));
        return;
    };
    let due = since.checked_add(QUARANTINE).unwrap_or(now);
    if due > now {
        plan.again(std::time::Duration::try_from(due.duration_since(now)).unwrap_or_default());
        return;
    }
    end(pod, Some(why()), now, plan);
}

/// Fails a pod, and deletes it once it has failed: nobody is left to stop it.
fn end(pod: &Pod, why: Option<Disruption>, now: Timestamp, plan: &mut Plan) {
    if !is_terminal(pod) {
        plan.write(pods::disrupt(pod, why, Some("Failed"), now));
        return; // The commit wakes us again.
    }
    // Only what an unfinished grace still holds; finalizers are for others to remove.
    let over = is_terminating(pod) && pod.metadata.deletion_grace_period_seconds == Some(0);
    if !over {
        plan.write(force(pod));
    }
}

fn force(pod: &Pod) -> Write {
    match Write::delete(pod) {
        Write::Delete { target, uid, resource_version, propagation, .. } => {
            Write::Delete { target, uid, resource_version, propagation, grace_seconds: Some(0) }
        }
        other => other,
    }
}

fn is_out_of_service(node: &Node) -> bool {
    let taints = node.spec.as_ref().and_then(|s| s.taints.as_ref());
    taints.into_iter().flatten().any(|t| t.key == OUT_OF_SERVICE) && !pods::is_node_ready(node)
}

fn thin_out(snapshot: &Snapshot, max: usize, plan: &mut Plan) {
    let all = key::all::<Pod>();
    let ended = |p: &Arc<Pod>| is_terminal(p) && !is_terminating(p);
    let mut pods: Vec<Arc<Pod>> = snapshot.list_as::<Pod>(&all).filter(ended).collect();
    let Some(surplus) = pods.len().checked_sub(max).filter(|n| *n > 0) else { return };
    pods.sort_by_cached_key(|p| (p.created(), p.name().to_string()));
    for pod in pods.iter().take(surplus) {
        plan.write(force(pod));
    }
}

/// A pod wakes itself, and its end the count of ended pods.
pub(crate) fn woken_by_pods() -> (String, Wake) {
    let wake = |snapshot: &Snapshot, event: &Event| {
        let Change::Put { .. } = event.change else { return Vec::new() };
        let mut keys = vec![event.key().to_string()];
        if snapshot.get_as::<Pod>(event.key()).is_some_and(|p| is_terminal(&p)) {
            keys.push(key::all::<Pod>());
        }
        keys
    };
    (key::all::<Pod>(), Arc::new(wake))
}

/// A node that goes, comes or is out of service wakes its pods.
pub(crate) fn woken_by_nodes() -> (String, Wake) {
    let wake = |snapshot: &Snapshot, event: &Event| {
        let Some((_, _, _, name)) = key::parse(event.key()) else { return Vec::new() };
        let node = snapshot.get_as::<Node>(event.key());
        match &event.change {
            Change::Put { previous: Some(_), .. } if !node.is_some_and(|n| is_out_of_service(&n)) => Vec::new(),
            _ => pods::on_node(snapshot, name).map(|p| key::of::<Pod>(p.namespace(), p.name())).collect(),
        }
    };
    (key::all::<Node>(), Arc::new(wake))
}

#[cfg(test)]
mod tests {
    use crate::testing::{check, snapshot};

    #[test]
    fn pods_that_nobody_finishes_are_ended() {
        let marked = |at: &str| {
            format!(
                r#"status.conditions=[{{"type":"DisruptionTarget","status":"True","reason":"DeletionByPodGC","lastTransitionTime":"{at}"}}]"#
            )
        };
        let taint = r#"spec.taints=[{"key":"node.kubernetes.io/out-of-service","effect":"NoExecute"}]"#;
        for (case, world, writes) in [
            ("all is well", "pod/d/a node=n; node/n".into(), ""),
            ("not placed yet", "pod/d/a".into(), ""),
            ("deleted before it was placed", "pod/d/a deleting finalizer=x".into(), "patch pods/status d/a"),
            ("the node is gone", "pod/d/a node=n".into(), "patch pods/status d/a"),
            ("but may come back", format!("pod/d/a node=n {}", marked("1970-01-12T13:46:30Z")), ""),
            ("it does not", format!("pod/d/a node=n {}", marked("1970-01-12T13:40:00Z")), "patch pods/status d/a"),
            ("then the pod goes", "pod/d/a node=n phase=Failed".into(), "delete pods d/a"),
            ("out of service", format!("pod/d/a node=n deleting; node/n {taint}"), "patch pods/status d/a"),
            ("out of service, not deleted", format!("pod/d/a node=n; node/n {taint}"), ""),
        ] {
            check(case, &world, "core/pods/d/a", super::reconcile, writes);
        }
    }

    #[test]
    fn the_oldest_ended_pods_go() {
        let world = snapshot("pod/d/b phase=Failed; pod/d/a phase=Succeeded; pod/d/c");
        let mut plan = crate::plan::Plan::default();
        super::thin_out(&world, 1, &mut plan);
        assert!(matches!(plan.writes.as_slice(), [super::Write::Delete { target, .. }] if target.name == "b"));
    }
}
