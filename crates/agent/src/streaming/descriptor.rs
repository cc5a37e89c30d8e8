//! File descriptors of a program as asynchronous streams.

use std::io;
use std::os::fd::OwnedFd;

use tokio::net::unix::pipe;

/// The reading side of a pipe or terminal. A terminal that nobody has open any more reads as an error: take it as the
/// end.
pub(super) fn reader(fd: OwnedFd) -> io::Result<pipe::Receiver> {
    nonblocking(&fd)?;
    pipe::Receiver::from_owned_fd_unchecked(fd)
}

/// The writing side of a pipe or terminal.
pub(super) fn writer(fd: OwnedFd) -> io::Result<pipe::Sender> {
    nonblocking(&fd)?;
    pipe::Sender::from_owned_fd_unchecked(fd)
}

fn nonblocking(fd: &OwnedFd) -> io::Result<()> {
    let flags = rustix::fs::fcntl_getfl(fd)?;
    Ok(rustix::fs::fcntl_setfl(fd, flags | rustix::fs::OFlags::NONBLOCK)?)
}
