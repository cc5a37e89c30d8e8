//! Nodes that fall silent, and taints that say what is wrong with a node (core/v1 Node; api-facts §9.10).
//!
//! Reads Nodes and their Leases. Writes a Node's conditions when its Lease ran out, and its taints from its conditions.
//! Leaves the eviction of pods to taint eviction.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, NodeCondition, Taint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use mizzen_api::key;
use mizzen_store::Snapshot;
use serde_json::json;

use crate::meta::Meta;
use crate::plan::{ControllerError, Plan, Target, Write};

/// Namespace of the Leases by which nodes say that they live.
pub const LEASES: &str = "kube-node-lease";
/// A node is lost when its Lease is this old.
const GRACE: Duration = Duration::from_secs(50);
/// A new node may take this long for its first Lease.
const STARTUP_GRACE: Duration = Duration::from_secs(60);
/// Conditions whose `True` means pressure, with their taints.
const PRESSURES: [(&str, &str); 4] = [
    ("MemoryPressure", "node.kubernetes.io/memory-pressure"),
    ("DiskPressure", "node.kubernetes.io/disk-pressure"),
    ("PIDPressure", "node.kubernetes.io/pid-pressure"),
    ("NetworkUnavailable", "node.kubernetes.io/network-unavailable"),
];
const NOT_READY: &str = "node.kubernetes.io/not-ready";
const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";

/// The writes that bring the Node at `node_key` in line with its Lease and conditions.
pub fn reconcile(snapshot: &Snapshot, node_key: &str, now: Timestamp) -> Result<Plan, ControllerError> {
    let mut plan = Plan::default();
    let Some(node) = snapshot.get_as::<Node>(node_key) else {
        return Ok(plan);
    };
    let conditions = node.status.as_ref().and_then(|s| s.conditions.clone()).unwrap_or_default();
    match silent_for(snapshot, &node, now) {
        Ok(left) => plan.again(left + Duration::from_millis(100)),
        Err(never) => {
            lose(&node, conditions, never, now, &mut plan);
            return Ok(plan);
        }
    }
    set_taints(&node, &conditions, now, &mut plan);
    Ok(plan)
}

/// How long the node may still be silent; `Err` if it is over the time, `true` if it never spoke.
fn silent_for(snapshot: &Snapshot, node: &Node, now: Timestamp) -> Result<Duration, bool> {
    let lease = snapshot.get_as::<Lease>(&key::of::<Lease>(LEASES, node.name()));
    let renewed = lease.and_then(|l| l.spec.as_ref()?.renew_time.as_ref().map(|t| t.0));
    let (since, grace) = match renewed {
        Some(renewed) => (renewed, GRACE),
        None => (node.created().unwrap_or(now), STARTUP_GRACE),
    };
    let silent = Duration::try_from(now.duration_since(since)).unwrap_or_default();
    grace.checked_sub(silent).filter(|left| !left.is_zero()).ok_or(renewed.is_none())
}

/// Sets every condition that the node itself reports to `Unknown`, then its taints.
fn lose(node: &Node, mut conditions: Vec<NodeCondition>, never: bool, now: Timestamp, plan: &mut Plan) {
    let (reason, message) = match never {
        true => ("NodeStatusNeverUpdated", "Kubelet never posted node status."),
        false => ("NodeStatusUnknown", "Kubelet stopped posting node status."),
    };
    for kind in ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"] {
        if !conditions.iter().any(|c| c.type_ == kind) {
            conditions.push(NodeCondition { type_: kind.into(), ..NodeCondition::default() });
        }
    }
    let mut changed = false;
    for condition in conditions.iter_mut().filter(|c| c.type_ != "NetworkUnavailable" && c.status != "Unknown") {
        condition.status = "Unknown".into();
        condition.reason = Some(reason.into());
        condition.message = Some(message.into());
        condition.last_transition_time = Some(Time(now));
        changed = true;
    }
    if changed {
        plan.say(node, "NodeNotReady", format!("Node {} status is now: NodeNotReady", node.name()));
        plan.write(Write::Merge {
            target: Target::of::<Node>("", node.name()),
            subresource: "status",
            patch: json!({"metadata": {"resourceVersion": node.version()}, "status": {"conditions": conditions}}),
        });
        return; // The commit wakes us again, for the taints.
    }
    set_taints(node, &conditions, now, plan);
}

