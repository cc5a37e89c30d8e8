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
pub(crate) type Membership = openraft::Membership<u64, openraft::BasicNode>;
pub(crate) type StorageError = openraft::StorageError<u64>;
pub(crate) type StoredMembership = openraft::StoredMembership<u64, openraft::BasicNode>;
pub(crate) type Vote = openraft::Vote<u64>;
pub(crate) type Raft = openraft::Raft<TypeConfig>;

/// The transactions that waited at the same time: one log entry, one sync. Cloning costs a pointer.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub(crate) struct Batch {
    pub(crate) txns: Arc<Vec<Txn>>,
    /// Whose it is, if it may be proposed more than once: with several voters, a leader may be lost before it answers.
    pub(crate) origin: Option<Origin>,
}

/// One run of one voter's store, and the number of a batch in it. A run proposes its batches one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Origin {
    /// Chosen at random when the store is opened.
    pub(crate) run: u64,
    /// Counts up.
    pub(crate) number: u64,
}

pub(crate) type Outcomes = Vec<Result<Committed, CommitError>>;

/// The outcome of each transaction of a batch. It stays in the process that applied them; the wire carries none of it.
#[derive(Debug, Default, serde::Serialize, serde::Deserialize)]
pub(crate) struct Applied {
    #[serde(skip)]
    pub(crate) outcomes: Outcomes,
}
