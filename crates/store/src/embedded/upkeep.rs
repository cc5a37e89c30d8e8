//! What keeps the files in order beside the commits: new segments, snapshot files, and what to do on a full disk.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use tokio::task::{JoinError, JoinHandle};

use super::options::Options;
use crate::CommitError;
use crate::dump;
use crate::raft::log::{Log, Others};
use crate::raft::machine::Machine;
use crate::raft::types::Raft;
use crate::wal::{Segment, Task};

/// A full disk is asked again after this long: filling a segment up to the last free byte is work.
const RETRY: Duration = Duration::from_millis(200);

/// openraft purges as soon as it knows of the snapshot; a disk that takes this long is broken.
const PURGE: Duration = Duration::from_secs(30);

/// The upkeep of one store.
#[derive(Debug)]
pub(crate) struct Upkeep {
    options: Options,
    log: Log,
    machine: Machine,
    preparing: Background,
    saving: Background,
    /// The log's bytes when the newest snapshot was taken.
    saved_at: Arc<AtomicU64>,
}

/// One kind of background work: one at a time, and not again at once when it failed.
#[derive(Debug, Default)]
struct Background {
    /// Answers whether it succeeded.
    task: Option<JoinHandle<bool>>,
    not_before: Option<Instant>,
}

impl Background {
    fn may_start(&mut self) -> bool {
        match self.task.as_mut().map(FutureExt::now_or_never) {
            Some(None) => return false,
            Some(Some(done)) => self.ended(done.unwrap_or(false)),
            None => {}
        }
        self.not_before.is_none_or(|at| Instant::now() >= at)
    }

    fn start(&mut self, task: impl Future<Output = bool> + Send + 'static) {
        self.task = Some(tokio::spawn(task));
    }

    /// Waits for what is under way.
    async fn finished(&mut self) {
        if let Some(task) = &mut self.task {
            let done = task.await;
            self.ended(done.unwrap_or(false));
        }
    }

    fn ended(&mut self, succeeded: bool) {
        self.task = None;
        self.not_before = (!succeeded).then(|| Instant::now() + RETRY);
    }
}

impl Upkeep {
    pub(crate) fn new(options: Options, log: Log, machine: Machine) -> Self {
        let (preparing, saving) = (Background::default(), Background::default());
        Self { options, log, machine, preparing, saving, saved_at: Arc::default() }
    }

    /// Whether others write here, or read the log.
    pub(crate) fn with_others(&self) -> bool {
        self.log.others() != Others::None
    }

    /// Starts in the background what has become due. Takes microseconds.
    pub(crate) fn after_batch(&mut self, raft: &Raft) {
        let (grown, live_bytes) = {
            let inner = self.log.lock();
            (inner.wal.appended() - self.saved_at.load(Ordering::Relaxed), inner.live_bytes)
        };
        if grown >= self.options.snapshot_log_bytes.max(live_bytes / 2) {
            self.save(raft);
        }
        if self.preparing.may_start() {
            let task = self.log.lock().wal.prepare(live_bytes, None);
            if let Some(task) = task {
                self.preparing.start(prepare_ahead(task, self.log.clone()));
            }
        }
    }

    /// Waits for what is under way.
    pub(crate) async fn finish(mut self) {
        self.saving.finished().await;
        self.preparing.finished().await;
    }

    /// From now on the log is kept for others to read, and what was not kept before is given up: whoever needs it is sent
    /// the snapshot that is written here. False if that failed.
    pub(crate) async fn keep(&mut self, raft: &Raft) -> bool {
        if self.log.others() != Others::None {
            return true;
        }
        self.log.set_others(Others::Learners);
        self.saving.finished().await;
        let at = self.log.lock().wal.appended();
        let applied = self.machine.applied();
        let saved = save(self.machine.clone(), raft.clone(), at, Arc::clone(&self.saved_at)).await;
        let given_up = raft.wait(Some(PURGE)).purged(applied, "what was not kept is given up").await;
        if !saved || given_up.is_err() {
            self.log.set_others(Others::None);
        }
        saved && given_up.is_ok()
    }

