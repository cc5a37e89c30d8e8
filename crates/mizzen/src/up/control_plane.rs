//! The control plane: store, API server, controllers, scheduler.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use k8s_openapi::api::core::v1::Node;
use mizzen_api::key;
use mizzen_client::Api;
use mizzen_metrics::Source;
use mizzen_server::at_rest::{Envelope, Kms};
use mizzen_server::auth::tokens::TokenIssuer;
use mizzen_server::auth::{Authenticator, Authorizer, Identity, Outside};
use mizzen_server::pki::{Client, Pki};
use mizzen_server::{Config, Security, Server};
use mizzen_store::{Embedded, Options, Revision, Store};

use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::authority::Authority;
use crate::error::Result;
use crate::secrets::Sealing;
use crate::settings::{CLUSTER_DOMAIN, Settings};

/// An opened store, not yet served.
pub struct ControlPlane {
    store: Arc<Embedded>,
    /// The plugin that keeps the key of encrypted data, and what it keeps it for.
    kms: Option<(Arc<Kms>, Arc<Envelope>)>,
}

/// A running control plane.
#[derive(Clone)]
pub struct Running {
    store: Arc<Embedded>,
    server: Server,
}

impl ControlPlane {
    /// Opens the store; a data directory that another mizzen holds is refused.
    pub fn open(settings: &Settings) -> Result<Self> {
        let Sealing { envelope, kms } = settings.encryption.open(&settings.data_dir)?;
        let seal = Arc::clone(&envelope) as Arc<dyn mizzen_store::Seal>;
        let store = Embedded::open_sealed(settings.data_dir.join("store"), Options::default(), Some(seal))?;
        Ok(Self { store: Arc::new(store), kms: kms.map(|kms| (kms, envelope)) })
    }

    /// Writes the objects that every cluster starts with and serves.
    pub async fn start(
        self,
        settings: &Settings,
        pki: &Arc<Pki>,
        listener: TcpListener,
        advertise: IpAddr,
        shutdown: &CancellationToken,
        parts: &mut JoinSet<Result<&'static str>>,
    ) -> Result<Running> {
        let store: Arc<dyn Store> = Arc::clone(&self.store) as Arc<dyn Store>;
        let port = listener.local_addr()?.port();
        let audit = settings.audit.open(&settings.data_dir)?;
        let config = Config { service_cidr: settings.service_cidr, advertise, port, audit, ..Config::default() };
        let outside = settings.authentication.open()?;
        let server = Server::new(config, Arc::clone(&store), security(pki, outside, settings.authorization.open()?));
        server.bootstrap_core().await?;
        let (serving, tls, stop) = (server.clone(), pki.server_config(), shutdown.clone());
        parts.spawn(async move {
            serving.serve(listener, tls, stop).await;
            Ok("the API server")
        });
        if let Some((kms, envelope)) = self.kms {
            let (check, stop) = (server.health().live_check("kms-providers"), shutdown.clone());
            parts.spawn(async move {
                kms.follow(&envelope, &check, stop).await;
                Ok("the KMS plugin")
            });
        }
        let authority = Arc::new(Authority::new(Arc::clone(pki), server.clone()));
        let controllers = mizzen_controllers::all(&mizzen_controllers::Settings {
            root_ca_pem: pki.ca_pem().to_string(),
            pod_range: settings.pod_range,
            cluster_dns: settings.cluster_dns().to_string(),
            server: format!("https://{}", SocketAddr::new(advertise, port)),
            issuer: Arc::clone(&authority) as Arc<dyn mizzen_controllers::tokens::Issuer>,
            authority,
        });
        let (api, of_store, stop) = (server.clone(), Arc::clone(&store), shutdown.clone());
        let started = server.health().ready_check("controllers");
        let stats = Arc::new(mizzen_controllers::shell::Stats::default());
        server.metrics().register(Arc::clone(&stats) as Arc<dyn Source>);
        parts.spawn(async move {
            let api = |name: &str| api.api_as(service_account(name));
            started.set(true);
            mizzen_controllers::shell::run(controllers, of_store, api, stats, stop).await;
            Ok("the controllers")
        });
        let (api, stop) = (server.api_as(user("system:kube-scheduler", &[])), shutdown.clone());
        let started = server.health().ready_check("scheduler");
        let stats = Arc::new(mizzen_scheduler::stats::Stats::default());
        server.metrics().register(Arc::clone(&stats) as Arc<dyn Source>);
        parts.spawn(async move {
            started.set(true);
            mizzen_scheduler::shell::run(store, api, stats, stop).await;
            Ok("the scheduler")
        });
        Ok(Running { store: self.store, server })
    }
}

impl Running {
    /// The API as a node's agent sees it.
    pub fn node_api(&self, node: &str) -> Arc<dyn Api> {
        self.server.api_as(user(&format!("system:node:{node}"), &["system:nodes"]))
    }

    /// Waits until a node is ready and nothing keeps pods off it.
    pub async fn node_schedulable(&self, name: &str) {
        let key = key::of::<Node>("", name);
        let mut seen = Revision(0);
        loop {
            let snapshot = self.store.snapshot();
            if snapshot.get_as::<Node>(&key).is_some_and(|node| takes_pods(&node)) {
                return;
            }
            seen = seen.max(snapshot.revision());
            self.store.reached(Revision(seen.0 + 1)).await;
        }
    }

    /// Closes the store; everything acknowledged is on disk already.
    pub async fn close(&self) {
        self.store.shutdown().await;
    }
}

fn takes_pods(node: &Node) -> bool {
    let conditions = node.status.as_ref().and_then(|s| s.conditions.as_deref()).unwrap_or_default();
    let ready = conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True");
    let tainted = node.spec.as_ref().and_then(|s| s.taints.as_ref()).is_some_and(|t| !t.is_empty());
    ready && !tainted
}

fn security(pki: &Pki, outside: Option<Outside>, authorizer: Authorizer) -> Security {
    let issuer = format!("https://kubernetes.default.svc.{CLUSTER_DOMAIN}");
    let issuer = Arc::new(TokenIssuer::new(pki.token_keys(), issuer, Vec::new()));
    let authenticator = Authenticator::new(Arc::clone(&issuer));
    Security {
        authenticator: match outside {
            Some(outside) => authenticator.with_outside(outside),
            None => authenticator,
        },
        authorizer,
        issuer,
        kubelet_tls: Some(pki.client_config(Client::ApiServerToKubelet)),
        front_proxy: Some(pki.front_proxy()),
    }
}

fn service_account(name: &str) -> Identity {
    user(
        &format!("system:serviceaccount:kube-system:{name}"),
        &["system:serviceaccounts", "system:serviceaccounts:kube-system"],
    )
}

fn user(name: &str, groups: &[&str]) -> Identity {
    let groups = groups.iter().chain(&["system:authenticated"]).map(ToString::to_string).collect();
    Identity { user: name.into(), groups, ..Identity::default() }
}
