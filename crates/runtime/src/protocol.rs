//! What driver and shim say to each other, and how it travels: length, JSON, file descriptors beside it (`SCM_RIGHTS`).
//!
//! A frame is four bytes of length (little endian) and that many bytes of JSON. Its descriptors travel with its first byte.
//! Both sides use [`Inbox`] and [`Outbox`] on non-blocking sockets and decide themselves how to wait.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketFlags, SocketType,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::container::Failure;
use crate::driver::{Container, ExecSpec};
use crate::spec::{ContainerSpec, PodSpec, Resources};

/// Grows when a message changes its meaning. A shim lives as long as its pod, so a newer driver must understand older ones.
pub(crate) const VERSION: u32 = 1;

/// Longest frame: an environment may hold megabytes, and a description holds those of all containers of a pod.
const FRAME_MAX: usize = 32 << 20;

/// Most descriptors with one frame (exec without terminal: three).
const FDS_MAX: usize = 4;

/// Asked of the shim.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Request {
    pub(crate) version: u32,
    pub(crate) id: u64,
    pub(crate) call: Call,
}

/// What is asked.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Call {
    /// Once, first: become the sandbox of this pod.
    Init {
        pod: Box<PodSpec>,
        cgroup_root: String,
    },
    Describe,
    Start {
        spec: Box<ContainerSpec>,
        layers: Vec<PathBuf>,
        image_layers: BTreeMap<String, Vec<PathBuf>>,
    },
    Signal {
        container: String,
        signal: i32,
    },
    Kill {
        container: String,
    },
    Remove {
        container: String,
    },
    Update {
        container: Option<String>,
        resources: Resources,
    },
    Exec {
        container: String,
        spec: ExecSpec,
    },
    KillExec {
        exec: String,
    },
    Attach {
        container: String,
        /// Connect standard input too. Callers of old always did.
        #[serde(default = "yes")]
        stdin: bool,
    },
    ReopenLog {
        container: String,
    },
    /// Kill everything; the answer comes when all processes are gone, and the shim ends after it.
    Shutdown,
}

/// Said by the shim.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Message {
    /// To the request of this id.
    Reply { id: u64, result: Result<Answer, Failure> },
    /// A container exited.
    ContainerChanged,
    /// An exec ended.
    ExecExited { exec: String, code: i32 },
}

/// A good answer.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Answer {
    Done,
    Description(Box<Description>),
    Started(Box<Container>),
    /// With the streams that exist, in the order stdin, stdout, stderr, terminal.
    Exec {
        exec: String,
        streams: StreamSet,
    },
    Attached {
        streams: StreamSet,
    },
}

fn yes() -> bool {
    true
}

/// Which streams travel with an answer.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) struct StreamSet {
    pub(crate) stdin: bool,
    pub(crate) stdout: bool,
    pub(crate) stderr: bool,
    pub(crate) terminal: bool,
}

/// A sandbox; also what the state file holds.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Description {
    pub(crate) version: u32,
    pub(crate) pod: PodSpec,
    pub(crate) cgroup_root: String,
    pub(crate) shim_pid: u32,
    pub(crate) containers: Vec<Container>,
}

#[derive(Serialize, Deserialize)]
struct Frame<T> {
    /// Descriptors that belong to it.
    fds: usize,
    body: T,
}

/// Received bytes and descriptors, not yet a frame.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    bytes: Vec<u8>,
    fds: VecDeque<OwnedFd>,
}

impl Inbox {
    /// Receives once. 0 means the other side has closed.
    pub(crate) fn receive(&mut self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        let mut chunk = [0_u8; 16 << 10];
        let (count, fds) = receive_with_fds(socket, &mut chunk)?;
        self.bytes.extend_from_slice(&chunk[..count]);
        self.fds.extend(fds);
        if self.fds.len() > 16 * FDS_MAX {
            return Err(invalid("too many descriptors"));
        }
        Ok(count)
    }

    /// The next whole frame, if it is there.
    pub(crate) fn next<T: DeserializeOwned>(&mut self) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
        let Some(header) = self.bytes.first_chunk::<4>() else {
            return Ok(None);
        };
        let length = u32::from_le_bytes(*header) as usize;
        if length > FRAME_MAX {
            return Err(invalid("a frame is longer than allowed"));
        }
        let Some(body) = self.bytes.get(4..4 + length) else {
            return Ok(None);
        };
        let frame: Frame<T> = serde_json::from_slice(body)?;
        self.bytes.drain(..4 + length);
        if frame.fds > self.fds.len() {
            return Err(invalid("a frame came without its descriptors"));
        }
        Ok(Some((frame.body, self.fds.drain(..frame.fds).collect())))
    }
}

/// Frames waiting to be sent.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    frames: VecDeque<(Vec<u8>, Vec<OwnedFd>)>,
    /// Bytes of the first frame already sent.
    sent: usize,
    waiting: usize,
}

