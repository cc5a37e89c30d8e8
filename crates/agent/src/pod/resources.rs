//! Requests and limits as the kernel understands them: cgroups, `oom_score_adj`. Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use mizzen_runtime::spec::Resources;

use super::roles::{self, Role};
use crate::quantity::{amount, units};

/// Period of CPU limits, microseconds, and the shortest quota the kernel takes.
const PERIOD_US: u64 = 100_000;
const MIN_QUOTA_US: i64 = 1_000;
/// What the kernel takes as shares.
const MIN_SHARES: u64 = 2;
const MAX_SHARES: u64 = 262_144;

/// Quality-of-service class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Qos {
    /// Every container has limits equal to its requests.
    Guaranteed,
    /// Some container asks for something.
    Burstable,
    /// No container asks for anything.
    BestEffort,
}

/// The class of a pod; the API computed it at creation.
pub fn qos(pod: &Pod) -> Qos {
    match pod.status.as_ref().and_then(|s| s.qos_class.as_deref()) {
        Some("Guaranteed") => Qos::Guaranteed,
        Some("Burstable") => Qos::Burstable,
        Some(_) => Qos::BestEffort,
        None => compute_qos(pod.spec.as_ref()),
    }
}

fn compute_qos(spec: Option<&PodSpec>) -> Qos {
    let Some(spec) = spec else { return Qos::BestEffort };
    let (mut any, mut all) = (false, true);
    let empty = ResourceRequirements::default();
    let mut look = |r: &ResourceRequirements| {
        for name in ["cpu", "memory"] {
            let (limit, request) = (amount(r.limits.as_ref(), name), amount(r.requests.as_ref(), name));
            any |= limit.or(request).is_some_and(|v| v > 0);
            all &= limit.is_some_and(|l| l > 0 && request.is_none_or(|r| r == l));
        }
    };
    match &spec.resources {
        Some(pod_level) if pod_level.limits.is_some() || pod_level.requests.is_some() => look(pod_level),
        _ => roles::members(spec).for_each(|m| look(m.container.resources.as_ref().unwrap_or(&empty))),
    }
    match (any, all) {
        (false, _) => Qos::BestEffort,
        (true, true) => Qos::Guaranteed,
        (true, false) => Qos::Burstable,
    }
}

/// Cgroup of a pod below the root of all pods.
pub fn cgroup(pod: &Pod) -> String {
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    match qos(pod) {
        Qos::Guaranteed => format!("pod{uid}"),
        Qos::Burstable => format!("burstable/pod{uid}"),
        Qos::BestEffort => format!("besteffort/pod{uid}"),
    }
}

/// `cpu.shares` of a request.
pub fn shares(millis: i64) -> u64 {
    let shares = u64::try_from(millis).unwrap_or(0) * 1024 / 1000;
    shares.clamp(MIN_SHARES, MAX_SHARES)
}

/// CFS quota of a limit.
pub fn quota(millis: i64) -> i64 {
    // The period is far below what does not fit.
    (millis.saturating_mul(PERIOD_US as i64) / 1000).max(MIN_QUOTA_US)
}

/// `oom_score_adj`: who is killed first when the node runs out of memory.
pub fn oom_score(pod: &Pod, container: &Container, node_memory: i64) -> i32 {
    /// Priority from which a pod is critical to its node (`system-node-critical`).
    const NODE_CRITICAL: i32 = 2_000_000_000;
    let critical = pod.spec.as_ref().and_then(|s| s.priority).is_some_and(|p| p >= NODE_CRITICAL);
    match qos(pod) {
        _ if critical => -997,
        Qos::Guaranteed => -997,
        Qos::BestEffort => 1000,
        Qos::Burstable => {
            let request = container.resources.as_ref().and_then(|r| amount(r.requests.as_ref(), "memory")).unwrap_or(0);
            let score = 1000 - 1000 * i128::from(request) / i128::from(node_memory.max(1));
            // Between what must not be killed and what is killed first.
            i32::try_from(score.clamp(3, 999)).unwrap_or(999)
        }
    }
}

