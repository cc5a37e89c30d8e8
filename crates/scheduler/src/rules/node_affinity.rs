//! Node selectors and node affinity (core/v1 NodeAffinity).

use mizzen_api::node_affinity;

use crate::cluster::{NodeInfo, PodInfo};

/// `spec.nodeSelector` and required affinity both hold.
pub fn matches(pod: &PodInfo, node: &NodeInfo) -> bool {
    pod.spec().is_none_or(|spec| node_affinity::matches(spec, &node.node))
}

/// The weights of the preferred terms that hold.
pub fn preference(pod: &PodInfo, node: &NodeInfo) -> f64 {
    let affinity = pod.spec().and_then(|s| s.affinity.as_ref()).and_then(|a| a.node_affinity.as_ref());
    let preferred = affinity.and_then(|a| a.preferred_during_scheduling_ignored_during_execution.as_ref());
    let held = preferred.into_iter().flatten().filter(|p| node_affinity::term(&p.preference, &node.node));
    held.map(|p| f64::from(p.weight)).sum()
}
