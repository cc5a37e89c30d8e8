//! Resources that this node has granted to a pod, while the pod may ask for others: resizing in place. Pure.
//!
//! What a pod asks for anew is granted when the node has room for it beside what is granted to the other pods. Until
//! then its worker sees the pod with what it has. The API's status is the record of what a container has been given: it
//! is what an agent that starts anew believes.

use std::cmp::{Ordering, Reverse};
use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Container, ContainerStatus, Pod, PodSpec};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::admit;
use super::resources::{self, Qos};
use crate::quantity::amount;

/// What may be resized.
const RESIZABLE: [&str; 2] = ["cpu", "memory"];

/// A resize that the node has not granted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pending {
    /// `Deferred`: there is no room now. `Infeasible`: this node never has that much.
    pub reason: &'static str,
    /// For people.
    pub message: String,
}

fn spec(pod: &Pod) -> Option<&PodSpec> {
    pod.spec.as_ref()
}

fn containers(spec: &PodSpec) -> impl Iterator<Item = &Container> {
    spec.init_containers.iter().flatten().chain(&spec.containers)
}

fn containers_mut(spec: &mut PodSpec) -> impl Iterator<Item = &mut Container> {
    spec.init_containers.iter_mut().flatten().chain(&mut spec.containers)
}

/// Whether a pod asks for what it has.
pub fn is_granted(wanted: &Pod, granted: &Pod) -> bool {
    let (Some(wanted), Some(granted)) = (spec(wanted), spec(granted)) else { return true };
    wanted.resources == granted.resources
        && containers(wanted).zip(containers(granted)).all(|(w, g)| w.resources == g.resources)
}

/// The pod as `wanted`, with the resources of `granted`.
pub fn with_granted(wanted: &Arc<Pod>, granted: &Pod) -> Arc<Pod> {
    let mut pod = Pod::clone(wanted);
    if let (Some(own), Some(granted)) = (&mut pod.spec, spec(granted)) {
        own.resources = granted.resources.clone();
        for container in containers_mut(own) {
            if let Some(has) = containers(granted).find(|c| c.name == container.name) {
                container.resources = has.resources.clone();
            }
        }
    }
    Arc::new(pod)
}

/// The pod with what its running containers have been given, as its status tells; `None` if that is what it asks for.
pub fn from_status(pod: &Arc<Pod>) -> Option<Arc<Pod>> {
    let status = pod.status.as_ref()?;
    let mut granted = Pod::clone(pod);
    let own = granted.spec.as_mut()?;
    if own.resources.is_some() && status.resources.is_some() {
        own.resources = status.resources.clone();
    }
    let all = || status.init_container_statuses.iter().chain(&status.container_statuses).flatten();
    let running = |s: &&ContainerStatus| s.state.as_ref().is_some_and(|s| s.running.is_some());
    for container in containers_mut(own) {
        let shown = all().filter(running).find(|s| s.name == container.name);
        if let Some(resources) = shown.and_then(|s| s.resources.clone()) {
            container.resources = Some(resources);
        }
    }
    (!is_granted(pod, &granted)).then(|| Arc::new(granted))
}

/// Whether the node can give a pod what it asks for, beside what `others` were granted.
pub fn check<'a>(
    pod: &Pod,
    others: impl Iterator<Item = &'a Pod> + Clone,
    allocatable: &BTreeMap<String, Quantity>,
) -> Result<(), Pending> {
    let Some(spec) = spec(pod) else { return Ok(()) };
    for name in RESIZABLE {
        let (wanted, most) = (resources::request(spec, name), amount(Some(allocatable), name).unwrap_or(0));
        if wanted > most {
            let message = format!("Node didn't have enough capacity: {name}, requested: {wanted}, capacity: {most}");
            return Err(Pending { reason: "Infeasible", message });
        }
    }
    for name in RESIZABLE {
        admit::room(spec, name, others.clone(), allocatable)
            .map_err(|rejection| Pending { reason: "Deferred", message: rejection.message })?;
    }
    Ok(())
}

/// Which of two pods that wait for a resize comes first: (asked for, granted, waiting since).
///
/// What frees room goes first; then higher priority, Guaranteed pods, and those that have waited longest.
pub fn order<T: Ord>(a: (&Pod, &Pod, T), b: (&Pod, &Pod, T)) -> Ordering {
    let rank = |(wanted, granted, since): (&Pod, &Pod, T)| {
        let priority = spec(wanted).and_then(|s| s.priority).unwrap_or(0);
        let guaranteed = resources::qos(wanted) == Qos::Guaranteed;
        (grows(wanted, granted), Reverse(priority), !guaranteed, since)
    };
    rank(a).cmp(&rank(b))
}

fn grows(wanted: &Pod, granted: &Pod) -> bool {
    let request = |pod: &Pod, name| spec(pod).map_or(0, |s| resources::request(s, name));
    RESIZABLE.iter().any(|name| request(wanted, name) > request(granted, name))
}

