//! Whether a pod that was bound to this node can run on it: the last check, against what really runs. Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Pod, PodSpec};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use mizzen_api::pod::SAFE_SYSCTLS;

use super::resources::{self, Qos};
use crate::eviction::is_critical;
use crate::node::object::Pressure;
use crate::quantity::amount;

/// Why a pod cannot run here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// `status.reason`.
    pub reason: String,
    /// `status.message`.
    pub message: String,
}

fn reject(reason: impl Into<String>, message: impl Into<String>) -> Result<(), Rejection> {
    Err(Rejection { reason: reason.into(), message: message.into() })
}

/// What the node offers.
pub struct Offer<'a> {
    /// Resources for pods.
    pub allocatable: &'a BTreeMap<String, Quantity>,
    /// The node's labels, if known.
    pub labels: Option<&'a BTreeMap<String, String>>,
    /// What it is short of.
    pub pressure: Pressure,
}

/// Checks a pod against the node and the pods that run on it already.
pub fn check<'a>(pod: &Pod, others: impl Iterator<Item = &'a Pod> + Clone, offer: &Offer<'_>) -> Result<(), Rejection> {
    let empty = PodSpec::default();
    let spec = pod.spec.as_ref().unwrap_or(&empty);
    pressed(pod, spec, offer.pressure)?;
    if let (Some(labels), Some(selector)) = (offer.labels, &spec.node_selector)
        && !selector.iter().all(|(key, value)| labels.get(key) == Some(value))
    {
        return reject(
            "NodeAffinity",
            "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector",
        );
    }
    if let Some(os) = &spec.os
        && os.name != "linux"
    {
        return reject("PodOSNotSupported", "Failed to admit pod as the OS field doesn't match node OS");
    }
    if spec.resource_claims.as_ref().is_some_and(|claims| !claims.is_empty()) {
        let message = "this node does not prepare resource claims (dynamic resource allocation)";
        return reject("UnexpectedAdmissionError", message);
    }
    for sysctl in spec.security_context.iter().flat_map(|s| s.sysctls.iter().flatten()) {
        let name = sysctl.name.replace('/', ".");
        if !SAFE_SYSCTLS.contains(&name.as_str()) {
            return reject("SysctlForbidden", format!("forbidden sysctl: \"{name}\" not allowlisted"));
        }
        if spec.host_network == Some(true) && name.starts_with("net.") {
            return reject(
                "SysctlForbidden",
                format!("forbidden sysctl: \"{name}\" not allowed with host net enabled"),
            );
        }
    }
    ports(spec, others.clone())?;
    let count = others.clone().count() as i64;
    if let Some(most) = amount(Some(offer.allocatable), "pods")
        && count >= most
    {
        return reject(
            "OutOfpods",
            format!("Node didn't have enough resource: pods, requested: 1, used: {count}, capacity: {most}"),
        );
    }
    for name in offer.allocatable.keys() {
        if name == "pods" {
            continue;
        }
        room(spec, name, others.clone(), offer.allocatable)?;
    }
    Ok(())
}

/// A node that runs short takes only pods it cannot do without, or, short of memory alone, those that asked for some.
fn pressed(pod: &Pod, spec: &PodSpec, pressure: Pressure) -> Result<(), Rejection> {
    let named = [(pressure.memory, "MemoryPressure"), (pressure.disk, "DiskPressure"), (pressure.pid, "PIDPressure")];
    let names: Vec<&str> = named.into_iter().filter(|(on, _)| *on).map(|(_, name)| name).collect();
    if names.is_empty() || is_critical(pod) {
        return Ok(());
    }
    let tolerated = || {
        spec.tolerations.iter().flatten().any(|t| {
            let key = t.key.as_deref().unwrap_or_default();
            (key == "node.kubernetes.io/memory-pressure" || (key.is_empty() && t.operator.as_deref() == Some("Exists")))
                && matches!(t.effect.as_deref(), None | Some("" | "NoSchedule"))
        })
    };
    if names == ["MemoryPressure"] && (resources::qos(pod) != Qos::BestEffort || tolerated()) {
        return Ok(());
    }
    reject("Evicted", format!("The node had condition: [{}]. ", names.join(" ")))
}

/// Whether a resource suffices for a pod beside `others`.
pub fn room<'a>(
    spec: &PodSpec,
    name: &str,
    others: impl Iterator<Item = &'a Pod>,
    allocatable: &BTreeMap<String, Quantity>,
) -> Result<(), Rejection> {
    let wanted = resources::request(spec, name);
    let most = amount(Some(allocatable), name).unwrap_or(0);
    if wanted <= 0 {
        return Ok(());
    }
    let used: i64 = others.filter_map(|p| p.spec.as_ref()).map(|s| resources::request(s, name)).sum();
    if used.saturating_add(wanted) <= most {
        return Ok(());
    }
    let message =
        format!("Node didn't have enough resource: {name}, requested: {wanted}, used: {used}, capacity: {most}");
    reject(format!("OutOf{name}"), message)
}

