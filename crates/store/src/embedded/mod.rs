//! The engine on a local disk: openraft with one voter, a log, snapshot files.
//!
//! Everything that decides runs on one thread of its own with a current-thread runtime: batcher, Raft core, state
//! machine, and the synced write itself. Readers never go there.
//!
//! Durable are the current state and its revision. The history for watches and past states is kept in memory; after a
//! restart it reaches back to the newest snapshot file, whose log is replayed.

mod batcher;
mod options;
mod upkeep;

use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt};
use openraft::{BasicNode, Config, SnapshotPolicy};
use tokio::sync::{Notify, mpsc, oneshot};

use crate::dump;
use crate::raft::log::{Log, Voters};
use crate::raft::machine::Machine;
use crate::raft::network::Alone;
use crate::raft::types::Raft;
use crate::seal::MaybeSeal;
use crate::shared::Shared;
use crate::state::State;
use crate::wal::Sizes;
use crate::{
    CommitError, Committed, Compacted, Operation, Revision, SEAL_OVERHEAD_MAX, Seal, Snapshot, Store, Txn, Watch,
};

use batcher::{Command, Requests};
use upkeep::Upkeep;

pub use options::{OpenError, Options};

/// This voter's number.
const NODE: u64 = 1;
/// So many commits may wait for the batcher; further ones wait at the door.
const QUEUE: usize = 1024;
/// One voter elects itself within two syncs; a disk that hangs this long is broken.
const ELECTION: Duration = Duration::from_secs(30);

/// A store on a local disk.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use mizzen_store::{Embedded, Expect, Options, Store, Txn, Value};
/// let store = Embedded::open("/var/lib/mizzen/store", Options::default())?;
/// let value = Value { bytes: r#"{"metadata":{"resourceVersion":""}}"#.into(), revision_at: Some(32) };
/// let committed = store.commit(Txn::put("core/pods/default/web", Some(Expect::Absent), value)).await?;
/// assert_eq!(store.snapshot().revision(), committed.revision);
/// store.shutdown().await;
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Embedded {
    shared: Arc<Shared>,
    queue: mpsc::Sender<Command>,
    rewrites: mpsc::Sender<oneshot::Sender<bool>>,
    stop: Arc<Notify>,
    thread: Mutex<Option<JoinHandle<()>>>,
    txn_bytes: usize,
    seal: MaybeSeal,
}

impl Embedded {
    /// Opens the store in `dir`, which is created if it is not there. Blocks for as long as it takes to read it.
    pub fn open(dir: impl AsRef<Path>, options: Options) -> Result<Self, OpenError> {
        Self::open_sealed(dir, options, None)
    }

    /// As [`Embedded::open`], with something that encrypts what some keys hold on its way to the files.
    pub fn open_sealed(
        dir: impl AsRef<Path>,
        options: Options,
        seal: Option<Arc<dyn Seal>>,
    ) -> Result<Self, OpenError> {
        let dir = dir.as_ref().to_owned();
        let lock = lock(&dir)?;
        let at = |source| OpenError::Io { path: dir.clone(), source };
        let saved = match dump::newest(&dir).map_err(at)? {
            Some(path) => Some((dump::read(&path, &seal)?, path)),
            None => None,
        };
        let (saved, state) = match saved {
            Some(((meta, state), path)) => (Some((meta, path)), state),
            None => (None, Snapshot::default()),
        };
        let held = saved.as_ref().and_then(|(meta, _)| meta.last_log_id);
        let sizes = Sizes { first: options.first_segment_bytes.max(64 << 10), max: options.segment_bytes };
        let log = Log::open(&dir, sizes, held, Voters::One, seal.clone())?;
        let shared = Arc::new(Shared::new(options.retention, state.clone()));
        let state = State::from_snapshot(state);
        let machine = Machine::new(dir.clone(), saved, state, Arc::clone(&shared), log.clone(), seal.clone());

        let (queue, waiting) = mpsc::channel(QUEUE);
        let (rewrites, to_rewrite) = mpsc::channel(1);
        let stop = Arc::new(Notify::new());
        let (ready, started) = std::sync::mpsc::sync_channel(1);
        let requests = Requests { waiting, to_rewrite, stop: Arc::clone(&stop) };
        let voter = Voter { options, log, machine, requests, dir: dir.clone() };
        let closing = Closing { shared: Arc::clone(&shared), _lock: lock };
        let thread = std::thread::Builder::new()
            .name("mizzen-store".to_owned())
            .spawn(move || {
                let _closing = closing;
                voter.run(&ready);
            })
            .map_err(at)?;
        let failed = |reason: &str| OpenError::Consensus { dir: dir.clone(), reason: reason.to_owned() };
        started.recv().unwrap_or_else(|_| Err(failed("its thread ended")))?;
        let txn_bytes = options.txn_bytes.min(options::TXN_BYTES_MAX);
        Ok(Self { shared, queue, rewrites, stop, thread: Mutex::new(Some(thread)), txn_bytes, seal })
    }

