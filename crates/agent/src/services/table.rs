//! The table of Services for this node: who gets the traffic, under traffic policies and hints. Pure.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, Service};
use mizzen_net::service::{HostPort, Protocol, ServicePort, ServiceTable};

use super::endpoints::{Backend, ByService, backends};

/// Services with this label are some other proxy's.
const OTHER_PROXY: &str = "service.kubernetes.io/service-proxy-name";
/// Seconds of client affinity if the Service does not say (the API fills it in).
const AFFINITY_DEFAULT: i32 = 10_800;

/// Where this node is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place {
    /// Its name.
    pub node: String,
    /// Its zone, if it has one.
    pub zone: Option<String>,
}

/// The table.
pub fn table<'a>(
    services: impl Iterator<Item = &'a Arc<Service>>,
    slices: &ByService,
    pods: impl Iterator<Item = &'a Arc<Pod>>,
    place: &Place,
) -> ServiceTable {
    let mut table = ServiceTable::default();
    for service in services {
        add_service(&mut table, service, slices, place);
    }
    for pod in pods {
        add_host_ports(&mut table, pod);
    }
    table.host_ports.sort_by_key(|p| (p.host_port, p.to));
    table
}

fn protocol(name: Option<&str>) -> Protocol {
    match name {
        Some("UDP") => Protocol::Udp,
        Some("SCTP") => Protocol::Sctp,
        _ => Protocol::Tcp,
    }
}

fn addresses<'a>(list: impl Iterator<Item = &'a String>) -> Vec<IpAddr> {
    list.filter_map(|ip| ip.parse().ok()).collect()
}

fn add_service(table: &mut ServiceTable, service: &Service, slices: &ByService, place: &Place) {
    let (Some(namespace), Some(name), Some(spec)) =
        (&service.metadata.namespace, &service.metadata.name, &service.spec)
    else {
        return;
    };
    let foreign = service.metadata.labels.as_ref().is_some_and(|l| l.contains_key(OTHER_PROXY));
    if foreign || spec.type_.as_deref() == Some("ExternalName") {
        return;
    }
    let own = spec.cluster_ips.iter().flatten().chain(spec.cluster_ip.iter().filter(|_| spec.cluster_ips.is_none()));
    let cluster_ips = addresses(own);
    if cluster_ips.is_empty() {
        return; // Headless, or not yet allocated.
    }
    let ingress = service.status.iter().flat_map(|s| s.load_balancer.iter()).flat_map(|l| l.ingress.iter().flatten());
    // A load balancer in Proxy mode delivers to the node port; its address is not to be short-cut.
    let balancer: Vec<String> =
        ingress.filter(|i| i.ip_mode.as_deref() != Some("Proxy")).filter_map(|i| i.ip.clone()).collect();
    let external_ips = addresses(spec.external_ips.iter().flatten().chain(&balancer));
    let empty = Vec::new();
    let own_slices = slices.get(&(namespace.clone(), name.clone())).unwrap_or(&empty);
    let internal_local = spec.internal_traffic_policy.as_deref() == Some("Local");
    let external_local = spec.external_traffic_policy.as_deref() == Some("Local");
    let affinity = (spec.session_affinity.as_deref() == Some("ClientIP")).then(|| {
        let config = spec.session_affinity_config.as_ref().and_then(|c| c.client_ip.as_ref());
        let seconds = config.and_then(|c| c.timeout_seconds).unwrap_or(AFFINITY_DEFAULT);
        u32::try_from(seconds).unwrap_or(AFFINITY_DEFAULT.unsigned_abs())
    });
    for port in spec.ports.iter().flatten() {
        let port_name = port.name.as_deref().unwrap_or_default();
        let Ok(number) = u16::try_from(port.port) else { continue };
        let all = backends(own_slices, port_name, &place.node);
        let cluster = cluster_wide(&all, place);
        let local = local_only(&all);
        let choose = |only_local: bool| if only_local { local.clone() } else { cluster.clone() };
        let (internal, external) = (choose(internal_local), choose(external_local));
        table.ports.insert(
            format!("{namespace}/{name}:{port_name}"),
            ServicePort {
                protocol: protocol(port.protocol.as_deref()),
                port: number,
                cluster_ips: cluster_ips.clone(),
                external_ips: external_ips.clone(),
                node_port: port.node_port.and_then(|p| u16::try_from(p).ok()).filter(|p| *p > 0),
                affinity_seconds: affinity,
                internal_drop: internal_local && internal.is_empty() && !cluster.is_empty(),
                external_drop: external_local && external.is_empty() && !cluster.is_empty(),
                internal_endpoints: internal,
                external_endpoints: external,
                external_local,
            },
        );
    }
}

