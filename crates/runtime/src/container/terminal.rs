//! Terminals: allocated from the container's own devpts, so that `tty` and `/dev/pts` agree.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, OFlags};

use super::device::Devices;
use super::failure::{Failure, Step};
use super::{mount, path};
use crate::sys::check;

const DEVPTS_MAGIC: i64 = 0x1cd1;

/// Both sides of a terminal.
pub(super) struct Terminal {
    pub(super) master: OwnedFd,
    pub(super) slave: OwnedFd,
}

/// Allocates the terminal of a container and makes it `/dev/console`.
pub(super) fn for_container(devices: &Devices) -> Result<Terminal, Failure> {
    let step = || "allocate a terminal";
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NONBLOCK;
    let master = path::open_beneath(&devices.pts, Path::new("ptmx"), flags).step(step)?;
    let terminal = unlock(master)?;
    let create = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::WRONLY | OFlags::CLOEXEC;
    rustix::fs::openat(&devices.dev, "console", create, rustix::fs::Mode::from_raw_mode(0o620))
        .step(|| "make /dev/console")?;
    let place = path::open_beneath(&devices.dev, Path::new("console"), OFlags::PATH).step(|| "open /dev/console")?;
    let console = mount::copy_of(&terminal.slave, false).step(|| "mount /dev/console")?;
    mount::attach(&console, &place).step(|| "mount /dev/console")?;
    Ok(terminal)
}

/// Allocates a terminal inside a running container, whose root is this process' root by now.
pub(super) fn for_exec() -> Result<Terminal, Failure> {
    let step = || "allocate a terminal";
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NONBLOCK;
    let master = path::open_with(CWD, Path::new("/dev/pts/ptmx"), flags).step(step)?;
    if crate::sys::filesystem_magic(&master).step(step)? != DEVPTS_MAGIC {
        return Err(Failure::create(step(), "/dev/pts of the container is not a devpts"));
    }
    unlock(master)
}

fn unlock(master: OwnedFd) -> Result<Terminal, Failure> {
    let step = || "unlock a terminal";
    let locked: libc::c_int = 0;
    // SAFETY: TIOCSPTLCK reads one int.
    check(unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCSPTLCK, &raw const locked) }).step(step)?;
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: TIOCGPTPEER takes open flags as a number and returns a new descriptor.
    let slave = check(unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCGPTPEER, flags) }).step(step)?;
    // SAFETY: the kernel just returned this descriptor, nobody else owns it.
    Ok(Terminal { master, slave: unsafe { OwnedFd::from_raw_fd(slave) } })
}

/// Makes a terminal the controlling one of this session.
pub(super) fn control(slave: &OwnedFd) -> Result<(), Failure> {
    // SAFETY: TIOCSCTTY takes a number.
    check(unsafe { libc::ioctl(slave.as_raw_fd(), libc::TIOCSCTTY, 0) }).step(|| "control the terminal").map(drop)
}
