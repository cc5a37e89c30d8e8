//! The API over HTTPS, for parts on another machine and for the command line.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, USER_AGENT};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::{Client as HyperClient, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

use crate::{Api, ClientError, Request, Response, WatchStream};

/// Largest answer that is read; lists of a full cluster fit, a runaway answer does not.
const ANSWER_MAX: usize = 512 << 20;
/// Largest single watch event: an object is at most 3 MiB, its JSON may be escaped.
const EVENT_MAX: usize = 16 << 20;
/// How long a request other than a watch may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

/// Where the server is and who is asking.
#[derive(Clone)]
pub struct HttpsConfig {
    /// `https://host:port`.
    pub server: String,
    /// PEM of the CA that signed the server's certificate.
    pub ca_pem: Vec<u8>,
    /// PEM of the client certificate and key, if that is how to authenticate.
    pub client_pem: Option<(Vec<u8>, Vec<u8>)>,
    /// Bearer token, if that is how to authenticate.
    pub token: Option<String>,
    /// `User-Agent`, which also names the field manager.
    pub user_agent: String,
}

/// Why no client could be made.
#[derive(Debug, thiserror::Error)]
pub enum HttpsError {
    /// A PEM block cannot be read.
    #[error("{what} is not valid PEM")]
    Pem {
        /// Which one.
        what: &'static str,
        /// The cause.
        #[source]
        source: rustls_pki_types::pem::Error,
    },
    /// TLS refuses the certificates.
    #[error("the certificates cannot be used")]
    Tls(#[from] rustls::Error),
}

/// An [`Api`] over HTTPS; connections are kept and shared.
#[derive(Debug)]
pub struct HttpsApi {
    server: String,
    authorization: Option<String>,
    user_agent: String,
    client: HyperClient<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

impl HttpsApi {
    /// A client for one server. Nothing is sent yet.
    pub fn new(config: &HttpsConfig) -> Result<Self, HttpsError> {
        let tls = tls_config(config)?;
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(Duration::from_secs(10)));
        let connector = hyper_rustls::HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_only()
            .enable_all_versions()
            .wrap_connector(tcp);
        let client = HyperClient::builder(TokioExecutor::new()).build(connector);
        let authorization = config.token.as_ref().map(|t| format!("Bearer {t}"));
        Ok(Self {
            server: config.server.trim_end_matches('/').to_string(),
            authorization,
            user_agent: config.user_agent.clone(),
            client,
        })
    }

    async fn exchange(&self, request: Request) -> Result<http::Response<hyper::body::Incoming>, ClientError> {
        let path = request.path.clone();
        let broken =
            |source: Arc<dyn std::error::Error + Send + Sync>| ClientError::Transport { path: path.clone(), source };
        let mut builder = http::Request::builder()
            .method(request.method)
            .uri(format!("{}{}{}", self.server, request.path, query_string(&request.query)))
            .header(ACCEPT, "application/json")
            .header(USER_AGENT, &self.user_agent);
        if !request.content_type.is_empty() {
            builder = builder.header(CONTENT_TYPE, request.content_type);
        }
        if let Some(value) = &self.authorization {
            builder = builder.header(AUTHORIZATION, value);
        }
        let request = builder.body(Full::new(request.body)).map_err(|e| broken(Arc::new(e)))?;
        self.client.request(request).await.map_err(|e| broken(Arc::new(e)))
    }

    async fn collect(path: &str, answer: http::Response<hyper::body::Incoming>) -> Result<Response, ClientError> {
        let code = answer.status().as_u16();
        let body = Limited::new(answer.into_body(), ANSWER_MAX).collect().await;
        let body = body.map_err(|e| ClientError::Transport { path: path.into(), source: Arc::from(e) })?.to_bytes();
        Ok(Response { code, body })
    }
}

impl Api for HttpsApi {
    fn send(&self, request: Request) -> BoxFuture<'_, Result<Response, ClientError>> {
        Box::pin(async move {
            let path = request.path.clone();
            let whole = async { Self::collect(&path, self.exchange(request).await?).await };
            let late = |_| ClientError::Timeout { path: path.clone(), after: REQUEST_TIMEOUT };
            tokio::time::timeout(REQUEST_TIMEOUT, whole).await.map_err(late)?
        })
    }

    fn watch(&self, request: Request) -> BoxFuture<'_, Result<WatchStream, ClientError>> {
        Box::pin(async move {
            let (method, path) = (request.method.clone(), request.path.clone());
            let answer = self.exchange(request).await?;
            if !answer.status().is_success() {
                let answer = Self::collect(&path, answer).await?;
                return Err(crate::typed::status_error(method, path, &answer));
            }
            let lines = Lines { body: answer.into_body(), buffer: BytesMut::new(), path };
            Ok(Box::pin(futures_util::stream::try_unfold(lines, Lines::next)) as WatchStream)
        })
    }
}

/// Cuts a watch's body into its lines, one event each.
struct Lines {
    body: hyper::body::Incoming,
    buffer: BytesMut,
    path: String,
}

impl Lines {
    async fn next(mut self) -> Result<Option<(Bytes, Self)>, ClientError> {
        let mut searched = 0;
        loop {
            if let Some(at) = self.buffer[searched..].iter().position(|b| *b == b'\n') {
                let line = self.buffer.split_to(searched + at + 1).freeze();
                return Ok(Some((line, self)));
            }
            searched = self.buffer.len();
            if searched > EVENT_MAX {
                let source = Arc::new(std::io::Error::other(format!("a watch event is longer than {EVENT_MAX} bytes")));
                return Err(ClientError::Transport { path: self.path, source });
            }
            match self.body.frame().await {
                Some(Ok(frame)) => {
                    if let Some(data) = frame.data_ref() {
                        self.buffer.extend_from_slice(data);
                    }
                }
                Some(Err(error)) => {
                    return Err(ClientError::Transport { path: self.path, source: Arc::new(error) });
                }
                None => return Ok(None),
            }
        }
    }
}

fn tls_config(config: &HttpsConfig) -> Result<rustls::ClientConfig, HttpsError> {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&config.ca_pem) {
        roots.add(certificate.map_err(|source| HttpsError::Pem { what: "the CA certificate", source })?)?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots);
    let Some((certificate, key)) = &config.client_pem else {
        return Ok(builder.with_no_client_auth());
    };
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(certificate).collect();
    let chain = chain.map_err(|source| HttpsError::Pem { what: "the client certificate", source })?;
    let key =
        PrivateKeyDer::from_pem_slice(key).map_err(|source| HttpsError::Pem { what: "the client key", source })?;
    Ok(builder.with_client_auth_cert(chain, key)?)
}

/// `?a=b&c=d`, percent-encoded; empty for no parameters.
fn query_string(query: &[(String, String)]) -> String {
    let mut out = String::new();
    for (name, value) in query {
        out.push(if out.is_empty() { '?' } else { '&' });
        escape(name, &mut out);
        out.push('=');
        escape(value, &mut out);
    }
    out
}

fn escape(text: &str, out: &mut String) {
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(byte as char),
            _ => {
                use std::fmt::Write;
                // Writing to a String cannot fail.
                let _ = write!(out, "%{byte:02X}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn queries_are_escaped() {
        let query = [("fieldSelector".to_string(), "a=b,c".to_string()), ("x".into(), "ü".into())];
        assert_eq!(super::query_string(&query), "?fieldSelector=a%3Db%2Cc&x=%C3%BC");
        assert_eq!(super::query_string(&[]), "");
    }
}
