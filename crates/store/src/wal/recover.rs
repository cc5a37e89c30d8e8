//! Reading the log at start. The one frame that may be broken is the last: it was never acknowledged, and it is cut. If
//! anything valid follows a broken frame, acknowledged data is damaged, and the store refuses to open.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::segment::{FRAME_HEADER, SECTOR, Segment, padded, read_frame, read_header, sequence_of};
use super::{LARGEST_FRAME, Sealed, Sizes, Wal};
use crate::SealError;
use crate::codec::DecodeError;

/// Why a log cannot be opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WalError {
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: io::Error },
    #[error("{path} is damaged at offset {offset}: {what}")]
    Corrupt { path: PathBuf, offset: u64, what: String },
    #[error("{path}: the value of {key}: {error}")]
    Sealed { path: PathBuf, key: String, error: SealError },
}

/// An opened log.
#[derive(Debug)]
pub(crate) struct Recovered {
    pub(crate) wal: Wal,
    /// Bytes of an unacknowledged frame that were cut from the end.
    pub(crate) cut: bool,
}

/// Opens the log in `dir`, or starts one. `visit` is given each frame's payload in order and answers the highest entry index
/// in it; entries up to `held` are in the snapshot already, so segments with only such may be missing.
pub(crate) fn recover(
    dir: &Path,
    sizes: Sizes,
    held: u64,
    mut visit: impl FnMut(&[u8]) -> Result<u64, DecodeError>,
) -> Result<Recovered, WalError> {
    let at = |path: &Path| {
        let path = path.to_owned();
        move |source| WalError::Io { path: path.clone(), source }
    };
    let names = segments(dir).map_err(at(dir))?;
    let mut opened = Vec::new();
    for (sequence, path) in names {
        opened.push(open(sequence, path)?);
    }
    if opened.is_empty() {
        let wal = Wal::create(dir, sizes).map_err(at(dir))?;
        return Ok(Recovered { wal, cut: false });
    }

    let mut scan = Scan { expected: None, last_index: 0, ends: Vec::new(), cut: false };
    let mut before: Option<u64> = None;
    for segment in &mut opened {
        let gap = before.is_some_and(|before| before + 1 != segment.sequence);
        if gap && scan.last_index > held {
            let what = "segments before this one are missing".to_owned();
            return Err(WalError::Corrupt { path: segment.path.clone(), offset: 0, what });
        }
        if gap {
            scan.expected = None;
        }
        before = Some(segment.sequence);
        scan.segment(segment, &mut visit)?;
    }
    let wal = assemble(dir, sizes, opened, &scan).map_err(at(dir))?;
    if scan.cut {
        wipe(&wal.active).map_err(at(&wal.active.path))?;
    }
    Ok(Recovered { wal, cut: scan.cut })
}

/// The state of reading through all segments.
struct Scan {
    expected: Option<u64>,
    last_index: u64,
    /// For each segment whether it holds frames, and the highest index up to its end.
    ends: Vec<(bool, u64)>,
    cut: bool,
}

impl Scan {
    fn segment(
        &mut self,
        segment: &mut Segment,
        visit: &mut impl FnMut(&[u8]) -> Result<u64, DecodeError>,
    ) -> Result<(), WalError> {
        let path = segment.path.clone();
        let io = |source| WalError::Io { path: path.clone(), source };
        let corrupt = |offset: u64, what: String| WalError::Corrupt { path: path.clone(), offset, what };
        let mut buffer = Vec::new();
        while let Some((number, len)) = frame_at(segment, segment.offset, &mut buffer).map_err(io)? {
            if self.expected.is_some_and(|expected| expected != number) {
                let what = format!("frame {number} follows, but {} is missing", self.expected.unwrap_or_default());
                return Err(corrupt(segment.offset, what));
            }
            if self.cut {
                return Err(corrupt(segment.offset, "frames follow after a damaged one".to_owned()));
            }
            let payload = &buffer[FRAME_HEADER..FRAME_HEADER + len];
            let index = visit(payload).map_err(|error| match error {
                DecodeError::Sealed { key, error } => WalError::Sealed { path: path.clone(), key, error },
                error => corrupt(segment.offset, error.to_string()),
            })?;
            self.last_index = self.last_index.max(index);
            self.expected = Some(number + 1);
            segment.offset += padded(len);
        }
        if let Some(later) = later_frame(segment).map_err(io)? {
            let what = format!("the frame there is broken, but a valid one follows at {later}");
            return Err(corrupt(segment.offset, what));
        }
        self.cut |= torn(segment).map_err(io)?;
        self.ends.push((segment.offset > SECTOR, self.last_index));
        Ok(())
    }
}