fn sockets<'a>(backends: impl Iterator<Item = &'a Backend>) -> Vec<SocketAddr> {
    let mut list: Vec<SocketAddr> = backends.map(|b| SocketAddr::new(b.address, b.port)).collect();
    list.sort();
    list
}

/// Ready backends, near ones if all are hinted; else those that still serve on their way out.
fn cluster_wide(all: &[Backend], place: &Place) -> Vec<SocketAddr> {
    let ready: Vec<&Backend> = all.iter().filter(|b| b.ready).collect();
    if ready.is_empty() {
        return sockets(all.iter().filter(|b| b.serving && b.terminating));
    }
    let hinted = |hint: &dyn Fn(&Backend) -> (bool, bool)| {
        let answers: Vec<(bool, bool)> = ready.iter().map(|b| hint(b)).collect();
        let usable = answers.iter().all(|(has, _)| *has) && answers.iter().any(|(_, matches)| *matches);
        usable.then(|| sockets(ready.iter().zip(&answers).filter(|(_, (_, m))| *m).map(|(b, _)| *b)))
    };
    let by_node = |b: &Backend| (!b.for_nodes.is_empty(), b.for_nodes.contains(&place.node));
    let by_zone = |b: &Backend| (!b.for_zones.is_empty(), place.zone.as_ref().is_some_and(|z| b.for_zones.contains(z)));
    hinted(&by_node).or_else(|| hinted(&by_zone)).unwrap_or_else(|| sockets(ready.into_iter()))
}

/// Ready backends of this node; else those of it that still serve on their way out.
fn local_only(all: &[Backend]) -> Vec<SocketAddr> {
    let ready = sockets(all.iter().filter(|b| b.local && b.ready));
    if ready.is_empty() { sockets(all.iter().filter(|b| b.local && b.serving && b.terminating)) } else { ready }
}

