//! Spreading pods over topology domains (core/v1 TopologySpreadConstraint).

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::TopologySpreadConstraint;
use mizzen_api::selector::LabelSelector;

use super::{node_affinity, taints, terms};
use crate::cluster::{Cluster, NodeInfo, PodInfo};
use crate::rules::Reason;

/// One constraint with the pods counted.
struct Counted {
    key: String,
    max_skew: i64,
    required: bool,
    /// Pods by domain.
    counts: BTreeMap<String, i64>,
    /// Fewest pods of any domain.
    fewest: i64,
    /// The pod itself counts.
    own: i64,
}

/// All constraints of one pod.
pub struct Prepared {
    constraints: Vec<Counted>,
}

/// Counts pods for each constraint.
pub fn prepare(cluster: &Cluster, pod: &PodInfo) -> Prepared {
    let constraints = pod.spec().and_then(|s| s.topology_spread_constraints.as_deref()).unwrap_or_default();
    Prepared { constraints: constraints.iter().map(|c| count(cluster, pod, c)).collect() }
}

fn count(cluster: &Cluster, pod: &PodInfo, constraint: &TopologySpreadConstraint) -> Counted {
    let keys = constraint.match_label_keys.as_deref().unwrap_or_default();
    let selector = terms::with_keys(constraint.label_selector.as_ref(), pod.labels(), keys, &[]);
    let mut counts: BTreeMap<String, i64> = BTreeMap::new();
    for node in cluster.nodes.iter().filter(|n| eligible(pod, constraint, n)) {
        let Some(domain) = node.label(&constraint.topology_key) else {
            continue;
        };
        *counts.entry(domain.to_string()).or_default() += matching(node, pod, &selector);
    }
    let domains = i64::try_from(counts.len()).unwrap_or(i64::MAX);
    let too_few = constraint.min_domains.is_some_and(|min| domains < i64::from(min));
    let fewest = if too_few { 0 } else { counts.values().copied().min().unwrap_or(0) };
    Counted {
        key: constraint.topology_key.clone(),
        max_skew: constraint.max_skew.into(),
        required: constraint.when_unsatisfiable != "ScheduleAnyway",
        counts,
        fewest,
        own: i64::from(selector.matches_labels(pod.labels())),
    }
}

/// Nodes that the pod could not use anyway do not count, unless the constraint says they do.
fn eligible(pod: &PodInfo, constraint: &TopologySpreadConstraint, node: &NodeInfo) -> bool {
    let affinity = constraint.node_affinity_policy.as_deref() == Some("Ignore") || node_affinity::matches(pod, node);
    let taints = constraint.node_taints_policy.as_deref() != Some("Honor") || taints::tolerated(pod, node);
    affinity && taints
}

fn matching(node: &NodeInfo, pod: &PodInfo, selector: &LabelSelector) -> i64 {
    let counts = |p: &&PodInfo| {
        p.namespace() == pod.namespace()
            && p.pod.metadata.deletion_timestamp.is_none()
            && selector.matches_labels(p.labels())
    };
    i64::try_from(node.pods.iter().filter(counts).count()).unwrap_or(i64::MAX)
}

/// Placing the pod here breaks no required constraint.
pub fn filter(prepared: &Prepared, node: &NodeInfo) -> Result<(), Reason> {
    for constraint in prepared.constraints.iter().filter(|c| c.required) {
        let Some(domain) = node.label(&constraint.key) else {
            return Err(Reason::SpreadLabel);
        };
        let here = constraint.counts.get(domain).copied().unwrap_or(0);
        if here + constraint.own - constraint.fewest > constraint.max_skew {
            return Err(Reason::Spread);
        }
    }
    Ok(())
}

/// Pods in the node's domains over all constraints: fewer is better.
pub fn crowding(prepared: &Prepared, node: &NodeInfo) -> f64 {
    let in_domain = |c: &Counted| node.label(&c.key).and_then(|d| c.counts.get(d)).copied().unwrap_or(0);
    prepared.constraints.iter().map(|c| in_domain(c) as f64).sum()
}
