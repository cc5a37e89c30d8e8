//! Links, addresses and routes (rtnetlink).

use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

use super::message::{self, Batch, Writer};
use super::{Error, Socket};

const CREATE: i32 = libc::NLM_F_ACK | libc::NLM_F_CREATE | libc::NLM_F_EXCL;
const REPLACE: i32 = libc::NLM_F_ACK | libc::NLM_F_CREATE | libc::NLM_F_REPLACE;

// Attributes of kinds of links (linux/if_link.h, linux/veth.h), which the libc crate lacks.
const VETH_INFO_PEER: u16 = 1;
const IFLA_BRPORT_STATE: u16 = 1;
const IFLA_BRPORT_MODE: u16 = 4;
const BRIDGE_PORT_FORWARDING: u8 = 3;
const OPERATIONAL_UP: u8 = 6;
const IFLA_INET_CONF: u16 = 1;

/// A per-device IPv4 setting: the number of `IPV4_DEVCONF_*` (linux/ip.h). Setting it by netlink also works where
/// `/proc/sys` is read-only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub enum DeviceSetting {
    /// Packets that come in here may be passed on.
    Forwarding = 1,
    /// Tell senders of a shorter way.
    SendRedirects = 6,
    /// Packets with loopback addresses may come in and go out here.
    RouteLocalnet = 26,
}

/// A network interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its number in its network namespace.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// The bridge it is a port of.
    pub master: Option<u32>,
    /// What kind of virtual device it is (`bridge`, `veth`), if any.
    pub kind: Option<String>,
    /// Whether it is the loopback device.
    pub loopback: bool,
    /// Whether packets pass: its other end is up, and if it is a bridge port, the bridge uses it.
    pub ready: bool,
}

/// A pair of virtual Ethernet devices, the second born in another network namespace.
#[derive(Debug)]
pub struct Veth<'a> {
    /// Name of the end that stays here.
    pub name: &'a str,
    /// The bridge that it becomes a port of.
    pub master: u32,
    /// Largest packet.
    pub mtu: u32,
    /// Name of the other end.
    pub peer_name: &'a str,
    /// Hardware address of the other end.
    pub peer_mac: [u8; 6],
    /// Where the other end appears.
    pub peer_netns: BorrowedFd<'a>,
}

fn link_header(message: &mut Writer<'_>, family: i32, index: u32, up: bool) {
    let flags = if up { libc::IFF_UP as u32 } else { 0 };
    message.raw(&[family as u8, 0, 0, 0]);
    message.raw(&index.to_ne_bytes());
    message.raw(&flags.to_ne_bytes());
    message.raw(&flags.to_ne_bytes());
}

/// Creates a bridge with a fixed hardware address, so that it does not change with its ports.
pub fn add_bridge(batch: &mut Batch, name: &str, mac: [u8; 6], mtu: u32) {
    batch.message(libc::RTM_NEWLINK, CREATE, format!("create the bridge {name}"), |m| {
        link_header(m, libc::AF_UNSPEC, 0, true);
        m.text(libc::IFLA_IFNAME, name);
        m.bytes(libc::IFLA_ADDRESS, &mac);
        m.u32(libc::IFLA_MTU, mtu);
        m.nested(libc::IFLA_LINKINFO, |m| m.text(libc::IFLA_INFO_KIND, "bridge"));
    });
}

/// Creates a veth pair.
pub fn add_veth(batch: &mut Batch, veth: &Veth<'_>) {
    batch.message(libc::RTM_NEWLINK, CREATE, format!("create the interface {}", veth.name), |m| {
        link_header(m, libc::AF_UNSPEC, 0, true);
        m.text(libc::IFLA_IFNAME, veth.name);
        m.u32(libc::IFLA_MTU, veth.mtu);
        m.u32(libc::IFLA_MASTER, veth.master);
        m.nested(libc::IFLA_LINKINFO, |m| {
            m.text(libc::IFLA_INFO_KIND, "veth");
            m.nested(libc::IFLA_INFO_DATA, |m| {
                m.nested(VETH_INFO_PEER, |m| {
                    link_header(m, libc::AF_UNSPEC, 0, false);
                    m.text(libc::IFLA_IFNAME, veth.peer_name);
                    m.bytes(libc::IFLA_ADDRESS, &veth.peer_mac);
                    m.u32(libc::IFLA_MTU, veth.mtu);
                    m.u32(libc::IFLA_NET_NS_FD, veth.peer_netns.as_raw_fd() as u32);
                });
            });
        });
    });
}

