//! A connection of a driver.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::PollFlags;

use crate::container::Failure;
use crate::protocol::{Answer, Call, Inbox, Message, Outbox, Request, VERSION};

/// A driver that does not read this much is let go; it can connect again and ask.
const WAITING_MAX: usize = 64 << 20;

/// One driver. Its number tells deferred answers where to go.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) number: u64,
    socket: OwnedFd,
    inbox: Inbox,
    outbox: Outbox,
}

impl Connection {
    pub(super) fn new(number: u64, socket: OwnedFd) -> Self {
        Connection { number, socket, inbox: Inbox::default(), outbox: Outbox::default() }
    }

    pub(super) fn interest(&self) -> (BorrowedFd<'_>, PollFlags) {
        let out = if self.outbox.is_empty() { PollFlags::empty() } else { PollFlags::OUT };
        (self.socket.as_fd(), PollFlags::IN | out)
    }

    /// Receives what is there: requests, and whether the connection goes on.
    pub(super) fn receive(&mut self) -> (Vec<(u64, Call)>, bool) {
        let mut requests = Vec::new();
        let open = self.receive_into(&mut requests).unwrap_or(false);
        (requests, open)
    }

    fn receive_into(&mut self, requests: &mut Vec<(u64, Call)>) -> io::Result<bool> {
        match self.inbox.receive(self.socket.as_fd()) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
            Ok(0) => return Ok(false),
            other => drop(other?),
        }
        while let Some((request, _)) = self.inbox.next::<Request>()? {
            if request.version != VERSION {
                return Err(io::Error::other("a driver of another version"));
            }
            requests.push((request.id, request.call));
        }
        Ok(true)
    }

    pub(super) fn reply(&mut self, id: u64, result: Result<Answer, Failure>, fds: Vec<OwnedFd>) {
        self.push(&Message::Reply { id, result }, fds);
    }

    pub(super) fn push(&mut self, message: &Message, fds: Vec<OwnedFd>) {
        if let Err(error) = self.outbox.push(message, fds) {
            eprintln!("answer a driver: {error}");
        }
    }

    /// Sends what the socket takes; `false` when this connection is done with.
    pub(super) fn flush(&mut self) -> bool {
        match self.outbox.send(self.socket.as_fd()) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.outbox.waiting() < WAITING_MAX,
            other => other.is_ok(),
        }
    }
}
