//! openraft's own suite for storage, run on this log and state machine: also what one voter never does (truncation, votes
//! of other terms, installed snapshots) works.

use std::sync::Arc;

use openraft::StorageIOError;
use openraft::testing::{StoreBuilder, Suite};

use super::log::{Log, Voters};
use super::machine::Machine;
use super::types::{StorageError, TypeConfig};
use crate::history::Retention;
use crate::shared::Shared;
use crate::state::State;
use crate::wal::Sizes;

struct Builder;

impl StoreBuilder<TypeConfig, Log, Machine, tempfile::TempDir> for Builder {
    async fn build(&self) -> Result<(tempfile::TempDir, Log, Machine), StorageError> {
        let dir = tempfile::tempdir().map_err(|error| StorageIOError::write(&error))?;
        let sizes = Sizes { first: 64 << 10, max: 64 << 10 };
        let log =
            Log::open(dir.path(), sizes, None, Voters::Several, None).map_err(|error| StorageIOError::write(&error))?;
        let state = State::default();
        let shared = Arc::new(Shared::new(Retention::default(), state.current().clone()));
        let machine = Machine::new(dir.path().to_owned(), None, state, shared, log.clone(), None);
        Ok((dir, log, machine))
    }
}

#[test]
fn storage_passes_the_suite_of_openraft() {
    Suite::test_all(Builder).expect("every case passes");
}