/// Ports of the node that lead to a pod on it.
fn add_host_ports(table: &mut ServiceTable, pod: &Pod) {
    let (Some(spec), Some(status)) = (&pod.spec, &pod.status) else { return };
    let over = crate::pod::status::is_terminal(status.phase.as_deref());
    if over || spec.host_network == Some(true) {
        return;
    }
    let ips = addresses(status.pod_ips.iter().flatten().map(|p| &p.ip));
    let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    for port in containers.flat_map(|c| c.ports.iter().flatten()) {
        let number = |p: i32| u16::try_from(p).ok().filter(|p| *p > 0);
        let (Some(host_port), Some(container_port)) = (port.host_port.and_then(number), number(port.container_port))
        else {
            continue;
        };
        let host_ip: Option<IpAddr> =
            port.host_ip.as_ref().and_then(|ip| ip.parse().ok()).filter(|ip: &IpAddr| !ip.is_unspecified());
        for ip in &ips {
            if host_ip.is_none_or(|h| h.is_ipv4() == ip.is_ipv4()) {
                table.host_ports.push(HostPort {
                    protocol: protocol(port.protocol.as_deref()),
                    host_ip,
                    host_port,
                    to: SocketAddr::new(*ip, container_port),
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::services::endpoints::group;
    use k8s_openapi::api::discovery::v1::EndpointSlice;
    use serde_json::json;

    /// Endpoints as `10.0.0.1` followed by marks: `l` local, `n` not ready, `t` terminating but serving, `z` zone hint a, `y` zone hint b.
    fn check(
        case: &str,
        spec: serde_json::Value,
        endpoints: &str,
        internal: &str,
        external: &str,
        drops: (bool, bool),
    ) {
        let endpoints: Vec<_> = endpoints
            .split_whitespace()
            .map(|text| {
                let end = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
                let (ip, marks) = text.split_at(end);
                let has = |m: char| marks.contains(m);
                let hints = has('z').then_some("a").or(has('y').then_some("b"));
                json!({"addresses": [ip], "nodeName": if has('l') { "me" } else { "other" },
                    "conditions": {"ready": !has('n') && !has('t'), "serving": !has('n'), "terminating": has('t')},
                    "hints": hints.map(|z| json!({"forZones": [{"name": z}]}))})
            })
            .collect();
        let slice: EndpointSlice = serde_json::from_value(json!({"addressType": "IPv4", "endpoints": endpoints,
            "metadata": {"namespace": "d", "name": "s-1", "labels": {"kubernetes.io/service-name": "s"}},
            "ports": [{"name": "", "port": 8080}]}))
        .unwrap();
        let mut full = json!({"clusterIPs": ["10.96.0.5"], "ports": [{"port": 80}]});
        full.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        let service: Service =
            serde_json::from_value(json!({"metadata": {"namespace": "d", "name": "s"}, "spec": full})).unwrap();
        let slices = group([Arc::new(slice)].iter());
        let place = Place { node: "me".into(), zone: Some("a".into()) };
        let got = table([Arc::new(service)].iter(), &slices, [].iter(), &place);
        let port = &got.ports["d/s:"];
        let text = |list: &[SocketAddr]| list.iter().map(|a| a.ip().to_string()).collect::<Vec<_>>().join(" ");
        assert_eq!(text(&port.internal_endpoints), internal, "{case}: internal");
        assert_eq!(text(&port.external_endpoints), external, "{case}: external");
        assert_eq!((port.internal_drop, port.external_drop), drops, "{case}: drops");
    }

    #[test]
    fn who_gets_the_traffic() {
        let no = (false, false);
        check("ready ones", json!({}), "10.0.0.1 10.0.0.2n 10.0.0.3t", "10.0.0.1", "10.0.0.1", no);
        check("none ready: the leaving", json!({}), "10.0.0.2n 10.0.0.3t", "10.0.0.3", "10.0.0.3", no);
        check("none at all", json!({}), "10.0.0.2n", "", "", no);
        let local = json!({"externalTrafficPolicy": "Local"});
        check("external local", local.clone(), "10.0.0.1 10.0.0.2l", "10.0.0.1 10.0.0.2", "10.0.0.2", no);
        check("none local", local.clone(), "10.0.0.1", "10.0.0.1", "", (false, true));
        check("local leaving", local, "10.0.0.1 10.0.0.2lt", "10.0.0.1", "10.0.0.2", no);
        check("internal local", json!({"internalTrafficPolicy": "Local"}), "10.0.0.1", "", "10.0.0.1", (true, false));
        check("zone hints", json!({}), "10.0.0.1z 10.0.0.2y", "10.0.0.1", "10.0.0.1", no);
        check("not all hinted", json!({}), "10.0.0.1z 10.0.0.2", "10.0.0.1 10.0.0.2", "10.0.0.1 10.0.0.2", no);
        check("no hint matches", json!({}), "10.0.0.1y 10.0.0.2y", "10.0.0.1 10.0.0.2", "10.0.0.1 10.0.0.2", no);
    }

    #[test]
    fn host_ports_lead_to_the_pod() {
        let pod: Pod = serde_json::from_value(json!({"metadata": {}, "spec": {"containers": [{"name": "c",
            "ports": [{"containerPort": 80, "hostPort": 8080}, {"containerPort": 81}]}]},
            "status": {"podIPs": [{"ip": "10.0.0.7"}]}}))
        .unwrap();
        let got = table([].iter(), &ByService::new(), [Arc::new(pod)].iter(), &Place::default());
        assert_eq!(got.host_ports.len(), 1);
        assert_eq!((got.host_ports[0].host_port, got.host_ports[0].to.to_string()), (8080, "10.0.0.7:80".into()));
    }
}
