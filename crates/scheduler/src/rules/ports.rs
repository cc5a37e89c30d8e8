//! Host ports: two pods cannot take the same one.

use crate::cluster::{HostPort, NodeInfo, PodInfo};

/// None of the wanted ports is taken.
pub fn free(pod: &PodInfo, node: &NodeInfo) -> bool {
    pod.ports.is_empty()
        || !node.pods.iter().flat_map(|p| &p.ports).any(|taken| pod.ports.iter().any(|p| clash(p, taken)))
}

fn clash(a: &HostPort, b: &HostPort) -> bool {
    let all = |p: &HostPort| p.1 == "0.0.0.0";
    a.0 == b.0 && a.2 == b.2 && (a.1 == b.1 || all(a) || all(b))
}
