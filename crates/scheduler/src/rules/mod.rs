//! The rules: what makes a node possible for a pod, and what makes it good. One file a rule; this list is the only one.

mod node_affinity;
mod pod_affinity;
mod ports;
mod resources;
mod spread;
mod taints;
mod terms;
mod volumes;

use std::fmt;

pub use volumes::Step;

use crate::cluster::{Cluster, NodeInfo, PodInfo};

/// Why a node is not possible.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// Too little of a resource is left.
    Insufficient(String),
    /// It has as many pods as it may have.
    TooManyPods,
    /// It is cordoned.
    Unschedulable,
    /// The pod names another node.
    NodeName,
    /// A taint is not tolerated.
    Taint,
    /// Node selector or required affinity.
    NodeAffinity,
    /// A host port is taken.
    Ports,
    /// Required pod affinity.
    PodAffinity,
    /// Required pod anti-affinity of the pod.
    PodAntiAffinity,
    /// Required anti-affinity of a pod that is there.
    ExistingAntiAffinity,
    /// A spread constraint.
    Spread,
    /// A spread constraint's topology key is missing on the node.
    SpreadLabel,
    /// The volume of a claim cannot be used on the node.
    VolumeNode,
    /// The volume of a claim is gone.
    VolumeLost,
    /// No volume for a claim, and none can be made.
    NoVolume,
    /// Another pod uses a claim that only one may use.
    ClaimInUse,
}

/// Why no node at all will do, in the words kubectl users know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Impossible(pub String);

impl Reason {
    /// Could it go away when other pods do?
    pub fn depends_on_pods(&self) -> bool {
        use Reason::{ClaimInUse, ExistingAntiAffinity, Insufficient, PodAntiAffinity, Ports, Spread, TooManyPods};
        let affinity = matches!(self, PodAntiAffinity | ExistingAntiAffinity | Spread);
        affinity || matches!(self, Insufficient(_) | TooManyPods | Ports | ClaimInUse)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Insufficient(resource) => write!(f, "Insufficient {resource}"),
            Reason::TooManyPods => f.write_str("Too many pods"),
            Reason::Unschedulable => f.write_str("node(s) were unschedulable"),
            Reason::NodeName => f.write_str("node(s) didn't match the requested node name"),
            Reason::Taint => f.write_str("node(s) had untolerated taint(s)"),
            Reason::NodeAffinity => f.write_str("node(s) didn't match Pod's node affinity/selector"),
            Reason::Ports => f.write_str("node(s) didn't have free ports for the requested pod ports"),
            Reason::PodAffinity => f.write_str("node(s) didn't match pod affinity rules"),
            Reason::PodAntiAffinity => f.write_str("node(s) didn't match pod anti-affinity rules"),
            Reason::ExistingAntiAffinity => f.write_str("node(s) didn't satisfy existing pods anti-affinity rules"),
            Reason::Spread => f.write_str("node(s) didn't match pod topology spread constraints"),
            Reason::VolumeNode => f.write_str("node(s) didn't match PersistentVolume's node affinity"),
            Reason::VolumeLost => {
                f.write_str("node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)")
            }
            Reason::NoVolume => f.write_str("node(s) didn't find available persistent volumes to bind"),
            Reason::ClaimInUse => f.write_str(
                "node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode",
            ),
            Reason::SpreadLabel => {
                f.write_str("node(s) didn't match pod topology spread constraints (missing required label)")
            }
        }
    }
}

/// What is computed once a pod, not once a node.
pub struct Prepared {
    affinity: pod_affinity::Prepared,
    spread: spread::Prepared,
    volumes: volumes::Prepared,
}

/// Looks at the whole cluster once for a pod.
///
/// # Errors
/// What makes every node impossible.
pub fn prepare(cluster: &Cluster, pod: &PodInfo) -> Result<Prepared, Impossible> {
    let spec = pod.pod.spec.as_ref();
    if spec.and_then(|s| s.resource_claims.as_ref()).is_some_and(|claims| !claims.is_empty()) {
        // Better not at all than without the devices that it counts on.
        return Err(Impossible("cannot allocate all claims: dynamic resource allocation is not available".into()));
    }
    Ok(Prepared {
        volumes: volumes::prepare(cluster, pod)?,
        affinity: pod_affinity::prepare(cluster, pod),
        spread: spread::prepare(cluster, pod),
    })
}

/// What is left to be done for the claims of a pod on a node that [`filter`] found possible.
pub fn steps(prepared: &Prepared, node: &NodeInfo) -> Vec<Step> {
    volumes::steps(&prepared.volumes, node).unwrap_or_default()
}

/// Is the node possible? The first rule that says no is heard, with all it has to say.
pub fn filter(prepared: &Prepared, pod: &PodInfo, node: &NodeInfo) -> Result<(), Vec<Reason>> {
    let one = |possible: bool, reason: Reason| if possible { Ok(()) } else { Err(vec![reason]) };
    one(taints::schedulable(pod, node), Reason::Unschedulable)?;
    one(taints::tolerated(pod, node), Reason::Taint)?;
    one(node_affinity::matches(pod, node), Reason::NodeAffinity)?;
    one(ports::free(pod, node), Reason::Ports)?;
    resources::fit(pod, node)?;
    volumes::filter(&prepared.volumes, node).map_err(|r| vec![r])?;
    spread::filter(&prepared.spread, node).map_err(|r| vec![r])?;
    pod_affinity::filter(&prepared.affinity, node).map_err(|r| vec![r])
}

/// Scores of one rule over the candidates, 0 to 100 each.
type Scores = Vec<f64>;

/// The best of several possible nodes; of equals the first.
pub fn best(prepared: &Prepared, pod: &PodInfo, cluster: &Cluster, possible: &[usize]) -> usize {
    let nodes: Vec<&NodeInfo> = possible.iter().map(|at| &cluster.nodes[*at]).collect();
    let weighted: [(f64, Scores); 6] = [
        (3.0, reversed(normalized(nodes.iter().map(|n| taints::preferences_broken(pod, n)).collect()))),
        (2.0, normalized(nodes.iter().map(|n| node_affinity::preference(pod, n)).collect())),
        (2.0, reversed(normalized(nodes.iter().map(|n| spread::crowding(&prepared.spread, n)).collect()))),
        (2.0, normalized(nodes.iter().map(|n| pod_affinity::preference(&prepared.affinity, n)).collect())),
        (1.0, nodes.iter().map(|n| resources::least_allocated(pod, n)).collect()),
        (1.0, nodes.iter().map(|n| resources::balance(pod, n)).collect()),
    ];
    let total = |at: usize| weighted.iter().map(|(weight, scores)| weight * scores[at]).sum::<f64>();
    let mut best = (0, f64::NEG_INFINITY);
    for at in 0..nodes.len() {
        let score = total(at);
        if score > best.1 {
            best = (at, score);
        }
    }
    possible[best.0]
}

/// Scales to 0..100, the largest becoming 100; all 0 if there is no difference.
fn normalized(values: Scores) -> Scores {
    let (min, max) = values.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(lo, hi), v| (lo.min(*v), hi.max(*v)));
    let range = max - min;
    values.into_iter().map(|v| if range > 0.0 { (v - min) * 100.0 / range } else { 0.0 }).collect()
}

fn reversed(values: Scores) -> Scores {
    values.into_iter().map(|v| 100.0 - v).collect()
}