impl Outbox {
    /// Adds a frame.
    pub(crate) fn push<T: Serialize>(&mut self, body: &T, fds: Vec<OwnedFd>) -> io::Result<()> {
        let mut bytes = vec![0; 4];
        serde_json::to_writer(&mut bytes, &Frame { fds: fds.len(), body })?;
        let length = bytes.len() - 4;
        if length > FRAME_MAX || fds.len() > FDS_MAX {
            return Err(invalid("a frame is longer than allowed"));
        }
        bytes[..4].copy_from_slice(&(length as u32).to_le_bytes());
        self.waiting += bytes.len();
        self.frames.push_back((bytes, fds));
        Ok(())
    }

    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Bytes that wait.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting
    }

    /// Sends as much as the socket takes; `WouldBlock` when some is left.
    pub(crate) fn send(&mut self, socket: BorrowedFd<'_>) -> io::Result<()> {
        while let Some((bytes, fds)) = self.frames.front_mut() {
            let count = send_with_fds(socket, &bytes[self.sent..], fds)?;
            fds.clear(); // They went with the first byte.
            self.sent += count;
            self.waiting -= count;
            if self.sent == bytes.len() {
                self.frames.pop_front();
                self.sent = 0;
            }
        }
        Ok(())
    }
}

fn invalid(message: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}

fn send_with_fds(socket: BorrowedFd<'_>, bytes: &[u8], fds: &[OwnedFd]) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let borrowed: Vec<BorrowedFd<'_>> = fds.iter().map(AsFd::as_fd).collect();
    if !borrowed.is_empty() && !control.push(SendAncillaryMessage::ScmRights(&borrowed)) {
        return Err(invalid("too many descriptors"));
    }
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    loop {
        match rustix::net::sendmsg(socket, &[IoSlice::new(bytes)], &mut control, flags) {
            Err(rustix::io::Errno::INTR) => {}
            other => return Ok(other?),
        }
    }
}

fn receive_with_fds(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    let received = loop {
        match rustix::net::recvmsg(socket, &mut [IoSliceMut::new(buffer)], &mut control, flags) {
            Err(rustix::io::Errno::INTR) => {}
            other => break other?,
        }
    };
    let mut fds = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(list) = message {
            fds.extend(list);
        }
    }
    Ok((received.bytes, fds))
}

/// What a forked process says to the shim before its program runs.
#[derive(Debug)]
pub(crate) enum Report {
    /// The master side of its terminal.
    Terminal(OwnedFd),
    /// It will not run.
    Failed(Failure),
    /// The program runs (or the process is gone).
    End,
}

/// The two ends: the shim's, then the child's.
pub(crate) fn report_channel() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = SocketFlags::CLOEXEC;
    Ok(rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?)
}

/// Child: tell the shim why the program will not run. If that fails too, the shim sees the end alone.
pub(crate) fn report(channel: &OwnedFd, failure: &Failure) {
    if let Ok(bytes) = serde_json::to_vec(failure) {
        let _ = send_with_fds(channel.as_fd(), &bytes[..bytes.len().min(64 << 10)], &[]);
    }
}

/// Child: give the shim the master side of the terminal.
pub(crate) fn report_terminal(channel: &OwnedFd, master: &OwnedFd) -> io::Result<()> {
    let copy = [master.try_clone()?];
    send_with_fds(channel.as_fd(), b"T", &copy).map(drop)
}

/// A helper: names the process that it forked.
pub(crate) fn send_process(channel: &OwnedFd, pidfd: OwnedFd) -> io::Result<()> {
    send_with_fds(channel.as_fd(), b"P", &[pidfd]).map(drop)
}

/// Shim: waits for the process that a helper forked; `None` if the helper ended without.
pub(crate) fn receive_process(channel: &OwnedFd) -> io::Result<Option<OwnedFd>> {
    let mut poll = [rustix::event::PollFd::new(channel, rustix::event::PollFlags::IN)];
    rustix::io::retry_on_intr(|| rustix::event::poll(&mut poll, None))?;
    Ok(receive_with_fds(channel.as_fd(), &mut [0])?.1.into_iter().next())
}

/// Shim: what a child has said. `WouldBlock` when nothing yet.
pub(crate) fn read_report(channel: &OwnedFd) -> io::Result<Report> {
    let mut buffer = vec![0; 64 << 10];
    let (count, fds) = receive_with_fds(channel.as_fd(), &mut buffer)?;
    if let Some(master) = fds.into_iter().next() {
        return Ok(Report::Terminal(master));
    }
    if count == 0 {
        return Ok(Report::End);
    }
    Ok(Report::Failed(serde_json::from_slice(&buffer[..count])?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_and_descriptors_stay_together() {
        let (a, b) =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
        let file = || OwnedFd::from(tempfile::tempfile().unwrap());
        let (mut outbox, mut inbox) = (Outbox::default(), Inbox::default());
        outbox.push(&"none".to_owned(), vec![]).unwrap();
        outbox.push(&"two".to_owned(), vec![file(), file()]).unwrap();
        outbox.push(&"x".repeat(100_000), vec![file()]).unwrap();
        let mut seen = Vec::new();
        while seen.len() < 3 {
            match outbox.send(a.as_fd()) {
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => panic!("{error}"),
                _ => {}
            }
            inbox.receive(b.as_fd()).unwrap();
            while let Some((text, fds)) = inbox.next::<String>().unwrap() {
                seen.push((text.len(), fds.len()));
            }
        }
        assert_eq!(seen, [(4, 0), (3, 2), (100_000, 1)]);
        assert!(outbox.is_empty() && outbox.waiting() == 0);
    }

    #[test]
    fn oversized_frames_are_refused() {
        let mut inbox = Inbox { bytes: u32::MAX.to_le_bytes().to_vec(), fds: VecDeque::new() };
        assert!(inbox.next::<String>().is_err());
    }
}
