//! Where a Service's port is answered: a ready endpoint out of the snapshot. Pure, save for the choice among several.

use k8s_openapi::api::core::v1::{Service, ServicePort};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use mizzen_api::key;
use mizzen_store::Snapshot;

use super::{Cause, Place};

/// Where to connect to for a place. Ready endpoints of a Service are taken by chance, so that calls spread.
pub(super) fn address(snapshot: &Snapshot, place: &Place) -> Result<(String, u16), Cause> {
    match place {
        Place::Host { host, port } => Ok((host.clone(), port.unwrap_or(443))),
        Place::Service { namespace, name, port } => {
            let mut found = resolve(snapshot, namespace, name, *port).map_err(Cause::Service)?;
            let at = if found.len() > 1 { rand::random_range(0..found.len()) } else { 0 };
            Ok(found.swap_remove(at))
        }
    }
}

/// The addresses behind a Service's port, at least one; else why there is none, as Kubernetes says it.
pub(crate) fn resolve(
    snapshot: &Snapshot,
    namespace: &str,
    name: &str,
    port: u16,
) -> Result<Vec<(String, u16)>, String> {
    let service = snapshot.get_as::<Service>(&key::of::<Service>(namespace, name));
    let service = service.ok_or_else(|| format!("service {name:?} not found"))?;
    let spec = service.spec.clone().unwrap_or_default();
    if spec.type_.as_deref() == Some("ExternalName") {
        let host = spec.external_name.filter(|host| !host.is_empty());
        return host.map(|host| vec![(host, port)]).ok_or_else(|| format!("no external name for service {name:?}"));
    }
    let ports = spec.ports.unwrap_or_default();
    let found = ports.iter().find(|p| p.port == i32::from(port));
    let found = found.ok_or_else(|| format!("no service port {port} found for service {name:?}"))?;
    let endpoints = ready_endpoints(snapshot, namespace, name, found);
    if endpoints.is_empty() {
        return Err(format!("no endpoints available for service {name:?}"));
    }
    Ok(endpoints)
}

/// The ready endpoints of one port of a Service.
pub(crate) fn ready_endpoints(
    snapshot: &Snapshot,
    namespace: &str,
    name: &str,
    port: &ServicePort,
) -> Vec<(String, u16)> {
    let port_name = port.name.as_deref().unwrap_or_default();
    let mut out = Vec::new();
    for slice in snapshot.list_as::<EndpointSlice>(&key::in_namespace::<EndpointSlice>(namespace)) {
        let labels = slice.metadata.labels.as_ref();
        if labels.and_then(|l| l.get("kubernetes.io/service-name")).is_none_or(|of| of != name) {
            continue;
        }
        let ports = slice.ports.iter().flatten();
        let number = ports.filter(|p| p.name.as_deref().unwrap_or_default() == port_name).find_map(|p| p.port);
        let Some(number) = number.and_then(|n| u16::try_from(n).ok()) else { continue };
        let ready = |e: &&Endpoint| e.conditions.as_ref().and_then(|c| c.ready).unwrap_or(true);
        out.extend(
            slice.endpoints.iter().flatten().filter(ready).filter_map(|e| Some((e.addresses.first()?.clone(), number))),
        );
    }
    out
}
