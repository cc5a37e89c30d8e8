//! The network of the pods on this node: a bridge, addresses, one interface a pod.
//!
//! Pods get single addresses (`/32`) and reach everything through the bridge's address, so that the node sees every
//! packet. All names derive from the instance, so instances on one machine do not meet.

mod attach;
mod firewall;
mod ipam;
pub(crate) mod names;
mod node;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::cidr::Cidr;
use crate::netlink::message::Batch;
use crate::netlink::{self, Family, Socket, route};

/// A pod's interface in its network namespace.
pub const INTERFACE: &str = "eth0";
/// Links vanish with their network namespace, many at once and cheaply. Only what is still there after this is removed
/// one by one, which takes the kernel 14 ms each.
const REMOVAL_DELAY: Duration = Duration::from_secs(2);
/// Too small a range leaves no address for pods: the network's, the gateway's and the last one are not handed out.
const PREFIX_MAX: u8 = 30;

/// How the pod network of a node is set up.
#[derive(Debug, Clone)]
pub struct Config {
    /// Identifies the instance among several on one machine; part of the names of interfaces and tables.
    pub instance: String,
    /// Name of the bridge, at most 15 letters.
    pub bridge: String,
    /// The addresses of this node's pods (IPv4).
    pub pod_cidr: Cidr,
    /// The addresses of all pods of the cluster: traffic to these keeps its source address.
    pub cluster_cidrs: Vec<Cidr>,
    /// The addresses of Services, which the host reaches by the bridge where it has no default route.
    pub service_cidrs: Vec<Cidr>,
    /// Largest packet.
    pub mtu: u32,
    /// Where allocated addresses are remembered.
    pub state_dir: PathBuf,
}

/// The addresses of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodAddress {
    /// All of them, the first being `status.podIP`.
    pub ips: Vec<IpAddr>,
    /// Through which the pod reaches everything.
    pub gateway: IpAddr,
    /// Hardware address.
    pub mac: [u8; 6],
}

impl PodAddress {
    fn new(address: Ipv4Addr, gateway: Ipv4Addr) -> Self {
        Self { ips: vec![address.into()], gateway: gateway.into(), mac: names::mac(address) }
    }

    /// The first address.
    ///
    /// # Panics
    /// Never: a pod's address is only made with one.
    #[must_use]
    pub fn ip(&self) -> IpAddr {
        self.ips[0]
    }
}

