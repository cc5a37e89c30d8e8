//! Whom to call: read from a webhook's `clientConfig` or from a kubeconfig file.

use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderValue, Uri};
use mizzen_client::Kubeconfig;
use serde_json::Value;

/// The port of services and URLs that name none.
const HTTPS: u16 = 443;

/// Whom to call and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Destination {
    /// Who answers; connections are shared by all destinations with the same.
    pub origin: Origin,
    /// Path, and query if the configuration has one.
    pub path: String,
    /// `Authorization`, if the configuration has credentials.
    pub authorization: Option<HeaderValue>,
}

/// Who answers, and how they are known.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Origin {
    /// Where to connect to.
    pub place: Place,
    /// The name that the certificate must be for, where it is not that of the place.
    pub server_name: Option<String>,
    /// Whose certificates are believed.
    pub trust: Trust,
    /// How this server introduces itself.
    pub client: Client,
}

/// Where to connect to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Place {
    /// A host and port.
    Host {
        /// Name or address.
        host: String,
        /// TCP port; 443 where the URL has none.
        port: Option<u16>,
    },
    /// A Service of the cluster.
    Service {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// The Service's port.
        port: u16,
    },
}

/// Whose certificates are believed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Trust {
    /// The authorities that this machine trusts.
    System,
    /// Those of a PEM bundle.
    Bundle(Bytes),
    /// Anyone: the configuration says so.
    Anyone,
}

/// How this server introduces itself in TLS.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Client {
    /// Not at all.
    Anonymous,
    /// With this certificate and key, PEM.
    Certificate {
        /// The chain.
        chain: Bytes,
        /// Its key.
        key: Bytes,
    },
    /// As the front proxy, whose word about users is believed.
    FrontProxy,
}

/// A configuration that names nobody to call.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DestinationError {
    /// Neither URL nor service.
    #[error("webhook configuration must have either service or URL")]
    Nowhere,
    /// The URL cannot be used.
    #[error("invalid URL {0:?}: only https URLs with a host can be called")]
    Url(String),
    /// The CA bundle is no base64.
    #[error("caBundle is not base64")]
    Bundle,
    /// The kubeconfig cannot be used.
    #[error("{0}")]
    Kubeconfig(String),
}

impl Destination {
    /// From `clientConfig` of a webhook or a CRD's conversion.
    pub fn from_client_config(config: &Value) -> Result<Self, DestinationError> {
        let trust = match config["caBundle"].as_str().unwrap_or_default() {
            "" => Trust::System,
            text => Trust::Bundle(STANDARD.decode(text.trim()).map_err(|_| DestinationError::Bundle)?.into()),
        };
        if let Some(service) = config.get("service").filter(|service| service.is_object()) {
            let text = |field: &str| service[field].as_str().unwrap_or_default();
            let port = service["port"].as_u64().and_then(|port| u16::try_from(port).ok()).unwrap_or(HTTPS);
            return Ok(Self::service(text("namespace"), text("name"), port, text("path"), trust));
        }
        match config["url"].as_str() {
            Some(url) => Self::url(url, trust),
            None => Err(DestinationError::Nowhere),
        }
    }

    /// A Service, known by the name `<name>.<namespace>.svc`.
    pub fn service(namespace: &str, name: &str, port: u16, path: &str, trust: Trust) -> Self {
        let place = Place::Service { namespace: namespace.into(), name: name.into(), port };
        let path = if path.starts_with('/') { path.to_string() } else { format!("/{path}") };
        let origin = Origin { place, server_name: None, trust, client: Client::Anonymous };
        Self { origin, path, authorization: None }
    }

    /// An https URL.
    pub fn url(url: &str, trust: Trust) -> Result<Self, DestinationError> {
        let bad = || DestinationError::Url(url.to_string());
        let uri: Uri = url.parse().map_err(|_| bad())?;
        if uri.scheme_str() != Some("https") {
            return Err(bad());
        }
        let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(bad)?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_string();
        let place = Place::Host { host, port: uri.port_u16() };
        let origin = Origin { place, server_name: None, trust, client: Client::Anonymous };
        let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_string();
        Ok(Self { origin, path, authorization: None })
    }

