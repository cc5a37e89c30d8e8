//! What a server is told when it starts.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use crate::aggregation::FrontProxy;
use crate::audit::Audit;
use crate::auth::{Authenticator, Authorizer, tokens::TokenIssuer};

/// Settings of the API server.
#[derive(Debug, Clone)]
pub struct Config {
    /// The cluster's service network, `10.96.0.0/12`.
    pub service_cidr: Cidr,
    /// The first and last node port.
    pub node_ports: (u16, u16),
    /// The address at which the API server is reached from pods: the endpoint of the `kubernetes` Service.
    pub advertise: IpAddr,
    /// The port of that address.
    pub port: u16,
    /// Most connections at a time; further ones wait to be accepted.
    pub max_connections: usize,
    /// Seats of all priority levels together: requests under way at a time, those of exempt levels aside. Further ones wait
    /// for their turn or are answered 429.
    pub max_requests: usize,
    /// Largest request body in bytes.
    pub max_body: usize,
    /// Longest wait for the head of a request, for a TLS handshake, and for each body.
    pub read_timeout: Duration,
    /// Longest time to answer a request that is no watch or stream; `?timeout=` can shorten it.
    pub request_timeout: Duration,
    /// How long requests under way may take to finish once the server is told to stop.
    pub drain: Duration,
    /// Where it is told who did what; nowhere without one.
    pub audit: Option<Arc<Audit>>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            service_cidr: Cidr { address: Ipv4Addr::new(10, 96, 0, 0), prefix: 12 },
            node_ports: (30000, 32767),
            advertise: IpAddr::V4(Ipv4Addr::LOCALHOST),
            port: 6443,
            max_connections: 20_000,
            // As many as Kubernetes has (400 reading and 200 writing). On two cores, where a write takes 60 µs of one, all
            // of them together are less than 20 ms of work: nobody whose turn it is waits longer than that.
            max_requests: 600,
            // Kubernetes' limit, and what etcd could store.
            max_body: 3 << 20,
            read_timeout: Duration::from_secs(30),
            request_timeout: Duration::from_secs(60),
            drain: Duration::from_millis(1500),
            audit: None,
        }
    }
}

/// An IPv4 network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cidr {
    /// Its first address.
    pub address: Ipv4Addr,
    /// Bits of the network part.
    pub prefix: u8,
}

impl Cidr {
    /// How many addresses it has, the network's and the broadcast address included.
    pub fn size(self) -> u32 {
        u32::try_from(1u64 << (32 - u32::from(self.prefix.min(32)))).unwrap_or(u32::MAX)
    }

    /// The address at `offset` from the first.
    pub fn nth(self, offset: u32) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.address).wrapping_add(offset))
    }

    /// Where an address lies in the network; `None` outside of it.
    pub fn offset(self, address: Ipv4Addr) -> Option<u32> {
        let offset = u32::from(address).checked_sub(u32::from(self.address))?;
        (offset < self.size()).then_some(offset)
    }
}

impl std::fmt::Display for Cidr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

/// A text that is no IPv4 network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no IPv4 network such as 10.96.0.0/12")]
pub struct BadCidr(String);

impl std::str::FromStr for Cidr {
    type Err = BadCidr;

    fn from_str(text: &str) -> Result<Self, BadCidr> {
        let bad = || BadCidr(text.to_string());
        let (address, prefix) = text.split_once('/').ok_or_else(bad)?;
        let address: Ipv4Addr = address.parse().map_err(|_| bad())?;
        let prefix: u8 = prefix.parse().ok().filter(|p| *p <= 32).ok_or_else(bad)?;
        let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
        Ok(Self { address: Ipv4Addr::from(u32::from(address) & mask), prefix })
    }
}

/// Who decides about identities and access, and the way to the nodes.
pub struct Security {
    /// Credentials → identity.
    pub authenticator: Authenticator,
    /// Identity → decision.
    pub authorizer: Authorizer,
    /// ServiceAccount tokens.
    pub issuer: Arc<TokenIssuer>,
    /// TLS towards kubelets, with the API server's client certificate; without it logs, exec and the like answer 503.
    pub kubelet_tls: Option<Arc<rustls::ClientConfig>>,
    /// What aggregated API servers know this one by; without it they are not believed, and answer nobody.
    pub front_proxy: Option<FrontProxy>,
}

#[cfg(test)]
mod tests {
    use super::Cidr;

    #[test]
    fn networks() {
        let cidr: Cidr = "10.96.3.4/16".parse().unwrap();
        assert_eq!((cidr.to_string().as_str(), cidr.size()), ("10.96.0.0/16", 65536));
        assert_eq!(cidr.nth(10).to_string(), "10.96.0.10");
        assert_eq!(cidr.offset("10.96.1.0".parse().unwrap()), Some(256));
        assert_eq!(cidr.offset("10.97.0.0".parse().unwrap()), None);
        for bad in ["10.96.0.0", "10.96.0.0/33", "x/8", "fd00::/8"] {
            assert!(bad.parse::<Cidr>().is_err(), "{bad}");
        }
    }
}
