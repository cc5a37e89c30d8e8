//! Which pods an affinity term or a spread constraint speaks of.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::PodAffinityTerm;
use k8s_openapi::apimachinery::pkg::apis::meta::v1 as meta;
use mizzen_api::selector::{LabelSelector, Operator, Requirement};

use crate::cluster::{Cluster, PodInfo};

/// A term read once: label selector, namespaces, topology key.
pub struct Term {
    selector: LabelSelector,
    namespaces: Namespaces,
    /// The node label whose value names the topology domain.
    pub topology_key: String,
}

enum Namespaces {
    Named(Vec<String>),
    All,
}

impl Term {
    /// Reads a term of `owner`. Unreadable selectors, which validation refuses, select nothing.
    pub fn read(term: &PodAffinityTerm, owner: &PodInfo, cluster: &Cluster) -> Self {
        let selector = with_keys(
            term.label_selector.as_ref(),
            owner.labels(),
            term.match_label_keys.as_deref().unwrap_or_default(),
            term.mismatch_label_keys.as_deref().unwrap_or_default(),
        );
        Self { selector, namespaces: namespaces(term, owner, cluster), topology_key: term.topology_key.clone() }
    }

    /// Does the term speak of this pod?
    pub fn selects(&self, pod: &PodInfo) -> bool {
        let here = match &self.namespaces {
            Namespaces::All => true,
            Namespaces::Named(names) => names.iter().any(|n| n == pod.namespace()),
        };
        here && self.selector.matches_labels(pod.labels())
    }
}

fn namespaces(term: &PodAffinityTerm, owner: &PodInfo, cluster: &Cluster) -> Namespaces {
    let mut names = term.namespaces.clone().unwrap_or_default();
    match &term.namespace_selector {
        None if names.is_empty() => names.push(owner.namespace().to_string()),
        None => {}
        Some(selector) => {
            let selector = LabelSelector::from_typed(Some(selector)).unwrap_or_else(|_| LabelSelector::nothing());
            if selector.is_everything() {
                return Namespaces::All;
            }
            names.extend(
                cluster
                    .namespaces
                    .iter()
                    .filter(|(_, labels)| selector.matches_labels(Some(labels)))
                    .map(|(n, _)| n.clone()),
            );
        }
    }
    Namespaces::Named(names)
}

/// A selector, narrowed to pods with (or without) the owner's own values of some labels.
pub fn with_keys(
    selector: Option<&meta::LabelSelector>,
    labels: Option<&BTreeMap<String, String>>,
    same: &[String],
    other: &[String],
) -> LabelSelector {
    let Ok(selector) = LabelSelector::from_typed(selector) else {
        return LabelSelector::nothing();
    };
    let own = |keys: &[String], operator: Operator| -> Vec<Requirement> {
        let of = |key: &String| Requirement::new(key, operator, vec![labels?.get(key)?.clone()]).ok();
        keys.iter().filter_map(of).collect()
    };
    let (same, other) = (own(same, Operator::In), own(other, Operator::NotIn));
    if same.is_empty() && other.is_empty() {
        return selector;
    }
    LabelSelector::all_of(selector.requirements().iter().cloned().chain(same).chain(other).collect())
}
