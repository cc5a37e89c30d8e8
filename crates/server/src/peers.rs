//! The other servers of the cluster: what the store says to them goes over HTTPS to the API's own port.
//!
//! Each side shows a certificate of the cluster's CA; a request counts only with one that says it is a server's. One
//! HTTP/2 connection a server carries everything: replication, votes and forwarded writes do not wait for one another.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{BoxFuture, FutureExt};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use mizzen_api::status::ApiError;
use mizzen_store::{CommitError, PeerError, Peers, REQUEST_BYTES_MAX};
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio_rustls::TlsConnector;
use tokio_util::task::AbortOnDropHandle;

use crate::answer::Answer;
use crate::auth::Identity;
use crate::server::Core;

/// Where servers answer one another. No resource, no verb: nobody else can be allowed to use it.
pub(crate) const PATH: &str = "/mizzen/v1/peers";
/// The organization of a server's certificate, and so its group.
pub const GROUP: &str = "system:mizzen:servers";

/// An answer is small: only requests carry entries.
const ANSWER_MAX: usize = 1 << 20;
/// A server that cannot be reached within this time is tried again by the store.
const CONNECT: Duration = Duration::from_secs(2);
/// A connection on which nothing comes back for so long is dead.
const KEEPALIVE: Duration = Duration::from_secs(5);

/// [`Peers`] over HTTPS. Addresses are `host:port`.
pub struct Https {
    shared: Arc<Shared>,
    /// Where sockets are driven: the store's own thread drives none.
    runtime: Handle,
}

struct Shared {
    tls: TlsConnector,
    connections: Mutex<HashMap<String, SendRequest<Full<Bytes>>>>,
}

/// Why there is no answer.
enum Failed {
    Unreachable(String),
    Protocol(String),
}

impl std::fmt::Debug for Https {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Https {{ connections: {} }}", self.shared.lock().len())
    }
}

impl Https {
    /// With the TLS of [`crate::pki::Client::Server`]. Sockets are driven by the runtime that this is called on.
    pub fn new(tls: &rustls::ClientConfig) -> Self {
        let mut tls = tls.clone();
        tls.alpn_protocols = vec![b"h2".to_vec()];
        let tls = TlsConnector::from(Arc::new(tls));
        Self { shared: Arc::new(Shared { tls, connections: Mutex::default() }), runtime: Handle::current() }
    }
}

impl Peers for Https {
    fn call(&self, address: &str, request: Bytes) -> BoxFuture<'static, Result<Bytes, PeerError>> {
        let (shared, runtime, address) = (Arc::clone(&self.shared), self.runtime.clone(), address.to_owned());
        async move {
            let (called, at) = (Arc::clone(&shared), address.clone());
            // Ended with this future: the store drops it when it has waited long enough.
            let call = AbortOnDropHandle::new(runtime.spawn(async move { called.call(&at, request).await }));
            let reason = match call.await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(Failed::Protocol(reason))) => return Err(PeerError::Protocol { address, reason }),
                Ok(Err(Failed::Unreachable(reason))) => reason,
                Err(ended) => ended.to_string(),
            };
            shared.lock().remove(&address);
            Err(PeerError::Unreachable { address, reason })
        }
        .boxed()
    }
}

impl Shared {
    async fn call(&self, address: &str, body: Bytes) -> Result<Bytes, Failed> {
        let unreachable = |error: &dyn std::fmt::Display| Failed::Unreachable(error.to_string());
        let mut connection = self.connection(address).await.map_err(|error| unreachable(&error))?;
        connection.ready().await.map_err(|error| unreachable(&error))?;
        let request = Request::builder().method(Method::POST).uri(format!("https://{address}{PATH}"));
        let request = request.body(Full::new(body)).map_err(|error| unreachable(&error))?;
        let response = connection.send_request(request).await.map_err(|error| unreachable(&error))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_MAX).collect().await;
        let body = body.map_err(|error| unreachable(&error))?.to_bytes();
        if status == StatusCode::OK {
            return Ok(body);
        }
        Err(Failed::Protocol(format!("{status}: {}", String::from_utf8_lossy(&body))))
    }

    async fn connection(&self, address: &str) -> io::Result<SendRequest<Full<Bytes>>> {
        if let Some(open) = self.lock().get(address).filter(|open| !open.is_closed()) {
            return Ok(open.clone());
        }
        let opened = tokio::time::timeout(CONNECT, self.open(address)).await.map_err(io::Error::from).flatten()?;
        self.lock().insert(address.to_owned(), opened.clone());
        Ok(opened)
    }

    async fn open(&self, address: &str) -> io::Result<SendRequest<Full<Bytes>>> {
        let host = address.rsplit_once(':').map_or(address, |(host, _)| host).trim_matches(['[', ']']);
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let stream = self.tls.connect(name, stream).await?;
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder.timer(TokioTimer::new()).keep_alive_interval(KEEPALIVE).keep_alive_timeout(KEEPALIVE);
        let (sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        // Ends with the last sender or the connection; an error of it is what the requests on it are told.
        tokio::spawn(async move { drop(connection.await) });
        Ok(sender)
    }

    /// The map is whole whatever happened to another holder.
    fn lock(&self) -> MutexGuard<'_, HashMap<String, SendRequest<Full<Bytes>>>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Answers another server. `peer` is who its certificate speaks for.
pub(crate) async fn answer(core: &Core, peer: Option<&Identity>, body: Incoming) -> Result<Answer, ApiError> {
    if !peer.is_some_and(|peer| peer.groups.iter().any(|group| group == GROUP)) {
        return Err(ApiError::plain(
            403,
            "Forbidden",
            "only servers of this cluster speak here, by their certificates",
        ));
    }
    let read = Limited::new(body, REQUEST_BYTES_MAX).collect();
    let body = tokio::time::timeout(core.config.read_timeout, read).await;
    let body = body.map_err(|_| ApiError::timeout("the request of the other server did not arrive in time"))?;
    let body = body.map_err(|error| ApiError::bad_request(format!("the request of the other server: {error}")))?;
    match core.store.answer(body.to_bytes()) {
        Some(answer) => Ok(Answer::bytes(200, "application/octet-stream", answer.await)),
        None => Err(ApiError::plain(404, "NotFound", "this server's store has no peers")),
    }
}

/// Waits until what is read here is the newest of the cluster.
pub(crate) async fn newest(core: &Core) -> Result<(), ApiError> {
    let Some(newest) = core.store.newest() else { return Ok(()) };
    newest.await.map_err(|error| match error {
        CommitError::Unavailable { reason } => {
            ApiError::unavailable(format!("this server cannot tell whether what it has is the newest: {reason}"))
        }
        error => ApiError::unavailable(error.to_string()),
    })
}