/// Host ports by (address, protocol, port).
fn host_ports(spec: &PodSpec) -> Vec<(String, String, i32)> {
    let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    containers
        .flat_map(|c| c.ports.iter().flatten())
        .filter_map(|p| {
            // With host network the port itself is the node's.
            let port =
                p.host_port.or((spec.host_network == Some(true)).then_some(p.container_port)).filter(|p| *p > 0)?;
            let ip = p.host_ip.clone().filter(|ip| !ip.is_empty() && ip != "0.0.0.0").unwrap_or_default();
            Some((ip, p.protocol.clone().unwrap_or_else(|| "TCP".into()), port))
        })
        .collect()
}

fn ports<'a>(spec: &PodSpec, others: impl Iterator<Item = &'a Pod>) -> Result<(), Rejection> {
    let mine = host_ports(spec);
    if mine.is_empty() {
        return Ok(());
    }
    for (ip, protocol, port) in others.filter_map(|p| p.spec.as_ref()).flat_map(host_ports) {
        let clash =
            mine.iter().any(|(i, p, n)| *n == port && *p == protocol && (i.is_empty() || ip.is_empty() || *i == ip));
        if clash {
            return reject(
                "NodePorts",
                "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports",
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(spec: Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec})).unwrap()
    }

    #[test]
    fn a_node_that_runs_short_takes_few() {
        let memory = Pressure { memory: true, ..Pressure::default() };
        let disk = Pressure { disk: true, memory: true, ..Pressure::default() };
        let asks = json!([{"name": "c", "resources": {"requests": {"cpu": "1"}}}]);
        for (case, spec, pressure, want) in [
            (
                "best effort",
                json!({"containers": [{"name": "c"}]}),
                memory,
                "The node had condition: [MemoryPressure]. ",
            ),
            ("best effort tolerates", json!({"containers": [], "tolerations": [{"operator": "Exists"}]}), memory, ""),
            ("burstable", json!({"containers": asks}), memory, ""),
            ("disk", json!({"containers": asks}), disk, "The node had condition: [MemoryPressure DiskPressure]. "),
            ("critical", json!({"containers": [], "priority": 2_000_000_000}), disk, ""),
        ] {
            let pod = pod(spec);
            let got = pressed(&pod, pod.spec.as_ref().unwrap(), pressure).err().map(|r| r.message).unwrap_or_default();
            assert_eq!(got, want, "{case}");
        }
    }

    #[test]
    fn what_fits_and_what_does_not() {
        let with = |more: Value| {
            let mut container = json!({"name": "c"});
            container.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            json!({"containers": [container]})
        };
        let cpu = |v: &str| with(json!({"resources": {"requests": {"cpu": v}}}));
        let port = |ip: &str| with(json!({"ports": [{"containerPort": 80, "hostPort": 80, "hostIP": ip}]}));
        let allocatable = BTreeMap::from([("cpu".into(), Quantity("2".into())), ("pods".into(), Quantity("2".into()))]);
        let labels = BTreeMap::from([("disk".to_string(), "ssd".to_string())]);
        let offer = Offer { allocatable: &allocatable, labels: Some(&labels), pressure: Pressure::default() };
        for (case, new, others, want) in [
            ("fits", cpu("1"), vec![cpu("1")], ""),
            ("no cpu", cpu("1500m"), vec![cpu("1")], "OutOfcpu"),
            ("no room", cpu("0"), vec![cpu("0"), cpu("0")], "OutOfpods"),
            ("port taken", port(""), vec![port("10.0.0.1")], "NodePorts"),
            ("other address", port("10.0.0.2"), vec![port("10.0.0.1")], ""),
            ("wrong node", json!({"containers": [], "nodeSelector": {"disk": "hdd"}}), vec![], "NodeAffinity"),
            ("right node", json!({"containers": [], "nodeSelector": {"disk": "ssd"}}), vec![], ""),
            (
                "sysctl",
                json!({"containers": [], "securityContext": {"sysctls": [{"name": "kernel.msgmax", "value": "1"}]}}),
                vec![],
                "SysctlForbidden",
            ),
        ] {
            let others: Vec<Pod> = others.into_iter().map(pod).collect();
            let got = check(&pod(new), others.iter(), &offer).err().map(|r| r.reason).unwrap_or_default();
            assert_eq!(got, want, "{case}");
        }
    }
}
