//! The cluster's own certificate authority, the certificates it issues, and the keys that sign tokens.
//!
//! Everything lives in `<data>/pki`, one file a certificate with its key (`ca.pem`, `api-server.pem`, …, `tokens.pem`),
//! mode 0600. The CA and the token keys are the cluster's identity: they are made once, and a damaged file stops the
//! start. All other certificates are re-issued whenever they are due, do not fit, or cannot be read.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use mizzen_api::signing_request::SigningRequest;

mod authority;
mod certificates;
mod error;
pub(crate) mod files;
mod issue;
mod kubeconfig;
#[cfg(test)]
mod tests;
mod tls;
mod token_keys;

use crate::aggregation::FrontProxy;
use authority::Authority;
use certificates::Certificates;
pub use certificates::KUBELET_CLIENT;
pub use error::PkiError;
use tls::ClientCertificate;
pub use token_keys::TokenKeys;

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
    /// Further names or addresses for the API server's certificate.
    pub names: Vec<String>,
    /// `cluster.local`.
    pub cluster_domain: String,
}

/// Who a client certificate speaks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Client {
    /// `kubernetes-admin` in `system:masters`.
    Admin,
    /// `system:node:<name>` in `system:nodes`.
    Node,
    /// The API server towards kubelets: [`KUBELET_CLIENT`] in `system:masters`.
    ApiServerToKubelet,
    /// A server towards the others: `system:mizzen:server:<name>` in [`crate::peers::GROUP`].
    Server,
}

/// The CA, its certificates and the token keys, held in memory and in `<data>/pki`.
pub struct Pki {
    authority: Authority,
    front_proxy: Authority,
    certificates: Certificates,
    token_keys: Arc<TokenKeys>,
    api_server: Arc<rustls::ServerConfig>,
    kubelet: Arc<rustls::ServerConfig>,
    /// In the order of [`Client`].
    clients: [Arc<rustls::ClientConfig>; 4],
}

impl Pki {
    /// Loads what is in the directory, makes what is missing, and re-issues certificates of which more than two thirds of
    /// their life are over or whose names no longer fit. Reads and writes files: about 10 ms the first time.
    pub fn open(options: &Options, now: Timestamp) -> Result<Self, PkiError> {
        files::make_dir(&options.dir)?;
        let authority = Authority::open(&options.dir, "ca", now)?;
        let front_proxy = Authority::open(&options.dir, "front-proxy-ca", now)?;
        let certificates = Certificates::open(options, &authority, &front_proxy, now)?;
        let token_keys = Arc::new(TokenKeys::open(&options.dir)?);
        let ca = &authority.der;
        Ok(Self {
            api_server: tls::server(ca, &certificates.api_server, ClientCertificate::Optional)?,
            kubelet: tls::server(ca, &certificates.kubelet, ClientCertificate::Required)?,
            clients: [
                tls::client(ca, &certificates.admin)?,
                tls::client(ca, &certificates.node)?,
                tls::client(ca, &certificates.to_kubelet)?,
                tls::client(ca, &certificates.server)?,
            ],
            authority,
            front_proxy,
            certificates,
            token_keys,
        })
    }

    /// The CA certificate, PEM.
    pub fn ca_pem(&self) -> &str {
        &self.authority.pem
    }

    /// An admin kubeconfig for this server address, with certificates embedded (YAML).
    pub fn admin_kubeconfig(&self, server: &str) -> String {
        kubeconfig::render(server, self.ca_pem(), "kubernetes-admin", &self.certificates.admin.current().pem)
    }

    /// TLS of the API server: client certificates optional, verified against the CA; ALPN h2, http/1.1. It serves
    /// renewed certificates without being rebuilt.
    pub fn server_config(&self) -> Arc<rustls::ServerConfig> {
        Arc::clone(&self.api_server)
    }

    /// TLS of the kubelet's port: as [`Pki::server_config`], with the kubelet's serving certificate, and a client
    /// certificate is required. Any certificate of this CA passes: the agent must still ask who it is
    /// ([`crate::auth::certificate_identity`]) and answer only [`KUBELET_CLIENT`].
    pub fn kubelet_server_config(&self) -> Arc<rustls::ServerConfig> {
        Arc::clone(&self.kubelet)
    }

    /// TLS of a client that trusts this CA and presents `client`'s certificate, renewed ones without being rebuilt.
    /// It offers no ALPN: set `alpn_protocols` on a clone.
    pub fn client_config(&self, client: Client) -> Arc<rustls::ClientConfig> {
        let [admin, node, to_kubelet, server] = &self.clients;
        Arc::clone(match client {
            Client::Admin => admin,
            Client::Node => node,
            Client::ApiServerToKubelet => to_kubelet,
            Client::Server => server,
        })
    }

    /// A certificate (PEM) for the key of someone's request, with the subject and names that it asks for; the caller has
    /// found that they may have it. It lives for `life`, at least ten minutes and at most a year.
    pub fn sign(
        &self,
        request: &SigningRequest,
        usages: &[String],
        life: Option<SignedDuration>,
        now: Timestamp,
    ) -> Result<String, PkiError> {
        issue::issue(&self.authority, request, usages, life, now)
    }

    /// What aggregated API servers know the API server by.
    pub fn front_proxy(&self) -> FrontProxy {
        FrontProxy {
            certificate: tls::shown(&self.certificates.front_proxy),
            ca_pem: self.front_proxy.pem.clone(),
            client_ca_pem: self.authority.pem.clone(),
        }
    }

    /// The keys of tokens.
    pub fn token_keys(&self) -> Arc<TokenKeys> {
        Arc::clone(&self.token_keys)
    }

    /// Re-issues what is due; to be called now and then (hourly). Answers when the next one will be due.
    pub fn renew_due(&self, now: Timestamp) -> Result<Timestamp, PkiError> {
        self.certificates.renew_due(&self.authority, &self.front_proxy, now)
    }
}
