//! Which nodes a DaemonSet's pods belong on: node name, selector, required affinity, and taints.

use k8s_openapi::api::apps::v1::DaemonSetSpec;
use k8s_openapi::api::core::v1::Node;
use mizzen_api::node_affinity;
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
    if !named || !node_affinity::matches(pod, node) {
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
