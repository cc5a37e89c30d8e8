//! `/containerLogs`: reads a container's log files, and goes on as they grow.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use http::{Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodSpec};
use mizzen_client::Reflector;
use rustix::fs::inotify;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;

use super::files::{self, RunFiles};
use super::lines::{Filter, Options};
use super::routes::{Routes, refuse};
use super::{Body, Refusal, tail};
use crate::pod::roles;

/// Bytes gathered before they are handed to the connection, and how many such chunks may wait there.
const CHUNK: usize = 32 << 10;
const WAITING_CHUNKS: usize = 4;
/// Longest raw line; the runtime cuts at 16 KiB.
const MAX_LINE: u64 = 256 << 10;
/// Where the kernel's file notices cannot be had, the file is looked at this often.
const LOOK: Duration = Duration::from_millis(250);

/// Answers a request for a container's log.
pub async fn answer(routes: &Routes, namespace: &str, pod: &str, container: &str, query: &str) -> Response<Body> {
    match open(routes, namespace, pod, container, query) {
        Ok(answer) => answer,
        Err(refusal) => *refusal,
    }
}

fn open(routes: &Routes, namespace: &str, name: &str, container: &str, query: &str) -> Result<Response<Body>, Refusal> {
    let options =
        Options::parse(query, Timestamp::now()).map_err(|e| refuse(StatusCode::BAD_REQUEST, format!("{e}\n")))?;
    let pod = routes.pod(namespace, name)?;
    let empty = PodSpec::default();
    if roles::find(pod.spec.as_ref().unwrap_or(&empty), container).is_none() {
        let message = format!("container {container} is not valid for pod {name}");
        return Err(refuse(StatusCode::BAD_REQUEST, message));
    }
    let uid = pod.metadata.uid.clone().unwrap_or_default();
    let directory = routes.ctx.config.log_dir(namespace, name, &uid).join(container);
    // A missing directory is a container that never ran.
    let files = files::find(&directory, options.previous).ok().flatten();
    let Some(files) = files else {
        return Err(refuse(StatusCode::BAD_REQUEST, nothing_yet(&pod, container, options.previous)));
    };
    let (sender, receiver) = mpsc::channel(WAITING_CHUNKS);
    let reader = Reader {
        files,
        options,
        sender,
        pods: routes.pods.clone(),
        namespace: namespace.into(),
        name: name.into(),
        container: container.into(),
    };
    // It ends with the connection: its receiver is the body.
    tokio::spawn(reader.run());
    let stream = futures_util::stream::unfold(receiver, |mut receiver| async move {
        let chunk: Bytes = receiver.recv().await?;
        Some((Ok::<_, io::Error>(Frame::data(chunk)), receiver))
    });
    let mut answer = Response::new(StreamBody::new(stream.boxed()).boxed_unsync());
    answer.headers_mut().insert("content-type", http::HeaderValue::from_static("text/plain"));
    Ok(answer)
}

fn container_status<'a>(pod: &'a Pod, container: &str) -> Option<&'a ContainerStatus> {
    let status = pod.status.as_ref()?;
    [&status.container_statuses, &status.init_container_statuses, &status.ephemeral_container_statuses]
        .into_iter()
        .flat_map(|list| list.iter().flatten())
        .find(|s| s.name == container)
}

/// Why there is no log.
fn nothing_yet(pod: &Pod, container: &str, previous: bool) -> String {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    if previous {
        return format!("previous terminated container \"{container}\" in pod \"{name}\" not found");
    }
    let waiting = container_status(pod, container).and_then(|s| s.state.as_ref()).and_then(|s| s.waiting.as_ref());
    let reason = match waiting.and_then(|w| w.reason.as_deref()) {
        Some("ErrImagePull" | "ImagePullBackOff") => "trying and failing to pull image".to_string(),
        Some(reason) => reason.to_string(),
        None => "ContainerCreating".to_string(),
    };
    format!("container \"{container}\" in pod \"{name}\" is waiting to start: {reason}")
}

struct Reader {
    files: RunFiles,
    options: Options,
    sender: mpsc::Sender<Bytes>,
    pods: Reflector<Pod>,
    namespace: String,
    name: String,
    container: String,
}

