//! Keeps the node alive when memory, disk, inodes or process ids run out: frees what nobody uses, then ends pods.
//!
//! * [`settings`]: signals and their thresholds.
//! * [`signals`]: what is left of each, read from the machine.
//! * [`decide`]: which thresholds are crossed, for how long, and what that means. Pure.
//! * [`rank`]: which pod goes first, and in what words it is told. Pure.
//! * [`local`]: pods that use more local storage than they may. Pure.
//! * [`measure`]: what pods use of disk and memory.
//! * [`watch`]: the loop around all that.

pub mod decide;
pub mod local;
pub mod measure;
pub mod rank;
pub mod settings;
pub mod signals;
pub mod watch;

use k8s_openapi::api::core::v1::Pod;

use crate::pod::observed::Doom;

/// Priority from which a pod is critical to the cluster (`system-cluster-critical`).
const CRITICAL: i32 = 2_000_000_000;

/// A pod that must end, by uid.
#[derive(Debug)]
pub struct Eviction {
    /// The pod.
    pub uid: String,
    /// Why and how fast.
    pub doom: Doom,
}

/// Pods that the node never evicts: those it cannot do without.
pub fn is_critical(pod: &Pod) -> bool {
    let annotations = pod.metadata.annotations.as_ref();
    let is_static = annotations.is_some_and(|a| {
        a.contains_key("kubernetes.io/config.mirror")
            || a.get("kubernetes.io/config.source").is_some_and(|s| s != "api")
    });
    is_static || pod.spec.as_ref().and_then(|s| s.priority).is_some_and(|p| p >= CRITICAL)
}
