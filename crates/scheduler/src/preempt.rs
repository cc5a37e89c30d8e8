//! Preemption: which pods of lower priority have to go so that a pod fits (core/v1 PodSpec.priority, preemptionPolicy).
//!
//! For each node that fails for a reason which other pods' absence could mend, all pods of lower priority are thought away; if
//! the pod fits then, they come back one by one, the important first, as long as it still fits. Who stays away is a victim.

mod budgets;
mod choose;

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use mizzen_api::pod::is_terminating;

pub use budgets::Budgets;

use crate::cluster::{Cluster, PodInfo};
use crate::cycle;
use crate::explain;
use crate::rules::{self, Reason};

/// Nodes on which victims are looked for, at most; the best of so many is good enough.
const CANDIDATES_MAX: usize = 100;

/// What preemption can do for a pod.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// These have to go from the node at that index; none if it is enough that others are already going.
    Victims(usize, Vec<Arc<Pod>>),
    /// Pods are already going from the node that it was promised.
    Waits(usize),
    /// Nothing, and why.
    Nothing(String),
}

/// A node with the pods that would have to go from it.
struct Candidate {
    at: usize,
    victims: Vec<PodInfo>,
    /// How many of them a PodDisruptionBudget would rather keep.
    violations: usize,
}

/// Looks for pods to be evicted for `pod`, which fits nowhere for the `reasons` of each node.
pub fn preempt(cluster: &mut Cluster, budgets: &Budgets, pod: &PodInfo, reasons: &[Vec<Reason>]) -> Verdict {
    if pod.spec().and_then(|s| s.preemption_policy.as_deref()) == Some("Never") {
        return Verdict::Nothing("preemption: not eligible due to preemptionPolicy=Never.".into());
    }
    if let Some(at) = promised(cluster, pod) {
        let going = |p: &PodInfo| p.priority() < pod.priority() && is_terminating(&p.pod);
        if cluster.nodes[at].pods.iter().any(going) {
            return Verdict::Waits(at);
        }
    }
    let mut candidates = Vec::new();
    let mut refusals: BTreeMap<&str, usize> = BTreeMap::new();
    for (at, why) in reasons.iter().enumerate() {
        if candidates.len() >= CANDIDATES_MAX {
            break;
        }
        if !why.iter().all(Reason::depends_on_pods) {
            *refusals.entry("Preemption is not helpful for scheduling").or_default() += 1;
        } else if let Some(candidate) = on_node(cluster, budgets, pod, at) {
            candidates.push(candidate);
        } else {
            *refusals.entry("No preemption victims found for incoming pod").or_default() += 1;
        }
    }
    match choose::best(candidates) {
        Some(best) => Verdict::Victims(best.at, best.victims.into_iter().map(|v| v.pod).collect()),
        None => Verdict::Nothing(format!("preemption: {}", explain::counted(cluster.nodes.len(), refusals))),
    }
}

/// The node that the pod was promised by an earlier preemption.
fn promised(cluster: &Cluster, pod: &PodInfo) -> Option<usize> {
    let name = pod.nominated()?;
    cluster.nodes.iter().position(|n| n.name() == name)
}

/// The fewest and least important pods without which `pod` fits on one node.
fn on_node(cluster: &mut Cluster, budgets: &Budgets, pod: &PodInfo, at: usize) -> Option<Candidate> {
    let before = cluster.nodes[at].clone();
    let (lower, others): (Vec<PodInfo>, Vec<PodInfo>) =
        before.pods.iter().cloned().partition(|p| p.priority() < pod.priority());
    if lower.is_empty() {
        return None;
    }
    cluster.nodes[at].replace_pods(others);
    let found = fits(cluster, pod, at).then(|| {
        let leaving = |p: &PodInfo| p.leaving || is_terminating(&p.pod);
        let mut staying: Vec<PodInfo> = lower.into_iter().filter(|p| !leaving(p)).collect();
        staying.sort_by(choose::by_importance);
        let (violating, others) = budgets.split(staying);
        let broken = reprieve(cluster, pod, at, violating);
        let violations = broken.len();
        let victims = broken.into_iter().chain(reprieve(cluster, pod, at, others)).collect();
        Candidate { at, victims, violations }
    });
    cluster.nodes[at] = before;
    found
}

