//! Facts about pods that server, scheduler, controllers and agent must agree on.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, ResourceRequirements, Taint, Toleration};
use k8s_openapi::apimachinery::pkg::api::resource;
use serde_json::Value;

use crate::quantity::Quantity;

/// Resources by name, in thousandths of a unit (API defaulting rounds every amount in a pod up to those).
pub type Amounts = BTreeMap<String, i64>;

/// Sysctls that are namespaced and cannot harm others: any pod may set them (Pod Security "baseline", kubelet's safe set).
pub const SAFE_SYSCTLS: [&str; 12] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
];

/// The quality of service a pod gets when a node runs short (core/v1 PodQOSClass).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum QosClass {
    /// Every container has cpu and memory limits, and requests equal to them.
    Guaranteed,
    /// Something is requested or limited.
    Burstable,
    /// Nothing is.
    BestEffort,
}

impl QosClass {
    /// As `status.qosClass` says it.
    pub fn name(self) -> &'static str {
        match self {
            QosClass::Guaranteed => "Guaranteed",
            QosClass::Burstable => "Burstable",
            QosClass::BestEffort => "BestEffort",
        }
    }
}

/// The resources that decide about the QoS class.
const QOS_RESOURCES: [&str; 2] = ["cpu", "memory"];

/// The QoS class of a pod spec. Requests and limits of the pod as a whole, if given, decide alone.
pub fn qos_class(spec: &Value) -> QosClass {
    let (mut requests, mut limits, mut all_limited) = ([0i64; 2], [0i64; 2], true);
    let mut count = |resources: &Value| {
        for (i, name) in QOS_RESOURCES.iter().enumerate() {
            let amount = |list: &str| resources[list][name].as_str().and_then(thousandths).unwrap_or(0).max(0);
            let limit = amount("limits");
            requests[i] = requests[i].saturating_add(amount("requests"));
            limits[i] = limits[i].saturating_add(limit);
            all_limited &= limit > 0;
        }
    };
    if has_amounts(&spec["resources"]) {
        count(&spec["resources"]);
    } else {
        let lists = [&spec["containers"], &spec["initContainers"]];
        lists.into_iter().filter_map(Value::as_array).flatten().for_each(|container| count(&container["resources"]));
    }
    match () {
        () if requests == [0, 0] && limits == [0, 0] => QosClass::BestEffort,
        () if all_limited && requests == limits => QosClass::Guaranteed,
        () => QosClass::Burstable,
    }
}

fn has_amounts(resources: &Value) -> bool {
    ["requests", "limits"].iter().any(|list| resources[list].as_object().is_some_and(|amounts| !amounts.is_empty()))
}

/// What a pod needs of a node: the larger of what its containers need together and what any step of its start needs,
/// plus overhead. Sidecars (init containers that restart always) count with both from where they start. Resources of
/// the pod as a whole replace the sum for those it names.
pub fn requests(spec: &PodSpec) -> Amounts {
    let mut total = aggregate(spec, |resources| resources.requests.as_ref());
    let pod_level = spec.resources.as_ref();
    if let Some(requests) = pod_level.and_then(|r| r.requests.as_ref()) {
        replace_supported(&mut total, requests);
    }
    if let Some(overhead) = &spec.overhead {
        add(&mut total, &amounts(overhead));
    }
    total
}

/// The limits of a pod as a whole, counted as [`requests`]. A container without a limit adds none.
pub fn limits(spec: &PodSpec) -> Amounts {
    let mut total = aggregate(spec, |resources| resources.limits.as_ref());
    if let Some(limits) = spec.resources.as_ref().and_then(|r| r.limits.as_ref()) {
        replace_supported(&mut total, limits);
    }
    if let Some(overhead) = &spec.overhead {
        for (name, amount) in amounts(overhead) {
            if let Some(limit) = total.get_mut(&name) {
                *limit = limit.saturating_add(amount);
            }
        }
    }
    total
}

