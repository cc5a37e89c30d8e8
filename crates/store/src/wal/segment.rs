//! One file of the log: a header, then checksummed frames, then zeros (or the rests of an earlier use).
//!
//! A file is filled with zeros before use, because a synced write into blocks that are already on disk takes half the
//! time of one that extends the file. Frames start at multiples of 512 bytes, so that writing one never rewrites
//! a sector that holds an acknowledged one. Every use of a file has a random salt, which all its frames carry: neither the
//! rests of an earlier use nor bytes that a client sent can pass for a frame.

use std::fs::{File, OpenOptions};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::codec::{Reader, put_u32, put_u64};

/// Frames and the header are padded to this.
pub(crate) const SECTOR: u64 = 512;
/// Bytes of a frame before its payload: checksum, length, salt, number.
pub(crate) const FRAME_HEADER: usize = 24;

const MAGIC: &[u8; 8] = b"mzn-wal1";

/// An open segment.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) file: File,
    pub(crate) path: PathBuf,
    /// Its place in the log.
    pub(crate) sequence: u64,
    pub(crate) salt: u64,
    /// Its length on disk.
    pub(crate) size: u64,
    /// Where the next frame goes.
    pub(crate) offset: u64,
}

impl Segment {
    /// Creates a zero-filled segment; what it could not finish it takes away again.
    pub(crate) fn create(dir: &Path, sequence: u64, size: u64) -> io::Result<Self> {
        let staged = dir.join(format!("wal-{sequence:016x}.tmp"));
        let made = fill(&staged, size).and_then(|file| Self::begin(dir, &staged, file, sequence, size));
        if made.is_err() {
            // It only takes room; the next start removes it as well.
            let _ = std::fs::remove_file(&staged);
        }
        made
    }

    /// Gives an old segment a new place in the log.
    pub(crate) fn reuse(dir: &Path, old: &Path, sequence: u64, size: u64) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open(old)?;
        Self::begin(dir, old, file, sequence, size)
    }

    fn begin(dir: &Path, from: &Path, file: File, sequence: u64, size: u64) -> io::Result<Self> {
        let salt = RandomState::new().hash_one(sequence);
        file.write_all_at(&header(sequence, salt, size), 0)?;
        file.sync_data()?;
        let path = dir.join(name(sequence));
        std::fs::rename(from, &path)?;
        sync_dir(dir)?;
        Ok(Self { file, path, sequence, salt, size, offset: SECTOR })
    }

    /// Whether a frame of `len` bytes (padded) can be written, with `reserve` left behind it.
    pub(crate) fn has_room(&self, len: u64, reserve: u64) -> bool {
        self.offset + len + reserve <= self.size
    }

    /// Writes a frame and syncs it.
    pub(crate) fn write(&mut self, frame: &[u8]) -> io::Result<()> {
        self.file.write_all_at(frame, self.offset)?;
        self.file.sync_data()?;
        self.offset += frame.len() as u64;
        Ok(())
    }
}

fn fill(path: &Path, size: u64) -> io::Result<File> {
    let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)?;
    let zeros = vec![0_u8; size.min(1 << 20) as usize];
    let mut left = size;
    while left > 0 {
        let len = left.min(zeros.len() as u64);
        file.write_all(&zeros[..len as usize])?;
        left -= len;
    }
    file.sync_all()?;
    Ok(file)
}

/// Syncs a directory, so that the names in it survive.
pub(crate) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// The name of the segment at a place in the log; the order of names is the order of places.
pub(crate) fn name(sequence: u64) -> String {
    format!("wal-{sequence:016x}.log")
}

/// The place in the log of a segment's name.
pub(crate) fn sequence_of(name: &str) -> Option<u64> {
    u64::from_str_radix(name.strip_prefix("wal-")?.strip_suffix(".log")?, 16).ok()
}

fn header(sequence: u64, salt: u64, size: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity(SECTOR as usize);
    out.extend_from_slice(MAGIC);
    put_u64(&mut out, sequence);
    put_u64(&mut out, salt);
    put_u64(&mut out, size);
    let sum = crc32c::crc32c(&out);
    put_u32(&mut out, sum);
    out.resize(SECTOR as usize, 0);
    out
}

/// The sequence and salt in a header, if it is one.
pub(crate) fn read_header(bytes: &[u8]) -> Option<(u64, u64)> {
    let mut reader = Reader::new(bytes.get(..36)?);
    let magic = reader.take(8).ok()?;
    let (sequence, salt, _size) = (reader.u64().ok()?, reader.u64().ok()?, reader.u64().ok()?);
    let valid = magic == MAGIC && reader.u32().ok()? == crc32c::crc32c(&bytes[..32]);
    valid.then_some((sequence, salt))
}

/// A frame around `payload`, padded.
pub(crate) fn frame(salt: u64, number: u64, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(padded(payload.len()) as usize);
    put_u32(&mut out, 0);
    put_u32(&mut out, payload.len() as u32);
    put_u64(&mut out, salt);
    put_u64(&mut out, number);
    out.extend_from_slice(payload);
    let sum = crc32c::crc32c(&out[4..]);
    out[..4].copy_from_slice(&sum.to_le_bytes());
    out.resize(padded(payload.len()) as usize, 0);
    out
}

/// The length on disk of a frame around `payload` bytes.
pub(crate) fn padded(payload: usize) -> u64 {
    ((FRAME_HEADER + payload) as u64).next_multiple_of(SECTOR)
}

/// The number and payload of the frame at the start of `bytes`, if there is a whole one with this salt.
pub(crate) fn read_frame(bytes: &[u8], salt: u64) -> Option<(u64, &[u8])> {
    let mut reader = Reader::new(bytes);
    let (sum, len) = (reader.u32().ok()?, reader.u32().ok()? as usize);
    if reader.u64().ok()? != salt {
        return None;
    }
    let number = reader.u64().ok()?;
    let payload = reader.take(len).ok()?;
    (crc32c::crc32c(&bytes[4..FRAME_HEADER + len]) == sum).then_some((number, payload))
}
