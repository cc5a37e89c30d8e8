//! openraft's log over the files of [`crate::wal`].
//!
//! Entries that are not yet applied lie in memory as well, since openraft reads them back to apply them. Applied ones are
//! dropped there, unless there are others in the cluster: then all since the newest snapshot are kept for those who lag;
//! whoever lags further is sent the snapshot.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use openraft::storage::{LogFlushed, LogState, RaftLogStorage};
use openraft::{EntryPayload, LeaderId, OptionalSend, RaftLogReader, StorageIOError};

use super::types::{Batch, Entry, LogId, Membership, Origin, StorageError, TypeConfig, Vote};
use crate::Txn;
use crate::codec::{self, DecodeError, Reader, Sealed, put_bytes, put_u32, put_u64};
use crate::seal::MaybeSeal;
use crate::wal::{Sizes, Wal, WalError, recover};

/// The log, shared by openraft and the batcher. Locked for the length of one write; all of it runs on one thread.
#[derive(Debug, Clone)]
pub(crate) struct Log {
    inner: Arc<Mutex<Inner>>,
    /// Beside the lock, which is held while a write is synced: every request asks for it.
    others: Arc<AtomicU8>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) wal: Wal,
    vote: Option<Vote>,
    entries: VecDeque<Entry>,
    purged: Option<LogId>,
    last: Option<LogId>,
    /// Until openraft has started it reads entries again after they were applied.
    started: bool,
    /// How much is stored; decides the size of the next segment.
    pub(crate) live_bytes: u64,
    seal: MaybeSeal,
    /// The removal of old files that is under way.
    removing: Option<tokio::task::JoinHandle<()>>,
}

/// Who else is in the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Others {
    /// Nobody: what is in this log is committed, and nobody else reads it.
    None = 0,
    /// Members without a vote: what is in this log is committed, and they read it.
    Learners = 1,
    /// Voters, who tell what is committed.
    Voters = 2,
}

impl Others {
    /// As `me` sees a membership. A voter that knows of no members waits for somebody to add it.
    pub(crate) fn of(membership: &Membership, me: u64) -> Self {
        let mut voters = membership.voter_ids().peekable();
        if voters.peek().is_none() || voters.any(|id| id != me) {
            Self::Voters
        } else if membership.nodes().any(|(id, _)| *id != me) {
            Self::Learners
        } else {
            Self::None
        }
    }
}

/// Entries for a follower end after so many bytes; one is sent in any case.
const SENT_BYTES: usize = 4 << 20;

impl Log {
    /// Opens the log in `dir`; entries up to `held` are in the snapshot. `others` looks at the newest membership in the log.
    pub(crate) fn open(
        dir: &Path,
        sizes: Sizes,
        held: Option<LogId>,
        others: impl FnOnce(Option<&Membership>) -> Others,
        seal: MaybeSeal,
    ) -> Result<Self, WalError> {
        let (entries, index) = (VecDeque::new(), held.map_or(0, |id| id.index));
        let mut read = Read { vote: None, entries, held: index, known: held, seal: seal.clone() };
        let recovered = recover(dir, sizes, read.held, |payload| read.payload(payload))?;
        if recovered.cut {
            tracing::warn!(dir = %dir.display(), "cut an unacknowledged record from the end of the log");
        }
        let last = read.entries.back().map(|entry| entry.log_id).or(held);
        let membership = read.entries.iter().rev().find_map(|entry| match &entry.payload {
            EntryPayload::Membership(membership) => Some(membership),
            EntryPayload::Blank | EntryPayload::Normal(_) => None,
        });
        let others = others(membership);
        let inner = Inner {
            wal: recovered.wal,
            vote: read.vote,
            entries: read.entries,
            purged: held,
            last,
            started: false,
            live_bytes: 0,
            seal,
            removing: None,
        };
        Ok(Self { inner: Arc::new(Mutex::new(inner)), others: Arc::new(AtomicU8::new(others as u8)) })
    }

    /// Who else is in the cluster now. Never waits.
    pub(crate) fn others(&self) -> Others {
        match self.others.load(Ordering::Acquire) {
            0 => Others::None,
            1 => Others::Learners,
            _ => Others::Voters,
        }
    }

