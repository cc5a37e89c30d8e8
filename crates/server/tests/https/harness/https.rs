//! An HTTPS server of a test: a webhook or an aggregated API server that answers as the test says, well or badly.

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// What a request is answered with.
pub enum Reply {
    /// 200 and JSON.
    Json(Value),
    /// A code and bytes as text.
    Text(u16, Vec<u8>),
    /// Nothing, ever.
    Hang,
}

/// A request as it arrived.
pub struct Asked {
    pub method: String,
    pub path: String,
    pub query: String,
    pub headers: http::HeaderMap,
    pub body: Bytes,
    /// The DER of the client's certificate.
    pub client: Option<Vec<u8>>,
}

impl Asked {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

type Answer = dyn Fn(&Asked) -> Reply + Send + Sync;

/// A running server.
pub struct Https {
    pub port: u16,
    /// The authority that signed its certificate.
    pub ca_pem: String,
    /// All that was asked so far.
    pub asked: Arc<Mutex<Vec<Asked>>>,
    serving: tokio::task::JoinHandle<()>,
}

impl Drop for Https {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Https {
    /// Serves with a certificate for these names. Clients may show certificates of `clients` (PEM).
    pub async fn start(
        names: &[&str],
        clients: Option<&str>,
        answer: impl Fn(&Asked) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(names.iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap();
        let certificate = params.signed_by(&key, &ca).unwrap();
        let key = rustls_pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider));
        let builder = builder.with_safe_default_protocol_versions().unwrap();
        let builder = match clients {
            Some(pem) => {
                let mut roots = rustls::RootCertStore::empty();
                use rustls_pki_types::pem::PemObject;
                roots.add(rustls_pki_types::CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()).unwrap();
                let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                builder.with_client_cert_verifier(verifier.build().unwrap())
            }
            None => builder.with_no_client_auth(),
        };
        let tls = builder.with_single_cert(vec![certificate.der().clone()], key).unwrap();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let answer: Arc<Answer> = Arc::new(answer);
        let serving = tokio::spawn(serve(listener, TlsAcceptor::from(Arc::new(tls)), answer, Arc::clone(&asked)));
        Self { port, ca_pem: ca.pem(), asked, serving }
    }

    /// The authority as `caBundle` has it.
    pub fn ca_bundle(&self) -> String {
        STANDARD.encode(&self.ca_pem)
    }

    /// How often paths that begin so were asked for.
    pub fn count(&self, path: &str) -> usize {
        self.asked.lock().unwrap().iter().filter(|asked| asked.path.starts_with(path)).count()
    }

    /// The bodies of what was asked for at a path.
    pub fn bodies(&self, path: &str) -> Vec<Value> {
        self.asked.lock().unwrap().iter().filter(|asked| asked.path == path).map(Asked::json).collect()
    }
}

async fn serve(listener: TcpListener, acceptor: TlsAcceptor, answer: Arc<Answer>, seen: Arc<Mutex<Vec<Asked>>>) {
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let (acceptor, answer, seen) = (acceptor.clone(), Arc::clone(&answer), Arc::clone(&seen));
        connections.spawn(async move {
            let Ok(stream) = acceptor.accept(stream).await else { return };
            let client = stream.get_ref().1.peer_certificates().and_then(|c| c.first()).map(|c| c.to_vec());
            let service = service_fn(move |request: Request<Incoming>| {
                respond(request, Arc::clone(&answer), Arc::clone(&seen), client.clone())
            });
            // Clients that give up break the connection.
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn respond(
    request: Request<Incoming>,
    answer: Arc<Answer>,
    seen: Arc<Mutex<Vec<Asked>>>,
    client: Option<Vec<u8>>,
) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let (parts, body) = request.into_parts();
    let asked = Asked {
        method: parts.method.to_string(),
        path: parts.uri.path().to_string(),
        query: parts.uri.query().unwrap_or_default().to_string(),
        headers: parts.headers,
        body: body.collect().await?.to_bytes(),
        client,
    };
    let reply = answer(&asked);
    seen.lock().unwrap().push(asked);
    let (code, kind, body) = match reply {
        Reply::Json(value) => (200, "application/json", value.to_string().into_bytes()),
        Reply::Text(code, bytes) => (code, "text/plain", bytes),
        Reply::Hang => std::future::pending().await,
    };
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = http::StatusCode::from_u16(code).unwrap();
    response.headers_mut().insert("content-type", http::HeaderValue::from_static(kind));
    Ok(response)
}