/// The frame at `offset`, read into `buffer`: its number and the length of its payload.
fn frame_at(segment: &Segment, offset: u64, buffer: &mut Vec<u8>) -> io::Result<Option<(u64, usize)>> {
    let room = segment.size.saturating_sub(offset) as usize;
    if room < FRAME_HEADER {
        return Ok(None);
    }
    buffer.resize(FRAME_HEADER, 0);
    segment.file.read_exact_at(buffer, offset)?;
    let len = u32::from_le_bytes([buffer[4], buffer[5], buffer[6], buffer[7]]) as usize;
    let salted = buffer[8..16] == segment.salt.to_le_bytes();
    if !salted || len > room - FRAME_HEADER {
        return Ok(None);
    }
    buffer.resize(FRAME_HEADER + len, 0);
    segment.file.read_exact_at(&mut buffer[FRAME_HEADER..], offset + FRAME_HEADER as u64)?;
    Ok(read_frame(buffer, segment.salt).map(|(number, payload)| (number, payload.len())))
}

/// Where in the rest of the segment a valid frame stands after a broken one.
fn later_frame(segment: &Segment) -> io::Result<Option<u64>> {
    let salt = segment.salt.to_le_bytes();
    let mut chunk = vec![0_u8; 1 << 20];
    let mut found = Vec::new();
    let mut start = segment.offset;
    // The one after the broken frame cannot start further away than a frame is long.
    let end = segment.size.min(start + LARGEST_FRAME);
    while start < end {
        let len = (end - start).min(chunk.len() as u64) as usize;
        segment.file.read_exact_at(&mut chunk[..len], start)?;
        for at in (0..len).step_by(SECTOR as usize) {
            let offset = start + at as u64;
            let salted = chunk[at..len].get(8..16) == Some(&salt[..]);
            if salted && offset > segment.offset && frame_at(segment, offset, &mut found)?.is_some() {
                return Ok(Some(offset));
            }
        }
        start += len as u64;
    }
    Ok(None)
}

/// Whether the place after the last frame holds the beginning of one of this use.
fn torn(segment: &Segment) -> io::Result<bool> {
    if segment.size < segment.offset + FRAME_HEADER as u64 {
        return Ok(false);
    }
    let mut header = [0_u8; FRAME_HEADER];
    segment.file.read_exact_at(&mut header, segment.offset)?;
    Ok(header[8..16] == segment.salt.to_le_bytes())
}

/// Takes the cut frame's header away, so that it does not look like damage once the log has gone on in another segment.
fn wipe(segment: &Segment) -> io::Result<()> {
    segment.file.write_all_at(&[0; FRAME_HEADER], segment.offset)?;
    segment.file.sync_data()
}

/// The last segment with frames is the active one, one empty after it the next; the others are sealed.
fn assemble(dir: &Path, sizes: Sizes, opened: Vec<Segment>, scan: &Scan) -> io::Result<Wal> {
    let active_at = scan.ends.iter().rposition(|(used, _)| *used).unwrap_or(0);
    let appended = opened.iter().map(|segment| segment.offset - SECTOR).sum();
    let mut sealed = VecDeque::new();
    let (mut active, mut next) = (None, None);
    for (at, segment) in opened.into_iter().enumerate() {
        if at < active_at {
            let last_index = scan.ends[at].1;
            sealed.push_back(Sealed { path: segment.path, size: segment.size, last_index });
        } else if at == active_at {
            active = Some(segment);
        } else if next.is_none() {
            next = Some(segment);
        } else {
            std::fs::remove_file(&segment.path)?;
        }
    }
    let active = active.ok_or_else(|| io::Error::other("a log without segments"))?;
    let (number, last_index) = (scan.expected.unwrap_or(1), scan.last_index);
    Ok(Wal { dir: dir.to_owned(), sizes, active, next, sealed, spare: None, number, last_index, appended })
}

/// The segments in order; what was being made when the process ended is removed.
fn segments(dir: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        if name.starts_with("wal-") && name.ends_with(".tmp") {
            std::fs::remove_file(&path)?;
        } else if let Some(sequence) = sequence_of(name) {
            found.push((sequence, path));
        }
    }
    found.sort();
    Ok(found)
}

fn open(sequence: u64, path: PathBuf) -> Result<Segment, WalError> {
    let io = |source| WalError::Io { path: path.clone(), source };
    let file: File = OpenOptions::new().read(true).write(true).open(&path).map_err(io)?;
    let size = file.metadata().map_err(io)?.len();
    let mut header = vec![0_u8; SECTOR.min(size) as usize];
    file.read_exact_at(&mut header, 0).map_err(io)?;
    match read_header(&header) {
        // A spare that was being given a later place (header written, not yet renamed) holds nothing that is needed.
        Some((found, salt)) if found >= sequence => Ok(Segment { file, path, sequence, salt, size, offset: SECTOR }),
        _ => Err(WalError::Corrupt { path, offset: 0, what: "not the header of a log segment".to_owned() }),
    }
}
