//! The connections that the kernel keeps track of (ctnetlink).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::message::{self, Batch};
use super::nft::Family;
use super::{Error, Socket};

const SUBSYSTEM: u16 = 1;
const GET: u16 = 1;
const DELETE: u16 = 2;

const TUPLE_ORIGINAL: u16 = 1;
const TUPLE_REPLY: u16 = 2;
const ID: u16 = 12;
const ZONE: u16 = 18;

/// A connection: where its first packet went, and who answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flow {
    /// Transport protocol number.
    pub protocol: u8,
    /// Destination of the first packet, before translation.
    pub original_destination: SocketAddr,
    /// Where answers come from: the destination after translation.
    pub reply_source: SocketAddr,
    family: Family,
    /// What names it to the kernel, as it came: (attribute, value).
    identity: Vec<(u16, Vec<u8>)>,
}

fn header(message: &mut message::Writer<'_>, family: Family) {
    let number = match family {
        Family::V4 => libc::AF_INET as u8,
        Family::V6 => libc::AF_INET6 as u8,
    };
    message.raw(&[number, 0, 0, 0]);
}

/// The connections for which `wanted` answers yes. The kernel lists all, so this costs about a microsecond for each.
///
/// # Errors
/// The kernel refused.
pub fn flows(socket: &mut Socket, family: Family, wanted: &dyn Fn(&Flow) -> bool) -> Result<Vec<Flow>, Error> {
    let mut batch = Batch::new();
    batch.message(SUBSYSTEM << 8 | GET, libc::NLM_F_DUMP, "list connections", |m| header(m, family));
    let mut found = Vec::new();
    socket.query(&batch, &mut |received| {
        found.extend(flow_of(received.payload, family).filter(wanted));
    })?;
    Ok(found)
}

/// Forgets connections; those that ended meanwhile are no error.
///
/// # Errors
/// The kernel refused.
pub fn delete(socket: &mut Socket, flows: &[Flow]) -> Result<(), Error> {
    let mut batch = Batch::new();
    for flow in flows {
        batch.message(SUBSYSTEM << 8 | DELETE, libc::NLM_F_ACK, "forget a connection", |m| {
            header(m, flow.family);
            for (kind, value) in &flow.identity {
                let is_tuple = *kind == TUPLE_ORIGINAL;
                m.bytes(if is_tuple { kind | libc::NLA_F_NESTED as u16 } else { *kind }, value);
            }
        });
    }
    let refused = socket.send_each(&batch)?;
    refused.into_iter().find(|(_, error)| !error.is_missing()).map_or(Ok(()), |(_, error)| Err(error))
}

fn flow_of(payload: &[u8], family: Family) -> Option<Flow> {
    let body = payload.get(4..)?;
    let original = message::attribute(body, TUPLE_ORIGINAL)?;
    let reply = message::attribute(body, TUPLE_REPLY)?;
    let identity = message::attributes(body)
        .filter(|(kind, _)| matches!(*kind, TUPLE_ORIGINAL | ID | ZONE))
        .map(|(kind, value)| (kind, value.to_vec()))
        .collect();
    let protocol = *message::attribute(message::attribute(original, 2)?, 1)?.first()?;
    Some(Flow {
        protocol,
        original_destination: end_of(original, false)?,
        reply_source: end_of(reply, true)?,
        family,
        identity,
    })
}

/// The source or the destination in a tuple: address (`CTA_TUPLE_IP`) and port (`CTA_TUPLE_PROTO`).
fn end_of(tuple: &[u8], source: bool) -> Option<SocketAddr> {
    let (addresses, protocol) = (message::attribute(tuple, 1)?, message::attribute(tuple, 2)?);
    let [v4, v6, port] = if source { [1, 3, 2] } else { [2, 4, 3] };
    let address = if let Some(value) = message::attribute(addresses, v4) {
        IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(value).ok()?))
    } else {
        IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(message::attribute(addresses, v6)?).ok()?))
    };
    // ICMP has no ports.
    let port =
        message::attribute(protocol, port).and_then(|v| <[u8; 2]>::try_from(v).ok()).map_or(0, u16::from_be_bytes);
    Some(SocketAddr::new(address, port))
}
