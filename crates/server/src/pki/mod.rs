//! The cluster's own certificate authority, the certificates it issues, and the keys that sign tokens.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;

/// What the certificates are for.
#[derive(Debug, Clone)]
pub struct Options {
    /// `<data>/pki`.
    pub dir: PathBuf,
    /// The name of this node.
    pub node_name: String,
    /// The first address of the service CIDR.
    pub service_address: IpAddr,
    /// This machine's addresses, for the serving certificates.
    pub addresses: Vec<IpAddr>,
    /// Further DNS names for the serving certificate.
    pub names: Vec<String>,
    /// `cluster.local`.
    pub cluster_domain: String,
}

/// Why keys or certificates cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// A file cannot be read or written.
    #[error("{path}: cannot be read or written")]
    File {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
}

/// Who a client certificate speaks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Client {
    /// `kubernetes-admin` in `system:masters`.
    Admin,
    /// `system:node:<name>` in `system:nodes`.
    Node,
    /// The API server towards kubelets.
    ApiServerToKubelet,
}

/// The keys that sign ServiceAccount tokens.
pub struct TokenKeys {}

/// The CA, its certificates and the token keys, held in memory and in `<data>/pki`.
pub struct Pki(Never);

enum Never {}

impl Pki {
    /// Loads what is in the directory, makes what is missing, and re-issues certificates of which more than two thirds of
    /// their life are over or whose names no longer fit.
    pub fn open(options: &Options, now: Timestamp) -> Result<Self, PkiError> {
        let _ = now;
        Err(PkiError::File {
            path: options.dir.clone(),
            source: std::io::ErrorKind::Unsupported.into(),
        })
    }

    /// The CA certificate, PEM.
    pub fn ca_pem(&self) -> &str {
        match self.0 {}
    }

    /// An admin kubeconfig for this server address, with certificates embedded (YAML).
    pub fn admin_kubeconfig(&self, _server: &str) -> String {
        match self.0 {}
    }

    /// TLS of the API server: client certificates optional, verified against the CA; ALPN h2, http/1.1. It serves
    /// renewed certificates without being rebuilt.
    pub fn server_config(&self) -> Arc<rustls::ServerConfig> {
        match self.0 {}
    }

    /// TLS of the kubelet's port: as [`Pki::server_config`], with the kubelet's serving certificate.
    pub fn kubelet_server_config(&self) -> Arc<rustls::ServerConfig> {
        match self.0 {}
    }

    /// TLS of a client that trusts this CA and presents `client`'s certificate, renewed ones without being rebuilt.
    pub fn client_config(&self, _client: Client) -> Arc<rustls::ClientConfig> {
        match self.0 {}
    }

    /// The keys of tokens.
    pub fn token_keys(&self) -> Arc<TokenKeys> {
        match self.0 {}
    }

    /// Re-issues what is due; to be called now and then (hourly). Answers when to call next.
    pub fn renew_due(&self, _now: Timestamp) -> Result<Timestamp, PkiError> {
        match self.0 {}
    }
}
