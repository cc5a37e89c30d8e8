//! The sandbox itself: namespaces, host name, sysctls, loopback, `/dev/shm`, cgroup, and the pause process.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::{MountFlags, UnmountFlags};
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use crate::cgroup::Cgroups;
use crate::container::{Failure, Step, UserNamespace, plain, userns};
use crate::spec::PodSpec;
use crate::sys::{self, Forked, check};

/// Bytes of `/dev/shm`, shared by the pod's containers (as containerd and CRI-O size it).
const SHM_SIZE: &str = "67108864";

/// What the shim holds on behalf of the pod.
#[derive(Debug)]
pub(super) struct Sandbox {
    pub(super) cgroups: Cgroups,
    /// What containers see as `/dev/shm`.
    pub(super) shm: PathBuf,
    /// Where containers mount their roots, each in its own namespace.
    pub(super) mount_point: PathBuf,
    /// PID 1 of a shared PID namespace.
    pub(super) pause: Option<Pause>,
    /// The pod's own user namespace.
    pub(super) user: Option<UserNamespace>,
    /// The PID namespace of the shim itself, to return to after an exec.
    pub(super) own_pid_namespace: OwnedFd,
}

/// The pause process: it ends when its lifeline closes, and the kernel ends the namespace with it.
#[derive(Debug)]
pub(super) struct Pause {
    pub(super) pid: i32,
    _lifeline: OwnedFd,
}

/// Makes this process the sandbox of `pod`.
pub(super) fn enter(pod: &PodSpec, cgroup_root: &str, directory: &Path) -> Result<Sandbox, Failure> {
    let cgroups = Cgroups::detect(cgroup_root).map_err(|e| Failure::create("find cgroups", e))?;
    cgroups.create(&pod.cgroup, &pod.resources).map_err(|e| Failure::create("limit resources of the pod", e))?;
    let mut flags = 0;
    if !pod.host_network {
        // With the host's network a pod also has the host's name.
        flags |= libc::CLONE_NEWNET | libc::CLONE_NEWUTS;
    }
    if !pod.host_ipc {
        flags |= libc::CLONE_NEWIPC;
    }
    let user = match pod.user_namespace {
        None => {
            sys::unshare(flags).step(|| "make the pod's namespaces")?;
            None
        }
        Some(ids) => Some(userns::make(ids, flags)?),
    };
    if !pod.host_network {
        rustix::system::sethostname(pod.hostname.as_bytes())
            .step(|| format!("set the host name {:?}", pod.hostname))?;
        raise_loopback().step(|| "raise the loopback interface")?;
    }
    for (name, value) in &pod.sysctls {
        set_sysctl(pod, name, value)?;
    }
    let shm = if pod.host_ipc { PathBuf::from("/dev/shm") } else { mount_shm(directory)? };
    let own_pid_namespace = rustix::fs::open("/proc/self/ns/pid", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .step(|| "open the PID namespace")?;
    let mount_point = directory.join("root");
    std::fs::create_dir_all(&mount_point).step(|| format!("make {}", mount_point.display()))?;
    let pause = if pod.share_process_namespace && !pod.host_pid { Some(start_pause(user.as_ref())?) } else { None };
    Ok(Sandbox { cgroups, shm, mount_point, pause, own_pid_namespace, user })
}

fn mount_shm(directory: &Path) -> Result<PathBuf, Failure> {
    let shm = directory.join("shm");
    let step = || "mount the pod's /dev/shm";
    std::fs::create_dir_all(&shm).step(step)?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    let options = std::ffi::CString::new(format!("mode=1777,size={SHM_SIZE}")).map_err(io::Error::from).step(step)?;
    rustix::mount::mount("shm", &shm, "tmpfs", flags, options.as_c_str()).step(step)?;
    Ok(shm)
}

/// A name such as `net.core.somaxconn` or `net/core/somaxconn`, of a namespace that is the pod's own.
fn set_sysctl(pod: &PodSpec, name: &str, value: &str) -> Result<(), Failure> {
    let step = || format!("set sysctl {name}={value:?}");
    let path = name.replace('.', "/");
    let own = (path.starts_with("net/") && !pod.host_network) || (is_ipc(&path) && !pod.host_ipc);
    let plain_path = Path::new(&path).components().all(|c| matches!(c, std::path::Component::Normal(_)));
    if !own || !plain_path {
        return Err(Failure::create(step(), "it does not belong to a namespace of the pod"));
    }
    std::fs::write(Path::new("/proc/sys").join(path), value).step(step)
}

fn is_ipc(path: &str) -> bool {
    let kernel = ["msgmax", "msgmnb", "msgmni", "sem", "shmall", "shmmax", "shmmni", "shm_rmid_forced"];
    path.starts_with("fs/mqueue/") || path.strip_prefix("kernel/").is_some_and(|name| kernel.contains(&name))
}

fn raise_loopback() -> io::Result<()> {
    let socket = rustix::net::socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    // SAFETY: all zeros is a valid ifreq; the name that follows is shorter than its field and ends with zero.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (place, byte) in request.ifr_name.iter_mut().zip(b"lo") {
        *place = *byte as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: SIOCSIFFLAGS reads one ifreq.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) }).map(drop)
}