/// Whether a container that runs with `given` must be started anew to have what it asks for (`resizePolicy`).
pub fn needs_restart(container: &Container, given: &k8s_openapi::api::core::v1::ResourceRequirements) -> bool {
    let wanted = container.resources.clone().unwrap_or_default();
    container.resize_policy.iter().flatten().any(|policy| {
        let name = policy.resource_name.as_str();
        policy.restart_policy == "RestartContainer"
            && (amount(wanted.requests.as_ref(), name) != amount(given.requests.as_ref(), name)
                || amount(wanted.limits.as_ref(), name) != amount(given.limits.as_ref(), name))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(cpu: &str, priority: i32) -> Arc<Pod> {
        with(json!({"requests": {"cpu": cpu}}), priority)
    }

    fn with(resources: Value, priority: i32) -> Arc<Pod> {
        Arc::new(
            serde_json::from_value(json!({"metadata": {"uid": cpu_free_name(&resources, priority)},
                "spec": {"priority": priority, "containers": [{"name": "a", "resources": resources}]}}))
            .unwrap(),
        )
    }

    fn cpu_free_name(resources: &Value, priority: i32) -> String {
        format!("{resources}{priority}")
    }

    #[test]
    fn room_is_what_others_were_granted() {
        let allocatable = BTreeMap::from([("cpu".to_string(), Quantity("2".into()))]);
        let other = pod("1", 0);
        for (cpu, want) in [
            ("1", None),
            (
                "1500m",
                Some((
                    "Deferred",
                    "Node didn't have enough resource: cpu, requested: 1500, used: 1000, capacity: 2000",
                )),
            ),
            ("3", Some(("Infeasible", "Node didn't have enough capacity: cpu, requested: 3000, capacity: 2000"))),
        ] {
            let got = check(&pod(cpu, 0), [&*other].into_iter(), &allocatable).err();
            assert_eq!(got, want.map(|(reason, message)| Pending { reason, message: message.into() }), "{cpu}");
        }
    }

    #[test]
    fn a_view_has_the_new_pod_and_the_old_resources() {
        let (old, new) = (pod("1", 0), pod("2", 5));
        let view = with_granted(&new, &old);
        assert_eq!((is_granted(&new, &view), is_granted(&old, &view)), (false, true));
        assert_eq!(view.spec.as_ref().unwrap().priority, Some(5));
    }

    #[test]
    fn the_status_tells_what_was_given() {
        let mut wanted = Pod::clone(&pod("2", 0));
        let status = |state: Value| {
            serde_json::from_value(
                json!({"containerStatuses": [{"name": "a", "image": "", "imageID": "", "ready": true,
                "restartCount": 0, "state": state, "resources": {"requests": {"cpu": "1"}}}]}),
            )
            .unwrap()
        };
        wanted.status = Some(status(json!({"running": {}})));
        let granted = from_status(&Arc::new(wanted.clone())).unwrap();
        assert!(is_granted(&pod("1", 0), &granted));
        wanted.status = Some(status(json!({"waiting": {}})));
        assert_eq!(from_status(&Arc::new(wanted)), None);
    }

    #[test]
    fn who_is_asked_first() {
        let (one, two) = (pod("1", 0), pod("2", 0));
        let high = with(json!({"requests": {"cpu": "2"}}), 9);
        let sure = with(json!({"requests": {"cpu": "2", "memory": "1"}, "limits": {"cpu": "2", "memory": "1"}}), 0);
        for (case, first, second) in [
            ("less before more", (&*one, &*two, 2), (&*high, &*one, 1)),
            ("priority", (&*high, &*one, 2), (&*two, &*one, 1)),
            ("class", (&*sure, &*one, 2), (&*two, &*one, 1)),
            ("age", (&*two, &*one, 1), (&*two, &*one, 2)),
        ] {
            assert_eq!(order(first, second), Ordering::Less, "{case}");
            assert_eq!(order(second, first), Ordering::Greater, "{case}");
        }
    }

    #[test]
    fn only_what_says_so_restarts() {
        let container: Container = serde_json::from_value(json!({"name": "a",
            "resizePolicy": [{"resourceName": "cpu", "restartPolicy": "NotRequired"},
                {"resourceName": "memory", "restartPolicy": "RestartContainer"}],
            "resources": {"limits": {"cpu": "1", "memory": "64Mi"}}}))
        .unwrap();
        for (given, want) in [
            (json!({"limits": {"cpu": "500m", "memory": "64Mi"}}), false),
            (json!({"limits": {"cpu": "1", "memory": "67108864"}}), false),
            (json!({"limits": {"cpu": "1", "memory": "32Mi"}}), true),
        ] {
            assert_eq!(needs_restart(&container, &serde_json::from_value(given.clone()).unwrap()), want, "{given}");
        }
    }
}