fn aggregate(
    spec: &PodSpec,
    of: fn(&ResourceRequirements) -> Option<&BTreeMap<String, resource::Quantity>>,
) -> Amounts {
    let each = |c: &Container| c.resources.as_ref().and_then(of).map(amounts).unwrap_or_default();
    let mut total = Amounts::new();
    for container in &spec.containers {
        add(&mut total, &each(container));
    }
    let (mut sidecars, mut starting) = (Amounts::new(), Amounts::new());
    for container in spec.init_containers.iter().flatten() {
        let mut needs = each(container);
        if is_sidecar(container) {
            add(&mut total, &needs);
            add(&mut sidecars, &needs);
            needs = sidecars.clone();
        } else {
            add(&mut needs, &sidecars);
        }
        raise(&mut starting, &needs);
    }
    raise(&mut total, &starting);
    total
}

/// Only cpu, memory and huge pages may be set for the pod as a whole.
fn replace_supported(total: &mut Amounts, resources: &BTreeMap<String, resource::Quantity>) {
    for (name, amount) in amounts(resources) {
        if QOS_RESOURCES.contains(&name.as_str()) || name.starts_with("hugepages-") {
            total.insert(name, amount);
        }
    }
}

/// A list of resources in thousandths. Unreadable quantities count as nothing; validation refuses them.
pub fn amounts(resources: &BTreeMap<String, resource::Quantity>) -> Amounts {
    resources.iter().map(|(name, q)| (name.clone(), thousandths(&q.0).unwrap_or(0))).collect()
}

fn add(total: &mut Amounts, more: &Amounts) {
    for (name, amount) in more {
        let sum = total.entry(name.clone()).or_insert(0);
        *sum = sum.saturating_add(*amount);
    }
}

fn raise(total: &mut Amounts, other: &Amounts) {
    for (name, amount) in other {
        let highest = total.entry(name.clone()).or_insert(*amount);
        *highest = (*highest).max(*amount);
    }
}

/// An init container that keeps running beside the others.
pub fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

/// Whether the condition `Ready` holds.
pub fn is_ready(pod: &Pod) -> bool {
    has_condition(pod, "Ready")
}

/// Whether a condition of this type is True.
pub fn has_condition(pod: &Pod, kind: &str) -> bool {
    let conditions = pod.status.as_ref().and_then(|s| s.conditions.as_ref());
    conditions.into_iter().flatten().any(|c| c.type_ == kind && c.status == "True")
}

/// Whether all containers ended for good: phase Succeeded or Failed.
pub fn is_terminal(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

/// The phase, empty if the pod has none yet.
pub fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|s| s.phase.as_deref()).unwrap_or_default()
}

/// Whether deletion of the pod has begun.
pub fn is_terminating(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some()
}

/// Whether the pod counts for the controllers that own it: neither ended nor on its way out.
pub fn is_active(pod: &Pod) -> bool {
    !is_terminal(pod) && !is_terminating(pod)
}

/// Whether a toleration covers a taint: key, effect and value each match or are left open.
pub fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let open = |field: &Option<String>| field.as_deref().unwrap_or_default().is_empty();
    if !open(&toleration.effect) && toleration.effect.as_deref() != Some(taint.effect.as_str()) {
        return false;
    }
    if !open(&toleration.key) && toleration.key.as_deref() != Some(taint.key.as_str()) {
        return false;
    }
    match toleration.operator.as_deref() {
        None | Some("" | "Equal") => {
            !open(&toleration.key)
                && toleration.value.as_deref().unwrap_or_default() == taint.value.as_deref().unwrap_or_default()
        }
        Some("Exists") => true,
        Some(_) => false,
    }
}

/// The first taint with one of the `effects` that no toleration covers.
pub fn untolerated<'a>(taints: &'a [Taint], tolerations: &[Toleration], effects: &[&str]) -> Option<&'a Taint> {
    let relevant = taints.iter().filter(|taint| effects.contains(&taint.effect.as_str()));
    relevant.into_iter().find(|taint| !tolerations.iter().any(|toleration| tolerates(toleration, taint)))
}