    /// Commits what is waiting, ends all watches, and closes the files. Further commits are refused.
    pub async fn shutdown(&self) {
        self.stop.notify_one();
        if let Some(thread) = self.take_thread() {
            // A panic of the thread has been printed; there is nothing more to close.
            let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
    }

    /// Writes everything anew, as the seal now seals it, and removes all files from before. False if that failed; what is
    /// stored is whole in either case.
    pub async fn rewrite(&self) -> bool {
        let (answer, answered) = oneshot::channel();
        self.rewrites.send(answer).await.is_ok() && answered.await.unwrap_or(false)
    }

    fn take_thread(&self) -> Option<JoinHandle<()>> {
        self.thread.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    async fn send(&self, txn: Txn) -> Result<Committed, CommitError> {
        let (answer, answered) = oneshot::channel();
        let sealed = self.seal.as_ref().map_or(0, |seal| sealed_puts(&**seal, &txn));
        let command = Command::new(txn, sealed * SEAL_OVERHEAD_MAX, answer);
        if command.bytes() > self.txn_bytes {
            return Err(CommitError::TooLarge { bytes: command.bytes(), limit: self.txn_bytes });
        }
        let closed = || CommitError::Unavailable { reason: "it is shutting down".to_owned() };
        self.queue.send(command).await.map_err(|_| closed())?;
        answered.await.unwrap_or_else(|_| Err(closed()))
    }
}

/// How many values of a transaction are to be sealed.
fn sealed_puts(seal: &dyn Seal, txn: &Txn) -> usize {
    let sealed = |operation: &&Operation| matches!(operation, Operation::Put { key, .. } if seal.seals(key));
    txn.operations.iter().filter(sealed).count()
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.stop.notify_one();
        if let Some(thread) = self.take_thread() {
            // As in `shutdown`.
            let _ = thread.join();
        }
    }
}

impl Store for Embedded {
    fn snapshot(&self) -> Snapshot {
        self.shared.snapshot()
    }

    fn snapshot_at(&self, revision: Revision) -> Result<Snapshot, Compacted> {
        self.shared.snapshot_at(revision)
    }

    /// A commit whose future is dropped after it was first polled may still happen.
    fn commit(&self, txn: Txn) -> BoxFuture<'_, Result<Committed, CommitError>> {
        self.send(txn).boxed()
    }

    fn watch(&self, prefix: &str, after: Revision) -> Result<Watch, Compacted> {
        self.shared.watch(prefix, after)
    }

    fn reached(&self, revision: Revision) -> BoxFuture<'_, ()> {
        self.shared.reached(revision).boxed()
    }
}

/// Dropped when the thread ends, however it ends: watchers learn of it, then another process may open the store.
#[derive(Debug)]
struct Closing {
    shared: Arc<Shared>,
    _lock: File,
}

impl Drop for Closing {
    fn drop(&mut self) {
        self.shared.close();
    }
}

fn lock(dir: &Path) -> Result<File, OpenError> {
    std::fs::create_dir_all(dir).map_err(|source| OpenError::Io { path: dir.to_owned(), source })?;
    let path = dir.join("LOCK");
    let io = |source| OpenError::Io { path: path.clone(), source };
    let file = File::options().write(true).create(true).truncate(false).open(&path).map_err(io)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::Locked { dir: dir.to_owned() }),
        Err(TryLockError::Error(source)) => Err(OpenError::Io { path, source }),
    }
}

/// What the store's thread runs.
struct Voter {
    options: Options,
    log: Log,
    machine: Machine,
    requests: Requests,
    dir: PathBuf,
}

impl Voter {
    fn run(self, ready: &std::sync::mpsc::SyncSender<Result<(), OpenError>>) {
        let dir = self.dir.clone();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        let answer = match runtime {
            Ok(runtime) => runtime.block_on(self.serve(ready)),
            Err(source) => Err(OpenError::Io { path: dir, source }),
        };
        // The other side has gone away only if it was answered already.
        let _ = answer.map_err(|error| ready.send(Err(error)));
    }

    async fn serve(self, ready: &std::sync::mpsc::SyncSender<Result<(), OpenError>>) -> Result<(), OpenError> {
        let failed = |reason: String| OpenError::Consensus { dir: self.dir.clone(), reason };
        let raft = start(self.log.clone(), self.machine.clone()).await.map_err(failed)?;
        self.log.started(self.machine.applied());
        // As above.
        let _ = ready.send(Ok(()));
        let upkeep = Upkeep::new(self.options, self.log, self.machine);
        batcher::run(&raft, self.requests, upkeep).await;
        if let Err(error) = raft.shutdown().await {
            tracing::warn!(%error, "the Raft core ended with an error");
        }
        Ok(())
    }
}

/// Starts openraft and waits until this voter leads. There is no ticking: one voter needs neither heartbeats nor election
/// time-outs, so an idle store does nothing at all.
async fn start(log: Log, machine: Machine) -> Result<Raft, String> {
    let config = Config {
        cluster_name: "mizzen".to_owned(),
        enable_tick: false,
        heartbeat_interval: 500,
        election_timeout_min: 1500,
        election_timeout_max: 3000,
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: 0,
        ..Config::default()
    };
    let config = Arc::new(config.validate().map_err(|error| error.to_string())?);
    let raft = Raft::new(NODE, config, Alone, log, machine).await.map_err(|error| error.to_string())?;
    if !raft.is_initialized().await.map_err(|error| error.to_string())? {
        let members = BTreeMap::from([(NODE, BasicNode::default())]);
        raft.initialize(members).await.map_err(|error| error.to_string())?;
    } else if raft.current_leader().await != Some(NODE) {
        raft.trigger().elect().await.map_err(|error| error.to_string())?;
    }
    let led = raft.wait(Some(ELECTION)).current_leader(NODE, "the only voter leads").await;
    led.map_err(|error| error.to_string())?;
    Ok(raft)
}
