//! IP addresses and networks.

use std::fmt;
use std::net::IpAddr;

use super::{Call, Cost, Declarations, Eval, Opaque, Result};
use crate::error::EvalError;
use crate::value::Value;

/// A network: an address, and how many of its bits name the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cidr {
    /// The address, with bits of the host if it was written so.
    pub address: IpAddr,
    /// Bits of the network.
    pub prefix: u8,
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl Cidr {
    fn masked(self) -> Self {
        Self { address: mask(self.address, self.prefix), prefix: self.prefix }
    }

    fn contains(self, address: IpAddr) -> bool {
        self.address.is_ipv4() == address.is_ipv4() && mask(address, self.prefix) == mask(self.address, self.prefix)
    }
}

fn mask(address: IpAddr, prefix: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let keep = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
            IpAddr::V4((u32::from(v4) & keep).into())
        }
        IpAddr::V6(v6) => {
            let keep = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
            IpAddr::V6((u128::from(v6) & keep).into())
        }
    }
}

/// Bytes of an address.
pub(super) fn bytes(address: &IpAddr) -> u64 {
    if address.is_ipv4() { 4 } else { 16 }
}

pub(super) fn declare(table: &mut Declarations) {
    const SCAN: Cost = Cost::Scan { times: 1.0, keeps: false };
    table.add("ip(string) -> IP", SCAN, |_, args| Ok(Value::Opaque(Opaque::Ip(parse_ip(text(args)?)?))));
    table.add("isIP(string) -> bool", SCAN, |_, args| Ok(Value::Bool(parse_ip(text(args)?).is_ok())));
    table.add("ip.isCanonical(string) -> bool", Cost::Scan { times: 2.0, keeps: false }, |_, args| {
        let text = text(args)?;
        Ok(Value::Bool(parse_ip(text)?.to_string() == text))
    });
    let facts: [(&str, Eval); 6] = [
        ("family(IP) -> int", |_, args| Ok(Value::Int(if ip(args)?.is_ipv4() { 4 } else { 6 }))),
        ("isUnspecified(IP) -> bool", |_, args| Ok(Value::Bool(ip(args)?.is_unspecified()))),
        ("isLoopback(IP) -> bool", |_, args| Ok(Value::Bool(ip(args)?.is_loopback()))),
        ("isLinkLocalMulticast(IP) -> bool", |_, args| Ok(Value::Bool(link_local_multicast(ip(args)?)))),
        ("isLinkLocalUnicast(IP) -> bool", |_, args| Ok(Value::Bool(link_local_unicast(ip(args)?)))),
        ("isGlobalUnicast(IP) -> bool", |_, args| Ok(Value::Bool(global_unicast(ip(args)?)))),
    ];
    for (signature, eval) in facts {
        table.add(&format!(".{signature}"), Cost::One, eval);
    }
    declare_cidr(table);
}

fn declare_cidr(table: &mut Declarations) {
    const SCAN: Cost = Cost::Scan { times: 1.0, keeps: false };
    table.add("cidr(string) -> CIDR", SCAN, |_, args| Ok(Value::Opaque(Opaque::Cidr(parse_cidr(text(args)?)?))));
    table.add("isCIDR(string) -> bool", SCAN, |_, args| Ok(Value::Bool(parse_cidr(text(args)?).is_ok())));
    for (other, parses) in [("string", true), ("IP", false)] {
        table.add(&format!(".containsIP(CIDR, {other}) -> bool"), Cost::ContainsIp { parses }, contains_ip);
    }
    for (other, parses) in [("string", true), ("CIDR", false)] {
        table.add(&format!(".containsCIDR(CIDR, {other}) -> bool"), Cost::ContainsCidr { parses }, contains_cidr);
    }
    table.add(".ip(CIDR) -> IP", Cost::One, |_, args| Ok(Value::Opaque(Opaque::Ip(cidr(args)?.address))));
    table.add(".prefixLength(CIDR) -> int", Cost::One, |_, args| Ok(Value::Int(i64::from(cidr(args)?.prefix))));
    table.add(".masked(CIDR) -> CIDR", Cost::One, |_, args| Ok(Value::Opaque(Opaque::Cidr(cidr(args)?.masked()))));
}