    /// The members have changed. What was dropped before is not there for those who come.
    pub(crate) fn set_others(&self, others: Others) {
        self.others.store(others as u8, Ordering::Release);
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// openraft has started: from now on entries are dropped when they are applied.
    pub(crate) fn started(&self, applied: Option<LogId>) {
        self.lock().started = true;
        self.applied(applied);
    }

    /// Removes all files that hold nothing after `index`, which a snapshot now holds, also one that purging kept for later
    /// use. True when none is left.
    pub(crate) async fn remove_through(&self, index: u64) -> bool {
        let (mut old, removing) = {
            let mut inner = self.lock();
            let live_bytes = inner.live_bytes;
            let mut old = inner.wal.purge(index, live_bytes);
            old.extend(inner.wal.take_spare());
            (old, inner.removing.take())
        };
        if let Some(removing) = removing {
            // It panics only if the runtime is ending.
            let _ = removing.await;
        }
        let removed = tokio::task::spawn_blocking(move || {
            remove(&old);
            old.retain(|path| path.exists());
            old.is_empty()
        });
        removed.await.unwrap_or(false)
    }

    /// Everything up to `id` is in the state machine.
    pub(crate) fn applied(&self, id: Option<LogId>) {
        let mut inner = self.lock();
        if let (true, Others::None, Some(id)) = (inner.started, self.others(), id) {
            while inner.entries.pop_front_if(|entry| entry.log_id.index <= id.index).is_some() {}
        }
    }
}

impl Inner {
    /// Begins a new file of the log, so that no more is added to the one that holds what is being written anew.
    pub(crate) fn roll(&mut self) -> io::Result<()> {
        let mut payload = Vec::new();
        if let Some(vote) = &self.vote {
            put_vote(&mut payload, vote);
        }
        self.wal.roll_now(&payload)
    }

