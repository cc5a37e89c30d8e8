//! One cycle: every pending pod gets a node, or the reasons why none will do. Pure: a snapshot in, decisions out.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use mizzen_api::key;
use mizzen_api::pod::{is_terminal, is_terminating};
use mizzen_store::Snapshot;

use crate::cluster::{Cluster, NodeInfo, PodInfo};
use crate::explain;
use crate::preempt::{Budgets, Verdict, preempt};
use crate::rules::{self, Impossible, Reason, Step};

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
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// To this node.
    Node(String),
    /// To this node, once these steps have brought its claims and volumes together.
    Prepares(String, Vec<Step>),
    /// Nowhere now.
    Unschedulable(Refusal),
    /// Its scheduling gates are not open.
    Gated,
}

/// Why a pod goes nowhere, and what is done about it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Refusal {
    /// In the words kubectl users know.
    pub why: String,
    /// The node it is promised once others have gone; what `status.nominatedNodeName` should say.
    pub promised: Option<String>,
    /// Pods that have to go for it.
    pub victims: Vec<Arc<Pod>>,
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
    let mut cycle = Cycle { snapshot, cluster: Cluster::read(snapshot), budgets: None };
    pending.into_iter().map(|pod| cycle.decide(pod)).collect()
}

/// One cycle on its way.
struct Cycle<'a> {
    snapshot: &'a Snapshot,
    cluster: Cluster,
    /// Read when the first pod preempts.
    budgets: Option<Budgets>,
}

fn is_pending(pod: &Pod) -> bool {
    let Some(spec) = &pod.spec else { return false };
    let ours = spec.scheduler_name.as_deref().unwrap_or(SCHEDULER_NAME) == SCHEDULER_NAME;
    let placed = spec.node_name.as_deref().is_some_and(|n| !n.is_empty());
    ours && !placed && !is_terminating(pod) && !is_terminal(pod)
}

impl Cycle<'_> {
    fn decide(&mut self, pod: Arc<Pod>) -> Decision {
        let gated = pod.spec.as_ref().and_then(|s| s.scheduling_gates.as_ref()).is_some_and(|g| !g.is_empty());
        if gated {
            return Decision { pod, outcome: Outcome::Gated };
        }
        let info = PodInfo::new(Arc::clone(&pod));
        let outcome = match place(&self.cluster, &info) {
            Ok(place) => self.take(info, place),
            Err(Refused::Everywhere(why)) => {
                self.forget_promise(&info);
                let why = explain::impossible(self.cluster.nodes.len(), &why.0);
                Outcome::Unschedulable(Refusal { why, ..Refusal::default() })
            }
            Err(Refused::EachNode(reasons)) => Outcome::Unschedulable(self.refuse(info, &reasons)),
        };
        Decision { pod, outcome }
    }

    /// The pod has its place; what it takes counts for those that follow.
    fn take(&mut self, pod: PodInfo, place: Place) -> Outcome {
        self.forget_promise(&pod);
        let node = &mut self.cluster.nodes[place.at];
        node.add(pod);
        if place.steps.is_empty() {
            return Outcome::Node(node.name().into());
        }
        for step in &place.steps {
            if let Step::Bind(_, volume) = step {
                self.cluster.kept.extend(volume.metadata.name.clone());
            }
        }
        Outcome::Prepares(node.name().into(), place.steps)
    }

    /// Nothing fits: others may have to go.
    fn refuse(&mut self, pod: PodInfo, reasons: &[Vec<Reason>]) -> Refusal {
        let why = explain::unschedulable(self.cluster.nodes.len(), reasons);
        if self.cluster.nodes.is_empty() {
            return Refusal { why, ..Refusal::default() };
        }
        let budgets = self.budgets.get_or_insert_with(|| Budgets::read(self.snapshot));
        match preempt(&mut self.cluster, budgets, &pod, reasons) {
            Verdict::Nothing(reason) => {
                self.forget_promise(&pod);
                Refusal { why: format!("{why} {reason}"), ..Refusal::default() }
            }
            Verdict::Waits(at) => {
                let why = format!("{why} preemption: not eligible due to a terminating pod on the nominated node.");
                Refusal { why, promised: Some(self.cluster.nodes[at].name().into()), victims: Vec::new() }
            }
            Verdict::Victims(at, victims) => {
                self.forget_promise(&pod);
                let node = &mut self.cluster.nodes[at];
                for victim in &mut node.pods {
                    victim.leaving |= victims.iter().any(|v| Arc::ptr_eq(v, &victim.pod));
                }
                node.promised.push(pod);
                Refusal { why, promised: Some(node.name().into()), victims }
            }
        }
    }

    fn forget_promise(&mut self, pod: &PodInfo) {
        for node in &mut self.cluster.nodes {
            node.promised.retain(|p| p.uid() != pod.uid());
        }
    }
}

/// Where a pod goes, and what has to be done for its claims first.
struct Place {
    at: usize,
    steps: Vec<Step>,
}

/// Why a pod goes nowhere.
enum Refused {
    Everywhere(Impossible),
    EachNode(Vec<Vec<Reason>>),
}

/// The best of the possible nodes, or why there is none.
fn place(cluster: &Cluster, pod: &PodInfo) -> Result<Place, Refused> {
    let prepared = rules::prepare(cluster, pod).map_err(Refused::Everywhere)?;
    let mut candidates = Vec::new();
    let mut reasons = Vec::new();
    for (at, node) in cluster.nodes.iter().enumerate() {
        match possible(&prepared, pod, node) {
            Ok(()) if pod.nominated() == Some(node.name()) => {
                candidates = vec![at];
                break;
            }
            Ok(()) => candidates.push(at),
            Err(why) => reasons.push(why),
        }
    }
    let at = match candidates.as_slice() {
        [] => return Err(Refused::EachNode(reasons)),
        [only] => *only,
        many => rules::best(&prepared, pod, cluster, many),
    };
    Ok(Place { at, steps: rules::steps(&prepared, &cluster.nodes[at]) })
}

/// Is the node possible, with and without those that were promised room there and matter at least as much?
pub(crate) fn possible(prepared: &rules::Prepared, pod: &PodInfo, node: &NodeInfo) -> Result<(), Vec<Reason>> {
    rules::filter(prepared, pod, node)?;
    let counts = |p: &&PodInfo| p.uid() != pod.uid() && p.priority() >= pod.priority();
    let mut promised = node.promised.iter().filter(counts).peekable();
    if promised.peek().is_none() {
        return Ok(());
    }
    let mut full = node.clone();
    promised.for_each(|p| full.add(p.clone()));
    rules::filter(prepared, pod, &full)
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