/// A quantity in thousandths of its unit, rounded up; `None` if it is none.
pub fn thousandths(text: &str) -> Option<i64> {
    text.parse::<Quantity>().ok().map(Quantity::millis)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn spec(value: Value) -> PodSpec {
        serde_json::from_value(value).expect("a pod spec")
    }

    #[test]
    fn the_class_follows_requests_and_limits() {
        let both = json!({"cpu": "1", "memory": "1Gi"});
        for (case, spec, class) in [
            ("nothing", json!({"containers": [{}]}), QosClass::BestEffort),
            (
                "zero is nothing",
                json!({"containers": [{"resources": {"requests": {"cpu": "0"}}}]}),
                QosClass::BestEffort,
            ),
            (
                "equal",
                json!({"containers": [{"resources": {"limits": both, "requests": {"cpu": "1000m", "memory": "1024Mi"}}}]}),
                QosClass::Guaranteed,
            ),
            (
                "one container without",
                json!({"containers": [{"resources": {"limits": both, "requests": both}}, {}]}),
                QosClass::Burstable,
            ),
            (
                "other resources do not count",
                json!({"containers": [{"resources": {"limits": {"a/b": "1"}}}]}),
                QosClass::BestEffort,
            ),
            (
                "the pod as a whole decides",
                json!({"resources": {"limits": both, "requests": both}, "containers": [{}]}),
                QosClass::Guaranteed,
            ),
        ] {
            assert_eq!(qos_class(&spec), class, "{case}");
        }
    }

    #[test]
    fn a_pod_needs_the_larger_of_start_and_run() {
        let cpu = |amount: &str| json!({"requests": {"cpu": amount}});
        for (case, value, milli) in [
            (
                "sum",
                json!({"containers": [{"name": "a", "resources": cpu("1")}, {"name": "b", "resources": cpu("500m")}]}),
                1500,
            ),
            (
                "init is larger",
                json!({"containers": [{"name": "a", "resources": cpu("1")}], "initContainers": [{"name": "i", "resources": cpu("3")}]}),
                3000,
            ),
            (
                "sidecar counts with both",
                json!({"containers": [{"name": "a", "resources": cpu("1")}], "initContainers": [
                    {"name": "s", "restartPolicy": "Always", "resources": cpu("1")}, {"name": "i", "resources": cpu("2")}]}),
                3000,
            ),
            (
                "a sidecar after init does not",
                json!({"containers": [{"name": "a", "resources": cpu("1")}], "initContainers": [
                    {"name": "i", "resources": cpu("1")}, {"name": "s", "restartPolicy": "Always", "resources": cpu("1")}]}),
                2000,
            ),
            (
                "overhead",
                json!({"containers": [{"name": "a", "resources": cpu("1")}], "overhead": {"cpu": "250m"}}),
                1250,
            ),
            (
                "the pod as a whole",
                json!({"containers": [{"name": "a", "resources": cpu("1")}], "resources": cpu("4")}),
                4000,
            ),
        ] {
            assert_eq!(requests(&spec(value)).get("cpu"), Some(&milli), "{case}");
        }
    }

    #[test]
    fn tolerations_cover_taints() {
        let taint = Taint { key: "k".into(), value: Some("v".into()), effect: "NoSchedule".into(), time_added: None };
        for (case, toleration, covers) in [
            ("equal", json!({"key": "k", "value": "v", "effect": "NoSchedule"}), true),
            ("other value", json!({"key": "k", "value": "w"}), false),
            ("exists", json!({"key": "k", "operator": "Exists"}), true),
            ("everything", json!({"operator": "Exists"}), true),
            ("other effect", json!({"operator": "Exists", "effect": "NoExecute"}), false),
            ("no key needs Exists", json!({}), false),
        ] {
            let toleration: Toleration = serde_json::from_value(toleration).expect("a toleration");
            assert_eq!(tolerates(&toleration, &taint), covers, "{case}");
        }
    }
}
