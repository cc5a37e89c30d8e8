//! The task behind an upgraded connection.

use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio_util::sync::CancellationToken;

use super::Sessions;

/// An upgraded connection.
pub(super) type Connection = TokioIo<Upgraded>;

impl Sessions {
    /// Serves a connection once it is upgraded. The token that `serve` gets is cancelled when the agent stops;
    /// `serve` cancels it itself once the client is gone.
    pub(super) fn spawn<F, S>(&self, connection: OnUpgrade, serve: S)
    where
        S: FnOnce(Connection, CancellationToken) -> F + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let gone = self.stop.child_token();
        self.tasks.spawn(async move {
            let upgraded = tokio::select! {
                upgraded = connection => upgraded,
                () = gone.cancelled() => return,
            };
            match upgraded {
                Ok(upgraded) => serve(TokioIo::new(upgraded), gone).await,
                Err(error) => tracing::debug!(%error, "kubelet endpoint: a stream was not upgraded"),
            }
        });
    }
}
