//! Containers in a user namespace of their pod: root inside is nobody outside.
//!
//! What takes the machine's root (opening volumes and layers, mapping their owners, making devices) is done by a helper
//! in a mount namespace of its own. It then enters the pod's user namespace and forks the container's first process
//! there, as a child of the shim, in namespaces that the user namespace owns; descriptors carry over what was opened.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use super::failure::{Failure, Step};
use crate::protocol;
use crate::spec::IdRange;
use crate::sys::{self, Forked};

/// The user namespace of a pod.
#[derive(Debug)]
pub(crate) struct UserNamespace {
    fd: OwnedFd,
    /// The ids of the machine that it has.
    pub(crate) ids: IdRange,
}

impl AsFd for UserNamespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Makes a user namespace that has `ids`, and moves this process into namespaces of `kinds` that it owns.
pub(crate) fn make(ids: IdRange, kinds: i32) -> Result<UserNamespace, Failure> {
    let step = || "make the pod's user namespace";
    let (ours, theirs) = channel().step(step)?;
    // SAFETY: the shim is single-threaded.
    match unsafe { sys::fork_with((libc::CLONE_NEWUSER | kinds) as u64, None) }.step(step)? {
        Forked::Child => {
            drop(ours);
            // It holds the namespaces until the shim has entered them.
            let _ = rustix::io::retry_on_intr(|| rustix::io::read(&theirs, &mut [0]));
            sys::exit_now(0)
        }
        Forked::Parent(pid) => {
            let line = format!("0 {} {}\n", ids.first, ids.length);
            for file in ["uid_map", "gid_map"] {
                std::fs::write(format!("/proc/{pid}/{file}"), &line).step(|| format!("write its {file} {line:?}"))?;
            }
            let flags = OFlags::RDONLY | OFlags::CLOEXEC;
            let fd = rustix::fs::open(format!("/proc/{pid}/ns/user"), flags, Mode::empty()).step(step)?;
            if kinds != 0 {
                let pidfd = sys::pidfd_open(pid).step(step)?;
                sys::setns(&pidfd, kinds).step(|| "enter the pod's namespaces")?;
            }
            Ok(UserNamespace { fd, ids })
        }
    }
}

fn channel() -> std::io::Result<(OwnedFd, OwnedFd)> {
    let flags = SocketFlags::CLOEXEC;
    Ok(rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?)
}

/// Becomes root of the user namespace that this process is in.
pub(super) fn become_root() -> Result<(), Failure> {
    let step = || "become root of the pod's user namespace";
    let groups: [u32; 0] = [];
    // SAFETY: raw calls on the only thread of this process; the empty group list outlives its call.
    unsafe {
        sys::check(libc::syscall(libc::SYS_setgroups, 0, groups.as_ptr()) as i32).step(step)?;
        sys::check(libc::syscall(libc::SYS_setresgid, 0, 0, 0) as i32).step(step)?;
        sys::check(libc::syscall(libc::SYS_setresuid, 0, 0, 0) as i32).step(step)?;
    }
    Ok(())
}

/// Forks a child of this process into `user` and into namespaces of `kinds` that it owns; its process id, or `None` if it
/// was not forked: then `failed` was told why. `outside` runs before, as the machine's root, in a mount namespace of its
/// own and in the cgroup.
pub(crate) fn fork<T>(
    user: &UserNamespace,
    kinds: i32,
    cgroup: Option<BorrowedFd<'_>>,
    outside: impl FnOnce() -> Result<T, Failure>,
    failed: impl FnOnce(&Failure),
    inside: impl FnOnce(T),
) -> Result<(i32, bool), Failure> {
    let step = || "start a process in the pod's user namespace";
    let (ours, theirs) = channel().step(step)?;
    // SAFETY: the shim is single-threaded.
    match unsafe { sys::fork_with(libc::CLONE_NEWNS as u64, cgroup) }.step(step)? {
        Forked::Parent(helper) => {
            drop(theirs);
            match protocol::receive_process(&ours).step(step)? {
                Some(pidfd) => Ok((sys::pid_of(&pidfd).step(step)?, true)),
                None => Ok((helper, false)),
            }
        }
        Forked::Child => {
            drop(ours);
            let run = || {
                let made = outside()?;
                sys::setns(user, libc::CLONE_NEWUSER).step(|| "enter the pod's user namespace")?;
                become_root()?;
                // SAFETY: this process was forked from a single-threaded one and started no thread.
                match unsafe { sys::fork_sibling((libc::CLONE_NEWNS | kinds) as u64) }.step(step)? {
                    Forked::Parent(pid) => {
                        let pidfd = sys::pidfd_open(pid).step(step)?;
                        protocol::send_process(&theirs, pidfd).step(step)?;
                        sys::exit_now(0)
                    }
                    Forked::Child => Ok(made),
                }
            };
            match run() {
                Ok(made) => inside(made),
                Err(failure) => failed(&failure),
            }
            sys::exit_now(127)
        }
    }
}

/// Gives a stream of the machine's root to root of the user namespace, who may then hand it on.
pub(super) fn hand_over(stream: &OwnedFd, ids: IdRange) -> std::io::Result<()> {
    let (uid, gid) = (rustix::fs::Uid::from_raw(ids.first), rustix::fs::Gid::from_raw(ids.first));
    Ok(rustix::fs::fchown(stream, Some(uid), Some(gid))?)
}
