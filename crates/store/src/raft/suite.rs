//! openraft's own suite for storage, run on this log and state machine: also what one voter never does (truncation, votes
//! of other terms, installed snapshots) works.

use std::sync::Arc;

use openraft::storage::RaftStateMachine;
use openraft::testing::{StoreBuilder, Suite};
use openraft::{EntryPayload, LeaderId, StorageIOError};

use super::log::{Log, Others};
use super::machine::Machine;
use super::types::{Batch, Entry, LogId, Origin, StorageError, TypeConfig};
use crate::history::Retention;
use crate::shared::Shared;
use crate::wal::Sizes;
use crate::{Revision, Snapshot, Txn, testing};

struct Builder;

impl StoreBuilder<TypeConfig, Log, Machine, tempfile::TempDir> for Builder {
    async fn build(&self) -> Result<(tempfile::TempDir, Log, Machine), StorageError> {
        let dir = tempfile::tempdir().map_err(|error| StorageIOError::write(&error))?;
        let sizes = Sizes { first: 64 << 10, max: 64 << 10 };
        let log = Log::open(dir.path(), sizes, None, |_| Others::Voters, None)
            .map_err(|error| StorageIOError::write(&error))?;
        let shared = Arc::new(Shared::new(Retention::default(), Snapshot::default()));
        let machine = Machine::new(1, dir.path().to_owned(), None, shared, log.clone(), None);
        Ok((dir, log, machine))
    }
}

#[test]
fn storage_passes_the_suite_of_openraft() {
    Suite::test_all(Builder).expect("every case passes");
}

#[tokio::test]
async fn a_batch_that_was_proposed_twice_counts_once() {
    let (_dir, _log, mut machine) = Builder.build().await.expect("opens");
    let origin = Origin { run: 1, number: 1 };
    let waiting = machine.expect(origin);
    let txns = Arc::new(vec![Txn::put("a", None, testing::object("x"))]);
    let entry = |index| Entry {
        log_id: LogId { leader_id: LeaderId::new(1, 1), index },
        payload: EntryPayload::Normal(Batch { txns: Arc::clone(&txns), origin: Some(origin) }),
    };
    machine.apply([entry(1), entry(2)]).await.expect("applies");
    machine.apply([entry(3)]).await.expect("applies");
    assert_eq!(machine.capture().state.revision(), Revision(1));
    let outcomes = waiting.await.expect("who proposed it is told");
    assert_eq!(outcomes.len(), 1);
    assert!(outcomes[0].as_ref().is_ok_and(|committed| committed.revision == Revision(1)));
}
