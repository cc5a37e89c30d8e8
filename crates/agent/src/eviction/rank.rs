//! Which pod ends first, and what it is told. Pure.

use std::cmp::Reverse;
use std::fmt::Write as _;

use k8s_openapi::api::core::v1::Pod;
use mizzen_api::quantity::{Format, Quantity};

use super::settings::{Signal, Threshold};
use super::signals::Reading;
use crate::pod::{resources, roles};
use crate::quantity::amount;

/// What a container uses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ContainerUse {
    /// Its name.
    pub name: String,
    /// Memory, bytes.
    pub memory: i64,
    /// Writable layer and logs, bytes.
    pub disk: i64,
}

/// What a pod uses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PodUse {
    /// Memory, bytes.
    pub memory: i64,
    /// Writable layers, logs and volumes of its own, bytes.
    pub disk: i64,
    /// Files of those.
    pub inodes: i64,
    /// Processes.
    pub pids: i64,
    /// Each container.
    pub containers: Vec<ContainerUse>,
    /// `emptyDir` volumes on disk: name and bytes.
    pub volumes: Vec<(String, i64)>,
}

/// The order in which pods end: those over their requests, then those of low priority, then by how far they are over.
pub fn order(signal: Signal, pod: &Pod, used: &PodUse) -> (bool, i32, Reverse<i64>) {
    let spec = pod.spec.as_ref();
    let priority = spec.and_then(|s| s.priority).unwrap_or(0);
    let request = |name: &str| spec.map_or(0, |s| resources::request(s, name));
    let over = match signal {
        Signal::MemoryAvailable => used.memory - request("memory"),
        Signal::NodefsAvailable | Signal::ImagefsAvailable => used.disk - request("ephemeral-storage"),
        // Of these nothing can be requested.
        Signal::NodefsInodesFree | Signal::ImagefsInodesFree => return (false, priority, Reverse(used.inodes)),
        Signal::PidAvailable => return (false, priority, Reverse(used.pids)),
    };
    (over <= 0, priority, Reverse(over))
}

/// What the pod is told.
pub fn message(pod: &Pod, used: &PodUse, threshold: &Threshold, reading: Reading) -> String {
    let resource = threshold.signal.resource();
    let show = |n: i64| {
        show(n, if threshold.signal.is_disk() || resource == "memory" { Format::BinarySi } else { Format::DecimalSi })
    };
    let mut text = format!(
        "The node was low on resource: {resource}. Threshold quantity: {}, available: {}. ",
        show(threshold.amount.of(reading.capacity)),
        // Whole kibibytes are exact enough for people.
        show(if matches!(resource, "memory" | "ephemeral-storage") {
            reading.available / 1024 * 1024
        } else {
            reading.available
        }),
    );
    let used_of = |c: &ContainerUse| match resource {
        "memory" => Some(c.memory),
        "ephemeral-storage" => Some(c.disk),
        _ => None,
    };
    for container in &used.containers {
        let spec = pod.spec.as_ref().and_then(|s| roles::find(s, &container.name));
        let request = spec.and_then(|(c, _)| amount(c.resources?.requests.as_ref(), resource)).unwrap_or(0);
        if let Some(used) = used_of(container).filter(|u| *u > request) {
            // Writing to a String cannot fail.
            let _ = write!(
                text,
                "Container {} was using {}, request is {}, has larger consumption of {resource}. ",
                container.name,
                show(used),
                show(request),
            );
        }
    }
    text
}

/// A number as the API prints quantities.
pub fn show(number: i64, format: Format) -> String {
    Quantity::from_units(number, format).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eviction::settings::Amount;
    use serde_json::json;

    fn pod(name: &str, priority: i32, request: &str) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": name}, "spec": {"priority": priority, "containers": [
            {"name": "c", "resources": {"requests": {"memory": request, "ephemeral-storage": request}}}]}}))
        .unwrap()
    }

    #[test]
    fn who_ends_first() {
        let used = |memory: i64, pids| PodUse { memory: memory << 20, disk: memory << 20, pids, ..PodUse::default() };
        let pods = [
            (pod("within", 0, "100Mi"), used(90, 5)),
            (pod("far-over", 0, "10Mi"), used(50, 9)),
            (pod("over", 0, "10Mi"), used(20, 7)),
            (pod("important", 100, "10Mi"), used(90, 99)),
            (pod("unimportant", -1, "10Mi"), used(11, 1)),
        ];
        for (signal, want) in [
            (Signal::MemoryAvailable, "unimportant far-over over important within"),
            (Signal::NodefsAvailable, "unimportant far-over over important within"),
            (Signal::PidAvailable, "unimportant far-over over within important"),
        ] {
            let mut sorted: Vec<_> = pods.iter().collect();
            sorted.sort_by_key(|(pod, used)| order(signal, pod, used));
            let names: Vec<&str> = sorted.iter().filter_map(|(p, _)| p.metadata.name.as_deref()).collect();
            assert_eq!(names.join(" "), want, "{signal:?}");
        }
    }

    #[test]
    fn what_it_is_told() {
        let threshold = Threshold {
            signal: Signal::MemoryAvailable,
            amount: Amount { units: Some(100 << 20), percent: None },
            grace: None,
            min_reclaim: Amount::default(),
        };
        let containers = vec![ContainerUse { name: "c".into(), memory: 50 << 20, disk: 0 }];
        let used = PodUse { containers, ..PodUse::default() };
        let reading = Reading { available: 51_000 << 10, capacity: 1 << 30 };
        assert_eq!(
            message(&pod("p", 0, "10Mi"), &used, &threshold, reading),
            "The node was low on resource: memory. Threshold quantity: 100Mi, available: 51000Ki. \
             Container c was using 50Mi, request is 10Mi, has larger consumption of memory. "
        );
    }
}
