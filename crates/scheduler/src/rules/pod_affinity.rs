//! Affinity and anti-affinity between pods (core/v1 PodAffinity, PodAntiAffinity), both ways.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{PodAffinityTerm, WeightedPodAffinityTerm};

use super::terms::Term;
use crate::cluster::{Cluster, NodeInfo, PodInfo};
use crate::rules::Reason;

/// A topology domain: label and value.
type Domain = (String, String);

/// What the pods that are there mean for one pod.
pub struct Prepared {
    /// For each required affinity term, the domains with a pod it speaks of. `None`: no such pod anywhere, but the pod
    /// itself is one, so the first of a group may start anywhere that has the label.
    affinity: Vec<(String, Option<Vec<String>>)>,
    /// Domains closed by the pod's own anti-affinity.
    closed: Vec<Domain>,
    /// Domains closed by the anti-affinity of pods that are there.
    closed_by_others: Vec<Domain>,
    /// Weights of preferred terms, by domain.
    preferred: BTreeMap<Domain, f64>,
}

/// Looks at all pods once.
pub fn prepare(cluster: &Cluster, pod: &PodInfo) -> Prepared {
    let affinity = pod.spec().and_then(|s| s.affinity.as_ref());
    let together = affinity.and_then(|a| a.pod_affinity.as_ref());
    let apart = affinity.and_then(|a| a.pod_anti_affinity.as_ref());
    let required = |terms: Option<&Vec<PodAffinityTerm>>| -> Vec<Term> {
        terms.into_iter().flatten().map(|t| Term::read(t, pod, cluster)).collect()
    };
    let required_together =
        required(together.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref()));
    let required_apart = required(apart.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref()));
    let mut preferred = BTreeMap::new();
    let wishes = together.and_then(|a| a.preferred_during_scheduling_ignored_during_execution.as_ref());
    weigh(cluster, pod, wishes, 1.0, &mut preferred);
    let wishes = apart.and_then(|a| a.preferred_during_scheduling_ignored_during_execution.as_ref());
    weigh(cluster, pod, wishes, -1.0, &mut preferred);
    Prepared {
        affinity: required_together.iter().map(|t| (t.topology_key.clone(), domains_for(cluster, pod, t))).collect(),
        closed: required_apart
            .iter()
            .flat_map(|t| domains(cluster, t).into_iter().map(|v| (t.topology_key.clone(), v)))
            .collect(),
        closed_by_others: closed_by_others(cluster, pod),
        preferred,
    }
}

fn domains_for(cluster: &Cluster, pod: &PodInfo, term: &Term) -> Option<Vec<String>> {
    let found = domains(cluster, term);
    let first_of_its_kind = found.is_empty() && term.selects(pod);
    (!first_of_its_kind).then_some(found)
}

/// Values of the term's topology key on nodes with a pod it speaks of.
fn domains(cluster: &Cluster, term: &Term) -> Vec<String> {
    let occupied = cluster.nodes.iter().filter(|n| n.pods.iter().any(|p| term.selects(p)));
    occupied.filter_map(|n| n.label(&term.topology_key)).map(ToString::to_string).collect()
}

fn closed_by_others(cluster: &Cluster, pod: &PodInfo) -> Vec<Domain> {
    let mut closed = Vec::new();
    for node in &cluster.nodes {
        for other in &node.pods {
            let affinity = other.spec().and_then(|s| s.affinity.as_ref()).and_then(|a| a.pod_anti_affinity.as_ref());
            let terms = affinity.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref());
            for term in terms.into_iter().flatten().map(|t| Term::read(t, other, cluster)) {
                if let Some(value) = node.label(&term.topology_key).filter(|_| term.selects(pod)) {
                    closed.push((term.topology_key.clone(), value.to_string()));
                }
            }
        }
    }
    closed
}

fn weigh(
    cluster: &Cluster,
    pod: &PodInfo,
    terms: Option<&Vec<WeightedPodAffinityTerm>>,
    sign: f64,
    into: &mut BTreeMap<Domain, f64>,
) {
    for weighted in terms.into_iter().flatten() {
        let term = Term::read(&weighted.pod_affinity_term, pod, cluster);
        for node in &cluster.nodes {
            let count = node.pods.iter().filter(|p| term.selects(p)).count();
            if let Some(value) = node.label(&term.topology_key).filter(|_| count > 0) {
                let domain = (term.topology_key.clone(), value.to_string());
                *into.entry(domain).or_default() += sign * f64::from(weighted.weight) * count as f64;
            }
        }
    }
}

/// The node is in no closed domain, and in every required one.
pub fn filter(prepared: &Prepared, node: &NodeInfo) -> Result<(), Reason> {
    let inside = |domains: &[Domain]| domains.iter().any(|(key, value)| node.label(key) == Some(value));
    for (key, domains) in &prepared.affinity {
        let fits = match (node.label(key), domains) {
            (None, _) => false,
            (Some(_), None) => true,
            (Some(value), Some(domains)) => domains.iter().any(|d| d == value),
        };
        if !fits {
            return Err(Reason::PodAffinity);
        }
    }
    if inside(&prepared.closed) {
        return Err(Reason::PodAntiAffinity);
    }
    if inside(&prepared.closed_by_others) {
        return Err(Reason::ExistingAntiAffinity);
    }
    Ok(())
}

/// The weights of the domains the node is in.
pub fn preference(prepared: &Prepared, node: &NodeInfo) -> f64 {
    prepared.preferred.iter().filter(|((key, value), _)| node.label(key) == Some(value)).map(|(_, weight)| weight).sum()
}
