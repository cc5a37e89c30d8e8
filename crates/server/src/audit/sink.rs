//! Where events go: a bounded queue, and someone who takes them out of it.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use tokio::sync::mpsc;

use super::file::{self, FileOptions};
use super::webhook::{self, WebhookError};

/// Events that wait. At about 1 KB each, ten megabytes.
const WAITING: usize = 10_000;
/// Of lost events the first is told, and then one in so many.
const TOLD_EVERY: u64 = 1000;

/// Where events go.
#[derive(Debug, Clone)]
pub enum Output {
    /// Lines of a file.
    File(FileOptions),
    /// Lists of events, posted to whom a kubeconfig names.
    Webhook {
        /// The kubeconfig.
        kubeconfig: PathBuf,
    },
}

/// What happens when the queue is full.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Events are lost, requests go on.
    #[default]
    Batch,
    /// Requests wait until there is room.
    Blocking,
}

/// Why a log cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The file.
    #[error("the audit log {path}")]
    File {
        /// Its path.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The webhook.
    #[error("the audit webhook of {path}")]
    Webhook {
        /// The kubeconfig.
        path: PathBuf,
        /// Why.
        source: WebhookError,
    },
}

/// The way into the log.
#[derive(Debug)]
pub(super) struct Sink {
    queue: mpsc::Sender<Bytes>,
    mode: Mode,
    lost: AtomicU64,
}

impl Sink {
    pub fn open(output: Output, mode: Mode) -> Result<Self, AuditError> {
        let (queue, events) = mpsc::channel(WAITING);
        match output {
            Output::File(options) => {
                let path = options.path.clone();
                file::start(options, events).map_err(|source| AuditError::File { path, source })?;
            }
            Output::Webhook { kubeconfig } => {
                webhook::start(&kubeconfig, events)
                    .map_err(|source| AuditError::Webhook { path: kubeconfig, source })?;
            }
        }
        Ok(Self { queue, mode, lost: AtomicU64::new(0) })
    }

    /// Takes an event; waits for room only where the mode says so.
    pub async fn put(&self, event: Bytes) {
        if self.mode == Mode::Blocking {
            // The other end has gone only if the process is ending.
            let _ = self.queue.send(event).await;
        } else {
            self.put_now(event);
        }
    }

    /// Takes an event or loses it.
    pub fn put_now(&self, event: Bytes) {
        if self.queue.try_send(event).is_err() {
            let lost = self.lost.fetch_add(1, Ordering::Relaxed);
            if lost.is_multiple_of(TOLD_EVERY) {
                tracing::error!(lost = lost + 1, "the audit log does not keep up: events are lost");
            }
        }
    }
}
