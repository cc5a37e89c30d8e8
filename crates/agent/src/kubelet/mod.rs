//! The kubelet endpoint: logs, stats and streams of this node's pods, for the API server.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use mizzen_client::Reflector;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::context::Context;

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

/// Begins to serve, until `stop`.
pub async fn serve(
    _ctx: &Arc<Context>,
    _pods: &Reflector<Pod>,
    _tasks: &TaskTracker,
    _stop: &CancellationToken,
) -> Result<(), KubeletError> {
    Ok(())
}
