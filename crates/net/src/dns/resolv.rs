//! The node's own servers, from the text of its `resolv.conf`.

use std::net::{IpAddr, SocketAddr, SocketAddrV6};

const PORT: u16 = 53;

/// The servers that a `resolv.conf` names, in its order. `own` are addresses at which we serve ourselves: asking these
/// would go round in circles. Lines that make no sense are passed over, as resolvers do.
#[must_use]
pub fn upstreams_of(resolv_conf: &str, own: &[IpAddr]) -> Vec<SocketAddr> {
    let mut servers = Vec::new();
    for line in resolv_conf.lines() {
        let mut words = line.split_whitespace();
        if words.next() != Some("nameserver") {
            continue;
        }
        let server = words.next().and_then(address);
        servers.extend(server.filter(|server| !own.contains(&server.ip()) && !servers.contains(server)));
    }
    servers
}

/// An address, or a link-local one with the number of its interface.
fn address(text: &str) -> Option<SocketAddr> {
    match text.split_once('%') {
        None => Some(SocketAddr::new(text.parse().ok()?, PORT)),
        Some((address, scope)) => {
            Some(SocketAddr::V6(SocketAddrV6::new(address.parse().ok()?, PORT, 0, scope.parse().ok()?)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_read_in_order() {
        let text = "# comment\nsearch example.com\nnameserver 192.0.2.1\n nameserver\t2001:db8::1 # second\n\
                    nameserver fe80::1%2\nnameserver 192.0.2.1\nnameserver nonsense\nnameserver 10.244.0.1\nnameserver\n";
        let servers: Vec<_> =
            upstreams_of(text, &["10.244.0.1".parse().unwrap()]).iter().map(ToString::to_string).collect();
        assert_eq!(servers, ["192.0.2.1:53", "[2001:db8::1]:53", "[fe80::1%2]:53"]);
    }
}
