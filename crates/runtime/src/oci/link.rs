//! The connection to one shim: requests by number, answers to whoever waits, events to the agent.

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::process::Child;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{Notify, oneshot, watch};
use tokio::task::AbortHandle;

use super::events::Events;
use super::{clean, lock};
use crate::cgroup::Cgroups;
use crate::container::Failure;
use crate::driver::{DriverError, DriverEvent};
use crate::protocol::{Answer, Call, Inbox, Message, Outbox, Request, VERSION};

/// Longest wait for an answer. A shim answers in milliseconds; one that is stuck in the kernel must not hold its pod's
/// worker for ever.
const ANSWER_WITHIN: Duration = Duration::from_secs(120);

/// An answer with what belongs to it.
#[derive(Debug)]
pub(super) struct Answered {
    pub(super) answer: Answer,
    pub(super) fds: Vec<OwnedFd>,
    /// For an exec: its exit code.
    pub(super) exit: Option<oneshot::Receiver<i32>>,
}

type Waiting = oneshot::Sender<Result<Answered, Failure>>;

/// What the link needs to know beside the socket.
pub(super) struct Peer {
    pub(super) pod_uid: String,
    pub(super) shim_pid: i32,
    /// If this process has started the shim, it must also wait for its end.
    pub(super) child: Option<Child>,
    /// Where the pod's containers are, to be killed should the shim be lost.
    pub(super) cgroups: Cgroups,
    pub(super) cgroup: String,
}

/// A connection to a shim.
pub(super) struct Link {
    pod_uid: String,
    pub(super) shim_pid: i32,
    pub(super) cgroup: String,
    socket: AsyncFd<OwnedFd>,
    outbox: Mutex<Outbox>,
    more_to_send: Notify,
    next_id: AtomicU64,
    waiting: Mutex<HashMap<u64, Waiting>>,
    execs: Mutex<HashMap<String, oneshot::Sender<i32>>>,
    /// The end of the shim is wanted: no news for the agent.
    ending: AtomicBool,
    closed: watch::Sender<bool>,
    task: Mutex<Option<AbortHandle>>,
}

impl Link {
    /// Takes over a connection; its task runs until the shim ends or [`Link::abort`].
    pub(super) fn open(socket: OwnedFd, peer: Peer, events: Arc<Events>) -> std::io::Result<Arc<Self>> {
        // SAFETY: the AsyncFd owns the socket; it is neither replaced nor closed while it does.
        let socket = unsafe { AsyncFd::register(socket) }?;
        let link = Arc::new(Link {
            pod_uid: peer.pod_uid.clone(),
            shim_pid: peer.shim_pid,
            cgroup: peer.cgroup.clone(),
            socket,
            outbox: Mutex::default(),
            more_to_send: Notify::new(),
            next_id: AtomicU64::new(1),
            waiting: Mutex::default(),
            execs: Mutex::default(),
            ending: AtomicBool::new(false),
            closed: watch::Sender::new(false),
            task: Mutex::new(None),
        });
        // Named while it is connected: its number may belong to another process later. `None`: it has ended already.
        let pidfd = crate::sys::pidfd_open(peer.shim_pid).ok();
        let task = tokio::spawn(Arc::clone(&link).run(peer, pidfd, events));
        *lock(&link.task) = Some(task.abort_handle());
        Ok(link)
    }

    /// Ends the task without touching the shim.
    pub(super) fn abort(&self) {
        if let Some(task) = lock(&self.task).take() {
            task.abort();
        }
    }

    /// Whether the shim is gone.
    pub(super) fn is_closed(&self) -> bool {
        *self.closed.borrow()
    }

    /// Whether the end of the shim is no news for the agent: it is on purpose, or answers a call.
    pub(super) fn expect_no_news(&self, expected: bool) {
        self.ending.store(expected, Ordering::Relaxed);
    }

    /// Waits for the end of the shim.
    pub(super) async fn ended(&self) {
        // The sender lives as long as `self`: an error cannot come.
        let _ = self.closed.subscribe().wait_for(|closed| *closed).await;
    }

