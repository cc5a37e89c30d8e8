//! The log on disk: segments of checksummed frames. One append is one frame and one sync, so at most one frame is ever
//! unsynced, and everything before it is acknowledged.
//!
//! Blocking, and called from the store's own thread; what takes long (filling a new segment, removing old ones) is
//! handed out as a [`Task`] or a list of paths for another thread.

mod recover;
mod segment;

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};

pub(crate) use recover::{WalError, recover};
pub(crate) use segment::{Segment, padded, sync_dir};

use segment::{SECTOR, frame};

/// Room that only Raft's own records (votes, memberships) may use, so that a full disk does not keep a voter from starting.
const RESERVE: u64 = 32 * SECTOR;
/// The smallest segment after the first.
const SMALL_SEGMENT: u64 = 8 << 20;

/// No frame is longer: a batch is at most a transaction of the largest size and what else was taken with it.
pub(crate) const LARGEST_FRAME: u64 = 16 << 20;

/// Sizes of the log's files.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sizes {
    /// Of the first segment of an empty log: small, because starting waits for it.
    pub(crate) first: u64,
    /// Of any segment at most.
    pub(crate) max: u64,
}

/// A segment that is no longer written.
#[derive(Debug)]
pub(crate) struct Sealed {
    pub(crate) path: PathBuf,
    pub(crate) size: u64,
    /// The highest entry index it may hold.
    pub(crate) last_index: u64,
}

/// The log, open for appending.
#[derive(Debug)]
pub(crate) struct Wal {
    dir: PathBuf,
    sizes: Sizes,
    active: Segment,
    /// Prepared for when `active` is full.
    next: Option<Segment>,
    sealed: VecDeque<Sealed>,
    /// A purged segment kept to become the next one.
    spare: Option<Sealed>,
    /// Of the next frame.
    number: u64,
    /// The highest entry index written.
    last_index: u64,
    /// All bytes ever appended in this run.
    appended: u64,
}

/// The preparation of the next segment: work for another thread.
#[derive(Debug)]
pub(crate) struct Task {
    dir: PathBuf,
    sequence: u64,
    size: u64,
    reuse: Option<PathBuf>,
    remove: Option<PathBuf>,
}

impl Task {
    /// Does it.
    pub(crate) fn run(self) -> io::Result<Segment> {
        if let Some(old) = self.remove {
            std::fs::remove_file(old)?;
        }
        match self.reuse {
            Some(old) => Segment::reuse(&self.dir, &old, self.sequence, self.size),
            None => Segment::create(&self.dir, self.sequence, self.size),
        }
    }
}

impl Wal {
    /// The first segment of an empty log.
    pub(crate) fn create(dir: &Path, sizes: Sizes) -> io::Result<Self> {
        let active = Segment::create(dir, 1, sizes.first)?;
        let (dir, sealed) = (dir.to_owned(), VecDeque::new());
        Ok(Self { dir, sizes, active, next: None, sealed, spare: None, number: 1, last_index: 0, appended: 0 })
    }

    /// Whether a frame of `payload` bytes fits without making a segment.
    pub(crate) fn fits(&self, payload: usize) -> bool {
        let len = padded(payload);
        self.active.has_room(len, RESERVE) || self.next.as_ref().is_some_and(|next| next.has_room(len, RESERVE))
    }

    /// Writes one frame and syncs it. `last_index` is the highest entry index so far. `preface` is put before the payload if
    /// the frame is the first of a segment, since earlier segments may be removed.
    pub(crate) fn append(&mut self, preface: &[u8], payload: &[u8], last_index: u64) -> io::Result<()> {
        let mut whole = std::borrow::Cow::Borrowed(payload);
        if !self.active.has_room(padded(payload.len()), 0) {
            self.roll(padded(preface.len() + payload.len()))?;
            whole = std::borrow::Cow::Owned([preface, payload].concat());
        }
        let frame = frame(self.active.salt, self.number, &whole);
        self.active.write(&frame)?;
        self.number += 1;
        self.last_index = self.last_index.max(last_index);
        self.appended += frame.len() as u64;
        Ok(())
    }

    /// Goes on in a new segment, which begins with `preface`.
    pub(crate) fn roll_now(&mut self, preface: &[u8]) -> io::Result<()> {
        self.roll(padded(preface.len()))?;
        let last_index = self.last_index;
        self.append(&[], preface, last_index)
    }

    /// The segments that are neither written nor needed: one may be kept for later use.
    pub(crate) fn take_spare(&mut self) -> Option<PathBuf> {
        self.spare.take().map(|spare| spare.path)
    }

    fn roll(&mut self, len: u64) -> io::Result<()> {
        let next = match self.next.take().filter(|next| next.has_room(len, 0)) {
            Some(next) => next,
            None => {
                let size = SMALL_SEGMENT.min(self.sizes.max).max(len + SECTOR + RESERVE);
                Segment::create(&self.dir, self.active.sequence + 1, size)?
            }
        };
        let full = std::mem::replace(&mut self.active, next);
        self.sealed.push_back(Sealed { path: full.path, size: full.size, last_index: self.last_index });
        Ok(())
    }

    /// The preparation of the next segment, if it is due: three quarters of the active one are used, or `urgent` bytes of
    /// payload do not fit.
    pub(crate) fn prepare(&mut self, live_bytes: u64, urgent: Option<usize>) -> Option<Task> {
        let due = self.next.is_none() && self.active.offset * 4 > self.active.size * 3;
        if !due && urgent.is_none() {
            return None;
        }
        let needed = urgent.map_or(0, |payload| padded(payload) + SECTOR + 2 * RESERVE);
        let size = self.wanted_size(live_bytes).max(needed);
        let (reuse, remove) = match self.spare.take() {
            Some(spare) if spare.size == size => (Some(spare.path), None),
            other => (None, other.map(|spare| spare.path)),
        };
        Some(Task { dir: self.dir.clone(), sequence: self.active.sequence + 1, size, reuse, remove })
    }

    /// As large as what is stored, within limits: a small store has a small log.
    fn wanted_size(&self, live_bytes: u64) -> u64 {
        live_bytes.next_power_of_two().max(SMALL_SEGMENT).min(self.sizes.max)
    }

    /// Takes a prepared segment into use after the active one.
    pub(crate) fn prepared(&mut self, segment: Segment) {
        self.next = Some(segment);
    }

    /// The segments that hold no entry after `index`, which a snapshot now holds: to be removed by another thread.
    pub(crate) fn purge(&mut self, index: u64, live_bytes: u64) -> Vec<PathBuf> {
        let wanted = self.wanted_size(live_bytes);
        let mut gone = Vec::new();
        while let Some(sealed) = self.sealed.pop_front_if(|sealed| sealed.last_index <= index) {
            if self.next.is_none() && self.spare.is_none() && sealed.size == wanted {
                self.spare = Some(sealed);
            } else {
                gone.push(sealed.path);
            }
        }
        gone
    }

    /// All bytes appended in this run and found at its start.
    pub(crate) fn appended(&self) -> u64 {
        self.appended
    }

    /// The log's directory.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }
}
