//! One cycle: every pending pod gets a node, or the reasons why none will do. Pure: a snapshot in, decisions out.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use mizzen_api::key;
use mizzen_api::pod::{is_terminal, is_terminating};
use mizzen_store::Snapshot;

use crate::cluster::{Cluster, PodInfo};
use crate::explain;
use crate::rules::{self, Reason};

/// Name that pods carry in `spec.schedulerName` when this scheduler is to place them.
pub const SCHEDULER_NAME: &str = "default-scheduler";

/// What became of one pod.
#[derive(Debug, Clone)]
pub struct Decision {
    /// The pod.
    pub pod: Arc<Pod>,
    /// Where it goes, or why it goes nowhere.
    pub outcome: Outcome,
}

/// Where a pod goes, or why it goes nowhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// To this node.
    Node(String),
    /// Nowhere now; in the words kubectl users know.
    Unschedulable(String),
    /// Its scheduling gates are not open.
    Gated,
}

/// Places all pending pods of a snapshot: higher priority first, then the older. Each placement counts for the next.
pub fn schedule(snapshot: &Snapshot) -> Vec<Decision> {
    let mut pending: Vec<Arc<Pod>> = snapshot.list_as::<Pod>(&key::all::<Pod>()).filter(|p| is_pending(p)).collect();
    if pending.is_empty() {
        return Vec::new();
    }
    pending.sort_by_cached_key(|pod| {
        let priority = pod.spec.as_ref().and_then(|s| s.priority).unwrap_or(0);
        let created = pod.metadata.creation_timestamp.as_ref().map(|t| t.0);
        (std::cmp::Reverse(priority), created, pod.metadata.namespace.clone(), pod.metadata.name.clone())
    });
    let mut cluster = Cluster::read(snapshot);
    pending.into_iter().map(|pod| decide(&mut cluster, pod)).collect()
}

fn is_pending(pod: &Pod) -> bool {
    let Some(spec) = &pod.spec else { return false };
    let ours = spec.scheduler_name.as_deref().unwrap_or(SCHEDULER_NAME) == SCHEDULER_NAME;
    let placed = spec.node_name.as_deref().is_some_and(|n| !n.is_empty());
    ours && !placed && !is_terminating(pod) && !is_terminal(pod)
}

fn decide(cluster: &mut Cluster, pod: Arc<Pod>) -> Decision {
    let gated = pod.spec.as_ref().and_then(|s| s.scheduling_gates.as_ref()).is_some_and(|g| !g.is_empty());
    if gated {
        return Decision { pod, outcome: Outcome::Gated };
    }
    let info = PodInfo::new(Arc::clone(&pod));
    let outcome = match place(cluster, &info) {
        Ok(at) => {
            let name = cluster.nodes[at].name().to_string();
            cluster.nodes[at].add(info);
            Outcome::Node(name)
        }
        Err(reasons) => Outcome::Unschedulable(explain::unschedulable(cluster.nodes.len(), &reasons)),
    };
    Decision { pod, outcome }
}

/// The best of the possible nodes, or for each node why it is not possible.
fn place(cluster: &Cluster, pod: &PodInfo) -> Result<usize, Vec<Vec<Reason>>> {
    let prepared = rules::prepare(cluster, pod);
    let mut possible = Vec::new();
    let mut reasons = Vec::new();
    for (at, node) in cluster.nodes.iter().enumerate() {
        match rules::filter(&prepared, pod, node) {
            Ok(()) => possible.push(at),
            Err(why) => reasons.push(why),
        }
    }
    let best = match possible.as_slice() {
        [] => return Err(reasons),
        [only] => *only,
        many => rules::best(&prepared, pod, cluster, many),
    };
    Ok(best)
}

#[cfg(test)]
mod tests {
    use crate::testing::check;

    #[test]
    fn places_pods() {
        for (case, world, placed) in [
            ("fits", "node/a cpu=2; pod/x cpu=1", "x→a"),
            ("the emptier node", "node/a cpu=4; node/b cpu=4; pod/y cpu=2 on=a; pod/x cpu=1", "x→b"),
            (
                "each placement counts",
                "node/a cpu=2; pod/x cpu=1500m; pod/y cpu=1",
                "x→a; y: 0/1 nodes are available: 1 Insufficient cpu.",
            ),
            (
                "nothing fits",
                "node/a cpu=1; node/b cpu=1; pod/x cpu=2",
                "x: 0/2 nodes are available: 2 Insufficient cpu.",
            ),
            ("no nodes", "pod/x cpu=1", "x: no nodes available to schedule pods"),
            ("too many pods", "node/a cpu=9 pods=1; pod/y on=a; pod/x", "x: 0/1 nodes are available: 1 Too many pods."),
            ("node selector", "node/a zone=1; node/b zone=2; pod/x select=2", "x→b"),
            (
                "selector matches none",
                "node/a zone=1; pod/x select=2",
                "x: 0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector.",
            ),
            ("taint", "node/a taint=gpu; node/b; pod/x", "x→b"),
            ("tolerated", "node/a taint=gpu; pod/x tolerate=gpu", "x→a"),
            (
                "untolerated",
                "node/a taint=gpu; pod/x",
                "x: 0/1 nodes are available: 1 node(s) had untolerated taint(s).",
            ),
            ("cordoned", "node/a cordoned; pod/x", "x: 0/1 nodes are available: 1 node(s) were unschedulable."),
            (
                "port taken",
                "node/a; pod/y port=80 on=a; pod/x port=80",
                "x: 0/1 nodes are available: 1 node(s) didn't have free ports for the requested pod ports.",
            ),
            ("anti-affinity", "node/a; node/b; pod/y app=w on=a; pod/x app=w apart=w", "x→b"),
            (
                "anti-affinity everywhere",
                "node/a; pod/y app=w on=a; pod/x app=w apart=w",
                "x: 0/1 nodes are available: 1 node(s) didn't match pod anti-affinity rules.",
            ),
            ("symmetry", "node/a; node/b; pod/y app=w apart=v on=a; pod/x app=v", "x→b"),
            ("affinity", "node/a; node/b; pod/y app=w on=b; pod/x together=w", "x→b"),
            ("affinity to itself", "node/a; pod/x app=w together=w", "x→a"),
            ("spread", "node/a; node/b; pod/y app=w on=a; pod/x app=w spread=w", "x→b"),
            ("gated", "node/a; pod/x gated", "x: gated"),
            (
                "priority first",
                "node/a cpu=1; pod/x cpu=1; pod/y cpu=1 priority=9",
                "y→a; x: 0/1 nodes are available: 1 Insufficient cpu.",
            ),
        ] {
            check(case, world, placed);
        }
    }
}
