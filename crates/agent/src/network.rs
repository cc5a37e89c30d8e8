//! What the agent asks of the network: an interface for each pod, and tables for Services and names.

pub mod local;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use futures_util::future::BoxFuture;
use mizzen_net::dns::Zone;
use mizzen_net::service::ServiceTable;

/// The network could not do as asked.
#[derive(Debug, thiserror::Error)]
#[error("network of pod {pod}: {what}")]
pub struct NetworkError {
    /// The pod's uid; empty if it is about the node.
    pub pod: String,
    /// What was being done.
    pub what: String,
    /// The cause.
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

type Answer<'a, T> = BoxFuture<'a, Result<T, NetworkError>>;

/// The network of a node.
pub trait Network: Send + Sync + 'static {
    /// Puts an interface into a pod's network namespace; its addresses, the primary first.
    fn attach<'a>(&'a self, pod_uid: &'a str, namespace: PathBuf) -> Answer<'a, Vec<IpAddr>>;
    /// Takes over the pods that outlived the agent, and frees what belongs to others: the addresses of those it knows.
    fn adopt<'a>(&'a self, pod_uids: &'a [String]) -> Answer<'a, BTreeMap<String, Vec<IpAddr>>>;
    /// Frees a pod's addresses and interface; nothing to do is `Ok`.
    fn detach<'a>(&'a self, pod_uid: &'a str) -> Answer<'a, ()>;
    /// Makes Services lead where the table says.
    fn apply_services(&self, table: ServiceTable) -> Answer<'_, ()>;
    /// Makes names mean what the zone says.
    fn apply_names(&self, zone: Zone) -> Answer<'_, ()>;
}
