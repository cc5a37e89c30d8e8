//! The way to the nodes: logs, exec, attach, port-forward and proxies, passed on as bytes (api-facts §12).

use std::sync::Arc;

use tokio_rustls::TlsConnector;

/// Connects to kubelets with the API server's client certificate.
#[derive(Clone)]
pub(crate) struct NodeClient {
    tls: TlsConnector,
}

impl NodeClient {
    /// A client with this TLS configuration.
    pub fn new(tls: Arc<rustls::ClientConfig>) -> Self {
        Self { tls: TlsConnector::from(tls) }
    }
}
