//! From a table of Services to what one proxy table must hold.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::Config;
use super::layout::{Front, Shape, Target, family_of};
use crate::netlink::nft::Family;
use crate::service::{ServicePort, ServiceTable};

/// More endpoints of one front than this are left out: numbers of the external list begin above, and no Service has
/// as many by far.
const ENDPOINTS_MAX: usize = 1 << 15;

/// What the table of one family must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// Where Services are reached.
    pub fronts: BTreeMap<Front, Arc<FrontPlan>>,
    /// Ports of the node that lead to pods.
    pub host_ports: BTreeMap<Front, SocketAddr>,
    /// Addresses of Services.
    pub cluster_ips: BTreeSet<IpAddr>,
    /// Addresses on this node that may turn out to speak to themselves.
    pub hairpin: BTreeSet<IpAddr>,
    /// How many fronts have each shape.
    pub shapes: BTreeMap<Shape, u32>,
}

/// One front.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FrontPlan {
    /// The name of its Service port in the table.
    pub owner: String,
    /// Its chain.
    pub shape: Shape,
    /// Its endpoints for internal traffic, by number.
    pub internal: Vec<SocketAddr>,
    /// Its endpoints for external traffic, by number.
    pub external: Vec<SocketAddr>,
    /// Its traffic gets the node's address as source.
    pub masquerade: bool,
    /// Its address belongs to the Service alone.
    pub cluster_ip: bool,
    /// Those of its endpoints that are pods of this node.
    pub local: Vec<IpAddr>,
}

/// What a plan builds upon: endpoints keep their numbers, and what did not change is taken over as it is.
#[derive(Debug, Clone, Copy)]
pub struct Before<'a> {
    /// The table that was planned.
    pub table: &'a ServiceTable,
    /// The plan.
    pub plan: &'a Plan,
}

/// Plans for one family. Of two Services with the same front, the first by name has it.
pub fn plan(table: &ServiceTable, family: Family, config: &Config, before: Option<Before<'_>>) -> Plan {
    let mut plan = Plan::default();
    for (name, port) in &table.ports {
        let same = before.filter(|before| before.table.ports.get(name) == Some(port));
        for (front, kind) in fronts(port, family) {
            if plan.fronts.contains_key(&front) {
                continue;
            }
            let last = before.and_then(|before| before.plan.fronts.get(&front));
            let planned = match last {
                // The address may have changed hands between two Services that both stayed as they were.
                Some(last) if same.is_some() && last.owner == *name => Arc::clone(last),
                last => {
                    let lists = Lists { port, family, last: last.map(Arc::as_ref) };
                    Arc::new(front_plan(name, front, kind, config, &lists))
                }
            };
            plan.add(front, planned);
        }
    }
    for host_port in table.host_ports.iter().filter(|host_port| family_of(host_port.to.ip()) == family) {
        let address = host_port.host_ip.filter(|ip| !ip.is_unspecified());
        let front = Front { address, protocol: host_port.protocol, port: host_port.host_port };
        if address.is_none_or(|ip| family_of(ip) == family) {
            plan.host_ports.entry(front).or_insert(host_port.to);
            plan.hairpin.extend(Some(host_port.to.ip()));
        }
    }
    plan
}

impl Plan {
    fn add(&mut self, front: Front, planned: Arc<FrontPlan>) {
        if planned.cluster_ip {
            self.cluster_ips.extend(front.address);
        }
        self.hairpin.extend(&planned.local);
        *self.shapes.entry(planned.shape).or_default() += 1;
        for part in planned.shape.parts() {
            *self.shapes.entry(part).or_default() += 1;
        }
        self.fronts.insert(front, planned);
    }
}

/// From where a front is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Cluster,
    External,
}

fn fronts(port: &ServicePort, family: Family) -> Vec<(Front, Kind)> {
    let at = |address, port_number| Front { address, protocol: port.protocol, port: port_number };
    let of_family = |ips: &[IpAddr]| {
        let ips = ips.iter().copied().filter(|ip| family_of(*ip) == family && !ip.is_unspecified());
        ips.collect::<Vec<_>>()
    };
    let external = of_family(&port.external_ips);
    let cluster = of_family(&port.cluster_ips).into_iter().filter(|ip| !port.external_ips.contains(ip));
    let cluster = cluster.map(|ip| (at(Some(ip), port.port), Kind::Cluster));
    let serves_family = port.cluster_ips.iter().any(|ip| family_of(*ip) == family);
    let node = port.node_port.filter(|_| serves_family).map(|number| (at(None, number), Kind::External));
    let external = external.into_iter().map(|ip| (at(Some(ip), port.port), Kind::External));
    cluster.chain(external).chain(node).collect()
}

