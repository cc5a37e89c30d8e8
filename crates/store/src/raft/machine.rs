//! openraft's state machine over [`State`]: applies batches, shows the result to readers, and hands out snapshots.
//!
//! A snapshot file is written before openraft is asked for a snapshot (see `embedded::upkeep`), so a full disk delays it
//! and does not stop the voter.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use openraft::storage::RaftStateMachine;
use openraft::{EntryPayload, OptionalSend, RaftSnapshotBuilder, StorageIOError};
use tokio::io::AsyncSeekExt;

use super::log::Log;
use super::types::{Applied, Batch, Entry, LogId, StorageError, StoredMembership, TypeConfig};
use crate::Snapshot;
use crate::dump::{self, Meta};
use crate::seal::MaybeSeal;
use crate::shared::Shared;
use crate::state::State;

/// What a leader sends is put here.
const RECEIVED: &str = "snapshot-received.tmp";

type RaftSnapshot = openraft::Snapshot<TypeConfig>;

/// The state machine, shared by openraft and the upkeep. All of it runs on one thread.
#[derive(Debug, Clone)]
pub(crate) struct Machine {
    inner: Arc<Mutex<Inner>>,
    shared: Arc<Shared>,
    log: Log,
    dir: PathBuf,
    seal: MaybeSeal,
}

#[derive(Debug)]
struct Inner {
    state: State,
    applied: Option<LogId>,
    membership: StoredMembership,
    /// The newest snapshot file.
    saved: Option<(Meta, PathBuf)>,
    /// openraft has not been told of it yet.
    fresh: bool,
}

impl Machine {
    /// A state machine that starts from a snapshot file, if there is one.
    pub(crate) fn new(
        dir: PathBuf,
        saved: Option<(Meta, PathBuf)>,
        state: State,
        shared: Arc<Shared>,
        log: Log,
        seal: MaybeSeal,
    ) -> Self {
        let applied = saved.as_ref().and_then(|(meta, _)| meta.last_log_id);
        let membership = saved.as_ref().map(|(meta, _)| meta.last_membership.clone()).unwrap_or_default();
        log.lock().live_bytes = state.live_bytes();
        Self {
            inner: Arc::new(Mutex::new(Inner { state, applied, membership, saved, fresh: false })),
            shared,
            log,
            dir,
            seal,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What seals the snapshot files' values.
    pub(crate) fn seal(&self) -> MaybeSeal {
        self.seal.clone()
    }

    /// Where snapshot files go.
    pub(crate) fn dir(&self) -> &std::path::Path {
        &self.dir
    }

    /// The last entry that was applied.
    pub(crate) fn applied(&self) -> Option<LogId> {
        self.lock().applied
    }

    /// The state to save, and what it is the state of.
    pub(crate) fn capture(&self) -> (Meta, Snapshot) {
        let inner = self.lock();
        let index = inner.applied.map_or(0, |id| id.index);
        let meta = Meta {
            last_log_id: inner.applied,
            last_membership: inner.membership.clone(),
            snapshot_id: dump::name(index),
        };
        (meta, inner.state.current().clone())
    }

    /// A snapshot file has been written. Answers the one it replaces.
    pub(crate) fn saved(&self, meta: Meta, path: PathBuf) -> Option<PathBuf> {
        let mut inner = self.lock();
        inner.fresh = true;
        let old = inner.saved.replace((meta, path.clone()));
        old.map(|(_, old)| old).filter(|old| *old != path)
    }

    async fn open_saved(&self) -> Result<Option<RaftSnapshot>, StorageError> {
        let Some((meta, path)) = self.lock().saved.clone() else { return Ok(None) };
        let file = tokio::fs::File::open(&path)
            .await
            .map_err(|error| StorageIOError::read_snapshot(Some(meta.signature()), &error))?;
        Ok(Some(RaftSnapshot { meta, snapshot: Box::new(file) }))
    }
}

impl RaftSnapshotBuilder<TypeConfig> for Machine {
    async fn build_snapshot(&mut self) -> Result<RaftSnapshot, StorageError> {
        if !std::mem::take(&mut self.lock().fresh) {
            let (meta, state) = self.capture();
            let (dir, written, seal) = (self.dir.clone(), meta.clone(), self.seal.clone());
            let path = tokio::task::spawn_blocking(move || dump::write(&dir, &written, &state, &seal))
                .await
                .map_err(|error| StorageIOError::write_snapshot(None, &error))?
                .map_err(|error| StorageIOError::write_snapshot(None, &error))?;
            if let Some(old) = self.saved(meta, path) {
                tokio::fs::remove_file(old).await.map_err(|error| StorageIOError::write_snapshot(None, &error))?;
            }
            self.lock().fresh = false;
        }
        match self.open_saved().await? {
            Some(saved) => Ok(saved),
            None => unreachable!("one was saved just now, or `fresh` was set with it"),
        }
    }
}

impl RaftStateMachine<TypeConfig> for Machine {
    type SnapshotBuilder = Self;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), StorageError> {
        let inner = self.lock();
        Ok((inner.applied, inner.membership.clone()))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<Applied>, StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut inner = self.lock();
        let mut events = Vec::new();
        let mut answers = Vec::new();
        for entry in entries {
            inner.applied = Some(entry.log_id);
            answers.push(match entry.payload {
                EntryPayload::Blank => Applied::default(),
                EntryPayload::Normal(Batch(txns)) => {
                    Applied { outcomes: txns.iter().map(|txn| inner.state.apply(txn, &mut events)).collect() }
                }
                EntryPayload::Membership(membership) => {
                    inner.membership = StoredMembership::new(Some(entry.log_id), membership);
                    Applied::default()
                }
            });
        }
        self.shared.publish(events, inner.state.current(), Instant::now());
        self.log.lock().live_bytes = inner.state.live_bytes();
        self.log.applied(inner.applied);
        Ok(answers)
    }

    async fn get_snapshot_builder(&mut self) -> Self {
        self.clone()
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<tokio::fs::File>, StorageError> {
        let path = self.dir.join(RECEIVED);
        let file = tokio::fs::File::options().read(true).write(true).create(true).truncate(true).open(path).await;
        file.map(Box::new).map_err(|error| StorageIOError::write_snapshot(None, &error).into())
    }

    async fn install_snapshot(&mut self, meta: &Meta, mut file: Box<tokio::fs::File>) -> Result<(), StorageError> {
        let failed = |error: &(dyn std::error::Error + 'static)| {
            StorageIOError::write_snapshot(Some(meta.signature()), openraft::AnyError::error(error.to_string()))
        };
        file.rewind().await.map_err(|error| failed(&error))?;
        let (file, dir, written) = (file.into_std().await, self.dir.clone(), meta.clone());
        let seal = self.seal.clone();
        let received = tokio::task::spawn_blocking(move || {
            let (_, state) = dump::read_from(file, &dir.join(RECEIVED), &seal).map_err(std::io::Error::other)?;
            let path = dump::write(&dir, &written, &state, &seal)?;
            Ok::<_, std::io::Error>((state, path))
        });
        let (state, path) = received.await.map_err(|error| failed(&error))?.map_err(|error| failed(&error))?;
        // It only takes room; the next start removes it as well.
        let _ = std::fs::remove_file(self.dir.join(RECEIVED));
        let mut inner = self.lock();
        inner.applied = meta.last_log_id;
        inner.membership = meta.last_membership.clone();
        inner.saved = Some((meta.clone(), path));
        self.shared.replace(&state);
        inner.state = State::from_snapshot(state);
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<RaftSnapshot>, StorageError> {
        self.open_saved().await
    }
}
