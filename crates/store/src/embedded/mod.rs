//! The engine on a local disk: openraft, a log, snapshot files. One voter, or several (see [`crate::Peers`]).
//!
//! Everything that decides runs on one thread of its own with a current-thread runtime: batcher, Raft core, state
//! machine, and the synced write itself. Readers never go there.
//!
//! Durable are the current state and its revision. The history for watches and past states is kept in memory; after a
//! restart it reaches back to the newest snapshot file, whose log is replayed.

mod batcher;
mod members;
mod options;
mod route;
mod upkeep;

use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{BoxFuture, FutureExt};
use openraft::{BasicNode, Config, SnapshotPolicy};
use tokio::sync::{mpsc, oneshot, watch};

use crate::dump;
use crate::raft::log::{Log, Others};
use crate::raft::machine::Machine;
use crate::raft::network::Network;
use crate::raft::types::Raft;
use crate::seal::MaybeSeal;
use crate::shared::Shared;
use crate::wal::Sizes;
use crate::{
    CommitError, Committed, Compacted, Identity, Operation, Revision, SEAL_OVERHEAD_MAX, Seal, Snapshot, Store, Txn,
    Watch,
};

use batcher::{Ask, Command, Requests};
use route::Route;
use upkeep::Upkeep;

pub use options::{OpenError, Options};

/// So many commits may wait for the batcher; further ones wait at the door.
const QUEUE: usize = 1024;
/// The only voter elects itself within two syncs; a disk that hangs this long is broken.
const ELECTION: Duration = Duration::from_secs(30);

/// Between two heartbeats of a leader. One that is silent for ten of them loses its lease, and is replaced after five to ten
/// more: longer than a sync of a slow disk holds heartbeats up (0.5 s), and short for those who wait for a leader.
const HEARTBEAT_MS: u64 = 75;
/// A piece of a snapshot that takes longer is sent again.
const SNAPSHOT_PIECE_MS: u64 = 5000;

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
pub struct Embedded {
    shared: Arc<Shared>,
    queue: mpsc::Sender<Command>,
    asks: mpsc::Sender<Ask>,
    raft: Raft,
    log: Log,
    identity: Identity,
    stop: watch::Sender<bool>,
    thread: Mutex<Option<JoinHandle<()>>>,
    txn_bytes: usize,
    seal: MaybeSeal,
}

impl std::fmt::Debug for Embedded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Embedded").field("id", &self.identity.id).field("shared", &self.shared).finish_non_exhaustive()
    }
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
        Self::open_as(dir, options, seal, Identity::alone())
    }

    /// As [`Embedded::open_sealed`], as one of several servers that hold the same, or may come to. One that founded a
    /// cluster, and is alone in it, leads when this returns; others wait to be added, or for a leader.
    pub fn open_as(
        dir: impl AsRef<Path>,
        options: Options,
        seal: Option<Arc<dyn Seal>>,
        identity: Identity,
    ) -> Result<Self, OpenError> {
        let dir = dir.as_ref().to_owned();
        let lock = lock(&dir)?;
        let at = |source| OpenError::Io { path: dir.clone(), source };
        let saved = match dump::newest(&dir).map_err(at)? {
            Some(path) => Some((dump::read(&path, &seal)?, path)),
            None => None,
        };
        let (me, members) = (identity.id, saved.as_ref().map(|(saved, _)| saved.meta.last_membership.membership()));
        let others = |newest: Option<&_>| match newest.or(members) {
            Some(membership) => Others::of(membership, me),
            None if identity.founds => Others::None,
            None => Others::Voters,
        };
        let sizes = Sizes { first: options.first_segment_bytes.max(64 << 10), max: options.segment_bytes };
        let held = saved.as_ref().and_then(|(saved, _)| saved.meta.last_log_id);
        let log = Log::open(&dir, sizes, held, others, seal.clone())?;
        let state = saved.as_ref().map(|(saved, _)| saved.state.clone()).unwrap_or_default();
        let shared = Arc::new(Shared::new(options.retention, state));
        let machine = Machine::new(me, dir.clone(), saved, Arc::clone(&shared), log.clone(), seal.clone());

        let (queue, waiting) = mpsc::channel(QUEUE);
        let (asks, asked) = mpsc::channel(1);
        let stop = watch::Sender::new(false);
        let (ready, started) = std::sync::mpsc::sync_channel(1);
        let requests = Requests { waiting, asks: asked, stop: stop.subscribe() };
        let (kept, dir_of) = (log.clone(), dir.clone());
        let voter = Voter { options, log, machine, requests, dir: dir_of, identity: identity.clone() };
        let closing = Closing { shared: Arc::clone(&shared), _lock: lock };
        let thread = std::thread::Builder::new()
            .name("mizzen-store".to_owned())
            .spawn(move || {
                let _closing = closing;
                voter.run(&ready);
            })
            .map_err(at)?;
        let failed = |reason: &str| OpenError::Consensus { dir: dir.clone(), reason: reason.to_owned() };
        let raft = started.recv().unwrap_or_else(|_| Err(failed("its thread ended")))?;
        let txn_bytes = options.txn_bytes.min(options::TXN_BYTES_MAX);
        let thread = Mutex::new(Some(thread));
        Ok(Self { shared, queue, asks, raft, log: kept, identity, stop, thread, txn_bytes, seal })
    }

    /// Commits what is waiting, ends all watches, and closes the files. Further commits are refused.
    pub async fn shutdown(&self) {
        self.stop.send_replace(true);
        if let Some(thread) = self.take_thread() {
            // A panic of the thread has been printed; there is nothing more to close.
            let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
    }

    /// Writes everything anew, as the seal now seals it, and removes all files from before. False if that failed; what is
    /// stored is whole in either case.
    pub async fn rewrite(&self) -> bool {
        let (answer, answered) = oneshot::channel();
        self.asks.send(Ask::Rewrite(answer)).await.is_ok() && answered.await.unwrap_or(false)
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
        self.queue.send(command).await.map_err(|_| closed())?;
        answered.await.unwrap_or_else(|_| Err(closed()))
    }
}

