//! Snapshot files: the whole state at one log entry, in checksummed chunks, written beside and renamed when complete.

use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use openraft::{BasicNode, SnapshotMeta};

use crate::codec::{DecodeError, Reader, put_bytes, put_u32, put_u64};
use crate::raft::runs::Runs;
use crate::seal::{MaybeSeal, from_files, to_files};
use crate::wal::sync_dir;
use crate::{Entry, Revision, SealError, Snapshot};

const MAGIC: &[u8; 8] = b"mzn-dmp2";
/// Of files whose entries cannot be sealed.
const MAGIC_1: &[u8; 8] = b"mzn-dmp1";
/// Chunks are about this long; only an entry that is larger makes a larger one.
const CHUNK: usize = 256 << 10;
/// No chunk is longer, so a damaged length is not believed.
const LARGEST_CHUNK: usize = 32 << 20;
/// Synced every so often, so that one large sync does not hold up the log's small ones.
const SYNC_BYTES: usize = 4 << 20;

pub(crate) type Meta = SnapshotMeta<u64, BasicNode>;

/// Why a snapshot file cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DumpError {
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: io::Error },
    #[error("{path} is damaged at offset {offset}: {what}")]
    Corrupt { path: PathBuf, offset: u64, what: String },
    #[error("{path}: the value of {key}: {error}")]
    Sealed { path: PathBuf, key: String, error: SealError },
}

/// What a snapshot file holds.
#[derive(Debug, Clone, Default)]
pub(crate) struct Saved {
    /// What it is the state of.
    pub(crate) meta: Meta,
    /// The batches that made it.
    pub(crate) runs: Runs,
    /// The state.
    pub(crate) state: Snapshot,
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Header {
    meta: Meta,
    revision: Revision,
    entries: u64,
    #[serde(default)]
    runs: Runs,
}

/// The name of the snapshot file that holds everything up to a log index.
pub(crate) fn name(index: u64) -> String {
    format!("snapshot-{index:016x}")
}

/// Writes a snapshot file and syncs it; what it could not finish it takes away again.
pub(crate) fn write(dir: &Path, saved: &Saved, seal: &MaybeSeal) -> io::Result<PathBuf> {
    let index = saved.meta.last_log_id.map_or(0, |id| id.index);
    let (path, staged) = (dir.join(name(index)), dir.join(format!("{}.tmp", name(index))));
    let done =
        write_to(&staged, saved, seal).and_then(|()| std::fs::rename(&staged, &path)).and_then(|()| sync_dir(dir));
    if done.is_err() {
        // It only takes room; the next start removes it as well.
        let _ = std::fs::remove_file(&staged);
    }
    done.map(|()| path)
}

fn write_to(path: &Path, saved: &Saved, seal: &MaybeSeal) -> io::Result<()> {
    let Saved { meta, runs, state } = saved;
    let mut file = File::create(path)?;
    file.write_all(MAGIC)?;
    let (meta, runs) = (meta.clone(), runs.clone());
    let header = Header { meta, revision: state.revision, entries: state.map.len() as u64, runs };
    write_chunk(&mut file, &serde_json::to_vec(&header)?)?;
    let (mut chunk, mut unsynced) = (Vec::with_capacity(CHUNK + 4096), 0);
    for entry in state.map.values() {
        put_entry(&mut chunk, entry, seal)?;
        if chunk.len() >= CHUNK {
            write_chunk(&mut file, &chunk)?;
            unsynced += chunk.len();
            chunk.clear();
        }
        if unsynced >= SYNC_BYTES {
            file.sync_data()?;
            unsynced = 0;
        }
    }
    if !chunk.is_empty() {
        write_chunk(&mut file, &chunk)?;
    }
    file.sync_all()
}

fn write_chunk(file: &mut File, payload: &[u8]) -> io::Result<()> {
    let mut head = Vec::with_capacity(8);
    put_u32(&mut head, payload.len() as u32);
    put_u32(&mut head, crc32c::crc32c(payload));
    file.write_all(&head)?;
    file.write_all(payload)
}

fn put_entry(out: &mut Vec<u8>, entry: &Entry, seal: &MaybeSeal) -> io::Result<()> {
    let (value, sealed) = to_files(seal, &entry.key, &entry.value).map_err(io::Error::other)?;
    out.push(u8::from(sealed));
    put_bytes(out, entry.key.as_bytes());
    put_u64(out, entry.revision.0);
    put_u64(out, entry.created.0);
    put_u32(out, entry.revision_span.start);
    put_u32(out, entry.revision_span.end);
    put_bytes(out, &value);
    Ok(())
}

/// Reads a snapshot file whole.
pub(crate) fn read(path: &Path, seal: &MaybeSeal) -> Result<Saved, DumpError> {
    let file = File::open(path).map_err(|source| DumpError::Io { path: path.to_owned(), source })?;
    read_from(file, path, seal)
}

/// As [`read`], from a file positioned at its start; `path` is what errors call it.
pub(crate) fn read_from(file: File, path: &Path, seal: &MaybeSeal) -> Result<Saved, DumpError> {
    let io = |source| DumpError::Io { path: path.to_owned(), source };
    let mut chunks = Chunks { path, file: BufReader::with_capacity(CHUNK, file), offset: 8, buffer: Vec::new() };
    let mut magic = [0; 8];
    chunks.file.read_exact(&mut magic).map_err(io)?;
    let marked = &magic == MAGIC;
    if !marked && &magic != MAGIC_1 {
        return Err(chunks.corrupt(0, "not a snapshot file"));
    }
    chunks.next()?;
    let header: Header = serde_json::from_slice(&chunks.buffer).map_err(|error| chunks.corrupt(8, error))?;
    let mut map = imbl::OrdMap::new();
    let mut left = header.entries;
    while left > 0 {
        let start = chunks.offset;
        chunks.next()?;
        let mut reader = Reader::new(&chunks.buffer);
        while !reader.is_empty() {
            let entry = read_entry(&mut reader, marked, seal).map_err(|error| match error {
                DecodeError::Sealed { key, error } => DumpError::Sealed { path: path.to_owned(), key, error },
                error => chunks.corrupt(start, error),
            })?;
            map.insert(Arc::clone(&entry.key), Arc::new(entry));
            left = left.checked_sub(1).ok_or_else(|| chunks.corrupt(start, "more entries than announced"))?;
        }
    }
    Ok(Saved { meta: header.meta, runs: header.runs, state: Snapshot::whole(header.revision, map) })
}

struct Chunks<'a> {
    path: &'a Path,
    file: BufReader<File>,
    offset: u64,
    buffer: Vec<u8>,
}