fn link_local_multicast(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => v4.octets()[..3] == [224, 0, 0],
        IpAddr::V6(v6) => v6.segments()[0] & 0xff0f == 0xff02,
    }
}

fn link_local_unicast(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.segments()[0] & 0xffc0 == 0xfe80,
    }
}

/// As Go has it: private addresses are among them.
fn global_unicast(ip: IpAddr) -> bool {
    let broadcast = matches!(ip, IpAddr::V4(v4) if v4.is_broadcast());
    !(broadcast || ip.is_unspecified() || ip.is_loopback() || ip.is_multicast() || link_local_unicast(ip))
}

fn text<'v>(args: &'v [Value<'_>]) -> Result<&'v str> {
    args.first().and_then(Value::as_str).ok_or(EvalError::NoSuchOverload)
}

fn ip(args: &[Value<'_>]) -> Result<IpAddr> {
    match args.first() {
        Some(Value::Opaque(Opaque::Ip(ip))) => Ok(*ip),
        _ => Err(EvalError::NoSuchOverload),
    }
}

fn cidr(args: &[Value<'_>]) -> Result<Cidr> {
    match args.first() {
        Some(Value::Opaque(Opaque::Cidr(cidr))) => Ok(*cidr),
        _ => Err(EvalError::NoSuchOverload),
    }
}

fn parse_ip(text: &str) -> Result<IpAddr> {
    let wrong = |why: &str| {
        EvalError::Function(format!(
            "IP Address {text:?} parse error during conversion from string: ParseAddr({text:?}): {why}"
        ))
    };
    if text.contains('%') {
        return Err(EvalError::Function(format!("IP address {text:?} with zone value is not allowed")));
    }
    let ip: IpAddr = text.parse().map_err(|_| wrong("unable to parse IP"))?;
    if matches!(ip, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some()) {
        return Err(EvalError::Function(format!("IPv4-mapped IPv6 address {text:?} is not allowed")));
    }
    Ok(ip)
}

fn parse_cidr(text: &str) -> Result<Cidr> {
    let wrong = |why: &str| {
        EvalError::Function(format!(
            "network address parse error during conversion from string: netip.ParsePrefix({text:?}): {why}"
        ))
    };
    let (address, bits) = text.rsplit_once('/').ok_or_else(|| wrong("no '/'"))?;
    let address: IpAddr = address.parse().map_err(|_| wrong("unable to parse IP"))?;
    if matches!(address, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some()) {
        return Err(EvalError::Function(format!("IPv4-mapped IPv6 address {text:?} is not allowed")));
    }
    let canonical = bits == "0" || bits.starts_with(|first: char| ('1'..='9').contains(&first));
    let prefix: u8 = bits.parse().ok().filter(|_| canonical).ok_or_else(|| wrong("bad bits after slash"))?;
    if prefix > if address.is_ipv4() { 32 } else { 128 } {
        return Err(wrong("prefix length out of range"));
    }
    Ok(Cidr { address, prefix })
}

fn contains_ip<'a>(_: &mut Call<'_>, args: &[Value<'a>]) -> Result<Value<'a>> {
    let address = match args {
        [_, Value::Opaque(Opaque::Ip(ip))] => *ip,
        [_, Value::String(text)] => parse_ip(text)?,
        _ => return Err(EvalError::NoSuchOverload),
    };
    Ok(Value::Bool(cidr(args)?.contains(address)))
}

fn contains_cidr<'a>(_: &mut Call<'_>, args: &[Value<'a>]) -> Result<Value<'a>> {
    let other = match args {
        [_, Value::Opaque(Opaque::Cidr(other))] => *other,
        [_, Value::String(text)] => parse_cidr(text)?,
        _ => return Err(EvalError::NoSuchOverload),
    };
    let own = cidr(args)?;
    Ok(Value::Bool(own.prefix <= other.prefix && own.contains(other.address)))
}
