//! A container's streams: read for the log, copied to whoever is attached, and fed from them.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::PollFlags;
use rustix::fs::OFlags;
use rustix::pipe::PipeFlags;

use super::log::{Log, Stream};
use crate::container::Stdio;
use crate::protocol::StreamSet;

/// Output kept for a slow reader; beyond it the container is not read until the reader catches up.
const BUFFER_MAX: usize = 256 << 10;

/// A reader that takes nothing for this long is let go, so that it cannot hold up the container.
const STALL_MAX: Duration = Duration::from_secs(10);

/// Attached at the same time.
const ATTACHED_MAX: usize = 16;

/// A pipe to an attached reader.
#[derive(Debug)]
struct Sink {
    fd: OwnedFd,
    buffer: VecDeque<u8>,
    stalled_since: Option<Instant>,
    /// The stream has ended: close once the buffer is written.
    ends: bool,
}

impl Sink {
    fn new(fd: OwnedFd) -> Self {
        Sink { fd, buffer: VecDeque::new(), stalled_since: None, ends: false }
    }

    /// Writes what the pipe takes; `false` when this sink is done with.
    fn flush(&mut self, now: Instant) -> bool {
        while !self.buffer.is_empty() {
            match rustix::io::write(&self.fd, self.buffer.as_slices().0) {
                Ok(count) => {
                    self.buffer.drain(..count);
                    self.stalled_since = None;
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => {
                    let since = *self.stalled_since.get_or_insert(now);
                    return now.duration_since(since) < STALL_MAX;
                }
                Err(_) => return false, // The reader is gone.
            }
        }
        !self.ends
    }
}

/// An attached client.
#[derive(Debug)]
struct Attachment {
    stdin: Option<OwnedFd>,
    stdout: Option<Sink>,
    stderr: Option<Sink>,
}

/// The shim's ends of a container's streams.
#[derive(Debug)]
pub(super) struct Streams {
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
    stdin: Option<OwnedFd>,
    terminal: Option<OwnedFd>,
    stdin_once: bool,
    /// From attached clients to the container's stdin.
    input: VecDeque<u8>,
    /// Close stdin once `input` is written.
    input_ends: bool,
    attached: Vec<Attachment>,
    log: Log,
}

/// Which descriptor the event loop waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Port {
    Stdout,
    Stderr,
    Stdin,
    Terminal,
    AttachedInput(usize),
    AttachedOutput(usize),
}

impl Streams {
    /// Streams of a container about to start, and the ends that it gets.
    pub(super) fn new(tty: bool, stdin: bool, stdin_once: bool, log: Log) -> io::Result<(Self, Stdio)> {
        let mut streams = Streams {
            stdout: None,
            stderr: None,
            stdin: None,
            terminal: None,
            stdin_once,
            input: VecDeque::new(),
            input_ends: false,
            attached: Vec::new(),
            log,
        };
        if tty {
            return Ok((streams, Stdio::Terminal));
        }
        let (out, stdout) = pipe_to_read()?;
        let (err, stderr) = pipe_to_read()?;
        (streams.stdout, streams.stderr) = (Some(out), Some(err));
        let theirs = if stdin {
            let (theirs, ours) = pipe_to_write()?;
            streams.stdin = Some(ours);
            Some(theirs)
        } else {
            None
        };
        Ok((streams, Stdio::Pipes { stdin: theirs, stdout, stderr }))
    }

    /// The container has allocated its terminal.
    pub(super) fn set_terminal(&mut self, master: OwnedFd) {
        self.terminal = Some(master);
    }

    /// Opens the log anew.
    pub(super) fn reopen_log(&mut self) -> io::Result<()> {
        self.log.reopen()
    }