    /// The server that the current context of a kubeconfig names, as authentication and authorization webhooks are
    /// configured with. Reads the files that it refers to.
    pub fn from_kubeconfig(text: &str) -> Result<Self, DestinationError> {
        let failed = |error: mizzen_client::KubeconfigError| DestinationError::Kubeconfig(error.to_string());
        let access = Kubeconfig::parse(text).map_err(failed)?.access().map_err(failed)?;
        let trust = match access.ca_pem {
            _ if access.insecure => Trust::Anyone,
            Some(pem) => Trust::Bundle(pem.into()),
            None => Trust::System,
        };
        let mut destination = Self::url(&access.server, trust)?;
        destination.origin.server_name = access.server_name;
        if let Some((chain, key)) = access.client_pem {
            destination.origin.client = Client::Certificate { chain: chain.into(), key: key.into() };
        }
        let authorization = match (access.token, access.basic) {
            (Some(token), _) => Some(format!("Bearer {token}")),
            (None, Some((user, password))) => Some(format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))),
            (None, None) => None,
        };
        if let Some(text) = authorization {
            let mut value = HeaderValue::try_from(text)
                .map_err(|_| DestinationError::Kubeconfig("the credentials are no header value".into()))?;
            value.set_sensitive(true);
            destination.authorization = Some(value);
        }
        Ok(destination)
    }

    /// The request target: the path with `query` appended.
    pub fn target(&self, query: &str) -> String {
        match (query, self.path.contains('?')) {
            ("", _) => self.path.clone(),
            (query, true) => format!("{}&{query}", self.path),
            (query, false) => format!("{}?{query}", self.path),
        }
    }

    /// A target as a URL, for people.
    pub fn shown(&self, target: &str) -> String {
        format!("https://{}{target}", self.origin.authority())
    }
}

impl Origin {
    /// Host and port as URLs write them.
    pub fn authority(&self) -> String {
        match &self.place {
            Place::Host { host, port } => {
                let mut out = if host.contains(':') { format!("[{host}]") } else { host.clone() };
                if let Some(port) = port {
                    // Writing to a String cannot fail.
                    let _ = write!(out, ":{port}");
                }
                out
            }
            Place::Service { namespace, name, port } => format!("{name}.{namespace}.svc:{port}"),
        }
    }

    /// The name that the certificate must be for.
    pub fn tls_name(&self) -> String {
        match (&self.server_name, &self.place) {
            (Some(name), _) => name.clone(),
            (None, Place::Host { host, .. }) => host.clone(),
            (None, Place::Service { namespace, name, .. }) => format!("{name}.{namespace}.svc"),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn configurations_say_whom_to_call() {
        for (config, expected) in [
            (
                json!({"service": {"namespace": "n", "name": "s"}}),
                "https://s.n.svc:443/?timeout=10s as s.n.svc trusting System",
            ),
            (
                json!({"service": {"namespace": "n", "name": "s", "port": 8443, "path": "/a/b"}, "caBundle": "YWJj"}),
                "https://s.n.svc:8443/a/b?timeout=10s as s.n.svc trusting Bundle(b\"abc\")",
            ),
            (json!({"url": "https://h/x?a=b"}), "https://h/x?a=b&timeout=10s as h trusting System"),
            (json!({"url": "https://[::1]:9443"}), "https://[::1]:9443/?timeout=10s as ::1 trusting System"),
            (json!({"url": "http://h"}), "invalid URL \"http://h\": only https URLs with a host can be called"),
            (json!({"url": "https://h", "caBundle": "?"}), "caBundle is not base64"),
            (json!({}), "webhook configuration must have either service or URL"),
        ] {
            let got = match Destination::from_client_config(&config) {
                Ok(to) => format!(
                    "{} as {} trusting {:?}",
                    to.shown(&to.target("timeout=10s")),
                    to.origin.tls_name(),
                    to.origin.trust
                ),
                Err(error) => error.to_string(),
            };
            assert_eq!(got, expected, "{config}");
        }
    }

    #[test]
    fn kubeconfigs_say_whom_to_call() {
        let text = "clusters: [{name: c, cluster: {server: 'https://a:1/authn', insecure-skip-tls-verify: true, tls-server-name: b}}]\n\
            users: [{name: u, user: {username: x, password: y}}]\ncontexts: [{name: x, context: {cluster: c, user: u}}]\ncurrent-context: x\n";
        let to = Destination::from_kubeconfig(text).unwrap();
        assert_eq!((to.shown(&to.path), to.origin.tls_name()), ("https://a:1/authn".into(), "b".into()));
        assert_eq!((to.origin.trust, to.authorization.unwrap().to_str().unwrap()), (Trust::Anyone, "Basic eDp5"));
    }
}
