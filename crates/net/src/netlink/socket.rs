//! A netlink socket: sends a batch, gathers the acknowledgements and answers.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use super::Error;
use super::message::{self, Batch, Received};

/// Large enough for a rebuilt rule set of ten thousand Services in one message (they travel as one packet).
const SEND_BUFFER_BYTES: libc::c_int = 256 << 20;
/// Room for many error answers at once; the kernel drops what does not fit.
const RECEIVE_BUFFER_BYTES: libc::c_int = 8 << 20;
/// Netlink dumps come in pieces of at most 32 KiB.
const READ_BYTES: usize = 64 << 10;

/// Which part of the kernel is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// Links, addresses, routes.
    Route,
    /// nftables and conntrack.
    Netfilter,
}

/// A netlink socket of the network namespace in which it was opened; it stays there wherever it is used.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
}

impl Socket {
    /// Opens a socket in the calling thread's network namespace.
    ///
    /// # Errors
    /// The kernel lacks the protocol, or the process may not use it.
    pub fn open(family: Family) -> Result<Self, Error> {
        let protocol = match family {
            Family::Route => libc::NETLINK_ROUTE,
            Family::Netfilter => libc::NETLINK_NETFILTER,
        };
        // SAFETY: a plain system call; the descriptor it returns is owned from here on.
        let fd = unsafe { libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, protocol) };
        if fd < 0 {
            return Err(last_error("open a socket"));
        }
        // SAFETY: `fd` was just returned by the kernel and nobody else has it.
        let socket = Self { fd: unsafe { OwnedFd::from_raw_fd(fd) } };
        // The forced sizes need CAP_NET_ADMIN; without it the plain ones give what the system's limit allows.
        if socket.option(libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, SEND_BUFFER_BYTES).is_err() {
            socket.option(libc::SOL_SOCKET, libc::SO_SNDBUF, SEND_BUFFER_BYTES)?;
        }
        if socket.option(libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, RECEIVE_BUFFER_BYTES).is_err() {
            socket.option(libc::SOL_SOCKET, libc::SO_RCVBUF, RECEIVE_BUFFER_BYTES)?;
        }
        socket.option(libc::SOL_NETLINK, libc::NETLINK_EXT_ACK, 1)?;
        socket.option(libc::SOL_NETLINK, libc::NETLINK_CAP_ACK, 1)?;
        Ok(socket)
    }

    fn option(&self, level: libc::c_int, name: libc::c_int, value: libc::c_int) -> Result<(), Error> {
        // SAFETY: passes a pointer to a live integer together with its size.
        let result = unsafe {
            libc::setsockopt(
                self.fd.as_raw_fd(),
                level,
                name,
                (&raw const value).cast(),
                size_of::<libc::c_int>() as libc::socklen_t,
            )
        };
        if result == 0 { Ok(()) } else { Err(last_error("set a socket option")) }
    }

    /// Sends a batch and reads what the kernel answered. The first refusal is the error.
    ///
    /// # Errors
    /// The kernel refused one of the messages.
    pub fn send(&mut self, batch: &Batch) -> Result<(), Error> {
        self.send_each(batch)?.into_iter().next().map_or(Ok(()), |(_, error)| Err(error))
    }

    /// Sends a batch and returns every refusal with the position of its message.
    ///
    /// # Errors
    /// The socket failed.
    pub fn send_each(&mut self, batch: &Batch) -> Result<Vec<(u32, Error)>, Error> {
        let mut refusals = Vec::new();
        self.exchange(batch, false, &mut |received| {
            if let Some(error) = refusal(&received, batch) {
                refusals.push((received.sequence, error));
            }
        })?;
        Ok(refusals)
    }

    /// Sends a batch of requests that answer with messages, and hands each message over.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn query(&mut self, batch: &Batch, on_message: &mut dyn FnMut(Received<'_>)) -> Result<(), Error> {
        let mut first = None;
        self.exchange(batch, true, &mut |received| match received.kind as libc::c_int {
            libc::NLMSG_ERROR | libc::NLMSG_DONE => {
                if let Some(error) = refusal(&received, batch) {
                    first.get_or_insert(error);
                }
            }
            _ => on_message(received),
        })?;
        first.map_or(Ok(()), Err)
    }

    /// The kernel handles requests while `sendmsg` runs, so all acknowledgements are queued when it returns and reading
    /// ends when the queue is empty. Dumps refill the queue as it is read.
    fn exchange(&mut self, batch: &Batch, wait_done: bool, on: &mut dyn FnMut(Received<'_>)) -> Result<(), Error> {
        if batch.is_empty() {
            return Ok(());
        }
        self.drain();
        let bytes = batch.bytes()?;
        // SAFETY: the pointer and the length describe one live slice.
        let sent = unsafe { libc::send(self.fd.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), 0) };
        if sent < 0 {
            return Err(last_error("send a request"));
        }
        let mut buffer = vec![0; READ_BYTES];
        let mut done = !wait_done;
        while let Some(length) = self.receive(&mut buffer)? {
            for received in message::messages(&buffer[..length]) {
                if matches!(received.kind as libc::c_int, libc::NLMSG_DONE | libc::NLMSG_ERROR) {
                    done = true;
                }
                on(received);
            }
        }
        if done { Ok(()) } else { Err(Error::Answer { operation: batch.operation(0).to_owned() }) }
    }

    fn receive(&self, buffer: &mut [u8]) -> Result<Option<usize>, Error> {
        loop {
            // SAFETY: the pointer and the length describe one live, writable slice.
            let length = unsafe {
                libc::recv(self.fd.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), libc::MSG_DONTWAIT)
            };
            if length >= 0 {
                return Ok(Some(length as usize));
            }
            let error = io::Error::last_os_error();
            match error.raw_os_error() {
                Some(libc::EAGAIN) => return Ok(None),
                Some(libc::EINTR) => {}
                _ => {
                    return Err(Error::Socket { operation: "read an answer", source: error });
                }
            }
        }
    }

    /// Throws away what a failed exchange may have left, so that it is not taken for an answer to the next one.
    fn drain(&mut self) {
        let mut buffer = [0; 4096];
        while !matches!(self.receive(&mut buffer), Ok(None)) {}
    }
}

/// The refusal in an error or done message, if it is one.
fn refusal(received: &Received<'_>, batch: &Batch) -> Option<Error> {
    let kind = received.kind as libc::c_int;
    if kind != libc::NLMSG_ERROR && kind != libc::NLMSG_DONE {
        return None;
    }
    let code = message::u32_at(received.payload, 0).map_or(0, |code| code as i32);
    if code >= 0 {
        return None;
    }
    // After the code comes the header of the refused message (capped), then attributes: 1 is the kernel's text.
    let detail = received
        .payload
        .get(4 + message::HEADER_LEN..)
        .filter(|_| received.flags & libc::NLM_F_ACK_TLVS as u16 != 0)
        .and_then(|rest| message::attribute(rest, 1))
        .map(message::text);
    Some(Error::Refused {
        operation: batch.operation(received.sequence).to_owned(),
        detail,
        source: io::Error::from_raw_os_error(-code),
    })
}

fn last_error(operation: &'static str) -> Error {
    Error::Socket { operation, source: io::Error::last_os_error() }
}
