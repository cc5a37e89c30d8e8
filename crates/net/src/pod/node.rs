//! The node's side: the bridge, forwarding, and the rules for traffic that leaves the cluster.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};

use super::{Config, Error, firewall, names};
use crate::cidr::Cidr;
use crate::netlink::message::Batch;
use crate::netlink::nft::{
    self, ChainKind, Expr, Family as TableFamily, Header, Hook, HookPoint, Meta, Op, Table, Verdict,
};
use crate::netlink::route::{self, DeviceSetting};
use crate::netlink::{Family, Socket};

/// Offset of the source address in an IPv4 header.
const SOURCE: u32 = 12;
/// Offset of the destination address.
const DESTINATION: u32 = 16;
const ICMP_REDIRECT: u8 = 5;

/// Creates the bridge, or takes over the one that is there, and returns its number.
pub fn set_up(config: &Config, gateway: Ipv4Addr) -> Result<u32, Error> {
    let mut socket = Socket::open(Family::Route)?;
    let bridge = match route::link(&mut socket, &config.bridge)? {
        Some(link) if link.kind.as_deref() == Some("bridge") => link.index,
        Some(_) => {
            return Err(Error::NotABridge { name: config.bridge.clone() });
        }
        None => {
            let mut batch = Batch::new();
            route::add_bridge(&mut batch, &config.bridge, names::mac(gateway), config.mtu);
            socket.send(&batch)?;
            let link = route::link(&mut socket, &config.bridge)?;
            link.ok_or_else(|| Error::NotABridge { name: config.bridge.clone() })?.index
        }
    };
    let mut batch = Batch::new();
    route::set_up(&mut batch, bridge);
    route::add_address(&mut batch, bridge, gateway.into(), config.pod_cidr.prefix());
    // The host reaches Services even where it has no default route: the route is looked up before the translation.
    for cidr in config.service_cidrs.iter().filter(|cidr| cidr.address().is_ipv4()) {
        let to_bridge =
            route::Route { destination: cidr.address(), prefix: cidr.prefix(), gateway: None, index: bridge };
        route::add_route_of_last_resort(&mut batch, &to_bridge);
    }
    // Pods reach each other through the node, although the bridge would be shorter: see `rules`.
    route::set_device(&mut batch, bridge, DeviceSetting::SendRedirects, 0);
    route::set_device(&mut batch, bridge, DeviceSetting::Forwarding, 1);
    // For node ports at 127.0.0.1, which reach pods with a loopback source until the last hook translates it.
    route::set_device(&mut batch, bridge, DeviceSetting::RouteLocalnet, 1);
    socket.send(&batch)?;
    allow_forwarding(&mut socket)?;
    let table = table(config);
    let mut netfilter = Socket::open(Family::Netfilter)?;
    nft::commit(&mut netfilter, &[(&table, &rules(config))])?;
    // Pods may well work without; who reads the log learns what is in the way.
    if let Err(error) = firewall::permit(&mut netfilter, config) {
        tracing::warn!(%error, "cannot ask the machine's firewall to let pods through");
    }
    Ok(bridge)
}

/// Where `/proc/sys` is read-only, each interface is told by netlink; one that appears later is then not covered.
fn allow_forwarding(socket: &mut Socket) -> Result<(), Error> {
    const PATH: &str = "/proc/sys/net/ipv4/ip_forward";
    let is_on = fs::read_to_string(PATH).is_ok_and(|text| text.trim() == "1");
    if is_on || fs::write(PATH, "1").is_ok() {
        return Ok(());
    }
    let mut batch = Batch::new();
    for link in route::links(socket)?.iter().filter(|link| !link.loopback) {
        route::set_device(&mut batch, link.index, DeviceSetting::Forwarding, 1);
    }
    Ok(socket.send(&batch)?)
}

/// The table of the pod network.
pub fn table(config: &Config) -> Table {
    Table { family: TableFamily::V4, name: names::table(&config.instance, "pods") }
}