/// Forks PID 1 of a new PID namespace and makes it the one that the shim's next children are born into.
fn start_pause(user: Option<&UserNamespace>) -> Result<Pause, Failure> {
    let step = || "start the pause process";
    let flags = SocketFlags::CLOEXEC;
    let (ours, theirs) = rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None).step(step)?;
    let pid = match user {
        None => {
            // SAFETY: the shim is single-threaded.
            match unsafe { sys::fork_with((libc::CLONE_NEWPID | libc::CLONE_NEWNS) as u64, None) }.step(step)? {
                Forked::Child => {
                    drop(ours);
                    pause(theirs)
                }
                Forked::Parent(pid) => {
                    drop(theirs);
                    pid
                }
            }
        }
        Some(user) => {
            let say = |failure: &Failure| eprintln!("pause process: {failure:?}");
            let copy = theirs.try_clone().step(step)?;
            let (pid, _) = userns::fork(user, libc::CLONE_NEWPID, None, || Ok(copy), say, |lifeline| pause(lifeline))?;
            drop(theirs);
            pid
        }
    };
    // It says one byte once it has left the host's file systems: containers may look at it from then on.
    let mut byte = [0];
    let ready = rustix::io::retry_on_intr(|| rustix::io::read(&ours, &mut byte)).step(step)?;
    if ready == 0 {
        return Err(Failure::create(step(), "it ended at once"));
    }
    let pidfd = sys::pidfd_open(pid).step(step)?;
    sys::setns(&pidfd, libc::CLONE_NEWPID).step(step)?;
    Ok(Pause { pid, _lifeline: ours })
}

/// Waits for the shim's end, in an empty root. Children that end are reaped by the kernel (SIGCHLD ignored).
fn pause(lifeline: OwnedFd) -> ! {
    let run = || -> io::Result<()> {
        sys::unblock_signals();
        sys::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as u64)?;
        // SAFETY: SIG_IGN installs no handler.
        unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
        let private = rustix::mount::MountPropagationFlags::PRIVATE | rustix::mount::MountPropagationFlags::REC;
        rustix::mount::mount_change("/", private)?;
        let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC | MountFlags::RDONLY;
        rustix::mount::mount("pause", "/proc", "tmpfs", flags, None::<&std::ffi::CStr>)?;
        rustix::process::chdir("/proc")?;
        rustix::process::pivot_root(".", ".")?;
        rustix::mount::unmount(".", UnmountFlags::DETACH)?;
        rustix::process::chdir("/")?;
        rustix::thread::set_name(c"pause")?;
        let number = lifeline.as_raw_fd();
        // SAFETY: `lifeline` is used by its copy 0 alone from here on, and this process ends without dropping any value.
        unsafe {
            check(libc::dup2(number, 0))?;
            sys::close_from(1)?;
            let mut byte = [1_u8];
            libc::write(0, byte.as_ptr().cast(), 1);
            while libc::read(0, byte.as_mut_ptr().cast(), 1) != 0 {}
        }
        Ok(())
    };
    if let Err(error) = run() {
        eprintln!("pause process: {}", plain(&error));
    }
    sys::exit_now(1)
}

/// Where the shim mounts the pod's `/dev/shm`, unless the pod uses the host's.
pub(crate) fn shm_mount(directory: &Path) -> PathBuf {
    directory.join("shm")
}

/// Opens a directory for `/proc/self/fd` paths.
pub(crate) fn open_directory(path: &Path) -> io::Result<OwnedFd> {
    Ok(rustix::fs::openat(CWD, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}
