//! Resources: what a pod requests must be left, and emptier nodes are better.

use crate::cluster::{NodeInfo, PodInfo};
use crate::rules::Reason;

/// Requests that a pod without any is counted with when nodes are compared: a tenth of a core and 200 MB.
const NOMINAL: [(&str, i64); 2] = [("cpu", 100), ("memory", 200 * 1024 * 1024 * 1000)];

/// Everything requested is left, and a pod slot.
pub fn fit(pod: &PodInfo, node: &NodeInfo) -> Result<(), Vec<Reason>> {
    let mut reasons = Vec::new();
    let slots = node.allocatable.get("pods").map_or(i64::MAX, |n| n / 1000);
    if i64::try_from(node.pods.len()).unwrap_or(i64::MAX) >= slots {
        reasons.push(Reason::TooManyPods);
    }
    for (resource, amount) in pod.requests.iter().filter(|(_, amount)| **amount > 0) {
        if *amount > node.free(resource) {
            reasons.push(Reason::Insufficient(resource.clone()));
        }
    }
    if reasons.is_empty() { Ok(()) } else { Err(reasons) }
}

/// The share of cpu and memory that would be left, in percent.
pub fn least_allocated(pod: &PodInfo, node: &NodeInfo) -> f64 {
    let shares = used_shares(pod, node);
    shares.iter().map(|used| (1.0 - used).max(0.0) * 100.0).sum::<f64>() / shares.len() as f64
}

/// How evenly cpu and memory would be used, in percent.
pub fn balance(pod: &PodInfo, node: &NodeInfo) -> f64 {
    let [cpu, memory] = used_shares(pod, node);
    (1.0 - (cpu.min(1.0) - memory.min(1.0)).abs() / 2.0) * 100.0
}

fn used_shares(pod: &PodInfo, node: &NodeInfo) -> [f64; 2] {
    NOMINAL.map(|(resource, nominal)| {
        let offered = node.allocatable.get(resource).copied().unwrap_or(0);
        if offered <= 0 {
            return 1.0;
        }
        let asked = |p: &PodInfo| p.requests.get(resource).copied().filter(|a| *a > 0).unwrap_or(nominal);
        let used: i64 = node.pods.iter().map(asked).fold(asked(pod), i64::saturating_add);
        used as f64 / offered as f64
    })
}