impl Reader {
    async fn run(self) {
        let (files, options, sender) = (self.files.clone(), self.options.clone(), self.sender.clone());
        let read = tokio::task::spawn_blocking(move || read_existing(&files, options, &sender)).await;
        match read {
            Ok(Ok(Some(at))) if self.options.follow && !self.options.previous => {
                if let Err(error) = self.follow(at).await {
                    tracing::debug!(%error, "log could not be followed");
                }
            }
            Ok(Err(error)) => tracing::warn!(%error, path = %self.files.current.display(), "log could not be read"),
            _ => {}
        }
    }

    /// Goes on from a position until the container has ended, or the reader is gone.
    async fn follow(&self, mut at: Position) -> io::Result<()> {
        let mut changes = self.pods.changes();
        let mut notices = Notices::new(&self.files.current);
        loop {
            // Looked at before reading: whatever a container wrote before it ended is read below.
            let over = self.over();
            changes.mark_unchanged();
            if !self.read_on(&mut at).await? {
                return Ok(());
            }
            if over {
                return Ok(());
            }
            tokio::select! {
                () = notices.wait() => {}
                changed = changes.changed() => if changed.is_err() { return Ok(()) },
                () = self.sender.closed() => return Ok(()),
            }
        }
    }

    /// Sends what was added; `false` if no more is wanted.
    async fn read_on(&self, at: &mut Position) -> io::Result<bool> {
        loop {
            let more = at.fill()?;
            let mut out = Vec::new();
            let go_on = at.take_lines(&mut out);
            if !out.is_empty() && self.sender.send(out.into()).await.is_err() {
                return Ok(false);
            }
            if !go_on {
                return Ok(false);
            }
            if !more && !at.next_file(&self.files.current)? {
                return Ok(true);
            }
        }
    }

    /// The run that is being read has ended.
    fn over(&self) -> bool {
        let Some(pod) = self.pods.get(&self.namespace, &self.name) else { return true };
        let Some(status) = container_status(&pod, &self.container) else { return false };
        let later = u32::try_from(status.restart_count).is_ok_and(|r| r > self.files.attempt);
        let ended = status.state.as_ref().is_some_and(|s| s.terminated.is_some())
            || (status.state.as_ref().is_some_and(|s| s.waiting.is_some()) && status.last_state.is_some());
        let same = u32::try_from(status.restart_count).is_ok_and(|r| r == self.files.attempt);
        later || (same && ended)
    }
}

/// Where reading stands.
struct Position {
    file: File,
    filter: Filter,
    /// A line whose end is not yet written.
    rest: Vec<u8>,
}

impl Position {
    /// Reads a piece; `false` at the end of the file.
    fn fill(&mut self) -> io::Result<bool> {
        let before = self.rest.len();
        (&self.file).take(CHUNK as u64).read_to_end(&mut self.rest)?;
        Ok(self.rest.len() > before)
    }

    fn take_lines(&mut self, out: &mut Vec<u8>) -> bool {
        let mut start = 0;
        while let Some(length) = self.rest[start..].iter().position(|b| *b == b'\n') {
            let go_on = self.filter.line(&self.rest[start..start + length], out);
            start += length + 1;
            if !go_on {
                return false;
            }
        }
        self.rest.drain(..start);
        if self.rest.len() as u64 > MAX_LINE {
            self.rest.clear();
        }
        true
    }

    /// The file was rotated away and another took its place: reads on there.
    fn next_file(&mut self, path: &Path) -> io::Result<bool> {
        let Ok(now) = std::fs::metadata(path) else { return Ok(false) };
        if now.ino() == self.file.metadata()?.ino() {
            return Ok(false);
        }
        // What was written to the old one in between.
        let before = self.rest.len();
        self.file.read_to_end(&mut self.rest)?;
        let grown = self.rest.len() > before;
        if !grown {
            self.file = File::open(path)?;
        }
        Ok(true)
    }
}

