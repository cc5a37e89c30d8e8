//! Samples of usage counters and the rates between two. Pure but for [`take`].

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use mizzen_runtime::driver::Usage;

use crate::context::Context;
use crate::pod::status::ID_SCHEME;

/// Counters at one time.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// When.
    pub at: Timestamp,
    /// By pod uid.
    pub pods: BTreeMap<String, PodUse>,
    /// The machine.
    pub node: Usage,
}

/// What a pod uses.
#[derive(Debug, Clone, PartialEq)]
pub struct PodUse {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// When it started.
    pub started: Option<Timestamp>,
    /// The pod as a whole.
    pub total: Usage,
    /// Its containers by name.
    pub containers: BTreeMap<String, ContainerUse>,
}

/// What a container uses.
#[derive(Debug, Clone, PartialEq)]
pub struct ContainerUse {
    /// Its id: another run counts from 0.
    pub id: String,
    /// When it started.
    pub started: Option<Timestamp>,
    /// Its counters.
    pub usage: Usage,
}

/// What the machine uses, as a rate.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NodeUse {
    /// Billionths of a core.
    pub nano_cores: u64,
    /// Working set, bytes.
    pub memory: u64,
}

/// Use over the time between two samples.
#[derive(Debug, Clone, PartialEq)]
pub struct Rates {
    /// The later sample.
    pub at: Timestamp,
    /// Time between the two, seconds.
    pub window_seconds: f64,
    /// The machine.
    pub node: NodeUse,
    /// By pod uid: (billionths of a core, working set bytes) of each container.
    pub containers: BTreeMap<String, BTreeMap<String, (u64, u64)>>,
    /// The later counters.
    pub latest: Sample,
}

/// Reads the counters of `pods` and of the machine.
pub async fn take(ctx: &Context, pods: Vec<Arc<Pod>>, at: Timestamp) -> Sample {
    let mut sample = Sample { at, pods: BTreeMap::new(), node: super::machine::usage() };
    for pod in pods {
        let Some(uid) = pod.metadata.uid.clone() else { continue };
        let mut containers = BTreeMap::new();
        for (name, id, started) in running(&pod) {
            // It may just have ended: then there is nothing to tell.
            if let Ok(usage) = ctx.driver.usage(&uid, Some(&id)).await {
                containers.insert(name, ContainerUse { id, started, usage });
            }
        }
        if containers.is_empty() {
            continue;
        }
        let total = ctx.driver.usage(&uid, None).await.unwrap_or_default();
        let pod_use = PodUse {
            namespace: pod.metadata.namespace.clone().unwrap_or_default(),
            name: pod.metadata.name.clone().unwrap_or_default(),
            started: pod.status.as_ref().and_then(|s| s.start_time.as_ref()).map(|t| t.0),
            total,
            containers,
        };
        sample.pods.insert(uid, pod_use);
    }
    sample
}

/// Name, id and start of the containers that run.
fn running(pod: &Pod) -> Vec<(String, String, Option<Timestamp>)> {
    let Some(status) = &pod.status else { return Vec::new() };
    let statuses = status.container_statuses.iter().chain(&status.init_container_statuses).flatten();
    statuses
        .filter_map(|shown| {
            let running = shown.state.as_ref()?.running.as_ref()?;
            let id = shown.container_id.as_deref()?.strip_prefix(ID_SCHEME)?;
            Some((shown.name.clone(), id.to_string(), running.started_at.as_ref().map(|t| t.0)))
        })
        .collect()
}

/// What was used between two samples; containers that are only in the later one count from their start.
pub fn rates(before: &Sample, after: Sample) -> Rates {
    let window = after.at.duration_since(before.at).as_secs_f64().max(0.001);
    // Rounding towards zero is fine for a rate.
    let rate = |nanos: u64, seconds: f64| (nanos as f64 / seconds.max(0.001)) as u64;
    let mut containers = BTreeMap::new();
    for (uid, pod) in &after.pods {
        let old = before.pods.get(uid);
        let of = |(name, now): (&String, &ContainerUse)| {
            let nano_cores = match old.and_then(|p| p.containers.get(name)).filter(|c| c.id == now.id) {
                Some(then) => rate(now.usage.cpu_nanos.saturating_sub(then.usage.cpu_nanos), window),
                None => {
                    let life = now.started.map_or(window, |s| after.at.duration_since(s).as_secs_f64());
                    rate(now.usage.cpu_nanos, life)
                }
            };
            (name.clone(), (nano_cores, now.usage.working_set_bytes))
        };
        containers.insert(uid.clone(), pod.containers.iter().map(of).collect());
    }
    let node = NodeUse {
        nano_cores: rate(after.node.cpu_nanos.saturating_sub(before.node.cpu_nanos), window),
        memory: after.node.working_set_bytes,
    };
    Rates { at: after.at, window_seconds: window, node, containers, latest: after }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_count_from_the_earlier_sample_or_the_start() {
        let t = |s| Timestamp::from_second(s).unwrap();
        let sample = |at, id: &str, cpu| Sample {
            at: t(at),
            node: Usage { cpu_nanos: cpu, ..Usage::default() },
            pods: [(
                "u".to_string(),
                PodUse {
                    namespace: "d".into(),
                    name: "p".into(),
                    started: None,
                    total: Usage::default(),
                    containers: [(
                        "c".to_string(),
                        ContainerUse {
                            id: id.into(),
                            started: Some(t(10)),
                            usage: Usage { cpu_nanos: cpu, working_set_bytes: 7, ..Usage::default() },
                        },
                    )]
                    .into(),
                },
            )]
            .into(),
        };
        let same = rates(&sample(0, "a", 1_000_000_000), sample(10, "a", 6_000_000_000));
        assert_eq!(same.containers["u"]["c"], (500_000_000, 7));
        assert_eq!(same.node.nano_cores, 500_000_000);
        let fresh = rates(&sample(0, "a", 9), sample(20, "b", 1_000_000_000));
        assert_eq!(fresh.containers["u"]["c"].0, 100_000_000);
    }
}