/// The endpoints of a port, and their numbers so far.
struct Lists<'a> {
    port: &'a ServicePort,
    family: Family,
    last: Option<&'a FrontPlan>,
}

impl Lists<'_> {
    fn internal(&self) -> Vec<SocketAddr> {
        self.numbered(&self.port.internal_endpoints, self.last.map(|last| &last.internal[..]))
    }

    fn external(&self) -> Vec<SocketAddr> {
        self.numbered(&self.port.external_endpoints, self.last.map(|last| &last.external[..]))
    }

    fn numbered(&self, endpoints: &[SocketAddr], last: Option<&[SocketAddr]>) -> Vec<SocketAddr> {
        let mut wanted: Vec<_> = endpoints.iter().copied().filter(|to| family_of(to.ip()) == self.family).collect();
        wanted.sort_unstable();
        wanted.dedup();
        wanted.truncate(ENDPOINTS_MAX);
        arrange(last.unwrap_or_default(), &wanted)
    }

    fn target(&self, external: bool, list: &[SocketAddr]) -> Target {
        let drop = if external { self.port.external_drop } else { self.port.internal_drop };
        match list.len() {
            0 if drop => Target::Drop,
            0 => Target::Refuse,
            count => Target::Pick { external, count: count as u32, affinity_seconds: self.port.affinity_seconds },
        }
    }
}

fn front_plan(owner: &str, front: Front, kind: Kind, config: &Config, lists: &Lists<'_>) -> FrontPlan {
    let node = front.address.is_none();
    let local = lists.port.external_local;
    let has_internal = kind == Kind::Cluster || local;
    let internal = if has_internal { lists.internal() } else { Vec::new() };
    let external = if kind == Kind::External { lists.external() } else { Vec::new() };
    let internal_target = lists.target(false, &internal);
    let external_target = lists.target(true, &external);
    let shape = match kind {
        Kind::Cluster => Shape::All { node, target: internal_target },
        Kind::External if local => Shape::Split { node, internal: internal_target, external: external_target },
        Kind::External => Shape::All { node, target: external_target },
    };
    let all: BTreeSet<_> = internal.iter().chain(&external).map(SocketAddr::ip).collect();
    FrontPlan {
        owner: owner.to_owned(),
        shape,
        masquerade: kind == Kind::External && !local,
        cluster_ip: kind == Kind::Cluster,
        local: all.into_iter().filter(|ip| config.pod_cidr.contains(*ip)).collect(),
        internal,
        external,
    }
}