/// What can go wrong with the pod network.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The range of pod addresses is of no use.
    #[error("{cidr} cannot hold the addresses of pods: an IPv4 range of at most {PREFIX_MAX} bits is needed")]
    Range {
        /// The range.
        cidr: Cidr,
    },
    /// The bridge's name belongs to something else.
    #[error("the interface {name} exists and is not a bridge")]
    NotABridge {
        /// The name.
        name: String,
    },
    /// A pod's network namespace cannot be entered.
    #[error("cannot enter the network namespace {}", path.display())]
    Netns {
        /// Where it is.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A pod's interface did not appear.
    #[error("the interface {INTERFACE} did not appear in the network namespace {}", path.display())]
    Interface {
        /// The network namespace.
        path: PathBuf,
    },
    /// Addresses cannot be handed out.
    #[error(transparent)]
    Ipam(#[from] ipam::Error),
    /// The kernel refused.
    #[error(transparent)]
    Netlink(#[from] netlink::Error),
    /// The work was given up because the process is ending.
    #[error("the pod network is shutting down")]
    Stopping,
}

/// The pod network of this node. Clones share it; when the last is dropped, its background work ends and the network
/// itself stays as it is, for running pods.
#[derive(Debug, Clone)]
pub struct PodNetwork {
    shared: Arc<Shared>,
    _remover: Arc<Remover>,
}

#[derive(Debug)]
struct Shared {
    config: Config,
    bridge: u32,
    gateway: Ipv4Addr,
    ipam: Mutex<ipam::Ipam>,
    /// Links to remove, by number: a name may be used again before its turn comes, a number is not.
    leftover: Mutex<BTreeSet<u32>>,
    more: Notify,
}

#[derive(Debug)]
struct Remover(JoinHandle<()>);

impl Drop for Remover {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl PodNetwork {
    /// Sets the node's side up, or takes over what an earlier process left; pods that run stay connected.
    ///
    /// # Errors
    /// The range is of no use, the kernel lacks something, or the state folder cannot be read.
    pub async fn open(config: Config) -> Result<Self, Error> {
        let shared = blocking(move || {
            let (gateway, first, last) = usable(&config.pod_cidr)?;
            let ipam = ipam::Ipam::open(config.state_dir.join("addresses"), first, last)?;
            let bridge = node::set_up(&config, gateway)?;
            let leftover = Mutex::default();
            Ok(Shared { config, bridge, gateway, ipam: Mutex::new(ipam), leftover, more: Notify::new() })
        })
        .await?;
        let shared = Arc::new(shared);
        let remover = Remover(tokio::spawn(remove_leftover(Arc::clone(&shared))));
        Ok(Self { shared, _remover: Arc::new(remover) })
    }

    /// The bridge's address, which is the host as pods see it.
    #[must_use]
    pub fn gateway(&self) -> IpAddr {
        self.shared.gateway.into()
    }

    /// Connects a pod. Repeating it changes nothing and answers the same.
    ///
    /// # Errors
    /// No address is free, or the kernel refused; the address is then free again.
    pub async fn attach(&self, netns: &Path, uid: &str) -> Result<PodAddress, Error> {
        let (shared, netns, uid) = (Arc::clone(&self.shared), netns.to_owned(), uid.to_owned());
        blocking(move || {
            let link = names::link(&shared.config.instance, &uid);
            let address = lock(&shared.ipam).allocate(&uid)?;
            let wish = attach::Wish {
                netns: &netns,
                link: &link,
                bridge: shared.bridge,
                mtu: shared.config.mtu,
                address,
                gateway: shared.gateway,
            };
            if let Err(error) = attach::attach(&wish) {
                shared.remove_later(&link)?;
                lock(&shared.ipam).release(&uid)?;
                return Err(error);
            }
            Ok(PodAddress::new(address, shared.gateway))
        })
        .await
    }

    /// Frees a pod's address at once; its interface goes in the background. Repeating it does no harm.
    ///
    /// # Errors
    /// The address could not be freed.
    pub async fn detach(&self, uid: &str) -> Result<(), Error> {
        let (shared, uid) = (Arc::clone(&self.shared), uid.to_owned());
        blocking(move || {
            shared.remove_later(&names::link(&shared.config.instance, &uid))?;
            Ok(lock(&shared.ipam).release(&uid)?)
        })
        .await
    }

    /// After a restart: keeps what belongs to these pods, frees everything else, and tells the addresses kept.
    ///
    /// # Errors
    /// An address could not be freed, or the kernel refused.
    pub async fn adopt(&self, uids: &[String]) -> Result<BTreeMap<String, PodAddress>, Error> {
        let (shared, keep) = (Arc::clone(&self.shared), uids.iter().cloned().collect::<BTreeSet<_>>());
        blocking(move || {
            let mut ipam = lock(&shared.ipam);
            let (kept, gone): (Vec<_>, Vec<_>) =
                ipam.pods().map(|(uid, address)| (uid.to_owned(), address)).partition(|(uid, _)| keep.contains(uid));
            for (uid, _) in gone {
                ipam.release(&uid)?;
            }
            drop(ipam);
            let instance = &shared.config.instance;
            let links: BTreeSet<_> = kept.iter().map(|(uid, _)| names::link(instance, uid)).collect();
            let prefix = names::link_prefix(instance);
            let present = route::links(&mut Socket::open(Family::Route)?)?.into_iter();
            let ours = present.filter(|link| link.name.starts_with(&prefix) && link.kind.as_deref() == Some("veth"));
            shared.leave(ours.filter(|link| !links.contains(&link.name)).map(|link| link.index));
            Ok(kept.into_iter().map(|(uid, address)| (uid, PodAddress::new(address, shared.gateway))).collect())
        })
        .await
    }

    /// Removes everything that `open` and `attach` of this configuration made, whether or not it is there.
    ///
    /// # Errors
    /// Something could not be removed.
    pub async fn clean_up(config: Config) -> Result<(), Error> {
        blocking(move || {
            node::clean_up(&config)?;
            let path = config.state_dir.join("addresses");
            match std::fs::remove_dir_all(&path) {
                Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                    Err(ipam::Error::File { path, source }.into())
                }
                _ => Ok(()),
            }
        })
        .await
    }
}

impl Shared {
    fn remove_later(&self, link: &str) -> Result<(), Error> {
        self.leave(route::link(&mut Socket::open(Family::Route)?, link)?.map(|link| link.index));
        Ok(())
    }

    fn leave(&self, links: impl IntoIterator<Item = u32>) {
        lock(&self.leftover).extend(links);
        self.more.notify_one();
    }
}

async fn remove_leftover(shared: Arc<Shared>) {
    loop {
        shared.more.notified().await;
        tokio::time::sleep(REMOVAL_DELAY).await;
        let links = std::mem::take(&mut *lock(&shared.leftover));
        let removed = blocking(move || {
            let mut socket = Socket::open(Family::Route)?;
            for link in links {
                let mut batch = Batch::new();
                route::delete_link(&mut batch, link);
                match socket.send(&batch) {
                    Err(error) if !error.is_missing() => tracing::warn!(link, %error, "cannot remove an interface"),
                    _ => {}
                }
            }
            Ok(())
        });
        if let Err(error) = removed.await {
            tracing::warn!(%error, "cannot remove interfaces of ended pods");
        }
    }
}

/// The gateway, and the first and the last address for pods.
fn usable(cidr: &Cidr) -> Result<(Ipv4Addr, Ipv4Addr, Ipv4Addr), Error> {
    match cidr.address() {
        IpAddr::V4(network) if cidr.prefix() <= PREFIX_MAX => {
            let network = network.to_bits();
            let broadcast = network | (u32::MAX >> cidr.prefix());
            let [gateway, first, last] = [network + 1, network + 2, broadcast - 1].map(Ipv4Addr::from_bits);
            Ok((gateway, first, last))
        }
        _ => Err(Error::Range { cidr: *cidr }),
    }
}

/// A lock that a panicking thread held is still good: every change under it is one insertion or removal.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Netlink calls take some tenths of a millisecond, but may wait for others' changes in the kernel.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Error> + Send + 'static) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(Error::Stopping))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_tells_gateway_first_and_last() {
        for (range, expected) in [
            ("10.244.0.0/24", Some(("10.244.0.1", "10.244.0.2", "10.244.0.254"))),
            ("10.244.0.0/30", Some(("10.244.0.1", "10.244.0.2", "10.244.0.2"))),
            ("10.244.0.0/31", None),
            ("fd00::/64", None),
        ] {
            let found = usable(&range.parse().unwrap()).ok();
            let expected = expected.map(|(a, b, c)| (a.parse().unwrap(), b.parse().unwrap(), c.parse().unwrap()));
            assert_eq!(found, expected, "{range}");
        }
    }
}
