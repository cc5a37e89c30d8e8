//! Events as lines of a file, which is put aside when it is full; the oldest of those put aside go.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use jiff::Timestamp;
use tokio::sync::mpsc;

/// Events written at a time.
const BATCH: usize = 512;

/// A file and how much of it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileOptions {
    /// Where it is.
    pub path: PathBuf,
    /// It is put aside when it has so many bytes.
    pub bytes_max: u64,
    /// So many put aside are kept.
    pub kept: usize,
}

/// Opens the file and starts the thread that writes it; it ends when the queue does.
pub(super) fn start(options: FileOptions, mut events: mpsc::Receiver<Bytes>) -> io::Result<()> {
    let mut log = Log::open(options)?;
    let write = move || {
        let mut batch = Vec::with_capacity(BATCH);
        while events.blocking_recv_many(&mut batch, BATCH) > 0 {
            if let Err(error) = log.write(&batch) {
                tracing::error!(%error, path = %log.options.path.display(), "audit events could not be written");
            }
            batch.clear();
        }
    };
    std::thread::Builder::new().name("mizzen-audit".into()).spawn(write).map(drop)
}

pub(super) struct Log {
    options: FileOptions,
    file: File,
    bytes: u64,
}

impl Log {
    pub fn open(options: FileOptions) -> io::Result<Self> {
        if let Some(dir) = options.path.parent() {
            std::fs::create_dir_all(dir)?;
        }
        let file = open(&options.path)?;
        let bytes = file.metadata()?.len();
        Ok(Self { options, file, bytes })
    }

    /// Writes events, each whole and in one file.
    pub fn write(&mut self, events: &[Bytes]) -> io::Result<()> {
        let mut text = Vec::new();
        for event in events {
            if self.bytes + (text.len() + event.len()) as u64 >= self.options.bytes_max
                && self.bytes + text.len() as u64 > 0
            {
                self.append(&mut text)?;
                self.put_aside(Timestamp::now())?;
            }
            text.extend_from_slice(event);
            text.push(b'\n');
        }
        self.append(&mut text)
    }

    fn append(&mut self, text: &mut Vec<u8>) -> io::Result<()> {
        self.file.write_all(text)?;
        self.bytes += text.len() as u64;
        text.clear();
        Ok(())
    }

    fn put_aside(&mut self, now: Timestamp) -> io::Result<()> {
        let path = &self.options.path;
        let (stem, extension) = parts(path);
        let aside = format!("{stem}-{}{extension}", now.strftime("%Y-%m-%dT%H-%M-%S.%6f"));
        std::fs::rename(path, path.with_file_name(aside))?;
        self.file = open(path)?;
        self.bytes = 0;
        let mut old = put_aside(path)?;
        old.sort();
        let surplus = old.len().saturating_sub(self.options.kept);
        old.iter().take(surplus).try_for_each(std::fs::remove_file)
    }
}

/// Of its owner alone: it tells what people do.
fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}

/// `audit` and `.log`.
fn parts(path: &Path) -> (String, String) {
    let text = |part: Option<&std::ffi::OsStr>| part.unwrap_or_default().to_string_lossy().into_owned();
    let extension = path.extension().map(|_| format!(".{}", text(path.extension()))).unwrap_or_default();
    (text(path.file_stem()), extension)
}

/// The files that were put aside.
fn put_aside(path: &Path) -> io::Result<Vec<PathBuf>> {
    let (stem, extension) = parts(path);
    let ours = |name: &str| {
        let middle = name.strip_prefix(&format!("{stem}-")).and_then(|rest| rest.strip_suffix(&extension));
        middle.is_some_and(|middle| middle.starts_with(|c: char| c.is_ascii_digit()))
    };
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        if ours(&entry.file_name().to_string_lossy()) {
            found.push(entry.path());
        }
    }
    Ok(found)
}
