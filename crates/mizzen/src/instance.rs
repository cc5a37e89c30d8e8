//! What distinguishes one mizzen on a machine from another: names that derive from the data directory.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use mizzen_net::cidr::Cidr;

/// The names of one instance.
#[derive(Debug, Clone)]
pub struct Instance {
    /// The data directory, absolute.
    pub data_dir: PathBuf,
    /// Short identity: empty text is never used.
    pub id: String,
}

impl Instance {
    /// The instance of a data directory.
    pub fn of(data_dir: &Path) -> Self {
        let id = match data_dir == Path::new(crate::settings::DATA_DIR) {
            true => "mzn".to_string(),
            false => format!("mz{:06x}", hash(data_dir.as_os_str().as_encoded_bytes()) & 0xff_ffff),
        };
        Self { data_dir: data_dir.to_path_buf(), id }
    }

    /// Name of the pod bridge.
    pub fn bridge(&self) -> String {
        format!("{}-br", self.id)
    }

    /// The pod network for a node's share of the pod addresses.
    pub fn pod_network(&self, share: Cidr, cluster: Cidr, services: Cidr) -> mizzen_net::pod::Config {
        mizzen_net::pod::Config {
            instance: self.id.clone(),
            bridge: self.bridge(),
            pod_cidr: share,
            cluster_cidrs: vec![cluster],
            service_cidrs: vec![services],
            mtu: 1500,
            state_dir: self.data_dir.join("net"),
        }
    }

    /// The service proxy.
    pub fn proxy(&self, share: Cidr, cluster: Cidr) -> mizzen_net::proxy::Config {
        mizzen_net::proxy::Config { instance: self.id.clone(), pod_cidr: share, cluster_cidrs: vec![cluster] }
    }
}

/// The network part of a range as the network crate writes it.
pub fn net_cidr(address: Ipv4Addr, prefix: u8) -> Option<Cidr> {
    Cidr::new(address.into(), prefix)
}

/// FNV-1a: names need to differ, not to be secret.
fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_short_and_differ() {
        let (a, b) = (Instance::of(Path::new("/a")), Instance::of(Path::new("/b")));
        assert_ne!(a.bridge(), b.bridge());
        assert!(a.bridge().len() <= 15);
        assert_eq!(Instance::of(Path::new("/var/lib/mizzen")).bridge(), "mzn-br");
    }
}
