//! The built-in network of a node behind the agent's trait: bridge, Service tables, DNS.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use mizzen_net::dns::{DnsServer, Zone};
use mizzen_net::pod::PodNetwork;
use mizzen_net::proxy::Proxy;
use mizzen_net::service::{Protocol, ServicePort, ServiceTable};

use super::{Answer, Network, NetworkError};

/// The port of DNS.
const DNS_PORT: u16 = 53;

/// The node's own network.
#[derive(Debug)]
pub struct LocalNetwork {
    pods: PodNetwork,
    proxy: Proxy,
    dns: Option<ServedDns>,
}

/// The node's DNS server, and the Service address under which pods know it.
#[derive(Debug)]
pub struct ServedDns {
    /// The server.
    pub server: DnsServer,
    /// The cluster's address for DNS.
    pub cluster_ip: IpAddr,
    /// Where the server listens, as pods reach it.
    pub local: SocketAddr,
}

impl LocalNetwork {
    /// Over these parts; without DNS, names are left to others.
    pub fn new(pods: PodNetwork, proxy: Proxy, dns: Option<ServedDns>) -> Self {
        Self { pods, proxy, dns }
    }
}

fn error(pod: &str, what: &str, source: impl std::error::Error + Send + Sync + 'static) -> NetworkError {
    NetworkError { pod: pod.into(), what: what.into(), source: Box::new(source) }
}

/// Each node answers for the whole cluster's names, so the DNS Service leads to the node itself wherever no other
/// endpoints are given.
fn add_dns(table: &mut ServiceTable, cluster_ip: IpAddr, local: SocketAddr) {
    for (name, protocol) in [("dns", Protocol::Udp), ("dns-tcp", Protocol::Tcp)] {
        let port = table.ports.entry(format!("kube-system/kube-dns:{name}")).or_insert_with(|| ServicePort {
            protocol,
            port: DNS_PORT,
            cluster_ips: vec![cluster_ip],
            external_ips: Vec::new(),
            node_port: None,
            affinity_seconds: None,
            internal_endpoints: Vec::new(),
            external_endpoints: Vec::new(),
            internal_drop: false,
            external_drop: false,
            external_local: false,
        });
        if port.internal_endpoints.is_empty() && port.cluster_ips.contains(&cluster_ip) {
            port.internal_endpoints.push(local);
            port.internal_drop = false;
        }
    }
}

impl Network for LocalNetwork {
    fn attach<'a>(&'a self, pod_uid: &'a str, namespace: PathBuf) -> Answer<'a, Vec<IpAddr>> {
        Box::pin(async move {
            let address = self.pods.attach(&namespace, pod_uid).await;
            address.map(|a| a.ips).map_err(|e| error(pod_uid, "attach", e))
        })
    }

    fn adopt<'a>(&'a self, pod_uids: &'a [String]) -> Answer<'a, BTreeMap<String, Vec<IpAddr>>> {
        Box::pin(async move {
            let known = self.pods.adopt(pod_uids).await.map_err(|e| error("", "adopt", e))?;
            Ok(known.into_iter().map(|(uid, address)| (uid, address.ips)).collect())
        })
    }

    fn detach<'a>(&'a self, pod_uid: &'a str) -> Answer<'a, ()> {
        Box::pin(async move { self.pods.detach(pod_uid).await.map_err(|e| error(pod_uid, "detach", e)) })
    }

    fn apply_services(&self, mut table: ServiceTable) -> Answer<'_, ()> {
        Box::pin(async move {
            if let Some(dns) = &self.dns {
                add_dns(&mut table, dns.cluster_ip, dns.local);
            }
            self.proxy.apply(Arc::new(table)).await.map(drop).map_err(|e| error("", "program Services", e))
        })
    }

    fn apply_names(&self, zone: Zone) -> Answer<'_, ()> {
        if let Some(dns) = &self.dns {
            dns.server.set_zone(Arc::new(zone));
        }
        Box::pin(async { Ok(()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dns_leads_to_the_node_unless_others_serve_it() {
        let (ip, local) = ("10.96.0.10".parse().unwrap(), "10.1.0.1:53".parse().unwrap());
        let mut table = ServiceTable::default();
        add_dns(&mut table, ip, local);
        assert_eq!(table.ports["kube-system/kube-dns:dns"].internal_endpoints, [local]);
        assert_eq!(table.ports["kube-system/kube-dns:dns-tcp"].protocol, Protocol::Tcp);
        let others = "10.1.0.7:53".parse().unwrap();
        for port in table.ports.values_mut() {
            port.internal_endpoints = vec![others];
        }
        add_dns(&mut table, ip, local);
        assert_eq!(table.ports["kube-system/kube-dns:dns"].internal_endpoints, [others]);
    }
}
