//! Calls to a real HTTPS server on loopback that behaves well or badly.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use mizzen_store::{Memory, Store};
use rcgen::{BasicConstraints, CertificateParams, CertifiedKey, IsCa, KeyPair};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{Bounds, Callout, Destination, Trust};

/// A server that answers by path: `/ok` an object, `/hang` never, `/huge` more than is read, `/refuse` an error.
struct Target {
    port: u16,
    pem: String,
    connections: Arc<AtomicUsize>,
    serving: tokio::task::JoinHandle<()>,
}

/// A certificate that is its own authority, as `openssl req -x509` makes them.
fn self_signed(name: &str) -> CertifiedKey<KeyPair> {
    let mut params = CertificateParams::new(vec![name.to_string()]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let signing_key = KeyPair::generate().unwrap();
    CertifiedKey { cert: params.self_signed(&signing_key).unwrap(), signing_key }
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, std::convert::Infallible> {
    let mut response = match request.uri().path() {
        "/ok" => Response::new(Full::from("{}")),
        "/huge" => Response::new(Full::from(vec![b' '; 4096])),
        "/refuse" => {
            let mut refused = Response::new(Full::from("boom"));
            *refused.status_mut() = http::StatusCode::INTERNAL_SERVER_ERROR;
            refused
        }
        _ => std::future::pending().await,
    };
    response.headers_mut().insert("content-type", http::HeaderValue::from_static("text/plain"));
    Ok(response)
}

impl Target {
    async fn start() -> Self {
        let own = self_signed("localhost");
        let key = rustls_pki_types::PrivateKeyDer::try_from(own.signing_key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let tls = tls.with_no_client_auth().with_single_cert(vec![own.cert.der().clone()], key).unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(tls));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let connections = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&connections);
        let serving = tokio::spawn(async move {
            let mut each = tokio::task::JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                count.fetch_add(1, Ordering::Relaxed);
                let acceptor = acceptor.clone();
                each.spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let served = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service_fn(answer));
                    // Clients that give up break the connection.
                    let _ = served.await;
                });
            }
        });
        Self { port, pem: own.cert.pem(), connections, serving }
    }

    fn at(&self, host: &str, path: &str, trust: Trust) -> Destination {
        Destination::url(&format!("https://{host}:{}{path}", self.port), trust).unwrap()
    }
}

async fn call(callout: &Callout, to: &Destination, time: Duration) -> String {
    let store = Memory::default();
    match callout.post(&store.snapshot(), to, "timeout=1s", Bytes::from("{}"), Bounds::within(time, 1024)).await {
        Ok(answer) => String::from_utf8_lossy(&answer).into_owned(),
        Err(error) => error.to_string(),
    }
}

#[tokio::test]
async fn a_bad_target_fails_in_kubernetes_words() {
    let target = Target::start().await;
    let callout = Callout::new(None, TaskTracker::new(), CancellationToken::new());
    let own = Trust::Bundle(target.pem.clone().into());
    let other = Trust::Bundle(self_signed("localhost").cert.pem().into());
    let long = Duration::from_secs(20);
    let port = target.port;
    for (host, path, trust, time, expected) in [
        ("localhost", "/ok", own.clone(), long, "{}".to_string()),
        (
            "localhost",
            "/hang",
            own.clone(),
            Duration::from_millis(200),
            format!("Post \"https://localhost:{port}/hang?timeout=1s\": context deadline exceeded"),
        ),
        (
            "localhost",
            "/huge",
            own.clone(),
            long,
            format!("Post \"https://localhost:{port}/huge?timeout=1s\": the answer is longer than 1024 bytes"),
        ),
        (
            "localhost",
            "/refuse",
            own.clone(),
            long,
            "an error on the server (\"boom\") has prevented the request from succeeding".into(),
        ),
        (
            "127.0.0.1",
            "/ok",
            own,
            long,
            format!(
                "Post \"https://127.0.0.1:{port}/ok?timeout=1s\": tls: failed to verify certificate: x509: certificate \
                 is valid for localhost, not 127.0.0.1"
            ),
        ),
        (
            "localhost",
            "/ok",
            other,
            long,
            format!(
                "Post \"https://localhost:{port}/ok?timeout=1s\": tls: failed to verify certificate: x509: certificate \
                 signed by unknown authority"
            ),
        ),
        ("127.0.0.1", "/ok", Trust::Anyone, long, "{}".into()),
    ] {
        assert_eq!(call(&callout, &target.at(host, path, trust), time).await, expected);
    }
    target.serving.abort();
}

#[tokio::test]
async fn calls_share_connections() {
    let target = Target::start().await;
    let callout = Callout::new(None, TaskTracker::new(), CancellationToken::new());
    let own = Trust::Bundle(target.pem.clone().into());
    for path in ["/ok", "/ok", "/refuse", "/ok"] {
        call(&callout, &target.at("localhost", path, own.clone()), Duration::from_secs(20)).await;
    }
    assert_eq!(target.connections.load(Ordering::Relaxed), 1);
    target.serving.abort();
}
