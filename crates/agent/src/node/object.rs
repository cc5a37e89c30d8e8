//! The Node object: labels, addresses, conditions, what is on the machine. Pure but for [`system_info`].

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    ContainerImage, DaemonEndpoint, Node, NodeAddress, NodeCondition, NodeDaemonEndpoints, NodeFeatures,
    NodeRuntimeHandler, NodeRuntimeHandlerFeatures, NodeSpec, NodeStatus, NodeSystemInfo, Taint,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use mizzen_runtime::images::Image;

use super::capacity::Capacity;
use crate::config::Config;

/// Most images that the object lists (kubelet's default).
const MAX_IMAGES: usize = 50;

/// The pressures of a node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pressure {
    /// Little memory is left.
    pub memory: bool,
    /// Little disk is left.
    pub disk: bool,
    /// Few process ids are left.
    pub pid: bool,
}

/// The object a node registers with.
pub fn new(config: &Config, status: NodeStatus) -> Node {
    let taints: Vec<Taint> = config
        .taints
        .iter()
        .map(|(key, value, effect)| Taint {
            key: key.clone(),
            value: (!value.is_empty()).then(|| value.clone()),
            effect: effect.clone(),
            time_added: None,
        })
        .collect();
    Node {
        metadata: ObjectMeta {
            name: Some(config.node_name.clone()),
            labels: Some(labels(config)),
            annotations: Some(
                [("volumes.kubernetes.io/controller-managed-attach-detach".into(), "true".into())].into(),
            ),
            ..ObjectMeta::default()
        },
        spec: Some(NodeSpec { taints: (!taints.is_empty()).then_some(taints), ..NodeSpec::default() }),
        status: Some(status),
    }
}

/// The node's labels.
pub fn labels(config: &Config) -> BTreeMap<String, String> {
    let mut labels = config.labels.clone();
    for (name, value) in [
        ("kubernetes.io/hostname", config.node_name.as_str()),
        ("kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", arch()),
        ("beta.kubernetes.io/os", "linux"),
        ("beta.kubernetes.io/arch", arch()),
    ] {
        labels.insert(name.into(), value.into());
    }
    labels
}

/// The architecture in Go's words.
pub fn arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "powerpc64" => "ppc64le",
        other => other,
    }
}

/// The status. Conditions keep the time of their last change from `previous`.
pub fn status(
    config: &Config,
    capacity: &Capacity,
    info: &NodeSystemInfo,
    images: &[Image],
    pressure: Pressure,
    previous: Option<&NodeStatus>,
    now: Timestamp,
) -> NodeStatus {
    let mut addresses: Vec<NodeAddress> =
        config.addresses.iter().map(|ip| NodeAddress { address: ip.to_string(), type_: "InternalIP".into() }).collect();
    addresses.push(NodeAddress { address: config.node_name.clone(), type_: "Hostname".into() });
    NodeStatus {
        capacity: Some(capacity.capacity.clone()),
        allocatable: Some(capacity.allocatable.clone()),
        addresses: Some(addresses),
        conditions: Some(conditions(pressure, previous, now)),
        daemon_endpoints: Some(NodeDaemonEndpoints {
            kubelet_endpoint: Some(DaemonEndpoint { port: i32::from(config.kubelet_address.port()) }),
        }),
        images: Some(image_list(images)),
        runtime_handlers: Some(vec![NodeRuntimeHandler {
            name: Some(String::new()),
            features: Some(NodeRuntimeHandlerFeatures {
                recursive_read_only_mounts: Some(true),
                user_namespaces: Some(true),
            }),
        }]),
        features: Some(NodeFeatures { supplemental_groups_policy: Some(true) }),
        node_info: Some(info.clone()),
        ..NodeStatus::default()
    }
}

