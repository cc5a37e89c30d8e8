//! Usage in the words of the kubelet's `/stats/summary` and `/metrics/resource`, and for `kubectl top`.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use mizzen_client::Reflector;
use mizzen_runtime::driver::Usage;
use serde_json::{Value, json};
use tokio::sync::Mutex;

use crate::context::Context;
use crate::usage::sample::{Rates, Sample, rates, take};

/// A result younger than this is given again, seconds.
const FRESH: i64 = 5;
/// An earlier sample older than this says nothing about now, seconds.
const STALE: i64 = 90;
/// Time between two samples when there is no earlier one.
const FIRST_WINDOW: Duration = Duration::from_millis(500);

/// Takes samples when someone asks; nothing is sampled while nobody does.
pub struct Sampler {
    ctx: Arc<Context>,
    pods: Reflector<Pod>,
    last: Mutex<Option<Arc<Rates>>>,
}

impl Sampler {
    /// Over the pods of a node.
    pub fn new(ctx: Arc<Context>, pods: Reflector<Pod>) -> Self {
        Self { ctx, pods, last: Mutex::new(None) }
    }

    async fn sample(&self) -> Sample {
        let pods = self.pods.objects().values().cloned().collect();
        take(&self.ctx, pods, Timestamp::now()).await
    }

    /// Present use.
    pub async fn rates(&self) -> Arc<Rates> {
        // Held while sampling, so that callers who come together share one sample. It is an asynchronous lock.
        let mut last = self.last.lock().await;
        let now = Timestamp::now();
        let age = last.as_ref().map(|l| now.duration_since(l.at).as_secs());
        if let (Some(known), Some(age)) = (last.as_ref(), age)
            && age < FRESH
        {
            return Arc::clone(known);
        }
        let before = match last.as_ref().filter(|_| age.is_some_and(|a| a < STALE)) {
            Some(known) => known.latest.clone(),
            None => {
                let first = self.sample().await;
                tokio::time::sleep(FIRST_WINDOW).await;
                first
            }
        };
        let fresh = Arc::new(rates(&before, self.sample().await));
        *last = Some(Arc::clone(&fresh));
        fresh
    }

    /// `metrics.k8s.io/v1beta1` PodMetrics of all pods of the node.
    pub async fn pod_metrics(&self) -> Vec<Value> {
        let rates = self.rates().await;
        let metrics = rates.latest.pods.iter().map(|(uid, pod)| {
            let of = |(name, (nano_cores, memory)): (&String, &(u64, u64))| {
                json!({"name": name, "usage": {"cpu": format!("{nano_cores}n"), "memory": format!("{}Ki", memory >> 10)}})
            };
            let containers: Vec<Value> = rates.containers.get(uid).into_iter().flatten().map(of).collect();
            json!({
                "kind": "PodMetrics", "apiVersion": "metrics.k8s.io/v1beta1",
                "metadata": {"name": pod.name, "namespace": pod.namespace},
                "timestamp": rates.at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
                "window": format!("{:.3}s", rates.window_seconds),
                "containers": containers,
            })
        });
        metrics.collect()
    }

    /// `metrics.k8s.io/v1beta1` NodeMetrics of the node.
    pub async fn node_metrics(&self) -> Value {
        let rates = self.rates().await;
        json!({
            "kind": "NodeMetrics", "apiVersion": "metrics.k8s.io/v1beta1",
            "metadata": {"name": self.ctx.config.node_name},
            "timestamp": rates.at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            "window": format!("{:.3}s", rates.window_seconds),
            "usage": {"cpu": format!("{}n", rates.node.nano_cores), "memory": format!("{}Ki", rates.node.memory >> 10)},
        })
    }

    /// `/stats/summary`.
    pub async fn summary(&self) -> Value {
        let rates = self.rates().await;
        let time = stamp(rates.at);
        let capacity = u64::try_from(self.ctx.capacity.memory_bytes).unwrap_or(0);
        let cpu = |usage: &Usage, nano_cores: u64| json!({"time": time, "usageNanoCores": nano_cores, "usageCoreNanoSeconds": usage.cpu_nanos});
        let memory = |usage: &Usage| {
            json!({"time": time, "usageBytes": usage.memory_bytes, "workingSetBytes": usage.working_set_bytes,
                "rssBytes": usage.rss_bytes})
        };
        let pods: Vec<Value> = rates
            .latest
            .pods
            .iter()
            .map(|(uid, pod)| {
                let now = rates.containers.get(uid);
                let of = |name: &str| now.and_then(|c| c.get(name)).map_or(0, |(n, _)| *n);
                let containers: Vec<Value> = pod
                    .containers
                    .iter()
                    .map(|(name, c)| {
                        json!({"name": name, "startTime": c.started.map(stamp), "cpu": cpu(&c.usage, of(name)),
                            "memory": memory(&c.usage)})
                    })
                    .collect();
                let total: u64 = pod.containers.keys().map(|n| of(n)).sum();
                json!({"podRef": {"name": pod.name, "namespace": pod.namespace, "uid": uid},
                    "startTime": pod.started.map(stamp), "containers": containers, "cpu": cpu(&pod.total, total),
                    "memory": memory(&pod.total), "process_stats": {"process_count": pod.total.pids}})
            })
            .collect();
        let disk = rustix::fs::statvfs(&self.ctx.config.data_dir).ok();
        let fs = disk.map(|d| {
            json!({"time": time, "capacityBytes": d.f_blocks * d.f_frsize, "availableBytes": d.f_bavail * d.f_frsize,
                "usedBytes": d.f_blocks.saturating_sub(d.f_bfree) * d.f_frsize, "inodes": d.f_files,
                "inodesFree": d.f_ffree, "inodesUsed": d.f_files.saturating_sub(d.f_ffree)})
        });
        let node = &rates.latest.node;
        let mut node_memory = memory(node);
        node_memory["availableBytes"] = capacity.saturating_sub(node.working_set_bytes).into();
        json!({
            "node": {"nodeName": self.ctx.config.node_name, "cpu": cpu(node, rates.node.nano_cores),
                "memory": node_memory, "fs": fs},
            "pods": pods,
        })
    }