fn set_taints(node: &Node, conditions: &[NodeCondition], now: Timestamp, plan: &mut Plan) {
    let before = node.spec.as_ref().and_then(|s| s.taints.clone()).unwrap_or_default();
    let wanted = wanted(node, conditions);
    let mut after: Vec<Taint> =
        before.iter().filter(|t| !is_ours(t) || wanted.iter().any(|w| same(w, t))).cloned().collect();
    for (key, effect) in &wanted {
        if !after.iter().any(|t| same(&(key, effect), t)) {
            let time_added = (*effect == "NoExecute").then_some(Time(now));
            after.push(Taint { key: (*key).into(), effect: (*effect).into(), value: None, time_added });
        }
    }
    // Taint eviction counts from this time, also for taints that people set.
    for taint in after.iter_mut().filter(|t| t.effect == "NoExecute" && t.time_added.is_none()) {
        taint.time_added = Some(Time(now));
    }
    if after != before {
        plan.write(Write::Merge {
            target: Target::of::<Node>("", node.name()),
            subresource: "",
            patch: json!({"metadata": {"resourceVersion": node.version()}, "spec": {"taints": after}}),
        });
    }
}

type Wanted = (&'static str, &'static str);

fn wanted(node: &Node, conditions: &[NodeCondition]) -> Vec<Wanted> {
    let status = |kind: &str| conditions.iter().find(|c| c.type_ == kind).map(|c| c.status.as_str());
    let mut wanted = Vec::new();
    match status("Ready") {
        Some("True") => {}
        Some("Unknown") => wanted.extend([(UNREACHABLE, "NoSchedule"), (UNREACHABLE, "NoExecute")]),
        Some(_) => wanted.extend([(NOT_READY, "NoSchedule"), (NOT_READY, "NoExecute")]),
        None => wanted.push((NOT_READY, "NoSchedule")),
    }
    wanted.extend(
        PRESSURES.iter().filter(|(kind, _)| status(kind) == Some("True")).map(|(_, taint)| (*taint, "NoSchedule")),
    );
    if node.spec.as_ref().and_then(|s| s.unschedulable) == Some(true) {
        wanted.push((UNSCHEDULABLE, "NoSchedule"));
    }
    wanted
}

fn is_ours(taint: &Taint) -> bool {
    let keys = PRESSURES.iter().map(|(_, taint)| *taint).chain([NOT_READY, UNREACHABLE, UNSCHEDULABLE]);
    keys.into_iter().any(|key| key == taint.key)
}

fn same(wanted: &(&str, &str), taint: &Taint) -> bool {
    taint.key == wanted.0 && taint.effect == wanted.1
}

#[cfg(test)]
mod tests {
    use crate::testing::check;

    #[test]
    fn taints_follow_conditions_and_leases() {
        for (case, before, writes) in [
            ("ready", "node/a ready nodetaint=not-ready; lease/kube-node-lease/a renewed=999990", "patch nodes a"),
            ("all is well", "node/a ready; lease/kube-node-lease/a renewed=999990", ""),
            ("not ready", "node/a; lease/kube-node-lease/a renewed=999990", "patch nodes a"),
            ("lease ran out", "node/a ready; lease/kube-node-lease/a renewed=999900", "patch nodes/status a"),
            ("never spoke", "node/a ready", "patch nodes/status a"),
            ("gone", "", ""),
        ] {
            check(case, before, "core/nodes//a", super::reconcile, writes);
        }
    }
}
