//! System calls that neither std nor rustix wraps, each behind one safe function.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// `struct clone_args` of `linux/sched.h`, up to and including `cgroup`.
#[repr(C, align(8))]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// `linux/sched.h`; libc's constant is too narrow for it.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Which side of [`fork_with`] this is.
pub(crate) enum Forked {
    /// The caller: the child's process id.
    Parent(i32),
    /// The new process.
    Child,
}

/// Forks with namespace flags (`CLONE_NEW*`), into a cgroup v2 directory if one is given.
///
/// # Safety
/// The calling process must be single-threaded: the child goes on allocating, and a lock that another thread held at this
/// moment would stay locked in it for ever.
pub(crate) unsafe fn fork_with(flags: u64, cgroup: Option<BorrowedFd<'_>>) -> io::Result<Forked> {
    let exit_signal = libc::SIGCHLD as u64;
    // SAFETY: as promised by the caller.
    unsafe { clone3(CloneArgs { flags, exit_signal, ..CloneArgs::default() }, cgroup) }
}

/// Forks a child of this process' parent, with namespace flags. It ends with the signal that this process ends with.
///
/// # Safety
/// As [`fork_with`].
pub(crate) unsafe fn fork_sibling(flags: u64) -> io::Result<Forked> {
    let flags = flags | libc::CLONE_PARENT as u64;
    // SAFETY: as promised by the caller.
    unsafe { clone3(CloneArgs { flags, ..CloneArgs::default() }, None) }
}

/// # Safety
/// As [`fork_with`].
unsafe fn clone3(mut args: CloneArgs, cgroup: Option<BorrowedFd<'_>>) -> io::Result<Forked> {
    if let Some(directory) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = directory.as_raw_fd() as u64;
    }
    // SAFETY: `args` is a valid clone_args of the size given; with no stack and no CLONE_VM the child runs on its own
    // copy of this one, as after fork(2). Single-threadedness is the caller's promise.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<CloneArgs>()) };
    match pid {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Forked::Child),
        pid => Ok(Forked::Parent(pid as i32)),
    }
}

/// Ends the process at once, without destructors or `atexit` handlers, which belong to the parent.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: _exit has no preconditions.
    unsafe { libc::_exit(code) }
}

#[repr(C)]
#[derive(Default)]
struct MountAttr {
    attr_set: u64,
    attr_clr: u64,
    propagation: u64,
    userns_fd: u64,
}

/// Maps the owners of files of a mount that is not attached yet, and of those below it if `recursive`, by a user namespace:
/// what root owns on disk is its root's.
pub(crate) fn map_owners(mount: BorrowedFd<'_>, recursive: bool, user: BorrowedFd<'_>) -> io::Result<()> {
    const MOUNT_ATTR_IDMAP: u64 = 0x10_0000;
    let userns_fd = user.as_raw_fd() as u64;
    set_mount(mount, recursive, &MountAttr { attr_set: MOUNT_ATTR_IDMAP, userns_fd, ..MountAttr::default() })
}

/// `mount_setattr(2)` on the mount that `mount` is the root of.
pub(crate) fn mount_setattr(
    mount: BorrowedFd<'_>,
    recursive: bool,
    set: u64,
    clear: u64,
    propagation: u64,
) -> io::Result<()> {
    set_mount(mount, recursive, &MountAttr { attr_set: set, attr_clr: clear, propagation, userns_fd: 0 })
}

fn set_mount(mount: BorrowedFd<'_>, recursive: bool, attr: &MountAttr) -> io::Result<()> {
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is an empty C string, `attr` a valid mount_attr of the size given; both live across the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            std::ptr::from_ref(attr),
            size_of::<MountAttr>(),
        )
    };
    check(result as i32).map(drop)
}

/// A file descriptor that names a process.
pub(crate) fn pidfd_open(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: plain integers in, a new descriptor or -1 out.
    let fd = check(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) } as i32)?;
    // SAFETY: the kernel just returned this descriptor, nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The process id, in this process' namespace, of a process that a descriptor names.
pub(crate) fn pid_of(pidfd: &OwnedFd) -> io::Result<i32> {
    let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd()))?;
    let pid = text.lines().find_map(|line| line.strip_prefix("Pid:")).and_then(|pid| pid.trim().parse().ok());
    pid.filter(|pid| *pid > 0).ok_or_else(|| io::Error::from_raw_os_error(libc::ESRCH))
}

/// Moves this process (or, for `CLONE_NEWPID`, its future children) into namespaces of a process or a namespace file.
pub(crate) fn setns(target: impl AsFd, flags: i32) -> io::Result<()> {
    // SAFETY: a valid descriptor and flags; the process is single-threaded where a flag demands it, else EINVAL.
    check(unsafe { libc::setns(target.as_fd().as_raw_fd(), flags) }).map(drop)
}

