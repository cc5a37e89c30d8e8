//! Taints and cordons (core/v1 Taint, Toleration).

use k8s_openapi::api::core::v1::{Taint, Toleration};
use mizzen_api::pod::{tolerates, untolerated};

use crate::cluster::{NodeInfo, PodInfo};

/// The taint that stands for a cordon.
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";

fn tolerations(pod: &PodInfo) -> &[Toleration] {
    pod.spec().and_then(|s| s.tolerations.as_deref()).unwrap_or_default()
}

/// The node is not cordoned, or the pod tolerates it.
pub fn schedulable(pod: &PodInfo, node: &NodeInfo) -> bool {
    let cordoned = node.node.spec.as_ref().and_then(|s| s.unschedulable) == Some(true);
    let taint = Taint { key: UNSCHEDULABLE.into(), effect: "NoSchedule".into(), ..Taint::default() };
    !cordoned || tolerations(pod).iter().any(|t| tolerates(t, &taint))
}

/// Every taint that forbids pods is tolerated.
pub fn tolerated(pod: &PodInfo, node: &NodeInfo) -> bool {
    untolerated(node.taints(), tolerations(pod), &["NoSchedule", "NoExecute"]).is_none()
}

/// How many taints that would rather not have the pod are not tolerated.
pub fn preferences_broken(pod: &PodInfo, node: &NodeInfo) -> f64 {
    let broken = |t: &&Taint| t.effect == "PreferNoSchedule" && !tolerations(pod).iter().any(|x| tolerates(x, t));
    node.taints().iter().filter(broken).count() as f64
}
