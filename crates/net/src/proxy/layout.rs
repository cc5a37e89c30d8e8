//! The sets and chains of a proxy table: their names, and the bytes of their keys.
//!
//! All fronts (where Services are reached) are keys of one map, which leads to a chain by *shape*: how many endpoints,
//! with affinity or not. The chain draws a number and finds the endpoint in another map by front and number. So there
//! is no chain per Service, a packet's cost does not grow with their number, and a changed endpoint is one element.

use std::net::{IpAddr, SocketAddr};

use crate::netlink::nft::{Family, Name, Set, SetData};
use crate::netlink::route::octets;
use crate::service::Protocol;

/// (address, protocol, port) to the chain of its shape.
pub const FRONTS: &str = "fronts";
/// (front, number) to (address, port) of an endpoint.
pub const ENDPOINTS: &str = "endpoints";
/// (client, front) to the endpoint that it used last.
pub const AFFINITY: &str = "affinity";
/// Addresses of Services, of which the other ports are refused.
pub const CLUSTER_IPS: &str = "cluster-ips";
/// Fronts whose traffic gets the node's address as source.
pub const MASQUERADED: &str = "masqueraded";
/// (address, protocol, port) of the node to a pod.
pub const HOST_PORTS: &str = "host-ports";
/// (address, same address) of endpoints on this node.
pub const HAIRPIN: &str = "hairpin";

/// Draws of external endpoints begin here, so that a front can have both lists.
pub const EXTERNAL_OFFSET: u32 = 1 << 16;

/// Where a Service is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Front {
    /// At this address; none: at any address of the node.
    pub address: Option<IpAddr>,
    /// With this protocol.
    pub protocol: Protocol,
    /// At this port.
    pub port: u16,
}

impl Front {
    /// As a key: address (zeros for the node's), protocol and port, each filled up to four bytes.
    pub fn key(&self, family: Family) -> Vec<u8> {
        let mut key = self.address.map_or_else(|| vec![0; family.address_len() as usize], octets);
        key.extend([number(self.protocol), 0, 0, 0]);
        key.extend(port(self.port));
        key
    }

    /// As the key of its endpoint of this number.
    pub fn endpoint_key(&self, family: Family, number: u32) -> Vec<u8> {
        let mut key = self.key(family);
        // A drawn number stands in the register as the machine writes it.
        key.extend(number.to_ne_bytes());
        key
    }
}

/// The protocol's number on the wire.
pub fn number(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Tcp => libc::IPPROTO_TCP as u8,
        Protocol::Udp => libc::IPPROTO_UDP as u8,
        Protocol::Sctp => libc::IPPROTO_SCTP as u8,
    }
}

fn port(port: u16) -> [u8; 4] {
    let [high, low] = port.to_be_bytes();
    [high, low, 0, 0]
}

/// An endpoint as data of a map.
pub fn endpoint(to: SocketAddr) -> Vec<u8> {
    let mut data = octets(to.ip());
    data.extend(port(to.port()));
    data
}

/// The key that says that a pod speaks to itself.
pub fn hairpin_key(address: IpAddr) -> Vec<u8> {
    octets(address).repeat(2)
}

/// The family of an address.
pub fn family_of(address: IpAddr) -> Family {
    if address.is_ipv4() { Family::V4 } else { Family::V6 }
}

/// All sets of a table.
pub fn sets(family: Family) -> Vec<Set> {
    let address = family.address_len();
    let (front, endpoint) = (address + 8, address + 4);
    let set = |name: &str, key_len, data| Set { name: name.into(), key_len, data, dynamic: false };
    vec![
        set(FRONTS, front, SetData::Verdict),
        set(ENDPOINTS, front + 4, SetData::Value(endpoint)),
        Set { dynamic: true, ..set(AFFINITY, address + front, SetData::Value(endpoint)) },
        set(CLUSTER_IPS, address, SetData::None),
        set(MASQUERADED, front, SetData::None),
        set(HOST_PORTS, front, SetData::Value(endpoint)),
        set(HAIRPIN, 2 * address, SetData::None),
    ]
}