    /// Connects a client, to standard input only if it wants to. Answers its ends, and which they are.
    pub(super) fn attach(&mut self, stdin: bool) -> io::Result<(StreamSet, Vec<OwnedFd>)> {
        if self.attached.len() >= ATTACHED_MAX {
            return Err(io::Error::other("too many clients are attached"));
        }
        let mut set = StreamSet { stdout: true, ..StreamSet::default() };
        let mut theirs = Vec::new();
        let mut attachment = Attachment { stdin: None, stdout: None, stderr: None };
        if stdin && (self.stdin.is_some() || self.terminal.is_some()) {
            let (read, write) = nonblocking_pipe()?;
            attachment.stdin = Some(read);
            theirs.push(write);
            set.stdin = true;
        }
        let (read, write) = nonblocking_pipe()?;
        attachment.stdout = Some(Sink::new(write));
        theirs.push(read);
        if let Some(master) = &self.terminal {
            theirs.push(master.try_clone()?);
            set.terminal = true;
        } else {
            let (read, write) = nonblocking_pipe()?;
            attachment.stderr = Some(Sink::new(write));
            theirs.push(read);
            set.stderr = true;
        }
        self.attached.push(attachment);
        Ok((set, theirs))
    }

    /// Calls `wait` for every descriptor to wait for. Answers how long at most, if a slow reader is to be let go.
    pub(super) fn interests<'a>(&'a self, mut wait: impl FnMut(BorrowedFd<'a>, PollFlags, Port)) -> Option<Duration> {
        let sinks = || self.attached.iter().flat_map(|a| a.stdout.iter().chain(&a.stderr));
        let blocked = sinks().any(|sink| sink.buffer.len() >= BUFFER_MAX);
        if !blocked {
            for (fd, port) in
                [(&self.stdout, Port::Stdout), (&self.stderr, Port::Stderr), (&self.terminal, Port::Terminal)]
            {
                if let Some(fd) = fd {
                    wait(fd.as_fd(), PollFlags::IN, port);
                }
            }
        }
        if let Some(fd) = self.stdin.as_ref().or(self.terminal.as_ref()).filter(|_| !self.input.is_empty()) {
            wait(fd.as_fd(), PollFlags::OUT, Port::Stdin);
        }
        for (index, attachment) in self.attached.iter().enumerate() {
            if let Some(fd) = attachment.stdin.as_ref().filter(|_| self.input.is_empty()) {
                wait(fd.as_fd(), PollFlags::IN, Port::AttachedInput(index));
            }
            for sink in attachment.stdout.iter().chain(&attachment.stderr) {
                // Without data to write, the kernel still tells when the reader is gone.
                let flags = if sink.buffer.is_empty() { PollFlags::empty() } else { PollFlags::OUT };
                wait(sink.fd.as_fd(), flags, Port::AttachedOutput(index));
            }
        }
        sinks().any(|sink| sink.stalled_since.is_some()).then_some(Duration::from_secs(1))
    }

    /// Something happened on a descriptor.
    pub(super) fn ready(&mut self, port: Port, events: PollFlags, now_nanos: i64) {
        match port {
            Port::Stdout => self.read(Stream::Stdout, now_nanos),
            Port::Stderr => self.read(Stream::Stderr, now_nanos),
            Port::Terminal => self.read(Stream::Stdout, now_nanos),
            Port::Stdin => self.feed(),
            Port::AttachedInput(index) => self.take_input(index),
            Port::AttachedOutput(index) => {
                if events.intersects(PollFlags::ERR | PollFlags::NVAL)
                    && let Some(attachment) = self.attached.get_mut(index)
                {
                    // Whoever closed one output has gone; its stdin ends by itself.
                    (attachment.stdout, attachment.stderr) = (None, None);
                }
            }
        }
    }

    /// Once per turn of the loop: write to readers, let go of those that are done.
    pub(super) fn settle(&mut self, now: Instant) {
        for attachment in &mut self.attached {
            for slot in [&mut attachment.stdout, &mut attachment.stderr] {
                if slot.as_mut().is_some_and(|sink| !sink.flush(now)) {
                    *slot = None;
                }
            }
        }
        self.attached.retain(|a| a.stdin.is_some() || a.stdout.is_some() || a.stderr.is_some());
    }

