//! The engine without a disk: the same state machine and history, for tests and scratch clusters.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use futures_util::future::{BoxFuture, FutureExt, ready};

use crate::history::Retention;
use crate::shared::Shared;
use crate::state::State;
use crate::{CommitError, Committed, Compacted, Revision, Snapshot, Store, Txn, Watch};

/// A store that forgets everything when it is dropped. Commits need no runtime and complete at once.
#[derive(Debug)]
pub struct Memory {
    state: Mutex<State>,
    shared: Arc<Shared>,
}

impl Default for Memory {
    fn default() -> Self {
        Self::new(Retention::default())
    }
}

impl Memory {
    /// An empty store.
    pub fn new(retention: Retention) -> Self {
        Self { state: Mutex::default(), shared: Arc::new(Shared::new(retention, Snapshot::default())) }
    }

    /// Ends all watches; commits are refused from now on.
    pub fn close(&self) {
        self.shared.close();
    }

    fn apply(&self, txn: &Txn) -> Result<Committed, CommitError> {
        if self.shared.closed() {
            return Err(CommitError::Unavailable { reason: "it is shutting down".to_owned() });
        }
        // Held while publishing, so that readers see the states in order.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut events = Vec::new();
        let committed = state.apply(txn, &mut events)?;
        self.shared.publish(events, state.current(), Instant::now());
        Ok(committed)
    }
}

impl Store for Memory {
    fn snapshot(&self) -> Snapshot {
        self.shared.snapshot()
    }

    fn snapshot_at(&self, revision: Revision) -> Result<Snapshot, Compacted> {
        self.shared.snapshot_at(revision)
    }

    fn commit(&self, txn: Txn) -> BoxFuture<'_, Result<Committed, CommitError>> {
        ready(self.apply(&txn)).boxed()
    }

    fn watch(&self, prefix: &str, after: Revision) -> Result<Watch, Compacted> {
        self.shared.watch(prefix, after)
    }

    fn reached(&self, revision: Revision) -> BoxFuture<'_, ()> {
        self.shared.reached(revision).boxed()
    }
}