/// Lets pods come back, in order, as long as `pod` still fits; returns those who may not.
fn reprieve(cluster: &mut Cluster, pod: &PodInfo, at: usize, pods: Vec<PodInfo>) -> Vec<PodInfo> {
    let mut victims = Vec::new();
    for back in pods {
        cluster.nodes[at].add(back.clone());
        if !fits(cluster, pod, at) {
            cluster.nodes[at].remove_last();
            victims.push(back);
        }
    }
    victims
}

fn fits(cluster: &Cluster, pod: &PodInfo, at: usize) -> bool {
    rules::prepare(cluster, pod).is_ok_and(|prepared| cycle::possible(&prepared, pod, &cluster.nodes[at]).is_ok())
}

#[cfg(test)]
mod tests {
    use crate::testing::check;

    #[test]
    fn the_less_important_make_room() {
        for (case, world, placed) in [
            ("one goes", "node/a cpu=1; pod/y cpu=1 on=a; pod/x cpu=1 priority=9", "x: a without y"),
            (
                "only as many as needed, the least important",
                "node/a cpu=3; pod/w cpu=1 priority=2 on=a; pod/y cpu=1 on=a; pod/z cpu=1 priority=1 on=a; pod/x cpu=2 priority=9",
                "x: a without z, y",
            ),
            (
                "never those of the same priority",
                "node/a cpu=1; pod/y cpu=1 priority=9 on=a; pod/x cpu=1 priority=9",
                "x: 0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod.",
            ),
            (
                "not by who does not preempt",
                "node/a cpu=1; pod/y cpu=1 on=a; pod/x cpu=1 priority=9 polite",
                "x: 0/1 nodes are available: 1 Insufficient cpu. preemption: not eligible due to preemptionPolicy=Never.",
            ),
            (
                "where it would not help",
                "node/a cpu=1 taint=t; pod/y cpu=1 on=a; pod/x cpu=1 priority=9",
                "x: 0/1 nodes are available: 1 node(s) had untolerated taint(s). preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling.",
            ),
            (
                "the node whose victims matter least",
                "node/a cpu=1; node/b cpu=1; pod/y cpu=1 priority=2 on=a; pod/z cpu=1 priority=1 on=b; pod/x cpu=1 priority=9",
                "x: b without z",
            ),
            (
                "a budget is kept where it can be",
                "node/a cpu=1; node/b cpu=1; pod/y app=w cpu=1 on=a; pod/z cpu=1 priority=1 on=b; pdb/p app=w allowed=0; pod/x cpu=1 priority=9",
                "x: b without z",
            ),
            (
                "a budget is broken where it must be",
                "node/a cpu=1; pod/y app=w cpu=1 on=a; pdb/p app=w allowed=0; pod/x cpu=1 priority=9",
                "x: a without y",
            ),
            (
                "room that is promised is not given away",
                "node/a cpu=1; pod/x cpu=1 priority=9 nominated=a; pod/y cpu=1",
                "x→a; y: 0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod.",
            ),
            (
                "it waits for those who go",
                "node/a cpu=1; pod/y cpu=1 on=a deleting; pod/x cpu=1 priority=9 nominated=a",
                "x: waits for a",
            ),
            (
                "two do not count on the same room",
                "node/a cpu=2; pod/y cpu=1 on=a; pod/z cpu=1 on=a; pod/w cpu=1 priority=9; pod/x cpu=1 priority=9",
                "w: a without z; x: a without y",
            ),
            (
                "an anti-affinity goes with its pod",
                "node/a; pod/y app=w apart=v on=a; pod/x app=v priority=9",
                "x: a without y",
            ),
            ("a port", "node/a; pod/y port=80 on=a; pod/x port=80 priority=9", "x: a without y"),
        ] {
            check(case, world, placed);
        }
    }
}