    /// Reads once from a stream of the container, for the log and for who is attached.
    fn read(&mut self, stream: Stream, now_nanos: i64) {
        let slot = match stream {
            Stream::Stdout if self.terminal.is_some() => &mut self.terminal,
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        };
        let Some(fd) = slot else { return };
        let mut buffer = [0; 64 << 10];
        match rustix::io::read(&*fd, &mut buffer) {
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
            // A terminal answers EIO once nobody has its other side open.
            Ok(0) | Err(_) => {
                *slot = None;
                self.end(stream, now_nanos);
            }
            Ok(count) => {
                self.log.write(stream, &buffer[..count], now_nanos);
                for attachment in &mut self.attached {
                    let sink = if stream == Stream::Stdout { &mut attachment.stdout } else { &mut attachment.stderr };
                    if let Some(sink) = sink {
                        sink.buffer.extend(&buffer[..count]);
                    }
                }
            }
        }
    }

    fn end(&mut self, stream: Stream, now_nanos: i64) {
        self.log.finish(stream, now_nanos);
        for attachment in &mut self.attached {
            let sink = if stream == Stream::Stdout { &mut attachment.stdout } else { &mut attachment.stderr };
            if let Some(sink) = sink {
                sink.ends = true;
            }
        }
    }

    fn take_input(&mut self, index: usize) {
        let Some(slot) = self.attached.get_mut(index).map(|a| &mut a.stdin) else {
            return;
        };
        let Some(fd) = slot else { return };
        let mut buffer = [0; 16 << 10];
        match rustix::io::read(&*fd, &mut buffer) {
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
            Ok(0) | Err(_) => {
                *slot = None;
                self.input_ends |= self.stdin_once;
                self.feed();
            }
            Ok(count) => {
                self.input.extend(&buffer[..count]);
                self.feed();
            }
        }
    }

    /// Writes input to the container as far as it takes it.
    fn feed(&mut self) {
        while !self.input.is_empty() {
            let Some(fd) = self.stdin.as_ref().or(self.terminal.as_ref()) else {
                self.input.clear();
                break;
            };
            match rustix::io::write(fd, self.input.as_slices().0) {
                Ok(count) => drop(self.input.drain(..count)),
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => return,
                Err(_) => {
                    self.input.clear();
                    self.stdin = None;
                }
            }
        }
        if self.input_ends {
            self.stdin = None;
        }
    }

    /// The container has exited: log what is still in the pipes, then close them.
    pub(super) fn drain(&mut self, now_nanos: i64) {
        /// What a descendant that kept a pipe open could write for ever is read no further than a pipe holds, twice.
        const READS_MAX: usize = 64;
        for stream in [Stream::Stdout, Stream::Stderr] {
            for _ in 0..READS_MAX {
                let waits = |fd: &Option<OwnedFd>| fd.as_ref().is_some_and(has_input);
                let more = match stream {
                    Stream::Stdout => waits(&self.terminal) || waits(&self.stdout),
                    Stream::Stderr => waits(&self.stderr),
                };
                if !more {
                    break;
                }
                self.read(stream, now_nanos);
            }
            self.end(stream, now_nanos);
        }
        (self.stdout, self.stderr, self.stdin, self.terminal) = (None, None, None, None);
        self.attached.iter_mut().for_each(|a| a.stdin = None);
    }
}

fn has_input(fd: &OwnedFd) -> bool {
    let mut poll = [rustix::event::PollFd::new(fd, PollFlags::IN)];
    let no_wait = rustix::time::Timespec { tv_sec: 0, tv_nsec: 0 };
    matches!(rustix::event::poll(&mut poll, Some(&no_wait)), Ok(1))
}

/// A pipe whose reading end is the shim's, and does not block.
pub(super) fn pipe_to_read() -> io::Result<(OwnedFd, OwnedFd)> {
    let (read, write) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
    set_nonblocking(&read)?;
    Ok((read, write))
}

/// A pipe whose writing end is the shim's, and does not block.
pub(super) fn pipe_to_write() -> io::Result<(OwnedFd, OwnedFd)> {
    let (read, write) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
    set_nonblocking(&write)?;
    Ok((read, write))
}

fn nonblocking_pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::pipe::pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?)
}

fn set_nonblocking(fd: &OwnedFd) -> io::Result<()> {
    let flags = rustix::fs::fcntl_getfl(fd)?;
    Ok(rustix::fs::fcntl_setfl(fd, flags | OFlags::NONBLOCK)?)
}