/// Where traffic to a front goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Target {
    /// Connection refused.
    Refuse,
    /// No answer.
    Drop,
    /// One of the endpoints.
    Pick {
        /// Of the external list.
        external: bool,
        /// So many.
        count: u32,
        /// The same one for the same client, for so many seconds.
        affinity_seconds: Option<u32>,
    },
}

impl Target {
    fn name(self) -> String {
        match self {
            Self::Refuse => "refuse".into(),
            Self::Drop => "drop".into(),
            Self::Pick { external, count, affinity_seconds } => {
                let list = if external { "external" } else { "internal" };
                let affinity = affinity_seconds.map(|seconds| format!("-affinity-{seconds}")).unwrap_or_default();
                format!("{list}-{count}{affinity}")
            }
        }
    }
}

/// What a front's chain does: all fronts alike share one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Shape {
    /// The same for all clients.
    All {
        /// The front is a port of the node.
        node: bool,
        /// Where to.
        target: Target,
    },
    /// Pods and the node itself go elsewhere than clients from outside.
    Split {
        /// The front is a port of the node.
        node: bool,
        /// For pods and the node.
        internal: Target,
        /// For others.
        external: Target,
    },
}

impl Shape {
    /// The name of its chain.
    pub fn chain(self) -> Name {
        let place = |node| if node { "node" } else { "ip" };
        match self {
            Self::All { target: target @ (Target::Refuse | Target::Drop), .. } => target.name().into(),
            Self::All { node, target } => format!("{}-{}", place(node), target.name()).into(),
            Self::Split { node, internal, external } => {
                format!("{}-split-{}-{}", place(node), internal.name(), external.name()).into()
            }
        }
    }

    /// Whether the chain is always there.
    pub fn is_fixed(self) -> bool {
        matches!(self, Self::All { target: Target::Refuse | Target::Drop, .. })
    }

    /// Whether clients are remembered.
    pub fn has_affinity(self) -> bool {
        let remembers = |target| matches!(target, Target::Pick { affinity_seconds: Some(_), .. });
        match self {
            Self::All { target, .. } => remembers(target),
            Self::Split { internal, external, .. } => remembers(internal) || remembers(external),
        }
    }

    /// Shapes whose chains this one goes on to.
    pub fn parts(self) -> Vec<Self> {
        match self {
            Self::All { .. } => vec![],
            Self::Split { node, internal, external } => [internal, external]
                .map(|target| Self::All { node, target })
                .into_iter()
                .filter(|shape| !shape.is_fixed())
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_the_lengths_of_their_sets() {
        let front = Front { address: Some("10.96.0.1".parse().unwrap()), protocol: Protocol::Tcp, port: 443 };
        assert_eq!(front.key(Family::V4), [10, 96, 0, 1, 6, 0, 0, 0, 1, 187, 0, 0]);
        let node = Front { address: None, protocol: Protocol::Udp, port: 30053 };
        assert_eq!(node.key(Family::V4)[..5], [0, 0, 0, 0, 17]);
        for (family, address) in [(Family::V4, "10.0.0.1"), (Family::V6, "fd00::1")] {
            let front = Front { address: Some(address.parse().unwrap()), ..front };
            let sets = sets(family);
            assert_eq!(front.key(family).len() as u32, sets[0].key_len);
            assert_eq!(front.endpoint_key(family, 3).len() as u32, sets[1].key_len);
            let data = endpoint(SocketAddr::new(address.parse().unwrap(), 80));
            assert_eq!(sets[1].data, SetData::Value(data.len() as u32));
            assert_eq!(hairpin_key(address.parse().unwrap()).len() as u32, sets[6].key_len);
        }
    }
}