    fn write(&mut self, payload: &[u8]) -> io::Result<()> {
        let mut preface = Vec::new();
        if let Some(vote) = &self.vote {
            put_vote(&mut preface, vote);
        }
        self.wal.append(&preface, payload, self.last.map_or(0, |id| id.index))
    }
}

const VOTE: u8 = 1;
const TRUNCATE: u8 = 2;
const BLANK: u8 = 3;
const BATCH: u8 = 4;
const MEMBERSHIP: u8 = 5;
const BATCH_OF: u8 = 6;

/// An upper bound of a batch's bytes in the log beside its transactions.
pub(crate) const ENTRY_OVERHEAD: usize = 128;

fn put_vote(out: &mut Vec<u8>, vote: &Vote) {
    out.push(VOTE);
    put_u64(out, vote.leader_id.term);
    put_u64(out, vote.leader_id.node_id);
    out.push(u8::from(vote.committed));
}

pub(crate) fn put_entry(out: &mut Vec<u8>, entry: &Entry, seal: &MaybeSeal) -> io::Result<()> {
    let tag = match &entry.payload {
        EntryPayload::Blank => BLANK,
        EntryPayload::Normal(batch) if batch.origin.is_some() => BATCH_OF,
        EntryPayload::Normal(_) => BATCH,
        EntryPayload::Membership(_) => MEMBERSHIP,
    };
    out.push(tag);
    put_u64(out, entry.log_id.leader_id.term);
    put_u64(out, entry.log_id.leader_id.node_id);
    put_u64(out, entry.log_id.index);
    match &entry.payload {
        EntryPayload::Blank => {}
        EntryPayload::Normal(batch) => put_batch(out, batch, seal)?,
        EntryPayload::Membership(membership) => put_bytes(out, &serde_json::to_vec(membership)?),
    }
    Ok(())
}

/// The origin, if there is one, then the transactions. Whether there is one is said by what stands before.
pub(crate) fn put_batch(out: &mut Vec<u8>, batch: &Batch, seal: &MaybeSeal) -> io::Result<()> {
    if let Some(origin) = batch.origin {
        put_u64(out, origin.run);
        put_u64(out, origin.number);
    }
    put_u32(out, batch.txns.len() as u32);
    batch.txns.iter().try_for_each(|txn| codec::put_txn(out, txn, seal)).map_err(io::Error::other)
}

/// Reads a batch that has an origin.
pub(crate) fn read_batch(reader: &mut Reader<'_>, sealed: Sealed<'_>) -> Result<Batch, DecodeError> {
    let origin = Origin { run: reader.u64()?, number: reader.u64()? };
    Ok(Batch { origin: Some(origin), txns: read_txns(reader, sealed)? })
}

fn read_txns(reader: &mut Reader<'_>, sealed: Sealed<'_>) -> Result<Arc<Vec<Txn>>, DecodeError> {
    let txns = (0..reader.u32()?).map(|_| codec::read_txn(reader, sealed)).collect::<Result<_, _>>()?;
    Ok(Arc::new(txns))
}

/// Reads one entry of a voter's request.
pub(crate) fn read_entry(reader: &mut Reader<'_>, sealed: Sealed<'_>) -> Result<Entry, DecodeError> {
    let tag = reader.u8()?;
    let log_id = read_log_id(reader)?;
    Ok(Entry { log_id, payload: read_payload(tag, reader, sealed)? })
}

fn read_log_id(reader: &mut Reader<'_>) -> Result<LogId, DecodeError> {
    let leader_id = LeaderId::new(reader.u64()?, reader.u64()?);
    Ok(LogId { leader_id, index: reader.u64()? })
}

/// What the log's records add up to.
struct Read {
    vote: Option<Vote>,
    entries: VecDeque<Entry>,
    held: u64,
    /// The snapshot's last entry.
    known: Option<LogId>,
    seal: MaybeSeal,
}

impl Read {
    fn payload(&mut self, payload: &[u8]) -> Result<u64, DecodeError> {
        let mut reader = Reader::new(payload);
        let mut highest = 0;
        while !reader.is_empty() {
            match reader.u8()? {
                VOTE => {
                    let leader_id = LeaderId::new(reader.u64()?, reader.u64()?);
                    self.vote = Some(Vote { leader_id, committed: reader.u8()? != 0 });
                }
                TRUNCATE => {
                    let from = reader.u64()?;
                    while self.entries.pop_back_if(|entry| entry.log_id.index >= from).is_some() {}
                }
                tag => {
                    let log_id = read_log_id(&mut reader)?;
                    let skipped = self.known.is_some() && log_id.index <= self.held;
                    let sealed = if skipped { Sealed::Leave } else { Sealed::Open(&self.seal) };
                    let payload = read_payload(tag, &mut reader, sealed)?;
                    highest = highest.max(log_id.index);
                    self.entry(Entry { log_id, payload })?;
                }
            }
        }
        Ok(highest)
    }

