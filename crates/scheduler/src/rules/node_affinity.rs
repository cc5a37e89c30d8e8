//! Node selectors and node affinity (core/v1 NodeAffinity, NodeSelectorTerm).

use k8s_openapi::api::core::v1::{NodeSelectorRequirement, NodeSelectorTerm};

use crate::cluster::{NodeInfo, PodInfo};

/// `spec.nodeSelector` and required affinity both hold.
pub fn matches(pod: &PodInfo, node: &NodeInfo) -> bool {
    let Some(spec) = pod.spec() else { return true };
    let selected = spec
        .node_selector
        .iter()
        .flatten()
        .all(|(name, value)| node.label(name) == Some(value));
    let affinity = spec.affinity.as_ref().and_then(|a| a.node_affinity.as_ref());
    let required = affinity.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref());
    selected && required.is_none_or(|r| r.node_selector_terms.iter().any(|t| term(t, node)))
}

/// The weights of the preferred terms that hold.
pub fn preference(pod: &PodInfo, node: &NodeInfo) -> f64 {
    let affinity = pod
        .spec()
        .and_then(|s| s.affinity.as_ref())
        .and_then(|a| a.node_affinity.as_ref());
    let preferred = affinity.and_then(|a| a.preferred_during_scheduling_ignored_during_execution.as_ref());
    let held = preferred.into_iter().flatten().filter(|p| term(&p.preference, node));
    held.map(|p| f64::from(p.weight)).sum()
}

/// All requirements of a term hold; a term without any holds nowhere.
pub(super) fn term(term: &NodeSelectorTerm, node: &NodeInfo) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    let by_field = |r: &NodeSelectorRequirement| r.key == "metadata.name" && holds(r, Some(node.name()));
    !(expressions.is_empty() && fields.is_empty())
        && expressions.iter().all(|r| holds(r, node.label(&r.key)))
        && fields.iter().all(by_field)
}

fn holds(requirement: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let values = requirement.values.as_deref().unwrap_or_default();
    let listed = || value.is_some_and(|v| values.iter().any(|x| x == v));
    let compared = || Some((value?.parse::<i64>().ok()?, values.first()?.parse::<i64>().ok()?));
    match requirement.operator.as_str() {
        "In" => listed(),
        "NotIn" => !listed(),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => compared().is_some_and(|(have, than)| have > than),
        "Lt" => compared().is_some_and(|(have, than)| have < than),
        _ => false,
    }
}