/// Numbers the wanted endpoints: those that had a number keep it, new ones take the places of those gone, and holes
/// are filled from the end.
fn arrange(last: &[SocketAddr], wanted: &[SocketAddr]) -> Vec<SocketAddr> {
    let stay: BTreeSet<_> = wanted.iter().collect();
    let had: BTreeSet<_> = last.iter().collect();
    let mut new = wanted.iter().filter(|endpoint| !had.contains(endpoint)).copied();
    let mut places: Vec<_> =
        last.iter().map(|endpoint| if stay.contains(endpoint) { Some(*endpoint) } else { new.next() }).collect();
    places.extend(new.map(Some));
    let mut at = 0;
    while at < places.len() {
        if places[at].is_none() {
            places.swap_remove(at);
        } else {
            at += 1;
        }
    }
    places.into_iter().flatten().collect()
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::service::{HostPort, Protocol};

    pub fn config() -> Config {
        Config {
            instance: "test".into(),
            pod_cidr: "10.244.0.0/24".parse().unwrap(),
            cluster_cidrs: vec!["10.244.0.0/16".parse().unwrap()],
        }
    }

    pub fn endpoints(list: &[u8]) -> Vec<SocketAddr> {
        list.iter().map(|n| SocketAddr::from(([10, 244, 0, *n], 8080))).collect()
    }

    pub fn web(list: &[u8]) -> ServicePort {
        ServicePort {
            protocol: Protocol::Tcp,
            port: 80,
            cluster_ips: vec!["10.96.0.10".parse().unwrap()],
            external_ips: vec![],
            node_port: None,
            affinity_seconds: None,
            internal_endpoints: endpoints(list),
            external_endpoints: endpoints(list),
            internal_drop: false,
            external_drop: false,
            external_local: false,
        }
    }

    pub fn table(ports: &[(&str, ServicePort)]) -> ServiceTable {
        let ports = ports.iter().map(|(name, port)| ((*name).to_owned(), port.clone())).collect();
        ServiceTable { ports, host_ports: vec![] }
    }

    fn shapes(port: ServicePort) -> Vec<String> {
        let plan = plan(&table(&[("a", port)]), Family::V4, &config(), None);
        plan.fronts.values().map(|front| front.shape.chain().to_string()).collect()
    }

    #[test]
    fn a_port_becomes_fronts_of_these_shapes() {
        let outside = |port: ServicePort| ServicePort { node_port: Some(30080), ..port };
        let local = |port: ServicePort, external: &[u8]| ServicePort {
            external_local: true,
            external_endpoints: endpoints(external),
            external_drop: external.is_empty(),
            ..outside(port)
        };
        for (what, port, expected) in [
            ("two endpoints", web(&[2, 3]), &["ip-internal-2"][..]),
            ("none", web(&[]), &["refuse"]),
            ("none here", ServicePort { internal_drop: true, ..web(&[]) }, &["drop"]),
            ("affinity", ServicePort { affinity_seconds: Some(60), ..web(&[2]) }, &["ip-internal-1-affinity-60"]),
            ("node port", outside(web(&[2, 3])), &["node-external-2", "ip-internal-2"]),
            ("local", local(web(&[2, 3]), &[2]), &["node-split-internal-2-external-1", "ip-internal-2"]),
            ("none local", local(web(&[2, 3]), &[]), &["node-split-internal-2-drop", "ip-internal-2"]),
        ] {
            assert_eq!(shapes(port), expected, "{what}");
        }
    }

    #[test]
    fn endpoints_keep_their_numbers() {
        for (last, wanted, expected) in [
            (&[][..], &[2, 3][..], &[2, 3][..]),
            (&[2, 3, 4], &[2, 3, 4], &[2, 3, 4]),
            (&[2, 3, 4], &[2, 4, 5], &[2, 5, 4]),
            (&[2, 3, 4, 5], &[3, 4, 5], &[5, 3, 4]),
            (&[2, 3, 4, 5], &[4], &[4]),
            (&[2, 3], &[], &[]),
            (&[4, 2], &[1, 2, 3, 4], &[4, 2, 1, 3]),
        ] {
            assert_eq!(arrange(&endpoints(last), &endpoints(wanted)), endpoints(expected), "{last:?} {wanted:?}");
        }
    }

    #[test]
    fn external_addresses_and_node_ports_are_masqueraded_unless_local() {
        let port =
            ServicePort { external_ips: vec!["192.0.2.9".parse().unwrap()], node_port: Some(30080), ..web(&[2]) };
        for local in [false, true] {
            let port = ServicePort { external_local: local, ..port.clone() };
            let plan = plan(&table(&[("a", port)]), Family::V4, &config(), None);
            let masqueraded: Vec<_> = plan.fronts.values().map(|front| front.masquerade).collect();
            assert_eq!(masqueraded, [!local, false, !local]);
            assert_eq!(plan.cluster_ips, ["10.96.0.10".parse().unwrap()].into());
        }
    }

    #[test]
    fn a_front_that_changes_hands_gets_the_endpoints_of_its_new_owner() {
        let before = table(&[("a", web(&[2])), ("b", web(&[3]))]);
        let first = plan(&before, Family::V4, &config(), None);
        let after = table(&[("b", web(&[3]))]);
        let second = plan(&after, Family::V4, &config(), Some(Before { table: &before, plan: &first }));
        assert_eq!(first.fronts.values().next().unwrap().internal, endpoints(&[2]));
        assert_eq!(second.fronts.values().next().unwrap().internal, endpoints(&[3]));
    }

    #[test]
    fn host_ports_lead_to_pods_and_families_stay_apart() {
        let host_port = |host_ip: Option<&str>, to: &str| HostPort {
            protocol: Protocol::Tcp,
            host_ip: host_ip.map(|ip| ip.parse().unwrap()),
            host_port: 8080,
            to: to.parse().unwrap(),
        };
        let table = ServiceTable {
            ports: BTreeMap::new(),
            host_ports: vec![
                host_port(None, "10.244.0.2:80"),
                host_port(Some("0.0.0.0"), "10.244.0.3:80"),
                host_port(Some("192.0.2.1"), "10.244.0.4:80"),
                host_port(None, "[fd00::2]:80"),
            ],
        };
        let plan = plan(&table, Family::V4, &config(), None);
        let found: Vec<_> =
            plan.host_ports.iter().map(|(front, to)| (front.address.is_some(), to.to_string())).collect();
        assert_eq!(found, [(false, "10.244.0.2:80".to_owned()), (true, "10.244.0.4:80".to_owned())]);
    }
}
