//! One connection: TCP, TLS, HTTP/1.1.

use std::net::SocketAddr;
use std::time::Duration;

use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpStream, lookup_host};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::tls::Connector;
use super::{Body, Cause};

/// How long a target may take to accept a connection, TLS included.
const PATIENCE: Duration = Duration::from_secs(30);
/// Largest head of an answer.
const HEAD_MAX: usize = 64 << 10;

/// Opens a connection, driven by a task of `tasks` until it ends or `closing` does.
pub(super) async fn open(
    connector: &Connector,
    address: &(String, u16),
    tasks: &TaskTracker,
    closing: &CancellationToken,
) -> Result<SendRequest<Body>, Cause> {
    let connecting = async {
        let dial = |source| Cause::Dial { address: format!("{}:{}", address.0, address.1), source };
        let lookup = |source| Cause::Lookup { host: address.0.clone(), source };
        let found: Vec<SocketAddr> = lookup_host((address.0.as_str(), address.1)).await.map_err(lookup)?.collect();
        let stream = TcpStream::connect(found.as_slice()).await.map_err(dial)?;
        stream.set_nodelay(true).map_err(dial)?;
        connector.connect(stream).await.map_err(Cause::Tls)
    };
    let stream = tokio::time::timeout(PATIENCE, connecting).await.map_err(|_| Cause::Deadline)??;
    let handshake = http1::Builder::new().max_buf_size(HEAD_MAX).handshake(TokioIo::new(stream));
    let (sender, connection) = handshake.await.map_err(Cause::Http)?;
    let closing = closing.clone();
    tasks.spawn(async move {
        tokio::select! {
            // An error is seen by whoever waits for the answer.
            _ = connection.with_upgrades() => {}
            () = closing.cancelled() => {}
        }
    });
    Ok(sender)
}