fn closed() -> CommitError {
    CommitError::Unavailable { reason: "it is shutting down".to_owned() }
}

/// How many values of a transaction are to be sealed.
fn sealed_puts(seal: &dyn Seal, txn: &Txn) -> usize {
    let sealed = |operation: &&Operation| matches!(operation, Operation::Put { key, .. } if seal.seals(key));
    txn.operations.iter().filter(sealed).count()
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.stop.send_replace(true);
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

    fn newest(&self) -> Option<BoxFuture<'_, Result<(), CommitError>>> {
        self.has_others().then(|| self.confirm().boxed())
    }

    fn answer(&self, request: Bytes) -> Option<BoxFuture<'_, Bytes>> {
        Some(self.respond(request).boxed())
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
    identity: Identity,
}

type Ready = std::sync::mpsc::SyncSender<Result<Raft, OpenError>>;

impl Voter {
    fn run(self, ready: &Ready) {
        let dir = self.dir.clone();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        let answer = match runtime {
            Ok(runtime) => runtime.block_on(self.serve(ready)),
            Err(source) => Err(OpenError::Io { path: dir, source }),
        };
        // The other side has gone away only if it was answered already.
        let _ = answer.map_err(|error| ready.send(Err(error)));
    }

    async fn serve(self, ready: &Ready) -> Result<(), OpenError> {
        let failed = |reason: String| OpenError::Consensus { dir: self.dir.clone(), reason };
        let raft = start(&self.identity, self.log.clone(), self.machine.clone()).await.map_err(failed)?;
        self.log.started(self.machine.applied());
        // As above.
        let _ = ready.send(Ok(raft.clone()));
        let (log, machine, peers) = (self.log.clone(), self.machine.clone(), Arc::clone(&self.identity.peers));
        let stop = self.requests.stop.clone();
        let route = Route::new(self.identity.id, raft.clone(), log, machine, peers, stop);
        let upkeep = Upkeep::new(self.options, self.log, self.machine);
        batcher::run(route, self.requests, upkeep).await;
        if let Err(error) = raft.shutdown().await {
            tracing::warn!(%error, "the Raft core ended with an error");
        }
        Ok(())
    }
}

/// Starts openraft. Alone, this voter leads at once, and there is no ticking: it needs neither heartbeats nor election
/// time-outs, so an idle store does nothing at all. With others, time decides who leads.
async fn start(identity: &Identity, log: Log, machine: Machine) -> Result<Raft, String> {
    let alone = log.others() != Others::Voters;
    let config = Config {
        cluster_name: "mizzen".to_owned(),
        enable_tick: log.others() != Others::None,
        heartbeat_interval: HEARTBEAT_MS,
        election_timeout_min: HEARTBEAT_MS * 5,
        election_timeout_max: HEARTBEAT_MS * 10,
        install_snapshot_timeout: SNAPSHOT_PIECE_MS,
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: 0,
        ..Config::default()
    };
    let config = Arc::new(config.validate().map_err(|error| error.to_string())?);
    let (me, network) = (identity.id, Network(Arc::clone(&identity.peers)));
    let raft = Raft::new(me, config, network, log, machine).await.map_err(|error| error.to_string())?;
    if !raft.is_initialized().await.map_err(|error| error.to_string())? {
        if !identity.founds {
            return Ok(raft);
        }
        let members = BTreeMap::from([(me, BasicNode::new(&identity.address))]);
        raft.initialize(members).await.map_err(|error| error.to_string())?;
    } else if alone && raft.current_leader().await != Some(me) {
        raft.trigger().elect().await.map_err(|error| error.to_string())?;
    }
    if alone {
        let led = raft.wait(Some(ELECTION)).current_leader(me, "the only voter leads").await;
        led.map_err(|error| error.to_string())?;
    }
    Ok(raft)
}
