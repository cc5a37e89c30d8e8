//! The server as its parts: what every request is answered from.

use std::sync::Arc;

use mizzen_client::Api;
use mizzen_store::{Snapshot, Store};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admission::policy::Policies;
use crate::admission::webhook::Webhooks;
use crate::aggregation::{Aggregation, FrontProxy};
use crate::auth::{Attributes, Authenticator, Authorizer, Identity, tokens::TokenIssuer};
use crate::callout::Callout;
use crate::config::{Config, Security};
use crate::crd::Definitions;
use crate::documents::Documents;
use crate::flow::Flow;
use crate::health::Health;
use crate::local::LocalApi;
use crate::metrics::Metrics;
use crate::node_metrics;
use crate::proxy::NodeClient;
use crate::watch::Rendered;

/// The API server. Cheap to clone; all clones are one server.
#[derive(Clone)]
pub struct Server {
    pub(crate) core: Arc<Core>,
}

/// What requests are answered from.
pub(crate) struct Core {
    pub config: Config,
    pub store: Arc<dyn Store>,
    pub authenticator: Authenticator,
    pub authorizer: Authorizer,
    pub issuer: Arc<TokenIssuer>,
    /// The kinds that were defined at run time.
    pub definitions: Definitions,
    pub documents: Documents,
    pub nodes: Option<NodeClient>,
    /// The way to webhooks and aggregated API servers.
    pub callout: Arc<Callout>,
    /// The admission webhooks that are registered.
    pub webhooks: Webhooks,
    /// The admission policies that are bound.
    pub policies: Policies,
    /// Other API servers behind this one.
    pub aggregation: Aggregation,
    /// What they know this one by.
    pub front_proxy: Option<FrontProxy>,
    /// What nodes and pods use.
    pub node_metrics: node_metrics::Source,
    pub metrics: Metrics,
    pub health: Health,
    /// What watchers of one change share.
    pub rendered: Rendered,
    /// Seats of requests under way.
    pub flow: Flow,
    /// Ends watches and streams when the server stops.
    pub closing: CancellationToken,
    /// What goes on beside the requests: streams between clients and nodes.
    pub tasks: TaskTracker,
}

impl Server {
    /// A server over a store. It answers in process at once, and over HTTP once [`Server::serve`] runs.
    pub fn new(config: Config, store: Arc<dyn Store>, security: Security) -> Self {
        let Security { authenticator, authorizer, issuer, kubelet_tls, front_proxy } = security;
        let flow = Flow::new(config.max_requests);
        let (closing, tasks) = (CancellationToken::new(), TaskTracker::new());
        let certificate = front_proxy.as_ref().map(|proxy| Arc::clone(&proxy.certificate));
        let callout = Arc::new(Callout::new(certificate, tasks.clone(), closing.clone()));
        let core = Core {
            config,
            store,
            authenticator,
            authorizer,
            issuer,
            definitions: Definitions::default(),
            documents: Documents::default(),
            nodes: kubelet_tls.map(NodeClient::new),
            callout,
            webhooks: Webhooks::default(),
            policies: Policies::default(),
            aggregation: Aggregation::default(),
            front_proxy,
            node_metrics: node_metrics::Source::default(),
            metrics: Metrics::default(),
            health: Health::default(),
            rendered: Rendered::default(),
            flow,
            closing,
            tasks,
        };
        Self { core: Arc::new(core) }
    }

    /// The API for a part of this process. It skips HTTP and TLS, never authorization, admission or validation.
    pub fn api_as(&self, identity: Identity) -> Arc<dyn Api> {
        Arc::new(LocalApi::new(Arc::clone(&self.core), Arc::new(identity)))
    }

    /// Signs and verifies the tokens of ServiceAccounts.
    pub fn tokens(&self) -> &TokenIssuer {
        &self.core.issuer
    }

    /// Whether someone may do something, in a state: for parts of this process that decide for others.
    pub fn may(&self, snapshot: &Snapshot, who: &Identity, what: &Attributes<'_>) -> bool {
        self.core.authorizer.allows(snapshot, who, what)
    }

    /// What is counted, and served at `/metrics`; parts of the process add theirs.
    pub fn metrics(&self) -> &Metrics {
        &self.core.metrics
    }

    /// The checks behind `/healthz`, `/livez` and `/readyz`; parts of the process add theirs.
    pub fn health(&self) -> &Health {
        &self.core.health
    }
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Server {{ services: {}, connections: {} }}",
            self.core.config.service_cidr,
            self.core.metrics.connections()
        )
    }
}