fn conditions(pressure: Pressure, previous: Option<&NodeStatus>, now: Timestamp) -> Vec<NodeCondition> {
    let before = previous.and_then(|s| s.conditions.as_deref()).unwrap_or_default();
    let condition = |kind: &str, on: bool, reason: &str, message: &str| {
        let status = if on { "True" } else { "False" };
        let same = before.iter().find(|c| c.type_ == kind && c.status == status);
        NodeCondition {
            type_: kind.into(),
            status: status.into(),
            reason: Some(reason.into()),
            message: Some(message.into()),
            last_heartbeat_time: Some(Time(now)),
            last_transition_time: same.and_then(|c| c.last_transition_time.clone()).or(Some(Time(now))),
        }
    };
    let pick =
        |on: bool, yes: (&'static str, &'static str), no: (&'static str, &'static str)| if on { yes } else { no };
    let memory = pick(
        pressure.memory,
        ("KubeletHasInsufficientMemory", "kubelet has insufficient memory available"),
        ("KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
    );
    let disk = pick(
        pressure.disk,
        ("KubeletHasDiskPressure", "kubelet has disk pressure"),
        ("KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
    );
    let pid = pick(
        pressure.pid,
        ("KubeletHasInsufficientPID", "kubelet has insufficient PID available"),
        ("KubeletHasSufficientPID", "kubelet has sufficient PID available"),
    );
    vec![
        condition("MemoryPressure", pressure.memory, memory.0, memory.1),
        condition("DiskPressure", pressure.disk, disk.0, disk.1),
        condition("PIDPressure", pressure.pid, pid.0, pid.1),
        condition("Ready", true, "KubeletReady", "kubelet is posting ready status"),
    ]
}

fn image_list(images: &[Image]) -> Vec<ContainerImage> {
    let mut images: Vec<&Image> = images.iter().collect();
    images.sort_by_key(|i| std::cmp::Reverse(i.size_bytes));
    images
        .into_iter()
        .take(MAX_IMAGES)
        .map(|i| ContainerImage {
            names: Some(i.digests.iter().chain(&i.tags).cloned().collect()),
            size_bytes: i64::try_from(i.size_bytes).ok(),
        })
        .collect()
}

/// Whether two statuses say the same, heartbeat times aside.
pub fn same(a: &NodeStatus, b: &NodeStatus) -> bool {
    let timeless = |status: &NodeStatus| {
        let mut status = status.clone();
        for condition in status.conditions.iter_mut().flatten() {
            condition.last_heartbeat_time = None;
        }
        status
    };
    timeless(a) == timeless(b)
}

/// Versions and identities of the machine.
pub fn system_info(config: &Config) -> NodeSystemInfo {
    let read = |path: &str| std::fs::read_to_string(path).map(|t| t.trim().to_string()).unwrap_or_default();
    let release = read("/etc/os-release");
    let os =
        release.lines().find_map(|l| l.strip_prefix("PRETTY_NAME=")).unwrap_or("Linux").trim_matches('"').to_string();
    NodeSystemInfo {
        architecture: arch().into(),
        boot_id: read("/proc/sys/kernel/random/boot_id"),
        container_runtime_version: format!("mizzen://{}", env!("CARGO_PKG_VERSION")),
        kernel_version: read("/proc/sys/kernel/osrelease"),
        kube_proxy_version: String::new(),
        kubelet_version: config.version.clone(),
        machine_id: read("/etc/machine-id"),
        operating_system: "linux".into(),
        os_image: os,
        swap: None,
        system_uuid: read("/sys/class/dmi/id/product_uuid"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_keeps_its_time_until_it_changes() {
        let t = |s| Timestamp::from_second(s).unwrap();
        let first =
            NodeStatus { conditions: Some(conditions(Pressure::default(), None, t(1))), ..NodeStatus::default() };
        let disk = Pressure { disk: true, ..Pressure::default() };
        let second = NodeStatus { conditions: Some(conditions(disk, Some(&first), t(9))), ..NodeStatus::default() };
        let at = |s: &NodeStatus, kind: &str| {
            let condition = s.conditions.iter().flatten().find(|c| c.type_ == kind).unwrap();
            condition.last_transition_time.as_ref().unwrap().0.as_second()
        };
        assert_eq!((at(&second, "Ready"), at(&second, "DiskPressure")), (1, 9));
        assert!(!same(&first, &second));
        let later = NodeStatus { conditions: Some(conditions(disk, Some(&second), t(99))), ..NodeStatus::default() };
        assert!(same(&second, &later));
    }
}
