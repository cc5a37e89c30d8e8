//! A container's log file in CRI form: `<time> <stdout|stderr> <F|P> <text>`.
//!
//! Memory is bounded by one line of [`LINE_MAX`] bytes per stream; longer lines are written as parts (`P`).

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};

/// Longest part of a line in one entry, as containerd and CRI-O write it.
const LINE_MAX: usize = 16 << 10;

/// Which stream a line came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stream {
    Stdout,
    Stderr,
}

/// Turns chunks of output into log entries. Pure: time is passed in.
#[derive(Debug, Default)]
pub(super) struct Splitter {
    pending: [Vec<u8>; 2],
}

impl Splitter {
    /// Appends the entries that `chunk` completes to `out`.
    pub(super) fn feed(&mut self, stream: Stream, chunk: &[u8], time: &str, out: &mut Vec<u8>) {
        let pending = &mut self.pending[stream as usize];
        for part in chunk.split_inclusive(|b| *b == b'\n') {
            let (mut text, ends) = match part.strip_suffix(b"\n") {
                Some(text) => (text, true),
                None => (part, false),
            };
            while pending.len() + text.len() > LINE_MAX {
                let (now, later) = text.split_at(LINE_MAX - pending.len());
                entry(stream, time, 'P', &[pending, now], out);
                pending.clear();
                text = later;
            }
            if ends {
                entry(stream, time, 'F', &[pending, text], out);
                pending.clear();
            } else {
                pending.extend_from_slice(text);
            }
        }
    }

    /// Appends what is left of an unfinished line: a part, so that readers show it without an end that was never written.
    pub(super) fn finish(&mut self, stream: Stream, time: &str, out: &mut Vec<u8>) {
        let pending = std::mem::take(&mut self.pending[stream as usize]);
        if !pending.is_empty() {
            entry(stream, time, 'P', &[&pending], out);
        }
    }
}

fn entry(stream: Stream, time: &str, tag: char, parts: &[&[u8]], out: &mut Vec<u8>) {
    let name = match stream {
        Stream::Stdout => "stdout",
        Stream::Stderr => "stderr",
    };
    out.extend_from_slice(format!("{time} {name} {tag} ").as_bytes());
    parts.iter().for_each(|part| out.extend_from_slice(part));
    out.push(b'\n');
}

/// The log file of a container.
#[derive(Debug)]
pub(super) struct Log {
    directory: PathBuf,
    path: PathBuf,
    file: File,
    splitter: Splitter,
}

impl Log {
    /// Opens it for appending, with the directories it needs.
    pub(super) fn open(directory: &Path, path: &Path) -> io::Result<Self> {
        let file = open(directory, path)?;
        Ok(Log { directory: directory.to_owned(), path: path.to_owned(), file, splitter: Splitter::default() })
    }

    /// Goes on in a new file of the same name.
    pub(super) fn reopen(&mut self) -> io::Result<()> {
        self.file = open(&self.directory, &self.path)?;
        Ok(())
    }

    /// Logs output. A full disk loses log lines, never stops the container.
    pub(super) fn write(&mut self, stream: Stream, chunk: &[u8], now_nanos: i64) {
        let mut out = Vec::with_capacity(chunk.len() + 64);
        self.splitter.feed(stream, chunk, &rfc3339(now_nanos), &mut out);
        self.append(&out);
    }

    /// Logs what is left of an unfinished line.
    pub(super) fn finish(&mut self, stream: Stream, now_nanos: i64) {
        let mut out = Vec::new();
        self.splitter.finish(stream, &rfc3339(now_nanos), &mut out);
        self.append(&out);
    }

    fn append(&mut self, bytes: &[u8]) {
        if !bytes.is_empty()
            && let Err(error) = self.file.write_all(bytes)
        {
            eprintln!("write {}: {error}", self.path.display());
        }
    }
}

fn open(directory: &Path, path: &Path) -> io::Result<File> {
    let full = directory.join(path);
    if !path.components().all(|c| matches!(c, std::path::Component::Normal(_))) {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    std::fs::create_dir_all(full.parent().unwrap_or(directory))?;
    let base = rustix::fs::openat(CWD, directory, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOCTTY;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let fd = rustix::fs::openat2(&base, path, flags, Mode::from_raw_mode(0o640), resolve)?;
    Ok(File::from(fd))
}

/// Unix nanoseconds as `2026-01-02T03:04:05.000000006Z`.
pub(super) fn rfc3339(nanos: i64) -> String {
    let (seconds, fraction) = (nanos.div_euclid(1_000_000_000), nanos.rem_euclid(1_000_000_000));
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Days to a date of the proleptic Gregorian calendar, in eras of 400 years that begin on 1 March.
    let shifted = days + 719_468;
    let (era, day) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let of_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let date = of_year - (153 * month + 2) / 5 + 1;
    let (month, year) = if month < 10 { (month + 3, year) } else { (month - 9, year + 1) };
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{:04}-{month:02}-{date:02}T{hour:02}:{minute:02}:{second:02}.{fraction:09}Z", year + era * 400)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feed(chunks: &[&[u8]]) -> String {
        let (mut splitter, mut out) = (Splitter::default(), Vec::new());
        for chunk in chunks {
            splitter.feed(Stream::Stdout, chunk, "T", &mut out);
        }
        splitter.finish(Stream::Stdout, "T", &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn lines_become_entries() {
        for (case, chunks, expected) in [
            ("whole", &[&b"a\nb\n"[..]][..], "T stdout F a\nT stdout F b\n"),
            ("joined", &[b"a", b"b\n"], "T stdout F ab\n"),
            ("empty line", &[b"\n"], "T stdout F \n"),
            ("unfinished", &[b"a\nb"], "T stdout F a\nT stdout P b\n"),
            ("nothing", &[b""], ""),
        ] {
            assert_eq!(feed(chunks), expected, "{case}");
        }
    }

    #[test]
    fn long_lines_are_parts() {
        let long = vec![b'x'; LINE_MAX + 3];
        let text = feed(&[&long[..5], &long[5..], b"\n"]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!((lines.len(), lines[1]), (2, "T stdout F xxx"));
        assert!(lines[0].starts_with("T stdout P xxx") && lines[0].len() == "T stdout P ".len() + LINE_MAX);
        let exact = vec![b'y'; LINE_MAX];
        assert_eq!(feed(&[&exact, b"\n"]).lines().count(), 1);
    }

    #[test]
    fn times_are_rfc3339() {
        for (nanos, text) in [
            (0, "1970-01-01T00:00:00.000000000Z"),
            (951_782_400_000_000_001, "2000-02-29T00:00:00.000000001Z"),
            (1_767_225_599_999_999_999, "2025-12-31T23:59:59.999999999Z"),
            (4_107_542_400_000_000_000, "2100-03-01T00:00:00.000000000Z"),
        ] {
            assert_eq!(rfc3339(nanos), text);
        }
    }
}
