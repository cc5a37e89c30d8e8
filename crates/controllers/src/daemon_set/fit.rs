//! Which nodes a DaemonSet's pods belong on: node name, selector, required affinity, and taints.

use k8s_openapi::api::apps::v1::DaemonSetSpec;
use k8s_openapi::api::core::v1::{Node, NodeSelectorRequirement, NodeSelectorTerm, PodSpec};
use mizzen_api::pod::untolerated;

use super::pod;
use crate::meta::Meta;

/// What a node is to a DaemonSet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fit {
    /// A pod belongs here.
    Run,
    /// No new pod, but one that is here may stay.
    Stay,
    /// No pod may be here.
    Never,
}

/// How the pods of a spec fit on a node.
pub(super) fn fit(spec: &DaemonSetSpec, node: &Node) -> Fit {
    let Some(pod) = &spec.template.spec else { return Fit::Never };
    let named = pod.node_name.as_deref().is_none_or(|n| n.is_empty() || n == node.name());
    if !named || !selected(pod, node) {
        return Fit::Never;
    }
    let none = Vec::new();
    let taints = node.spec.as_ref().and_then(|s| s.taints.as_ref()).unwrap_or(&none);
    let mut tolerations = pod.tolerations.clone().unwrap_or_default();
    tolerations.extend(pod::tolerations(pod.host_network == Some(true)));
    match () {
        () if untolerated(taints, &tolerations, &["NoExecute"]).is_some() => Fit::Never,
        () if untolerated(taints, &tolerations, &["NoSchedule"]).is_some() => Fit::Stay,
        () => Fit::Run,
    }
}

fn selected(pod: &PodSpec, node: &Node) -> bool {
    let labels = pod.node_selector.iter().flatten().all(|(name, value)| node.label(name) == Some(value));
    let affinity = pod.affinity.as_ref().and_then(|a| a.node_affinity.as_ref());
    let required = affinity.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref());
    labels && required.is_none_or(|r| r.node_selector_terms.iter().any(|t| term(t, node)))
}

/// All requirements of a term hold; a term without any holds nowhere.
fn term(term: &NodeSelectorTerm, node: &Node) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    !(expressions.is_empty() && fields.is_empty())
        && expressions.iter().all(|r| holds(r, node.label(&r.key)))
        && fields.iter().all(|r| r.key == "metadata.name" && holds(r, Some(node.name())))
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
