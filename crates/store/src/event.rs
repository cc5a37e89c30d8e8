//! Watches: the changes after a revision, in order and without gaps.

use std::sync::Arc;

use crate::{Entry, Revision, store::Compacted};

/// What happened to one key.
#[derive(Debug, Clone)]
pub enum Change {
    /// Created or replaced; the previous entry if there was one.
    Put {
        /// As it now is.
        entry: Arc<Entry>,
        /// As it was.
        previous: Option<Arc<Entry>>,
    },
    /// Removed; as it was.
    Delete {
        /// As it was before.
        previous: Arc<Entry>,
    },
}

/// One change at one revision. Shared by all watchers.
#[derive(Debug)]
pub struct Event {
    /// When.
    pub revision: Revision,
    /// What.
    pub change: Change,
}

impl Event {
    /// The key that changed.
    pub fn key(&self) -> &Arc<str> {
        match &self.change {
            Change::Put { entry, .. } => &entry.key,
            Change::Delete { previous } => &previous.key,
        }
    }
}

/// Why a watch ended.
#[derive(Debug, Clone, thiserror::Error)]
pub enum WatchError {
    /// The watcher fell so far behind that the history it needs is gone; it must list again.
    #[error(transparent)]
    Compacted(#[from] Compacted),
    /// The store is shutting down.
    #[error("the store is shutting down")]
    Closed,
}
