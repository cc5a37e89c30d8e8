//! The names of Services for the cluster's DNS. Pure.

use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Service;
use mizzen_net::dns::{EndpointName, ServiceNames, Zone};

use super::endpoints::ByService;

/// The zone.
pub fn zone<'a>(domain: &str, services: impl Iterator<Item = &'a Arc<Service>>, slices: &ByService) -> Zone {
    let mut zone = Zone { domain: domain.to_string(), ..Zone::default() };
    for service in services {
        let (Some(namespace), Some(name)) = (&service.metadata.namespace, &service.metadata.name) else { continue };
        if let Some(names) = names(service, slices, namespace, name) {
            zone.services.insert((namespace.clone(), name.clone()), names);
        }
    }
    zone
}

fn names(service: &Service, slices: &ByService, namespace: &str, name: &str) -> Option<ServiceNames> {
    let spec = service.spec.as_ref()?;
    if spec.type_.as_deref() == Some("ExternalName") {
        return Some(ServiceNames::External { target: spec.external_name.clone()? });
    }
    if spec.cluster_ip.as_deref() == Some("None") {
        return Some(ServiceNames::Headless { endpoints: headless(slices, namespace, name) });
    }
    let ips = spec.cluster_ips.iter().flatten().chain(spec.cluster_ip.iter().filter(|_| spec.cluster_ips.is_none()));
    let addresses: Vec<IpAddr> = ips.filter_map(|ip| ip.parse().ok()).collect();
    if addresses.is_empty() {
        return None; // Not yet allocated.
    }
    let ports = spec.ports.iter().flatten().filter_map(|p| {
        Some((
            p.name.clone()?,
            p.protocol.as_deref().unwrap_or("TCP").to_ascii_lowercase(),
            u16::try_from(p.port).ok()?,
        ))
    });
    Some(ServiceNames::Cluster { addresses, ports: ports.collect() })
}

/// Ready endpoints; those of a Service that publishes unready ones are called ready by its slices.
fn headless(slices: &ByService, namespace: &str, name: &str) -> Vec<EndpointName> {
    let mut list: Vec<EndpointName> = Vec::new();
    for slice in slices.get(&(namespace.to_string(), name.to_string())).into_iter().flatten() {
        let ports: Vec<_> = slice
            .ports
            .iter()
            .flatten()
            .filter_map(|p| {
                let protocol = p.protocol.as_deref().unwrap_or("TCP").to_ascii_lowercase();
                Some((p.name.clone().filter(|n| !n.is_empty())?, protocol, u16::try_from(p.port?).ok()?))
            })
            .collect();
        for endpoint in slice.endpoints.iter().flatten() {
            let ready = endpoint.conditions.as_ref().and_then(|c| c.ready).unwrap_or(true);
            let Some(address) = endpoint.addresses.first().and_then(|a| a.parse::<IpAddr>().ok()).filter(|_| ready)
            else {
                continue;
            };
            let hostname = endpoint.hostname.clone().filter(|h| !h.is_empty());
            match list.iter_mut().find(|e| e.address == address && e.hostname == hostname) {
                Some(known) => known.ports.extend(ports.iter().cloned()),
                None => list.push(EndpointName { hostname, address, ports: ports.clone() }),
            }
        }
    }
    list.sort_by_key(|e| e.address);
    list
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::services::endpoints::group;
    use serde_json::json;

    #[test]
    fn each_kind_of_service() {
        let service = |name: &str, spec: serde_json::Value| -> Arc<Service> {
            Arc::new(
                serde_json::from_value(json!({"metadata": {"namespace": "d", "name": name}, "spec": spec})).unwrap(),
            )
        };
        let slice = serde_json::from_value(json!({"addressType": "IPv4", "metadata": {"namespace": "d", "name": "h-1",
            "labels": {"kubernetes.io/service-name": "h"}}, "ports": [{"name": "web", "port": 80, "protocol": "TCP"}],
            "endpoints": [{"addresses": ["10.0.0.1"], "hostname": "h-0"}, {"addresses": ["10.0.0.2"], "conditions": {"ready": false}}]}))
        .unwrap();
        let slices = group([Arc::new(slice)].iter());
        let services = [
            service(
                "c",
                json!({"clusterIPs": ["10.96.0.1"], "ports": [{"name": "web", "port": 80, "protocol": "TCP"}]}),
            ),
            service("h", json!({"clusterIP": "None", "clusterIPs": ["None"]})),
            service("e", json!({"type": "ExternalName", "externalName": "example.com"})),
        ];
        let got = zone("cluster.local", services.iter(), &slices);
        let of = |name: &str| got.services[&("d".to_string(), name.to_string())].clone();
        let web = || vec![("web".to_string(), "tcp".to_string(), 80)];
        assert_eq!(of("c"), ServiceNames::Cluster { addresses: vec!["10.96.0.1".parse().unwrap()], ports: web() });
        assert_eq!(of("e"), ServiceNames::External { target: "example.com".into() });
        let endpoint =
            EndpointName { hostname: Some("h-0".into()), address: "10.0.0.1".parse().unwrap(), ports: web() };
        assert_eq!(of("h"), ServiceNames::Headless { endpoints: vec![endpoint] });
    }
}