/// The cgroup of a container.
pub fn container(pod: &Pod, container: &Container, node_memory: i64) -> Resources {
    let requirements = container.resources.clone().unwrap_or_default();
    let (requests, limits) = (requirements.requests.as_ref(), requirements.limits.as_ref());
    // Without a limit of its own, a container has what the pod as a whole may have.
    let whole = pod.spec.as_ref().and_then(|s| s.resources.as_ref()).and_then(|r| r.limits.as_ref());
    let limit = |name: &str| amount(limits, name).filter(|l| *l > 0).or_else(|| amount(whole, name));
    let cpu_limit = limit("cpu");
    // A limit without a request is the request, as the API defaults it.
    let request = amount(requests, "cpu").or(amount(limits, "cpu")).unwrap_or(0);
    Resources {
        cpu_shares: Some(shares(request)),
        cpu_quota_us: cpu_limit.filter(|c| *c > 0).map(quota),
        cpu_period_us: cpu_limit.filter(|c| *c > 0).map(|_| PERIOD_US),
        memory_limit_bytes: limit("memory").filter(|m| *m > 0),
        pids_limit: None,
        hugepage_limits: hugepages(limits),
        oom_score_adj: Some(oom_score(pod, container, node_memory)),
    }
}

fn hugepages(limits: Option<&BTreeMap<String, Quantity>>) -> BTreeMap<String, u64> {
    let mut pages = BTreeMap::new();
    for (name, quantity) in limits.into_iter().flatten() {
        // `hugepages-2Mi` is `2MB` to the kernel.
        let Some(size) = name.strip_prefix("hugepages-") else { continue };
        if let Some(bytes) = units(quantity).and_then(|b| u64::try_from(b).ok()) {
            pages.insert(size.replace('i', "B"), bytes);
        }
    }
    pages
}

/// Huge pages of the whole pod: requests and limits are equal, and sum up.
fn pod_hugepages(spec: &PodSpec) -> BTreeMap<String, u64> {
    let all = roles::members(spec).map(|m| &m.container.resources).chain([&spec.resources]).flatten();
    let names = all.filter_map(|r| r.limits.as_ref()).flat_map(|l| l.keys()).filter(|n| n.starts_with("hugepages-"));
    let sums: BTreeMap<String, Quantity> = names
        .map(|name| (name.clone(), effective(spec, name, |r| amount(r.limits.as_ref(), name))))
        .map(|(name, bytes)| (name, Quantity(bytes.to_string())))
        .collect();
    hugepages(Some(&sums))
}

/// What a pod takes of a resource: the sum of what runs together at any time, and its overhead.
///
/// `get` reads the request, or limit, of one container.
pub fn effective(spec: &PodSpec, name: &str, get: impl Fn(&ResourceRequirements) -> Option<i64>) -> i64 {
    let overhead = amount(spec.overhead.as_ref(), name).unwrap_or(0);
    if let Some(own) = spec.resources.as_ref().and_then(&get) {
        return own + overhead;
    }
    let of = |c: &Container| c.resources.as_ref().and_then(&get).unwrap_or(0);
    let (mut sidecars, mut peak, mut sum) = (0i64, 0i64, 0i64);
    for member in roles::members(spec) {
        match member.role {
            Role::Init => peak = peak.max(sidecars.saturating_add(of(member.container))),
            Role::Sidecar => {
                sidecars = sidecars.saturating_add(of(member.container));
                peak = peak.max(sidecars);
            }
            Role::Main | Role::Ephemeral => sum = sum.saturating_add(of(member.container)),
        }
    }
    sum.saturating_add(sidecars).max(peak).saturating_add(overhead)
}

/// What a pod requests of a resource.
pub fn request(spec: &PodSpec, name: &str) -> i64 {
    effective(spec, name, |r| amount(r.requests.as_ref(), name).or_else(|| amount(r.limits.as_ref(), name)))
}

