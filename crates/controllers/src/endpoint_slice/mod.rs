//! EndpointSlices: which pods stand behind a Service (discovery.k8s.io/v1), and the older Endpoints of the same.
//!
//! Reads Services, Pods, Nodes (zones), EndpointSlices and Endpoints. Writes the last two, for Services with a selector.
//! Leaves Services without selector to whoever writes their endpoints.

mod endpoints;
mod slices;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod, Service, ServicePort, ServiceSpec};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use mizzen_api::key;
use mizzen_api::pod::{is_ready, is_terminal, is_terminating};
use mizzen_api::selector::LabelSelector;
use mizzen_store::{Entry, Event, Snapshot};

use crate::meta::Meta;
use crate::plan::{ControllerError, Plan};
use crate::shell::Wake;
use crate::wake::{Head, head, versions};

/// The writes that bring the slices of the Service at `service_key` nearer to its pods.
pub fn reconcile(snapshot: &Snapshot, service_key: &str, _now: Timestamp) -> Result<Plan, ControllerError> {
    let mut plan = Plan::default();
    // The slices of a Service that is gone are the garbage collector's.
    let Some(service) = snapshot.get_as::<Service>(service_key).filter(|s| !s.is_deleting()) else { return Ok(plan) };
    if let Some((spec, found)) = pods_behind(snapshot, &service) {
        slices::plan(snapshot, &service, spec, &found, &mut plan);
    }
    Ok(plan)
}

/// The writes that bring the Endpoints of the Service at `service_key` nearer to its pods.
pub fn reconcile_endpoints(snapshot: &Snapshot, service_key: &str, _now: Timestamp) -> Result<Plan, ControllerError> {
    let mut plan = Plan::default();
    let Some((_, _, namespace, name)) = key::parse(service_key) else { return Ok(plan) };
    let Some(service) = snapshot.get_as::<Service>(service_key).filter(|s| !s.is_deleting()) else {
        endpoints::remove(snapshot, namespace, name, &mut plan);
        return Ok(plan);
    };
    if let Some((_, found)) = pods_behind(snapshot, &service) {
        endpoints::plan(snapshot, &service, &found, &mut plan);
    }
    Ok(plan)
}

/// The pods of a Service that selects any.
fn pods_behind<'a>(snapshot: &Snapshot, service: &'a Service) -> Option<(&'a ServiceSpec, Vec<Found>)> {
    let spec = service.spec.as_ref()?;
    let labels = spec.selector.as_ref().filter(|s| !s.is_empty() && spec.type_.as_deref() != Some("ExternalName"))?;
    let selector = LabelSelector::of_labels(labels.iter().map(|(k, v)| (k.as_str(), v.as_str())));
    Some((spec, collect(snapshot, service, spec, &selector)))
}

/// One pod behind a Service, at one address.
#[derive(Debug, Clone)]
struct Found {
    pod: Arc<Pod>,
    address: IpAddr,
    /// The Service's ports as numbers of this pod; those it does not name are left out.
    ports: Vec<Port>,
    serving: bool,
    ready: bool,
    terminating: bool,
    zone: Option<String>,
}

/// A port as slices carry it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Port {
    name: String,
    protocol: String,
    number: i32,
    app_protocol: Option<String>,
}

fn collect(snapshot: &Snapshot, service: &Service, spec: &ServiceSpec, selector: &LabelSelector) -> Vec<Found> {
    let prefix = key::in_namespace::<Pod>(service.namespace());
    let publish = spec.publish_not_ready_addresses == Some(true);
    let mut zones = BTreeMap::new();
    let mut found = Vec::new();
    for pod in snapshot.list_as::<Pod>(&prefix) {
        if !selector.matches_labels(pod.metadata.labels.as_ref()) || is_terminal(&pod) {
            continue;
        }
        let Some(node) = pod.spec.as_ref().and_then(|s| s.node_name.clone()) else {
            continue;
        };
        let zone = zones.entry(node.clone()).or_insert_with(|| zone(snapshot, &node)).clone();
        let (ready, terminating) = (is_ready(&pod), is_terminating(&pod));
        for address in addresses(&pod) {
            found.push(Found {
                address,
                ports: ports(spec, &pod),
                serving: ready,
                ready: publish || (ready && !terminating),
                terminating,
                zone: zone.clone(),
                pod: Arc::clone(&pod),
            });
        }
    }
    found
}

