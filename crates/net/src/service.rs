//! What Services lead where, as plain values: the input of the nftables compiler.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

/// Transport protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

/// All Services of the cluster as this node must serve them. Equal tables program nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServiceTable {
    /// One item a Service port, by a stable name (`namespace/service:port`).
    pub ports: BTreeMap<String, ServicePort>,
    /// `hostPort`s of pods on this node.
    pub host_ports: Vec<HostPort>,
}

/// One port of a Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServicePort {
    /// Protocol.
    pub protocol: Protocol,
    /// Port at the cluster addresses.
    pub port: u16,
    /// Cluster IPs: addresses of this Service alone, of which other ports are refused. One that is among `external_ips`
    /// too counts as external.
    pub cluster_ips: Vec<IpAddr>,
    /// External IPs and load-balancer addresses: reached from outside, to which the external traffic policy applies.
    pub external_ips: Vec<IpAddr>,
    /// Port on every node's addresses, if any.
    pub node_port: Option<u16>,
    /// Client address affinity, if any: seconds.
    pub affinity_seconds: Option<u32>,
    /// Where cluster-internal traffic goes. Empty: connection refused.
    pub internal_endpoints: Vec<SocketAddr>,
    /// Where external traffic (node port, external addresses) goes. Empty: see `external_drop`.
    pub external_endpoints: Vec<SocketAddr>,
    /// There are endpoints, but none here under the policy `Local`: internal traffic is dropped instead of refused.
    pub internal_drop: bool,
    /// The same for external traffic.
    pub external_drop: bool,
    /// External traffic keeps its source address (externalTrafficPolicy Local).
    pub external_local: bool,
}

/// A port of the node that leads to a pod on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPort {
    /// Protocol.
    pub protocol: Protocol,
    /// Only at this address of the node, if given.
    pub host_ip: Option<IpAddr>,
    /// Port of the node.
    pub host_port: u16,
    /// Where it leads.
    pub to: SocketAddr,
}