    /// Asks, and waits for the answer.
    pub(super) async fn call(&self, call: Call) -> Result<Answered, DriverError> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = oneshot::channel();
        lock(&self.waiting).insert(id, sender);
        let sent = self.send(&Request { version: VERSION, id, call });
        if let Err(error) = sent {
            lock(&self.waiting).remove(&id);
            return Err(self.broken(error));
        }
        if self.is_closed() {
            lock(&self.waiting).remove(&id);
        }
        match tokio::time::timeout(ANSWER_WITHIN, receiver).await {
            Ok(Ok(result)) => result.map_err(DriverError::from),
            Ok(Err(_)) => Err(self.broken("it is gone")),
            Err(_) => {
                lock(&self.waiting).remove(&id);
                Err(self.broken(format!("no answer within {} s", ANSWER_WITHIN.as_secs())))
            }
        }
    }

    fn broken(&self, message: impl std::fmt::Display) -> DriverError {
        DriverError::Shim { pod_uid: self.pod_uid.clone(), message: message.to_string() }
    }

    fn send(&self, request: &Request) -> std::io::Result<()> {
        let mut outbox = lock(&self.outbox);
        outbox.push(request, Vec::new())?;
        match outbox.send(self.socket.get_ref().as_fd()) {
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => self.more_to_send.notify_one(),
            other => other?,
        }
        Ok(())
    }

    async fn run(self: Arc<Self>, mut peer: Peer, pidfd: Option<OwnedFd>, events: Arc<Events>) {
        let mut inbox = Inbox::default();
        loop {
            match self.turn(&mut inbox, &events).await {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => {
                    tracing::warn!(pod = %self.pod_uid, %error, "connection to the shim broke");
                    break;
                }
            }
        }
        let lost = !self.ending.load(Ordering::Relaxed);
        let child = peer.child.take();
        let after = tokio::task::spawn_blocking(move || {
            // Nearly always it is gone; one that has only dropped the connection is of no use any more.
            if let Some(shim) = pidfd {
                clean::kill_and_wait(&shim);
            }
            after_the_end(child, lost, &peer.cgroups, &peer.cgroup);
        });
        if let Err(error) = after.await {
            tracing::error!(pod = %self.pod_uid, %error, "cleaning up after the shim failed");
        }
        self.closed.send_replace(true);
        lock(&self.waiting).clear();
        lock(&self.execs).clear();
        if lost {
            events.push(DriverEvent::SandboxLost { pod_uid: self.pod_uid.clone() });
        }
    }

    /// Waits for something to receive or room to send; `false` when the shim has closed.
    async fn turn(&self, inbox: &mut Inbox, events: &Events) -> std::io::Result<bool> {
        let waits = !lock(&self.outbox).is_empty();
        let interest = if waits { Interest::READABLE | Interest::WRITABLE } else { Interest::READABLE };
        let mut ready = tokio::select! {
            ready = self.socket.ready(interest) => ready?,
            () = self.more_to_send.notified() => return Ok(true),
        };
        if ready.ready().is_writable() {
            match lock(&self.outbox).send(self.socket.get_ref().as_fd()) {
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    ready.clear_ready_matching(tokio::io::Ready::WRITABLE);
                }
                other => other?,
            }
        }
        if !ready.ready().is_readable() && !ready.ready().is_read_closed() {
            return Ok(true);
        }
        match inbox.receive(self.socket.get_ref().as_fd()) {
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                ready.clear_ready_matching(tokio::io::Ready::READABLE);
                return Ok(true);
            }
            Ok(0) => return Ok(false),
            other => drop(other?),
        }
        while let Some((message, fds)) = inbox.next::<Message>()? {
            self.dispatch(message, fds, events);
        }
        Ok(true)
    }

    fn dispatch(&self, message: Message, fds: Vec<OwnedFd>, events: &Events) {
        match message {
            Message::Reply { id, result } => {
                let answered = result.map(|answer| {
                    let exit = match &answer {
                        Answer::Exec { exec, .. } => {
                            let (sender, receiver) = oneshot::channel();
                            lock(&self.execs).insert(exec.clone(), sender);
                            Some(receiver)
                        }
                        _ => None,
                    };
                    Answered { answer, fds, exit }
                });
                if let Some(waiting) = lock(&self.waiting).remove(&id) {
                    // Whoever asked may have given up; then the answer, and its descriptors, are dropped.
                    let _ = waiting.send(answered);
                }
            }
            Message::ContainerChanged => {
                events.push(DriverEvent::Container { pod_uid: self.pod_uid.clone() });
            }
            Message::ExecExited { exec, code } => {
                if let Some(waiting) = lock(&self.execs).remove(&exec) {
                    // The session that ran it may be gone.
                    let _ = waiting.send(code);
                }
            }
        }
    }
}

/// Waits for a shim that was this process' child, and kills what a lost one has left.
fn after_the_end(child: Option<Child>, lost: bool, cgroups: &Cgroups, cgroup: &str) {
    if let Some(Err(error)) = child.map(|mut child| child.wait()) {
        tracing::warn!(%error, "wait for a shim");
    }
    if lost && let Err(error) = cgroups.kill(cgroup) {
        tracing::warn!(%error, "kill the containers of a lost shim");
    }
}
