//! Accepts TLS connections on the kubelet's port.

use std::sync::Arc;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use k8s_openapi::api::core::v1::Pod;
use mizzen_client::Reflector;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::identity::Identity;
use super::routes::Routes;
use crate::context::Context;
use crate::streaming::Sessions;

/// Longest that a client may take for its handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Wait after a failed accept: usually too many open files.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// The endpoint cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum KubeletError {
    /// The address is taken or not ours.
    #[error("listen on {address}")]
    Listen {
        /// The address.
        address: std::net::SocketAddr,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
}

/// Begins to serve, until `stop`. Without TLS in the configuration nothing is served.
pub async fn serve(
    ctx: &Arc<Context>,
    pods: &Reflector<Pod>,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) -> Result<(), KubeletError> {
    let Some(tls) = ctx.config.kubelet_tls.clone() else { return Ok(()) };
    let address = ctx.config.kubelet_address;
    let listener = TcpListener::bind(address).await.map_err(|source| KubeletError::Listen { address, source })?;
    let routes = Arc::new(Routes::new(Arc::clone(ctx), pods.clone(), Sessions::new(tasks.clone(), stop.clone())));
    let (acceptor, stop, connections) = (TlsAcceptor::from(tls), stop.clone(), tasks.clone());
    tasks.spawn(async move {
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = stop.cancelled() => return,
            };
            match accepted {
                Ok((stream, _)) => {
                    let (acceptor, routes, stop) = (acceptor.clone(), Arc::clone(&routes), stop.clone());
                    connections.spawn(async move {
                        tokio::select! {
                            () = connection(stream, acceptor, routes) => {}
                            () = stop.cancelled() => {}
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "kubelet endpoint: a connection was not accepted");
                    tokio::time::sleep(ACCEPT_RETRY).await;
                }
            }
        }
    });
    Ok(())
}

async fn connection(stream: TcpStream, acceptor: TlsAcceptor, routes: Arc<Routes>) {
    // Interactive streams carry small messages that must not wait for each other.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "kubelet endpoint: no TCP_NODELAY");
    }
    let stream = match tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%error, "kubelet endpoint: handshake failed"),
        Err(_) => return tracing::debug!("kubelet endpoint: handshake took too long"),
    };
    let certificate = stream.get_ref().1.peer_certificates().and_then(|c| c.first()).cloned();
    let identity = certificate.and_then(|c| Identity::of_certificate(&c)).map(Arc::new);
    let service = service_fn(move |request| {
        let (routes, identity) = (Arc::clone(&routes), identity.clone());
        async move { Ok::<_, std::convert::Infallible>(routes.answer(request, identity.as_deref()).await) }
    });
    let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
    if let Err(error) = builder.serve_connection_with_upgrades(TokioIo::new(stream), service).await {
        tracing::debug!(%error, "kubelet endpoint: connection ended");
    }
}