/// Lets a bridge port send a frame back to where it came from.
pub fn set_hairpin(batch: &mut Batch, name: &str) {
    batch.message(libc::RTM_NEWLINK, libc::NLM_F_ACK, format!("set up the bridge port {name}"), |m| {
        link_header(m, libc::AF_UNSPEC, 0, true);
        m.text(libc::IFLA_IFNAME, name);
        m.nested(libc::IFLA_LINKINFO, |m| {
            m.text(libc::IFLA_INFO_SLAVE_KIND, "bridge");
            m.nested(libc::IFLA_INFO_SLAVE_DATA, |m| m.u8(IFLA_BRPORT_MODE, 1));
        });
    });
}

/// Brings an interface up.
pub fn set_up(batch: &mut Batch, index: u32) {
    batch.message(libc::RTM_NEWLINK, libc::NLM_F_ACK, format!("bring interface {index} up"), |m| {
        link_header(m, libc::AF_UNSPEC, index, true);
    });
}

/// Changes a per-device IPv4 setting.
pub fn set_device(batch: &mut Batch, index: u32, setting: DeviceSetting, value: u32) {
    let operation = format!("set {setting:?} of interface {index} to {value}");
    batch.message(libc::RTM_SETLINK, libc::NLM_F_ACK, operation, |m| {
        m.raw(&[libc::AF_UNSPEC as u8, 0, 0, 0]);
        m.raw(&index.to_ne_bytes());
        m.raw(&[0; 8]);
        m.nested(libc::IFLA_AF_SPEC, |m| {
            m.nested(libc::AF_INET as u16, |m| m.nested(IFLA_INET_CONF, |m| m.u32(setting as u16, value)));
        });
    });
}

/// Removes an interface.
pub fn delete_link(batch: &mut Batch, index: u32) {
    batch.message(libc::RTM_DELLINK, libc::NLM_F_ACK, format!("remove interface {index}"), |m| {
        link_header(m, libc::AF_UNSPEC, index, false);
    });
}

/// Gives an interface an address; one that is there stays.
pub fn add_address(batch: &mut Batch, index: u32, address: IpAddr, prefix: u8) {
    let operation = format!("give interface {index} the address {address}/{prefix}");
    batch.message(libc::RTM_NEWADDR, REPLACE, operation, |m| {
        // IPv6 addresses are used at once, without asking whether another has the same.
        let flags = if address.is_ipv6() { libc::IFA_F_NODAD as u8 } else { 0 };
        m.raw(&[family_of(address), prefix, flags, libc::RT_SCOPE_UNIVERSE]);
        m.raw(&index.to_ne_bytes());
        let bytes = octets(address);
        m.bytes(libc::IFA_LOCAL, &bytes);
        m.bytes(libc::IFA_ADDRESS, &bytes);
    });
}

/// Where packets of a range go.
#[derive(Debug, Clone, Copy)]
pub struct Route {
    /// First address of the range.
    pub destination: IpAddr,
    /// Its fixed bits; 0 is the default route.
    pub prefix: u8,
    /// Through this router; none: the range is reached directly.
    pub gateway: Option<IpAddr>,
    /// Out of this interface.
    pub index: u32,
}

/// Adds a route, or replaces one to the same range.
pub fn add_route(batch: &mut Batch, route: &Route) {
    add_route_to(batch, route, libc::RT_TABLE_MAIN);
}