/// Reads what is there. The position behind it, or `None` if the reader has enough.
fn read_existing(files: &RunFiles, options: Options, sender: &mpsc::Sender<Bytes>) -> io::Result<Option<Position>> {
    let mut current = File::open(&files.current)?;
    let mut filter = Filter::new(options.clone());
    let mut out = Vec::new();
    let send = |out: &mut Vec<u8>| out.is_empty() || sender.blocking_send(std::mem::take(out).into()).is_ok();
    let mut older: Vec<(PathBuf, usize)> = files.rotated.iter().map(|p| (p.clone(), usize::MAX)).collect();
    let mut offset = 0;
    if let Some(wanted) = options.tail {
        let (at, found) = tail::start(&mut current, wanted)?;
        offset = at;
        older = tail_of_older(&files.rotated, wanted.saturating_sub(found))?;
    }
    for (path, last) in older {
        let skip = if last == usize::MAX { 0 } else { count_lines(&path)?.saturating_sub(last) };
        for (index, line) in lines(&path)?.enumerate() {
            let line = line?;
            if index >= skip && !filter.line(&line, &mut out) {
                send(&mut out);
                return Ok(None);
            }
            if out.len() >= CHUNK && !send(&mut out) {
                return Ok(None);
            }
        }
    }
    current.seek(SeekFrom::Start(offset))?;
    let mut position = Position { file: current, filter, rest: Vec::new() };
    loop {
        let more = position.fill()?;
        let go_on = position.take_lines(&mut out);
        if !send(&mut out) || !go_on {
            return Ok(None);
        }
        if !more {
            return Ok(Some(position));
        }
    }
}

/// Which rotated files hold the `wanted` lines before the current one, and how many of each file's last lines.
fn tail_of_older(rotated: &[PathBuf], mut wanted: usize) -> io::Result<Vec<(PathBuf, usize)>> {
    let mut chosen = Vec::new();
    for path in rotated.iter().rev() {
        if wanted == 0 {
            break;
        }
        let take = count_lines(path)?.min(wanted);
        wanted -= take;
        chosen.push((path.clone(), take));
    }
    chosen.reverse();
    Ok(chosen)
}

fn count_lines(path: &Path) -> io::Result<usize> {
    let mut count = 0;
    for line in lines(path)? {
        line?;
        count += 1;
    }
    Ok(count)
}

/// Lines of a rotated file, compressed or not.
fn lines(path: &Path) -> io::Result<impl Iterator<Item = io::Result<Vec<u8>>> + use<>> {
    let file = File::open(path)?;
    let reader: Box<dyn Read> = if path.extension().is_some_and(|e| e == "gz") {
        Box::new(flate2::read::MultiGzDecoder::new(file))
    } else {
        Box::new(file)
    };
    Ok(BufReader::new(reader).split(b'\n'))
}

/// Tells when a file grew or was exchanged.
struct Notices {
    watch: Option<AsyncFd<std::os::fd::OwnedFd>>,
}

impl Notices {
    fn new(path: &Path) -> Self {
        let open = || -> io::Result<AsyncFd<std::os::fd::OwnedFd>> {
            let fd = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
            let flags = inotify::WatchFlags::MODIFY | inotify::WatchFlags::CREATE | inotify::WatchFlags::MOVED_TO;
            inotify::add_watch(&fd, path.parent().unwrap_or(path), flags)?;
            // SAFETY: an `OwnedFd` stands for the same open descriptor from here until it is dropped, and AsyncFd drops
            // it after deregistering.
            unsafe { AsyncFd::register(fd) }.map_err(io::Error::from)
        };
        // The kernel may have no watch left: then the file is looked at from time to time.
        Self { watch: open().ok() }
    }

    async fn wait(&mut self) {
        let Some(watch) = &self.watch else {
            return tokio::time::sleep(LOOK).await;
        };
        let Ok(mut ready) = watch.readable().await else {
            return tokio::time::sleep(LOOK).await;
        };
        // What happened does not matter; the queue must be emptied so that the next notice is heard.
        let mut buffer = [0u8; 4096];
        while rustix::io::read(watch.get_ref(), &mut buffer).is_ok_and(|n| n > 0) {}
        ready.clear_ready();
    }
}
