//! Starting a shim, and connecting to one that runs.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::{MountAttrFlags, OpenTreeFlags};
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use super::Config;
use crate::shim::sandbox::open_directory;
use crate::sys;

/// Opens the shim program through a read-only copy of its mount that exists nowhere else: a container that gets hold of
/// `/proc/<pid>/exe` of a shim cannot write to the binary (CVE-2019-5736).
pub(super) fn open_program(path: &Path) -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    use std::os::fd::AsFd;
    let copy = rustix::mount::open_tree(CWD, path, flags).map_err(io::Error::from).and_then(|copy| {
        sys::mount_setattr(copy.as_fd(), false, u64::from(MountAttrFlags::MOUNT_ATTR_RDONLY.bits()), 0, 0)?;
        Ok(copy)
    });
    match copy {
        Ok(copy) => Ok(copy),
        // A file that lies on no mount of this namespace, such as a memfd, which nobody can reach by path anyway.
        Err(_) => Ok(rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?),
    }
}

/// Starts the shim of a pod. Its standard input is the other end of the connection returned.
pub(super) fn start(config: &Config, program: &OwnedFd, directory: &Path) -> io::Result<(Child, OwnedFd)> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let (ours, theirs) = rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    let log = std::fs::OpenOptions::new().create(true).append(true).open(directory.join("shim.log"))?;
    let child = Command::new(format!("/proc/self/fd/{}", program.as_raw_fd()))
        .arg0("mizzen")
        .args(&config.shim_args)
        .arg("--state")
        .arg(directory)
        .env_clear()
        .stdin(Stdio::from(theirs))
        .stdout(Stdio::null())
        .stderr(Stdio::from(log))
        .spawn()?;
    Ok((child, ours))
}

/// Connects to the shim of a pod, if it runs. Answers the connection and the shim's process id.
pub(super) fn connect(directory: &Path) -> io::Result<(OwnedFd, i32)> {
    let handle = open_directory(directory)?;
    let address = format!("/proc/self/fd/{}/{}", handle.as_raw_fd(), crate::shim::SOCKET);
    let stream = UnixStream::connect(address)?;
    stream.set_nonblocking(true)?;
    let peer = rustix::net::sockopt::socket_peercred(&stream)?;
    Ok((OwnedFd::from(stream), peer.pid.as_raw_nonzero().get()))
}
