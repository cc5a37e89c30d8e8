//! What others tell a pod's worker: the latest of each, however often it was said.

use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::api::core::v1::Pod;
use tokio::sync::Notify;

use super::grant::Pending;
use super::observed::Doom;

/// Letters that have come in since the last look.
#[derive(Debug, Default)]
pub struct Letters {
    /// The object changed; with the resources that the node has granted.
    pub pod: Option<Arc<Pod>>,
    /// Whether a resize waits to be granted, if that changed.
    pub pending_resize: Option<Option<Pending>>,
    /// The object is gone.
    pub gone: bool,
    /// A container of it may have ended.
    pub look: bool,
    /// Its sandbox is gone.
    pub lost: bool,
    /// It must end.
    pub doom: Option<Doom>,
}

/// A mailbox; cloning shares it.
#[derive(Debug, Clone, Default)]
pub struct Mailbox {
    letters: Arc<Mutex<Letters>>,
    bell: Arc<Notify>,
}

impl Mailbox {
    /// Puts something in.
    pub fn put(&self, write: impl FnOnce(&mut Letters)) {
        write(&mut self.letters.lock().unwrap_or_else(PoisonError::into_inner));
        self.bell.notify_one();
    }

    /// Waits until something is in.
    pub async fn wait(&self) {
        self.bell.notified().await;
    }

    /// Takes everything out.
    pub fn take(&self) -> Letters {
        std::mem::take(&mut self.letters.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