/// The cgroup of a pod. A limit is set only where every container has one.
pub fn pod(pod: &Pod, pids_limit: Option<i64>) -> Resources {
    let empty = PodSpec::default();
    let spec = pod.spec.as_ref().unwrap_or(&empty);
    let limit = |name: &str| {
        let own = spec.resources.as_ref().and_then(|r| amount(r.limits.as_ref(), name));
        let every = roles::members(spec).all(|m| {
            m.container.resources.as_ref().and_then(|r| amount(r.limits.as_ref(), name)).is_some_and(|l| l > 0)
        });
        (own.is_some() || every).then(|| effective(spec, name, |r| amount(r.limits.as_ref(), name))).filter(|l| *l > 0)
    };
    let cpu = limit("cpu");
    Resources {
        cpu_shares: Some(shares(request(spec, "cpu"))),
        cpu_quota_us: cpu.map(quota),
        cpu_period_us: cpu.map(|_| PERIOD_US),
        memory_limit_bytes: limit("memory"),
        pids_limit,
        hugepage_limits: pod_hugepages(spec),
        oom_score_adj: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn make(containers: serde_json::Value, init: serde_json::Value) -> Pod {
        serde_json::from_value(
            json!({"metadata": {"uid": "u"}, "spec": {"containers": containers, "initContainers": init}}),
        )
        .unwrap()
    }

    #[test]
    fn classes_and_scores() {
        let gib = 1 << 30;
        for (case, containers, class, path, score) in [
            ("nothing", json!([{"name": "a"}]), Qos::BestEffort, "besteffort/podu", 1000),
            (
                "equal",
                json!([{"name": "a", "resources": {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1", "memory": "1Gi"}}}]),
                Qos::Guaranteed,
                "podu",
                -997,
            ),
            (
                "half the node",
                json!([{"name": "a", "resources": {"requests": {"memory": "2Gi"}}}]),
                Qos::Burstable,
                "burstable/podu",
                500,
            ),
            (
                "tiny",
                json!([{"name": "a", "resources": {"requests": {"cpu": "1m"}}}]),
                Qos::Burstable,
                "burstable/podu",
                999,
            ),
        ] {
            let pod = make(containers, json!([]));
            assert_eq!(qos(&pod), class, "{case}");
            assert_eq!(cgroup(&pod), path, "{case}");
            assert_eq!(oom_score(&pod, &pod.spec.as_ref().unwrap().containers[0], 4 * gib), score, "{case}");
        }
    }

    #[test]
    fn limits_reach_the_kernel() {
        let pod = make(
            json!([{"name": "a", "resources": {"limits": {"cpu": "250m", "memory": "64Mi", "hugepages-2Mi": "4Mi"}}}]),
            json!([]),
        );
        let got = container(&pod, &pod.spec.as_ref().unwrap().containers[0], 1 << 30);
        assert_eq!((got.cpu_shares, got.cpu_quota_us, got.cpu_period_us), (Some(256), Some(25_000), Some(100_000)));
        assert_eq!(got.memory_limit_bytes, Some(64 << 20));
        assert_eq!(got.hugepage_limits["2MB"], 4 << 20);
        assert_eq!((shares(0), quota(1)), (2, 1000));
    }

    #[test]
    fn a_container_without_limits_has_the_pod_s() {
        let mut pod = make(json!([{"name": "a"}, {"name": "b", "resources": {"limits": {"cpu": "1"}}}]), json!([]));
        let spec = pod.spec.as_mut().unwrap();
        spec.resources = Some(serde_json::from_value(json!({"limits": {"cpu": "2", "memory": "64Mi"}})).unwrap());
        let of = |index: usize| {
            let got = container(&pod, &pod.spec.as_ref().unwrap().containers[index], 1 << 30);
            (got.cpu_shares, got.cpu_quota_us, got.memory_limit_bytes)
        };
        assert_eq!(of(0), (Some(2), Some(200_000), Some(64 << 20)));
        assert_eq!(of(1), (Some(1024), Some(100_000), Some(64 << 20)));
    }

    #[test]
    fn init_containers_and_sidecars_count_as_they_run() {
        let cpu = |v: &str| json!({"requests": {"cpu": v}});
        let pod = make(
            json!([{"name": "a", "resources": cpu("1")}]),
            json!([
                {"name": "s", "restartPolicy": "Always", "resources": cpu("500m")},
                {"name": "i", "resources": cpu("2")},
            ]),
        );
        assert_eq!(request(pod.spec.as_ref().unwrap(), "cpu"), 2500);
    }
}