    /// Writes everything anew, into a snapshot file and an empty log; nothing older is left when it answers true.
    pub(crate) async fn rewrite(&mut self, raft: &Raft) -> bool {
        self.saving.finished().await;
        self.preparing.finished().await;
        if let Err(error) = self.log.lock().roll() {
            tracing::warn!(%error, "cannot begin a new file of the log");
            return false;
        }
        let at = self.log.lock().wal.appended();
        let index = self.machine.applied().map_or(0, |id| id.index);
        save(self.machine.clone(), raft.clone(), at, Arc::clone(&self.saved_at)).await
            && self.log.remove_through(index).await
    }

    fn save(&mut self, raft: &Raft) {
        if self.saving.may_start() {
            let at = self.log.lock().wal.appended();
            self.saving.start(save(self.machine.clone(), raft.clone(), at, Arc::clone(&self.saved_at)));
        }
    }

    /// Makes sure that a batch of `bytes` fits into the log, so that a full disk is noticed before openraft is involved
    /// (to it, a failed write is the end).
    pub(crate) async fn make_room(&mut self, raft: &Raft, bytes: usize) -> Result<(), CommitError> {
        if self.log.lock().wal.fits(bytes) {
            return Ok(());
        }
        self.preparing.finished().await;
        if self.log.lock().wal.fits(bytes) {
            return Ok(());
        }
        if !self.preparing.may_start() {
            return Err(self.no_space());
        }
        let live_bytes = self.log.lock().live_bytes;
        // If one of the usual size does not fit on the disk, a small one may.
        for live_bytes in [live_bytes, 0] {
            let Some(task) = self.log.lock().wal.prepare(live_bytes, Some(bytes)) else { continue };
            match run(task).await {
                Ok(segment) => {
                    self.log.lock().wal.prepared(segment);
                    return Ok(());
                }
                Err(error) if is_full(&error) => {}
                Err(error) => return Err(CommitError::Unavailable { reason: error.to_string() }),
            }
        }
        self.preparing.ended(false);
        // A snapshot may be small enough to fit, and lets go of the log.
        self.save(raft);
        Err(self.no_space())
    }

    fn no_space(&self) -> CommitError {
        CommitError::NoSpace { path: self.log.lock().wal.dir().display().to_string() }
    }
}

async fn run(task: Task) -> io::Result<Segment> {
    tokio::task::spawn_blocking(move || task.run()).await.map_err(panicked)?
}

async fn prepare_ahead(task: Task, log: Log) -> bool {
    match run(task).await {
        Ok(segment) => log.lock().wal.prepared(segment),
        Err(error) => {
            tracing::warn!(%error, "cannot prepare the next log segment");
            return false;
        }
    }
    true
}

/// Writes a snapshot file, then has openraft take note of it and purge the log.
async fn save(machine: Machine, raft: Raft, at: u64, saved_at: Arc<AtomicU64>) -> bool {
    let (saved, dir, seal) = (machine.capture(), machine.dir().to_owned(), machine.seal());
    let meta = saved.meta.clone();
    let done = tokio::task::spawn_blocking(move || dump::write(&dir, &saved, &seal)).await;
    let path = match done.map_err(panicked).flatten() {
        Ok(path) => path,
        Err(error) => {
            tracing::warn!(%error, "cannot write a snapshot; the log is kept until it succeeds");
            return false;
        }
    };
    saved_at.store(at, Ordering::Relaxed);
    let old = machine.saved(meta, path);
    if let Err(error) = raft.trigger().snapshot().await {
        tracing::warn!(%error, "cannot purge the log after a snapshot");
        return false;
    }
    if let Some(old) = old {
        let removed = tokio::fs::remove_file(&old).await;
        if let Err(error) = removed {
            tracing::warn!(path = %old.display(), %error, "cannot remove an old snapshot");
        }
    }
    true
}

fn panicked(error: JoinError) -> io::Error {
    io::Error::other(error)
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