    /// `/metrics/resource` in the text format of Prometheus.
    pub async fn resource_metrics(&self) -> String {
        let latest = self.sample().await;
        resource_text(&latest)
    }

    /// `/metrics`: a few figures about the agent itself.
    pub fn own_metrics(&self) -> String {
        let objects = self.pods.objects();
        let running =
            objects.values().filter(|p| p.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Running")).count();
        let ids = &self.ctx.id_ranges;
        let (apart, failed) = (ids.started.load(Ordering::Relaxed), ids.failed.load(Ordering::Relaxed));
        format!(
            "# HELP kubelet_started_user_namespaced_pods_total Starts of pods with user namespaces of their own.\n\
             # TYPE kubelet_started_user_namespaced_pods_total counter\nkubelet_started_user_namespaced_pods_total {apart}\n\
             # HELP kubelet_started_user_namespaced_pods_errors_total Such starts that failed.\n\
             # TYPE kubelet_started_user_namespaced_pods_errors_total counter\n\
             kubelet_started_user_namespaced_pods_errors_total {failed}\n\
             # HELP kubelet_running_pods Pods that run on this node.\n# TYPE kubelet_running_pods gauge\n\
             kubelet_running_pods {running}\n# HELP kubelet_desired_pods Pods bound to this node.\n\
             # TYPE kubelet_desired_pods gauge\nkubelet_desired_pods {}\n",
            objects.len()
        )
    }
}

fn stamp(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn resource_text(sample: &Sample) -> String {
    let mut text = String::new();
    let millis = sample.at.as_millisecond();
    let seconds = |nanos: u64| nanos as f64 / 1e9;
    let mut family = |name: &str, kind: &str, help: &str, lines: Vec<(String, f64)>| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "# HELP {name} [STABLE] {help}\n# TYPE {name} {kind}");
        for (labels, value) in lines {
            let _ = writeln!(text, "{name}{labels} {value} {millis}");
        }
    };
    let containers = |get: &dyn Fn(&Usage) -> f64| -> Vec<(String, f64)> {
        let of_pod = |pod: &crate::usage::PodUse| -> Vec<(String, f64)> {
            let line = |(name, c): (&String, &crate::usage::ContainerUse)| {
                let labels = format!("{{container={name:?},namespace={:?},pod={:?}}}", pod.namespace, pod.name);
                (labels, get(&c.usage))
            };
            pod.containers.iter().map(line).collect()
        };
        sample.pods.values().flat_map(of_pod).collect()
    };
    let pods = |get: &dyn Fn(&Usage) -> f64| -> Vec<(String, f64)> {
        let line = |pod: &crate::usage::PodUse| {
            (format!("{{namespace={:?},pod={:?}}}", pod.namespace, pod.name), get(&pod.total))
        };
        sample.pods.values().map(line).collect()
    };
    let cpu = |u: &Usage| seconds(u.cpu_nanos);
    let memory = |u: &Usage| u.working_set_bytes as f64;
    let cpu_help = "Cumulative cpu time consumed in core-seconds";
    let memory_help = "Current working set in bytes";
    family("container_cpu_usage_seconds_total", "counter", cpu_help, containers(&cpu));
    family("container_memory_working_set_bytes", "gauge", memory_help, containers(&memory));
    family("pod_cpu_usage_seconds_total", "counter", cpu_help, pods(&cpu));
    family("pod_memory_working_set_bytes", "gauge", memory_help, pods(&memory));
    family("node_cpu_usage_seconds_total", "counter", cpu_help, vec![(String::new(), cpu(&sample.node))]);
    family("node_memory_working_set_bytes", "gauge", memory_help, vec![(String::new(), memory(&sample.node))]);
    text
}
