//! The listener: connections, TLS, HTTP/1.1 and HTTP/2, limits, an orderly end.

mod gzip;
mod service;
mod websocket;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use rustix::net::sockopt::{set_socket_keepalive, set_tcp_keepidle, set_tcp_user_timeout};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::health::Stage;
use crate::server::{Core, Server};
use crate::{aggregation, expiry, flow};
use service::Connection;

/// Flow control windows of HTTP/2: small ones make clients send many tiny frames, and large bodies slow.
const STREAM_WINDOW: u32 = 1 << 20;
/// Shared by the streams of a connection.
const CONNECTION_WINDOW: u32 = 8 << 20;
/// Largest head of a request, its URL included: a selector in a URL may be long.
const HEAD: usize = 256 << 10;
/// What is kept for a stream whose client does not read; more is not made until it does.
const STREAM_BUFFER: usize = 128 << 10;
/// Requests under way on one connection; a client holds a watch for every kind it is interested in.
const STREAMS: u32 = 10_000;
/// A watcher that is gone without a word is noticed after this and the kernel's probes.
const KEEPALIVE: Duration = Duration::from_secs(60);
/// A client that takes nothing of what is sent for so long is gone, or as good as gone: without this, one that stopped
/// reading would hold a connection and what it is sent for ever.
const STALL: Duration = Duration::from_secs(120);
/// How long a connection of HTTP/1.1 may be idle between requests, the head of the next one included: as long as Kubernetes
/// allows, and as Go's clients keep one.
const IDLE: Duration = Duration::from_secs(90);
/// Pause after a failed accept (out of file descriptors, say), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

impl Server {
    /// Serves the API on a listener until `shutdown`, then lets requests under way finish within [`crate::Config::drain`].
    ///
    /// Watches end at once, for clients resume them elsewhere.
    pub async fn serve(&self, listener: TcpListener, tls: Arc<rustls::ServerConfig>, shutdown: CancellationToken) {
        let acceptor = TlsAcceptor::from(tls);
        let slots = Arc::new(Semaphore::new(self.core.config.max_connections));
        let connections = TaskTracker::new();
        let overdue = CancellationToken::new();
        self.core.tasks.spawn(expiry::run(Arc::clone(&self.core), shutdown.clone()));
        self.core.tasks.spawn(flow::run(Arc::clone(&self.core), shutdown.clone()));
        self.core.health.reached(Stage::Serving);
        self.core.tasks.spawn(aggregation::run(Arc::clone(&self.core), shutdown.clone()));
        loop {
            let accepted = tokio::select! {
                () = shutdown.cancelled() => break,
                accepted = accept(&listener, &slots) => accepted,
            };
            match accepted {
                Ok((stream, slot)) => {
                    let (core, acceptor, shutdown) = (Arc::clone(&self.core), acceptor.clone(), shutdown.clone());
                    let overdue = overdue.clone();
                    connections.spawn(async move {
                        tokio::select! {
                            ended = connection(&core, stream, acceptor, shutdown) => if let Err(error) = ended {
                                tracing::debug!(error = %error, "connection ended");
                            },
                            () = overdue.cancelled() => {}
                        }
                        drop(slot);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept connections");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        self.core.health.open.set(false);
        self.core.closing.cancel();
        connections.close();
        self.core.tasks.close();
        let ended = async { tokio::join!(connections.wait(), self.core.tasks.wait()) };
        tokio::pin!(ended);
        if tokio::time::timeout(self.core.config.drain, ended.as_mut()).await.is_err() {
            // Clients see a broken connection and try again elsewhere.
            tracing::warn!(left = connections.len(), "requests were still under way at the end");
            overdue.cancel();
            ended.await;
        }
    }
}

async fn accept(listener: &TcpListener, slots: &Arc<Semaphore>) -> io::Result<(TcpStream, OwnedSemaphorePermit)> {
    let slot = Arc::clone(slots).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    stream.set_nodelay(true)?;
    set_socket_keepalive(&stream, true)?;
    set_tcp_keepidle(&stream, KEEPALIVE)?;
    set_tcp_user_timeout(&stream, STALL.as_millis() as u32)?;
    Ok((stream, slot))
}

/// Why a connection ended early.
type Broken = Box<dyn std::error::Error + Send + Sync>;

async fn connection(
    core: &Arc<Core>,
    stream: TcpStream,
    acceptor: TlsAcceptor,
    shutdown: CancellationToken,
) -> Result<(), Broken> {
    let limit = core.config.read_timeout;
    let source = core.config.audit.is_some().then(|| stream.peer_addr().ok()).flatten().map(|address| address.ip());
    let accepted = tokio::time::timeout(limit, acceptor.accept(stream)).await;
    let stream = accepted.map_err(io::Error::from).flatten().inspect_err(|_| core.metrics.handshake_failed())?;
    let _open = core.metrics.connection();
    let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    let peer = certificate.and_then(|der| core.authenticator.certificate(der));
    let connection = Arc::new(Connection { core: Arc::clone(core), peer, source });
    let service = hyper::service::service_fn(move |request| {
        let connection = Arc::clone(&connection);
        async move { Ok::<_, std::convert::Infallible>(connection.respond(request).await) }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(IDLE).max_buf_size(HEAD);
    builder
        .http2()
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(HEAD as u32)
        .max_send_buf_size(STREAM_BUFFER)
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(15));
    let served = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    tokio::pin!(served);
    tokio::select! {
        done = served.as_mut() => done,
        () = shutdown.cancelled() => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    }
}