/// Adds a route that is used only if no other leads anywhere, not even a default route: the kernel looks into the table
/// `default`, which is empty otherwise, after the main one.
pub fn add_route_of_last_resort(batch: &mut Batch, route: &Route) {
    add_route_to(batch, route, libc::RT_TABLE_DEFAULT);
}

fn add_route_to(batch: &mut Batch, route: &Route, table: u8) {
    let operation = format!("add a route to {}/{}", route.destination, route.prefix);
    batch.message(libc::RTM_NEWROUTE, REPLACE, operation, |m| {
        let scope = if route.gateway.is_some() { libc::RT_SCOPE_UNIVERSE } else { libc::RT_SCOPE_LINK };
        let family = family_of(route.destination);
        m.raw(&[family, route.prefix, 0, 0, table, libc::RTPROT_STATIC, scope, libc::RTN_UNICAST]);
        m.raw(&[0; 4]);
        if route.prefix > 0 {
            m.bytes(libc::RTA_DST, &octets(route.destination));
        }
        if let Some(gateway) = route.gateway {
            m.bytes(libc::RTA_GATEWAY, &octets(gateway));
        }
        m.u32(libc::RTA_OIF, route.index);
    });
}

/// All interfaces of the socket's network namespace.
///
/// # Errors
/// The kernel refused.
pub fn links(socket: &mut Socket) -> Result<Vec<Link>, Error> {
    let mut batch = Batch::new();
    batch.message(libc::RTM_GETLINK, libc::NLM_F_DUMP, "list the interfaces", |m| {
        link_header(m, libc::AF_UNSPEC, 0, false);
    });
    let mut links = Vec::new();
    socket.query(&batch, &mut |received| links.extend(link_of(received.payload)))?;
    Ok(links)
}

/// One interface by name; `None` if there is none.
///
/// # Errors
/// The kernel refused.
pub fn link(socket: &mut Socket, name: &str) -> Result<Option<Link>, Error> {
    let mut batch = Batch::new();
    batch.message(libc::RTM_GETLINK, libc::NLM_F_ACK, format!("look up the interface {name}"), |m| {
        link_header(m, libc::AF_UNSPEC, 0, false);
        m.text(libc::IFLA_IFNAME, name);
    });
    let mut found = None;
    match socket.query(&batch, &mut |received| found = link_of(received.payload)) {
        Ok(()) => Ok(found),
        Err(error) if error.is_missing() => Ok(None),
        Err(error) => Err(error),
    }
}

/// `struct ifinfomsg` is 16 bytes: family, type (2..4), index (4..8), flags (8..12), change.
fn link_of(payload: &[u8]) -> Option<Link> {
    let attributes = payload.get(16..)?;
    let master = message::attribute(attributes, libc::IFLA_MASTER).and_then(|v| message::u32_at(v, 0));
    let info = message::attribute(attributes, libc::IFLA_LINKINFO).unwrap_or_default();
    let kind = message::attribute(info, libc::IFLA_INFO_KIND).map(message::text);
    let port_state = message::attribute(info, libc::IFLA_INFO_SLAVE_DATA)
        .and_then(|port| message::attribute(port, IFLA_BRPORT_STATE)?.first());
    let state = message::attribute(attributes, libc::IFLA_OPERSTATE).and_then(|value| value.first());
    Some(Link {
        index: message::u32_at(payload, 4)?,
        name: message::text(message::attribute(attributes, libc::IFLA_IFNAME)?),
        master,
        kind,
        ready: state == Some(&OPERATIONAL_UP) && port_state.is_none_or(|state| *state == BRIDGE_PORT_FORWARDING),
        loopback: message::u32_at(payload, 8)? & libc::IFF_LOOPBACK as u32 != 0,
    })
}

fn family_of(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => libc::AF_INET as u8,
        IpAddr::V6(_) => libc::AF_INET6 as u8,
    }
}

/// The address as the bytes on the wire.
#[must_use]
pub fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}