/// The whole table, replacing whatever there was under its name.
pub fn rules(config: &Config) -> Vec<Op> {
    let chain = |name: &str, kind, point, priority| Op::AddChain {
        name: name.into(),
        hook: Some(Hook { kind, point, priority }),
    };
    let rule = |chain: &str, expressions| Op::AddRule { chain: chain.into(), expressions };
    let bridge = nft::interface_name(&config.bridge);
    vec![
        Op::AddTable,
        Op::DeleteTable,
        Op::AddTable,
        chain("masquerade", ChainKind::Nat, HookPoint::Postrouting, 100),
        rule("masquerade", leaving_the_cluster(config, &bridge)),
        chain("loopback", ChainKind::Filter, HookPoint::Prerouting, -300),
        rule("loopback", {
            // The bridge routes loopback addresses; pods must not reach what listens only there.
            let mut rule = interface(Meta::InputName, &bridge, true);
            let loopback = Cidr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8);
            rule.extend(loopback.into_iter().flat_map(|cidr| address_in(DESTINATION, &cidr, true)));
            rule.push(Expr::Verdict(Verdict::Drop));
            rule
        }),
        chain("redirects", ChainKind::Filter, HookPoint::Output, 0),
        rule("redirects", {
            // A pod that heeds a redirect would speak to its neighbour directly, past the translation of Services.
            let mut rule = interface(Meta::OutputName, &bridge, true);
            rule.extend([
                Expr::Meta { key: Meta::Protocol, to: 0 },
                Expr::Compare { from: 0, equal: true, value: vec![libc::IPPROTO_ICMP as u8] },
                Expr::Payload { header: Header::Transport, offset: 0, len: 1, to: 0 },
                Expr::Compare { from: 0, equal: true, value: vec![ICMP_REDIRECT] },
                Expr::Verdict(Verdict::Drop),
            ]);
            rule
        }),
    ]
}

/// From a pod, to outside of the cluster, not by the bridge: with the node's address.
fn leaving_the_cluster(config: &Config, bridge: &[u8]) -> Vec<Expr> {
    let mut rule = address_in(SOURCE, &config.pod_cidr, true);
    let inside = config.cluster_cidrs.iter().filter(|cidr| cidr.address().is_ipv4());
    rule.extend(inside.flat_map(|cidr| address_in(DESTINATION, cidr, false)));
    rule.extend(interface(Meta::OutputName, bridge, false));
    rule.push(Expr::Masquerade);
    rule
}

fn interface(key: Meta, name: &[u8], equal: bool) -> Vec<Expr> {
    vec![Expr::Meta { key, to: 0 }, Expr::Compare { from: 0, equal, value: name.to_vec() }]
}

fn address_in(offset: u32, cidr: &Cidr, within: bool) -> Vec<Expr> {
    vec![
        Expr::Payload { header: Header::Network, offset, len: 4, to: 0 },
        Expr::Mask { register: 0, mask: cidr.mask() },
        Expr::Compare { from: 0, equal: within, value: route::octets(cidr.address()) },
    ]
}

/// Removes the table, the bridge and all ports of this instance.
pub fn clean_up(config: &Config) -> Result<(), Error> {
    let mut netfilter = Socket::open(Family::Netfilter)?;
    nft::delete_table(&mut netfilter, &table(config))?;
    firewall::withdraw(&mut netfilter, config)?;
    let mut socket = Socket::open(Family::Route)?;
    let prefix = names::link_prefix(&config.instance);
    let mut batch = Batch::new();
    for link in route::links(&mut socket)? {
        let is_port = link.name.starts_with(&prefix) && link.kind.as_deref() == Some("veth");
        let is_bridge = link.name == config.bridge && link.kind.as_deref() == Some("bridge");
        if is_port || is_bridge {
            route::delete_link(&mut batch, link.index);
        }
    }
    let refused = socket.send_each(&batch)?;
    refused.into_iter().find(|(_, error)| !error.is_missing()).map_or(Ok(()), |(_, error)| Err(error.into()))
}
