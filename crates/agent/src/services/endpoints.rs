//! EndpointSlices by Service, as the proxy rules see them. Pure.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::discovery::v1::EndpointSlice;

/// Label that says whose slice it is.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// Slices by (namespace, Service).
pub type ByService = HashMap<(String, String), Vec<Arc<EndpointSlice>>>;

/// Groups slices.
pub fn group<'a>(slices: impl Iterator<Item = &'a Arc<EndpointSlice>>) -> ByService {
    let mut by_service = ByService::new();
    for slice in slices {
        let service = slice.metadata.labels.as_ref().and_then(|l| l.get(SERVICE_NAME));
        if let (Some(namespace), Some(service)) = (&slice.metadata.namespace, service) {
            by_service.entry((namespace.clone(), service.clone())).or_default().push(Arc::clone(slice));
        }
    }
    for slices in by_service.values_mut() {
        slices.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
    }
    by_service
}

/// One address behind a Service port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backend {
    /// Its address.
    pub address: IpAddr,
    /// Its port.
    pub port: u16,
    /// It wants traffic.
    pub ready: bool,
    /// It answers, though it may be on its way out.
    pub serving: bool,
    /// It is on its way out.
    pub terminating: bool,
    /// It runs on this node.
    pub local: bool,
    /// The nodes it is hinted for.
    pub for_nodes: Vec<String>,
    /// The zones it is hinted for.
    pub for_zones: Vec<String>,
}

/// The backends of the Service port with this name, each address once.
pub fn backends(slices: &[Arc<EndpointSlice>], port_name: &str, node: &str) -> Vec<Backend> {
    let mut list: Vec<Backend> = Vec::new();
    for slice in slices.iter().filter(|s| s.address_type != "FQDN") {
        let number = slice
            .ports
            .iter()
            .flatten()
            .find(|p| p.name.as_deref().unwrap_or_default() == port_name)
            .and_then(|p| p.port);
        let Some(port) = number.and_then(|p| u16::try_from(p).ok()) else { continue };
        for endpoint in slice.endpoints.iter().flatten() {
            let Some(address) = endpoint.addresses.first().and_then(|a| a.parse().ok()) else { continue };
            if list.iter().any(|b| b.address == address && b.port == port) {
                continue;
            }
            let conditions = endpoint.conditions.clone().unwrap_or_default();
            let ready = conditions.ready.unwrap_or(true);
            let hints = endpoint.hints.clone().unwrap_or_default();
            list.push(Backend {
                address,
                port,
                ready,
                serving: conditions.serving.unwrap_or(ready),
                terminating: conditions.terminating.unwrap_or(false),
                local: endpoint.node_name.as_deref() == Some(node),
                for_nodes: hints.for_nodes.into_iter().flatten().map(|n| n.name).collect(),
                for_zones: hints.for_zones.into_iter().flatten().map(|z| z.name).collect(),
            });
        }
    }
    list
}