/// Leaves namespaces for new ones.
pub(crate) fn unshare(flags: i32) -> io::Result<()> {
    // SAFETY: only flags that change namespaces are passed; Rust's memory model is not affected.
    check(unsafe { libc::unshare(flags) }).map(drop)
}

/// Sends a signal; a process that is gone is no error.
pub(crate) fn kill(pid: i32, signal: i32) -> io::Result<()> {
    // SAFETY: plain integers.
    match check(unsafe { libc::kill(pid, signal) }) {
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
        other => other.map(drop),
    }
}

/// A child that has ended: its process id and wait status. `None` when no child has.
pub(crate) fn reap() -> Option<(i32, i32)> {
    let mut status = 0;
    // SAFETY: `status` is a valid place for an int.
    let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) };
    (pid > 0).then_some((pid, status))
}

/// `prctl(2)` with plain numbers.
pub(crate) fn prctl(option: i32, argument: u64) -> io::Result<i32> {
    // SAFETY: callers pass options whose arguments are numbers, never pointers.
    check(unsafe { libc::prctl(option, argument, 0, 0, 0) })
}

/// Every signal back to its default action. Programs started later expect that, whatever mizzen was started with.
pub(crate) fn reset_signals() {
    // The kernel's sigaction, its size larger than on any architecture here; all zeros is SIG_DFL.
    let default = [0_u64; 8];
    for signal in 1..=64 {
        // SAFETY: SIG_DFL installs no handler, and the C library's own handlers (its signals 32 and 33 included, which its
        // signal(3) refuses to touch) are needed for threads alone, of which the shim has none. SIGKILL and SIGSTOP are
        // refused and stay.
        unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), std::ptr::null::<u64>(), 8) };
    }
}

/// Lets all signals through again: a new program inherits the mask.
pub(crate) fn unblock_signals() {
    // SAFETY: `set` is initialised by sigemptyset before it is read.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const set, std::ptr::null_mut());
    }
}

/// Marks all descriptors from `first` on close-on-exec, whoever opened them.
pub(crate) fn close_on_exec_from(first: RawFd) -> io::Result<()> {
    // SAFETY: plain integers; the descriptors stay open until exec.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) } as i32).map(drop)
}

/// Closes all descriptors from `first` on.
///
/// # Safety
/// No `OwnedFd` or `File` for such a descriptor may be used or dropped afterwards.
pub(crate) unsafe fn close_from(first: RawFd) -> io::Result<()> {
    // SAFETY: that nobody owns them any more is the caller's promise.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) } as i32).map(drop)
}

/// A session keyring of its own, so that the program cannot read the keys of whoever started mizzen.
pub(crate) fn new_session_keyring() {
    // Kernels without keyrings, or a user over quota, refuse: then there is nothing to shield, or exec goes on without.
    // SAFETY: a null name asks for an anonymous keyring.
    unsafe {
        libc::syscall(libc::SYS_keyctl, 1 /* KEYCTL_JOIN_SESSION_KEYRING */, std::ptr::null::<libc::c_char>())
    };
}

/// Magic number of the file system that `fd` lives on.
pub(crate) fn filesystem_magic(fd: impl AsFd) -> io::Result<i64> {
    Ok(rustix::fs::fstatfs(fd)?.f_type as i64)
}

/// A signal descriptor for SIGCHLD, SIGTERM, SIGINT, SIGHUP and SIGPIPE, which are blocked from here on. Blocked rather than
/// ignored, since forked programs would inherit that they are ignored.
pub(crate) fn signal_fd() -> io::Result<OwnedFd> {
    // SAFETY: `set` is initialised by sigemptyset before it is used; -1 asks for a new descriptor.
    let fd = check(unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        for signal in [libc::SIGCHLD, libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGPIPE] {
            libc::sigaddset(&raw mut set, signal);
        }
        libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
        libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK)
    })?;
    // SAFETY: the kernel just returned this descriptor, nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Replaces the program. Returns only on failure.
pub(crate) fn execve(program: &CStr, args: &[std::ffi::CString], env: &[std::ffi::CString]) -> io::Error {
    let pointers = |list: &[std::ffi::CString]| -> Vec<*const libc::c_char> {
        list.iter().map(|s| s.as_ptr()).chain([std::ptr::null()]).collect()
    };
    let (argv, envp) = (pointers(args), pointers(env));
    // SAFETY: both arrays end with a null pointer and point to C strings that outlive the call.
    unsafe { libc::execve(program.as_ptr(), argv.as_ptr(), envp.as_ptr()) };
    io::Error::last_os_error()
}

/// -1 into the errno.
pub(crate) fn check(result: i32) -> io::Result<i32> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