fn zone(snapshot: &Snapshot, node: &str) -> Option<String> {
    let node = snapshot.get_as::<Node>(&key::of::<Node>("", node))?;
    node.label("topology.kubernetes.io/zone").map(ToString::to_string)
}

fn addresses(pod: &Pod) -> Vec<IpAddr> {
    let Some(status) = &pod.status else { return Vec::new() };
    let many: Vec<IpAddr> = status.pod_ips.iter().flatten().filter_map(|ip| ip.ip.parse().ok()).collect();
    if many.is_empty() { status.pod_ip.iter().filter_map(|ip| ip.parse().ok()).collect() } else { many }
}

fn ports(spec: &ServiceSpec, pod: &Pod) -> Vec<Port> {
    let resolved = spec.ports.iter().flatten().filter_map(|port| {
        let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".into());
        let number = number(port, &protocol, pod)?;
        Some(Port {
            name: port.name.clone().unwrap_or_default(),
            protocol,
            number,
            app_protocol: port.app_protocol.clone(),
        })
    });
    let mut ports: Vec<Port> = resolved.collect();
    ports.sort();
    ports
}

/// The pod's port for a Service's `targetPort`; a name is looked up among the containers' ports.
fn number(port: &ServicePort, protocol: &str, pod: &Pod) -> Option<i32> {
    match &port.target_port {
        None => Some(port.port),
        Some(IntOrString::Int(0)) => Some(port.port),
        Some(IntOrString::Int(number)) => Some(*number),
        Some(IntOrString::String(name)) => {
            let spec = pod.spec.as_ref()?;
            let sidecars = spec.init_containers.iter().flatten().filter(|c| mizzen_api::pod::is_sidecar(c));
            let declared = spec.containers.iter().chain(sidecars).flat_map(|c| c.ports.iter().flatten());
            let fits = |p: &&k8s_openapi::api::core::v1::ContainerPort| {
                p.name.as_deref() == Some(name) && p.protocol.as_deref().unwrap_or("TCP") == protocol
            };
            declared.into_iter().find(fits).map(|p| p.container_port)
        }
    }
}

/// A pod wakes the Services that select it, or did.
pub(crate) fn woken_by_pods() -> (String, Wake) {
    let wake = |snapshot: &Snapshot, event: &Event| {
        let heads: Vec<Head> = versions(event).into_iter().map(|e| head(e)).collect();
        let Some(namespace) = heads.first().and_then(|h| h.metadata.namespace.clone()) else {
            return Vec::new();
        };
        let selected = |service: &Service| {
            let Some(selector) = service.spec.as_ref().and_then(|s| s.selector.as_ref()).filter(|s| !s.is_empty())
            else {
                return false;
            };
            let fits =
                |h: &Head| selector.iter().all(|(k, v)| h.metadata.labels.as_ref().and_then(|l| l.get(k)) == Some(v));
            heads.iter().any(fits)
        };
        let prefix = key::in_namespace::<Service>(&namespace);
        let services =
            snapshot.prefix(&prefix).filter(|e| snapshot.get_as::<Service>(&e.key).is_some_and(|s| selected(&s)));
        services.map(|e| e.key.to_string()).collect()
    };
    (key::all::<Pod>(), Arc::new(wake))
}

/// A slice wakes the Service it belongs to, so that what others change is put right.
pub(crate) fn woken_by_slices() -> (String, Wake) {
    let wake = |_: &Snapshot, event: &Event| {
        let service = |e: &Arc<Entry>| {
            let meta = head(e).metadata;
            let name = meta.labels?.remove("kubernetes.io/service-name")?;
            Some(key::of::<Service>(&meta.namespace.unwrap_or_default(), &name))
        };
        versions(event).into_iter().filter_map(service).collect()
    };
    (key::all::<EndpointSlice>(), Arc::new(wake))
}

#[cfg(test)]
mod tests {
    use crate::testing::check;

    #[test]
    fn follows_the_pods() {
        let service = "service/d/web selector=web port=80";
        for (case, before) in [
            ("no pods", ""),
            ("a pod", "pod/d/a label=web ready ip=10.0.0.5 node=n"),
            ("not scheduled", "pod/d/a label=web"),
        ] {
            let world = format!("{service}; {before}");
            check(case, &world, "core/services/d/web", super::reconcile, "create EndpointSlice d/web-");
            check(case, &world, "core/services/d/web", super::reconcile_endpoints, "create Endpoints d/web");
        }
        let gone = "endpoints/d/web managed";
        check("gone", gone, "core/services/d/web", super::reconcile_endpoints, "delete endpoints d/web");
    }
}
