//! What openraft carries.

use std::sync::Arc;

use crate::{CommitError, Committed, Txn};

openraft::declare_raft_types!(
    /// openraft, as this store uses it.
    pub(crate) TypeConfig:
        D = Batch,
        R = Applied,
        SnapshotData = tokio::fs::File,
);

pub(crate) type Entry = openraft::Entry<TypeConfig>;
pub(crate) type LogId = openraft::LogId<u64>;
pub(crate) type StorageError = openraft::StorageError<u64>;
pub(crate) type StoredMembership = openraft::StoredMembership<u64, openraft::BasicNode>;
pub(crate) type Vote = openraft::Vote<u64>;
pub(crate) type Raft = openraft::Raft<TypeConfig>;

/// The transactions that waited at the same time: one log entry, one sync. Cloning costs a pointer.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub(crate) struct Batch(pub(crate) Arc<Vec<Txn>>);

/// The outcome of each transaction of a batch. It stays in the process that applied them; the wire carries none of it.
#[derive(Debug, Default, serde::Serialize, serde::Deserialize)]
pub(crate) struct Applied {
    #[serde(skip)]
    pub(crate) outcomes: Vec<Result<Committed, CommitError>>,
}
