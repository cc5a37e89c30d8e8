//! The interface of a store engine.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;

use crate::{Entry, Expect, Revision, Snapshot, Txn, Watch};

/// What a transaction did.
#[derive(Debug, Clone)]
pub struct Committed {
    /// The revision of the transaction (the current one if it changed nothing).
    pub revision: Revision,
    /// For each operation the entry it wrote, or the one it deleted.
    pub entries: Vec<Option<Arc<Entry>>>,
}

/// Why a transaction was not committed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CommitError {
    /// A condition did not hold. Nothing was changed.
    #[error("{key}: expected {expect:?}")]
    Conflict {
        /// The key whose condition failed first.
        key: String,
        /// The condition.
        expect: Expect,
        /// What is there instead.
        actual: Option<Arc<Entry>>,
    },
    /// The disk has no room; nothing was changed, and the store recovers by itself when there is room again.
    #[error("no space left on the device of {path}")]
    NoSpace {
        /// The log's directory.
        path: String,
    },
    /// The transaction is larger than the store accepts.
    #[error("a transaction of {bytes} bytes is over the limit of {limit}")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// The outcome is unknown: the engine failed or is shutting down while the transaction was under way.
    #[error("the store is not available: {reason}")]
    Unavailable {
        /// What happened.
        reason: String,
    },
}

/// The history before a revision is no longer held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("revision {asked} is older than the oldest held, {oldest}")]
pub struct Compacted {
    /// The revision asked for.
    pub asked: Revision,
    /// The oldest revision that is held.
    pub oldest: Revision,
}

/// A store engine.
pub trait Store: Send + Sync + 'static {
    /// The newest committed state that this engine has. Linearizable with respect to commits acknowledged by this engine;
    /// with respect to those that others acknowledged, after [`Store::newest`].
    fn snapshot(&self) -> Snapshot;

    /// Waits until this engine has all that was acknowledged anywhere before this call. `None` if nobody else acknowledges
    /// anything: then it has.
    fn newest(&self) -> Option<BoxFuture<'_, Result<(), CommitError>>> {
        None
    }

    /// Answers what another server's [`crate::Peers::call`] brought. The caller has made sure that it is one of the
    /// cluster, and that the request is not longer than [`crate::REQUEST_BYTES_MAX`]. `None` if this engine has no peers.
    fn answer(&self, _request: Bytes) -> Option<BoxFuture<'_, Bytes>> {
        None
    }

    /// The state at a past revision that is still held; a revision ahead of the newest is answered with the newest.
    fn snapshot_at(&self, revision: Revision) -> Result<Snapshot, Compacted>;

    /// Commits a transaction: when this answers `Ok`, it has been synced to disk by a majority.
    fn commit(&self, txn: Txn) -> BoxFuture<'_, Result<Committed, CommitError>>;

    /// The changes under `prefix` after `after`.
    fn watch(&self, prefix: &str, after: Revision) -> Result<Watch, Compacted>;

    /// Waits until the newest committed revision is at least `revision`.
    fn reached(&self, revision: Revision) -> BoxFuture<'_, ()>;
}
