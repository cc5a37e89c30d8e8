//! The agent's network, set up as soon as the node has its share of the pod addresses; until then pods wait for it.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use k8s_openapi::api::core::v1::Node;
use mizzen_agent::network::local::{LocalNetwork, ServedDns};
use mizzen_agent::{Network, NetworkError};
use mizzen_client::Reflector;
use mizzen_net::cidr::Cidr;
use mizzen_net::dns::{self, DnsServer, Zone};
use mizzen_net::pod::PodNetwork;
use mizzen_net::proxy::Proxy;
use mizzen_net::service::ServiceTable;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::error::Result;
use crate::instance::Instance;
use crate::settings::CLUSTER_DOMAIN;

/// What the network needs to know besides the node's share.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Names.
    pub instance: Instance,
    /// Pod addresses of the cluster.
    pub cluster: Cidr,
    /// Addresses of Services.
    pub services: Cidr,
    /// The cluster's DNS address, which the host's own resolver must not be asked through.
    pub cluster_dns: IpAddr,
}

/// The agent's network.
#[derive(Debug, Clone)]
pub struct NodeNetwork {
    ready: watch::Receiver<Option<Arc<LocalNetwork>>>,
}

impl NodeNetwork {
    /// The network of the node that `nodes` holds, and the future that sets it up: the caller spawns it; it ends when
    /// `shutdown` is cancelled.
    pub fn new(
        plan: Plan,
        nodes: Reflector<Node>,
        shutdown: CancellationToken,
    ) -> (Self, impl Future<Output = Result<&'static str>> + Send) {
        let (sender, ready) = watch::channel(None);
        let set_up = async move {
            let share = tokio::select! {
                share = share(nodes) => share,
                () = shutdown.cancelled() => return Ok("the network"),
            };
            let network = open(&plan, share).await?;
            sender.send_replace(Some(Arc::new(network)));
            shutdown.cancelled().await;
            Ok("the network")
        };
        (Self { ready }, set_up)
    }

    async fn ready(&self, pod: &str) -> std::result::Result<Arc<LocalNetwork>, NetworkError> {
        let mut ready = self.ready.clone();
        let there = ready.wait_for(Option::is_some).await.ok().and_then(|r| r.clone());
        let closing = || std::io::Error::other("the network is shutting down");
        there.ok_or_else(|| NetworkError {
            pod: pod.into(),
            what: "wait for the network".into(),
            source: Box::new(closing()),
        })
    }
}

/// The node's share of the pod addresses, once it has one.
async fn share(nodes: Reflector<Node>) -> Cidr {
    let mut changes = nodes.changes();
    loop {
        let objects = nodes.objects();
        let share = objects.values().find_map(|n| n.spec.as_ref()?.pod_cidr.as_ref()?.parse().ok());
        if let Some(share) = share {
            return share;
        }
        if changes.changed().await.is_err() {
            std::future::pending::<()>().await; // The feeder ended: so will we, by the shutdown token.
        }
    }
}

async fn open(plan: &Plan, share: Cidr) -> Result<LocalNetwork> {
    let pods = PodNetwork::open(plan.instance.pod_network(share, plan.cluster, plan.services)).await?;
    let own = [plan.cluster_dns, pods.gateway()];
    // Without the file there are no upstream servers, and only names of the cluster are answered.
    let resolv_conf = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let config =
        dns::Config { domain: CLUSTER_DOMAIN.into(), upstreams: dns::upstreams_of(&resolv_conf, &own), ttl_seconds: 5 };
    let local = SocketAddr::new(pods.gateway(), 53);
    let dns = ServedDns { server: DnsServer::bind(&[local], config).await?, cluster_ip: plan.cluster_dns, local };
    let proxy = Proxy::new(plan.instance.proxy(share, plan.cluster));
    Ok(LocalNetwork::new(pods, proxy, Some(dns)))
}

type Answer<'a, T> = BoxFuture<'a, std::result::Result<T, NetworkError>>;

impl Network for NodeNetwork {
    fn attach<'a>(&'a self, pod_uid: &'a str, namespace: PathBuf) -> Answer<'a, Vec<IpAddr>> {
        Box::pin(async move { self.ready(pod_uid).await?.attach(pod_uid, namespace).await })
    }

    fn adopt<'a>(&'a self, pod_uids: &'a [String]) -> Answer<'a, BTreeMap<String, Vec<IpAddr>>> {
        Box::pin(async move {
            if pod_uids.is_empty() && self.ready.borrow().is_none() {
                return Ok(BTreeMap::new()); // A new node, or one whose pods are all gone: nothing to wait for.
            }
            self.ready("").await?.adopt(pod_uids).await
        })
    }

    fn detach<'a>(&'a self, pod_uid: &'a str) -> Answer<'a, ()> {
        Box::pin(async move { self.ready(pod_uid).await?.detach(pod_uid).await })
    }

    fn apply_services(&self, table: ServiceTable) -> Answer<'_, ()> {
        Box::pin(async move { self.ready("").await?.apply_services(table).await })
    }

    fn apply_names(&self, zone: Zone) -> Answer<'_, ()> {
        Box::pin(async move { self.ready("").await?.apply_names(zone).await })
    }
}
