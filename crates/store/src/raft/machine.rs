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
use tokio::sync::oneshot;

use super::log::{Log, Others};
use super::runs::Runs;
use super::types::{Applied, Batch, Entry, LogId, Origin, Outcomes, StorageError, StoredMembership, TypeConfig};
use crate::dump::{self, Meta, Saved};
use crate::event::Event;
use crate::seal::MaybeSeal;
use crate::shared::Shared;
use crate::state::State;

/// What a leader sends is put here.
const RECEIVED: &str = "snapshot-received.tmp";

type RaftSnapshot = openraft::Snapshot<TypeConfig>;

/// The state machine, shared by openraft and the upkeep. All of it runs on one thread.
#[derive(Debug, Clone)]
pub(crate) struct Machine {
    me: u64,
    inner: Arc<Mutex<Inner>>,
    shared: Arc<Shared>,
    log: Log,
    dir: PathBuf,
    seal: MaybeSeal,
}

#[derive(Debug)]
struct Inner {
    state: State,
    runs: Runs,
    /// The batch of this voter that is under way, and who waits for it.
    waiting: Option<(Origin, oneshot::Sender<Outcomes>)>,
    applied: Option<LogId>,
    membership: StoredMembership,
    /// The newest snapshot file.
    saved: Option<(Meta, PathBuf)>,
    /// openraft has not been told of it yet.
    fresh: bool,
}

impl Machine {
    /// The state machine of voter `me`, which starts from a snapshot file, if there is one.
    pub(crate) fn new(
        me: u64,
        dir: PathBuf,
        saved: Option<(Saved, PathBuf)>,
        shared: Arc<Shared>,
        log: Log,
        seal: MaybeSeal,
    ) -> Self {
        let (saved, path) = saved.map_or_else(|| (Saved::default(), None), |(saved, path)| (saved, Some(path)));
        let Saved { meta, runs, state } = saved;
        let (applied, membership, state) =
            (meta.last_log_id, meta.last_membership.clone(), State::from_snapshot(state));
        log.lock().live_bytes = state.live_bytes();
        let saved = path.map(|path| (meta, path));
        let inner = Inner { state, runs, waiting: None, applied, membership, saved, fresh: false };
        Self { me, inner: Arc::new(Mutex::new(inner)), shared, log, dir, seal }
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

    /// What becomes of a batch of this voter, once it is applied here, whoever proposed it in the end. One at a time: an
    /// earlier one is no longer waited for.
    pub(crate) fn expect(&self, origin: Origin) -> oneshot::Receiver<Outcomes> {
        let (answer, answered) = oneshot::channel();
        self.lock().waiting = Some((origin, answer));
        answered
    }

    /// What to save.
    pub(crate) fn capture(&self) -> Saved {
        let inner = self.lock();
        let index = inner.applied.map_or(0, |id| id.index);
        let meta = Meta {
            last_log_id: inner.applied,
            last_membership: inner.membership.clone(),
            snapshot_id: dump::name(index),
        };
        Saved { meta, runs: inner.runs.clone(), state: inner.state.current().clone() }
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

/// A batch of this voter was applied: what is said of it, and to whom.
type Told = (oneshot::Sender<Outcomes>, Outcomes);

impl Inner {
    fn apply(&mut self, batch: &Batch, events: &mut Vec<Arc<Event>>, told: &mut Option<Told>) -> Applied {
        if batch.origin.is_some_and(|origin| !self.runs.is_new(origin)) {
            return Applied::default();
        }
        let outcomes = batch.txns.iter().map(|txn| self.state.apply(txn, events)).collect();
        let Some(origin) = batch.origin else { return Applied { outcomes } };
        if let Some((_, answer)) = self.waiting.take_if(|(waiting, _)| *waiting == origin) {
            *told = Some((answer, outcomes));
        }
        Applied::default()
    }
}

impl RaftSnapshotBuilder<TypeConfig> for Machine {
    async fn build_snapshot(&mut self) -> Result<RaftSnapshot, StorageError> {
        if !std::mem::take(&mut self.lock().fresh) {
            let (saved, dir, seal) = (self.capture(), self.dir.clone(), self.seal.clone());
            let meta = saved.meta.clone();
            let path = tokio::task::spawn_blocking(move || dump::write(&dir, &saved, &seal))
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
        let mut told = None;
        for entry in entries {
            inner.applied = Some(entry.log_id);
            answers.push(match entry.payload {
                EntryPayload::Blank => Applied::default(),
                EntryPayload::Normal(batch) => inner.apply(&batch, &mut events, &mut told),
                EntryPayload::Membership(membership) => {
                    self.log.set_others(Others::of(&membership, self.me));
                    inner.membership = StoredMembership::new(Some(entry.log_id), membership);
                    Applied::default()
                }
            });
        }
        self.shared.publish(events, inner.state.current(), Instant::now());
        // After readers were shown what it did. Who no longer waits has been told that the outcome is unknown.
        if let Some((answer, outcomes)) = told {
            let _ = answer.send(outcomes);
        }
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
        let signature = meta.signature();
        let failed = |error: &(dyn std::error::Error + 'static)| {
            StorageIOError::write_snapshot(Some(signature.clone()), openraft::AnyError::error(error.to_string()))
        };
        file.rewind().await.map_err(|error| failed(&error))?;
        let (file, dir, meta) = (file.into_std().await, self.dir.clone(), meta.clone());
        let seal = self.seal.clone();
        let received = tokio::task::spawn_blocking(move || {
            let read = dump::read_from(file, &dir.join(RECEIVED), &seal).map_err(std::io::Error::other)?;
            let saved = Saved { meta, ..read };
            let path = dump::write(&dir, &saved, &seal)?;
            Ok::<_, std::io::Error>((saved, path))
        });
        let (saved, path) = received.await.map_err(|error| failed(&error))?.map_err(|error| failed(&error))?;
        let Saved { meta, runs, state } = saved;
        // It only takes room; the next start removes it as well.
        let _ = std::fs::remove_file(self.dir.join(RECEIVED));
        let mut inner = self.lock();
        inner.applied = meta.last_log_id;
        inner.membership = meta.last_membership.clone();
        self.log.set_others(Others::of(inner.membership.membership(), self.me));
        // What it answered is not in a snapshot: who waits is told that the outcome is unknown.
        inner.waiting.take_if(|(origin, _)| runs.holds(*origin));
        inner.runs = runs;
        let old = inner.saved.replace((meta, path.clone())).map(|(_, old)| old).filter(|old| *old != path);
        // As above.
        old.map(std::fs::remove_file);
        self.shared.replace(&state);
        inner.state = State::from_snapshot(state);
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<RaftSnapshot>, StorageError> {
        self.open_saved().await
    }
}
