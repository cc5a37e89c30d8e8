//! openraft's log over the files of [`crate::wal`].
//!
//! Entries that are not yet applied lie in memory as well, since openraft reads them back to apply them; applied ones are
//! dropped there. (With more voters, a follower that lags behind them is sent the snapshot.)

use std::collections::VecDeque;
use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use openraft::storage::{LogFlushed, LogState, RaftLogStorage};
use openraft::{EntryPayload, LeaderId, OptionalSend, RaftLogReader, StorageIOError};

use super::types::{Batch, Entry, LogId, StorageError, TypeConfig, Vote};
use crate::codec::{self, DecodeError, Reader, Sealed, put_bytes, put_u32, put_u64};
use crate::seal::MaybeSeal;
use crate::wal::{Sizes, Wal, WalError, recover};

/// The log, shared by openraft and the batcher. Locked for the length of one write; all of it runs on one thread.
#[derive(Debug, Clone)]
pub(crate) struct Log(Arc<Mutex<Inner>>);

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) wal: Wal,
    voters: Voters,
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

/// Who has to agree before an entry is committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Voters {
    /// This one alone: what is in its log is committed.
    One,
    /// Others as well, who tell what is committed.
    #[cfg_attr(not(test), expect(dead_code, reason = "stores with several voters are yet to come; the suite uses it"))]
    Several,
}

impl Log {
    /// Opens the log in `dir`; entries up to `held` are in the snapshot.
    pub(crate) fn open(
        dir: &Path,
        sizes: Sizes,
        held: Option<LogId>,
        voters: Voters,
        seal: MaybeSeal,
    ) -> Result<Self, WalError> {
        let (entries, index) = (VecDeque::new(), held.map_or(0, |id| id.index));
        let mut read = Read { vote: None, entries, held: index, known: held, seal: seal.clone() };
        let recovered = recover(dir, sizes, read.held, |payload| read.payload(payload))?;
        if recovered.cut {
            tracing::warn!(dir = %dir.display(), "cut an unacknowledged record from the end of the log");
        }
        let last = read.entries.back().map(|entry| entry.log_id).or(held);
        Ok(Self(Arc::new(Mutex::new(Inner {
            wal: recovered.wal,
            voters,
            vote: read.vote,
            entries: read.entries,
            purged: held,
            last,
            started: false,
            live_bytes: 0,
            seal,
            removing: None,
        }))))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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
        if let (true, Some(id)) = (inner.started, id) {
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

/// An upper bound of a batch's bytes in the log beside its transactions.
pub(crate) const ENTRY_OVERHEAD: usize = 128;

fn put_vote(out: &mut Vec<u8>, vote: &Vote) {
    out.push(VOTE);
    put_u64(out, vote.leader_id.term);
    put_u64(out, vote.leader_id.node_id);
    out.push(u8::from(vote.committed));
}

fn put_entry(out: &mut Vec<u8>, entry: &Entry, seal: &MaybeSeal) -> io::Result<()> {
    let tag = match &entry.payload {
        EntryPayload::Blank => BLANK,
        EntryPayload::Normal(_) => BATCH,
        EntryPayload::Membership(_) => MEMBERSHIP,
    };
    out.push(tag);
    put_u64(out, entry.log_id.leader_id.term);
    put_u64(out, entry.log_id.leader_id.node_id);
    put_u64(out, entry.log_id.index);
    match &entry.payload {
        EntryPayload::Blank => {}
        EntryPayload::Normal(Batch(txns)) => {
            put_u32(out, txns.len() as u32);
            txns.iter().try_for_each(|txn| codec::put_txn(out, txn, seal)).map_err(io::Error::other)?;
        }
        EntryPayload::Membership(membership) => put_bytes(out, &serde_json::to_vec(membership)?),
    }
    Ok(())
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
                    let leader_id = LeaderId::new(reader.u64()?, reader.u64()?);
                    let log_id = LogId { leader_id, index: reader.u64()? };
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
        BATCH => {
            let txns = (0..reader.u32()?).map(|_| codec::read_txn(reader, sealed)).collect::<Result<_, _>>()?;
            Ok(EntryPayload::Normal(Batch(Arc::new(txns))))
        }
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

    /// With one voter everything in the log is committed: what was synced may have been acknowledged, and nobody else can
    /// have decided otherwise. So a restart applies the log at once, without an election.
    async fn read_committed(&mut self) -> Result<Option<LogId>, StorageError> {
        let inner = self.lock();
        Ok(inner.last.filter(|_| inner.voters == Voters::One))
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