impl Chunks<'_> {
    fn next(&mut self) -> Result<(), DumpError> {
        let start = self.offset;
        let mut head = [0; 8];
        self.read(start, &mut head)?;
        let mut reader = Reader::new(&head);
        let (len, sum) = (reader.u32().unwrap_or(0) as usize, reader.u32().unwrap_or(0));
        if len > LARGEST_CHUNK {
            return Err(self.corrupt(start, "a chunk of impossible length"));
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.resize(len, 0);
        self.read(start, &mut buffer)?;
        self.buffer = buffer;
        self.offset += 8 + len as u64;
        if crc32c::crc32c(&self.buffer) != sum {
            return Err(self.corrupt(start, "its checksum does not match"));
        }
        Ok(())
    }

    fn read(&mut self, start: u64, into: &mut [u8]) -> Result<(), DumpError> {
        match self.file.read_exact(into) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(self.corrupt(start, "it ends too early")),
            Err(source) => Err(DumpError::Io { path: self.path.to_owned(), source }),
        }
    }

    fn corrupt(&self, offset: u64, what: impl ToString) -> DumpError {
        DumpError::Corrupt { path: self.path.to_owned(), offset, what: what.to_string() }
    }
}

fn read_entry(reader: &mut Reader<'_>, marked: bool, seal: &MaybeSeal) -> Result<Entry, DecodeError> {
    let sealed = marked && reader.u8()? != 0;
    let key: Arc<str> = Arc::from(reader.text()?);
    let (revision, created) = (Revision(reader.u64()?), Revision(reader.u64()?));
    let span = reader.u32()?..reader.u32()?;
    // A copy of its own: a slice would keep the whole chunk.
    let bytes = reader.bytes()?;
    let value = if sealed { from_files(seal, &key, bytes)? } else { Bytes::copy_from_slice(bytes) };
    Ok(Entry::new(key, value, revision, created, span))
}

/// The newest snapshot file in `dir`; older ones and unfinished ones are removed.
pub(crate) fn newest(dir: &Path) -> io::Result<Option<PathBuf>> {
    let mut complete = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        if !name.starts_with("snapshot-") {
            continue;
        }
        if name.ends_with(".tmp") {
            std::fs::remove_file(&path)?;
        } else {
            complete.push(path);
        }
    }
    complete.sort();
    let newest = complete.pop();
    for old in complete {
        std::fs::remove_file(old)?;
    }
    Ok(newest)
}
