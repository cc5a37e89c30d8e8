//! Events posted as lists (audit.k8s.io/v1 EventList) to whom a kubeconfig names.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use mizzen_store::Snapshot;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::callout::{Bounds, Callout, Destination};

/// Kubernetes' sizes of a batch: so many events, or what came within this time after the first.
const BATCH: usize = 400;
const BATCH_WAIT: Duration = Duration::from_secs(30);
/// One post.
const POST_MAX: Duration = Duration::from_secs(30);
/// A list is posted so often before it is lost, with a wait that doubles.
const ATTEMPTS: u32 = 5;
const RETRY: Duration = Duration::from_millis(500);
/// What it may answer.
const ANSWER_MAX: usize = 64 << 10;

/// Why a webhook cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum WebhookError {
    /// The file.
    #[error(transparent)]
    Read(#[from] std::io::Error),
    /// What it says.
    #[error("{0}")]
    Destination(String),
}

/// Starts the task that posts; it ends when the queue does.
pub(super) fn start(kubeconfig: &Path, events: mpsc::Receiver<Bytes>) -> Result<(), WebhookError> {
    let text = std::fs::read_to_string(kubeconfig)?;
    let to = Destination::from_kubeconfig(&text).map_err(|error| WebhookError::Destination(error.to_string()))?;
    tokio::spawn(run(to, events));
    Ok(())
}

async fn run(to: Destination, mut events: mpsc::Receiver<Bytes>) {
    let tasks = TaskTracker::new();
    let closing = CancellationToken::new();
    let callout = Callout::new(None, tasks, closing.clone());
    let mut batch = Vec::with_capacity(BATCH);
    while let Some(first) = events.recv().await {
        batch.push(first);
        let more = async {
            while batch.len() < BATCH {
                match events.recv().await {
                    Some(event) => batch.push(event),
                    None => break,
                }
            }
        };
        // The time being over is as good a reason to post as the batch being full.
        let _ = tokio::time::timeout(BATCH_WAIT, more).await;
        post(&callout, &to, &list(&batch)).await;
        batch.clear();
    }
    closing.cancel();
}

async fn post(callout: &Callout, to: &Destination, list: &Bytes) {
    for attempt in 0..ATTEMPTS {
        let bounds = Bounds::within(POST_MAX, ANSWER_MAX);
        match callout.post(&Snapshot::default(), to, "", list.clone(), bounds).await {
            Ok(_) => return,
            Err(error) if attempt + 1 == ATTEMPTS => {
                tracing::error!(error = &error as &dyn std::error::Error, "audit events are lost");
            }
            Err(_) => tokio::time::sleep(RETRY * 2u32.pow(attempt)).await,
        }
    }
}

/// The list of these events, which are JSON already.
pub(super) fn list(events: &[Bytes]) -> Bytes {
    let head: &[u8] = br#"{"kind":"EventList","apiVersion":"audit.k8s.io/v1","metadata":{},"items":["#;
    let mut out = Vec::with_capacity(head.len() + events.iter().map(|event| event.len() + 1).sum::<usize>() + 2);
    out.extend_from_slice(head);
    for (index, event) in events.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        out.extend_from_slice(event);
    }
    out.extend_from_slice(b"]}");
    out.into()
}