    fn entry(&mut self, entry: Entry) -> Result<(), DecodeError> {
        let found = entry.log_id.index;
        if self.known.is_some() && found <= self.held {
            return Ok(());
        }
        let next = match self.entries.back() {
            Some(last) => last.log_id.index + 1,
            None => self.known.map_or(0, |id| id.index + 1),
        };
        if found != next {
            return Err(DecodeError::Gap { before: next.saturating_sub(1), found });
        }
        self.entries.push_back(entry);
        Ok(())
    }
}

fn read_payload(tag: u8, reader: &mut Reader<'_>, sealed: Sealed<'_>) -> Result<EntryPayload<TypeConfig>, DecodeError> {
    match tag {
        BLANK => Ok(EntryPayload::Blank),
        BATCH => Ok(EntryPayload::Normal(Batch { origin: None, txns: read_txns(reader, sealed)? })),
        BATCH_OF => read_batch(reader, sealed).map(EntryPayload::Normal),
        MEMBERSHIP => {
            serde_json::from_slice(reader.bytes()?).map(EntryPayload::Membership).map_err(|_| DecodeError::Membership)
        }
        tag => Err(DecodeError::Tag(tag)),
    }
}

fn remove(segments: &[PathBuf]) {
    for path in segments {
        if let Err(error) = std::fs::remove_file(path) {
            tracing::warn!(path = %path.display(), %error, "cannot remove an old log segment");
        }
    }
}

impl RaftLogReader<TypeConfig> for Log {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, StorageError> {
        let inner = self.lock();
        let Some(first) = inner.entries.front().map(|entry| entry.log_id.index) else { return Ok(Vec::new()) };
        let start = match range.start_bound() {
            Bound::Included(start) => *start,
            Bound::Excluded(start) => start + 1,
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(end) => end + 1,
            Bound::Excluded(end) => *end,
            Bound::Unbounded => u64::MAX,
        };
        let count = inner.entries.len();
        let at = |index: u64| (index.saturating_sub(first) as usize).min(count);
        Ok(inner.entries.range(at(start)..at(end).max(at(start))).cloned().collect())
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Entry>, StorageError> {
        let mut entries = self.try_get_log_entries(start..end).await?;
        let mut bytes = 0;
        let fit = entries.iter().take_while(|entry| {
            let before = bytes;
            bytes += entry_len(entry);
            before == 0 || bytes <= SENT_BYTES
        });
        let fit = fit.count();
        entries.truncate(fit);
        Ok(entries)
    }
}

/// About what [`put_entry`] writes.
fn entry_len(entry: &Entry) -> usize {
    match &entry.payload {
        EntryPayload::Normal(batch) => ENTRY_OVERHEAD + batch.txns.iter().map(codec::txn_len).sum::<usize>(),
        EntryPayload::Blank | EntryPayload::Membership(_) => ENTRY_OVERHEAD,
    }
}

impl RaftLogStorage<TypeConfig> for Log {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, StorageError> {
        let inner = self.lock();
        Ok(LogState { last_purged_log_id: inner.purged, last_log_id: inner.last })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), StorageError> {
        let mut inner = self.lock();
        let mut payload = Vec::new();
        put_vote(&mut payload, vote);
        inner.write(&payload).map_err(|error| StorageIOError::write_vote(&error))?;
        inner.vote = Some(*vote);
        Ok(())
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, StorageError> {
        Ok(self.lock().vote)
    }

    /// With one vote everything in the log is committed: what was synced may have been acknowledged, and nobody else can
    /// have decided otherwise. So a restart applies the log at once, without an election.
    async fn read_committed(&mut self) -> Result<Option<LogId>, StorageError> {
        let inner = self.lock();
        Ok(inner.last.filter(|_| self.others() != Others::Voters))
    }

    async fn append<I>(&mut self, entries: I, callback: LogFlushed<TypeConfig>) -> Result<(), StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut inner = self.lock();
        let mut payload = Vec::new();
        for entry in entries {
            put_entry(&mut payload, &entry, &inner.seal)
                .map_err(|error| StorageIOError::write_log_entry(entry.log_id, &error))?;
            inner.last = Some(entry.log_id);
            inner.entries.push_back(entry);
        }
        inner.write(&payload).map_err(|error| StorageIOError::write_logs(&error))?;
        callback.log_io_completed(Ok(()));
        Ok(())
    }

    async fn truncate(&mut self, log_id: LogId) -> Result<(), StorageError> {
        let mut inner = self.lock();
        while inner.entries.pop_back_if(|entry| entry.log_id.index >= log_id.index).is_some() {}
        inner.last = inner.entries.back().map(|entry| entry.log_id).or(inner.purged);
        let mut payload = vec![TRUNCATE];
        put_u64(&mut payload, log_id.index);
        inner.write(&payload).map_err(|error| StorageIOError::write_logs(&error))?;
        Ok(())
    }

    /// Not recorded: the snapshot that made it possible says how far it goes.
    async fn purge(&mut self, log_id: LogId) -> Result<(), StorageError> {
        let mut inner = self.lock();
        while inner.entries.pop_front_if(|entry| entry.log_id.index <= log_id.index).is_some() {}
        inner.purged = inner.purged.max(Some(log_id));
        inner.last = inner.last.max(Some(log_id));
        let live_bytes = inner.live_bytes;
        let removable = inner.wal.purge(log_id.index, live_bytes);
        // The runtime waits for it when it ends; what is not removed is found and removed after the next start.
        inner.removing = Some(tokio::task::spawn_blocking(move || remove(&removable)));
        Ok(())
    }
}
