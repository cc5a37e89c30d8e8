//! Starting a process in a container: everything between the shim's fork and the program's first instruction.
//!
//! The shim calls [`start`] and [`exec`]; both fork (the shim is single-threaded), and the child builds its surroundings
//! and executes the program. The child answers over a close-on-exec socket: a failure, or the end of the stream once the
//! program runs; with a terminal, first the terminal's master side.

mod capability;
mod cgroup_mount;
mod device;
mod failure;
mod mount;
mod path;
mod process;
mod root;
mod terminal;
mod user;
pub(crate) mod userns;

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use rustix::fs::{Mode, OFlags};

use crate::cgroup::Cgroups;
use crate::protocol;
use crate::seccomp::Filter;
use crate::spec::{ContainerSpec, Seccomp};
use crate::sys::{self, Forked};

pub(crate) use failure::{Failure, Step, plain};
pub(crate) use process::Stdio;
pub(crate) use userns::UserNamespace;

/// Everything the first process of a container needs to know.
#[derive(Debug)]
pub(crate) struct ContainerLaunch<'a> {
    pub(crate) spec: ContainerSpec,
    /// Layers of the image, topmost first.
    pub(crate) layers: Vec<PathBuf>,
    /// Layers of images used as volumes.
    pub(crate) image_layers: BTreeMap<String, Vec<PathBuf>>,
    /// Holds `upper` and `work`.
    pub(crate) directory: PathBuf,
    /// An empty directory to mount the root at; all containers of a pod may use one, each in its own namespace.
    pub(crate) mount_point: PathBuf,
    /// The pod's `/dev/shm`.
    pub(crate) shm: PathBuf,
    pub(crate) cgroups: Cgroups,
    /// The container's group.
    pub(crate) cgroup: String,
    /// Gets a PID namespace of its own, rather than the pod's or the host's.
    pub(crate) own_pid_namespace: bool,
    /// The pod's user namespace, if it has one.
    pub(crate) user: Option<&'a UserNamespace>,
}

/// A process that was forked; whether its program runs is told by `report`.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) pid: i32,
    /// Ends when the program runs or the process is gone; see [`protocol::Report`].
    pub(crate) report: OwnedFd,
}

/// Forks the first process of a container.
pub(crate) fn start(launch: &ContainerLaunch<'_>, stdio: Stdio) -> Result<Started, Failure> {
    let prepared = Prepared::of(&launch.spec)?;
    launch.cgroups.create(&launch.cgroup, &launch.spec.resources).map_err(|e| create_error("limit resources", &e))?;
    let rules = device::rules(&launch.spec)?;
    launch.cgroups.allow_devices(&launch.cgroup, &rules).map_err(|e| create_error("limit devices", &e))?;
    for name in ["upper", "work"] {
        let directory = launch.directory.join(name);
        std::fs::create_dir_all(&directory).step(|| format!("make {name} directory"))?;
        if let Some(user) = launch.user {
            let owner = Some(user.ids.first);
            std::os::unix::fs::chown(&directory, owner, owner).step(|| format!("give away {name} directory"))?;
        }
    }
    let pid_namespace = if launch.own_pid_namespace { libc::CLONE_NEWPID } else { 0 };
    if let Some(user) = launch.user {
        return start_mapped(launch, user, &prepared, pid_namespace, stdio);
    }
    let flags = libc::CLONE_NEWNS | pid_namespace;
    fork(flags, &launch.cgroups, &launch.cgroup, move |report| {
        if let Err(failure) = adjust_oom_score(launch.spec.resources.oom_score_adj) {
            return failure;
        }
        if let Err(failure) = sys::unshare(libc::CLONE_NEWCGROUP).step(|| "make a cgroup namespace") {
            return failure;
        }
        let built = match root::gather(launch).and_then(|parts| root::build(launch, parts)).and_then(|built| {
            let terminal = hand_over(built.terminal, report)?;
            root::enter(built.root, &launch.spec)?;
            Ok(terminal)
        }) {
            Ok(terminal) => terminal,
            Err(failure) => return failure,
        };
        process::run(&prepared.program(&launch.spec, &launch.spec.args), stdio, built, report)
    })
}

/// As [`start`], in the pod's user namespace.
fn start_mapped(
    launch: &ContainerLaunch<'_>,
    user: &UserNamespace,
    prepared: &Prepared,
    kinds: i32,
    stdio: Stdio,
) -> Result<Started, Failure> {
    let step = || "start a process";
    let (ours, theirs) = protocol::report_channel().step(step)?;
    let group = group_directory(&launch.cgroups, &launch.cgroup)?;
    process::hand_streams_over(&stdio, user.ids)?;
    let outside = || {
        sys::unblock_signals();
        detach(&launch.cgroups, &launch.cgroup)?;
        adjust_oom_score(launch.spec.resources.oom_score_adj)?;
        root::gather(launch)
    };
    let failed = |failure: &Failure| protocol::report(&theirs, failure);
    let inside = |parts| {
        let enter = || {
            rustix::process::setsid().step(|| "start a session")?;
            sys::prctl(libc::PR_SET_DUMPABLE, 0).step(|| "close the process to debuggers")?;
            userns::become_root()?;
            sys::unshare(libc::CLONE_NEWCGROUP).step(|| "make a cgroup namespace")?;
            let built = root::build(launch, parts)?;
            let terminal = hand_over(built.terminal, &theirs)?;
            root::enter(built.root, &launch.spec)?;
            Ok(terminal)
        };
        let failure = match enter() {
            Ok(terminal) => process::run(&prepared.program(&launch.spec, &launch.spec.args), stdio, terminal, &theirs),
            Err(failure) => failure,
        };
        protocol::report(&theirs, &failure);
    };
    let group = group.as_ref().map(AsFd::as_fd);
    let (pid, _) = userns::fork(user, kinds, group, outside, failed, inside)?;
    Ok(Started { pid, report: ours })
}

/// A program to start in a running container.
#[derive(Debug)]
pub(crate) struct ExecLaunch<'a> {
    pub(crate) spec: &'a ContainerSpec,
    pub(crate) args: &'a [String],
    /// The container's first process.
    pub(crate) pidfd: &'a OwnedFd,
    pub(crate) cgroups: &'a Cgroups,
    pub(crate) cgroup: &'a str,
    /// The pod's user namespace, if it has one.
    pub(crate) user: Option<&'a UserNamespace>,
}

/// Forks a process into a running container. The shim has already set the PID namespace of its children.
pub(crate) fn exec(launch: &ExecLaunch<'_>, stdio: Stdio) -> Result<Started, Failure> {
    let prepared = Prepared::of(launch.spec)?;
    let is_terminal = matches!(stdio, Stdio::Terminal);
    fork(0, launch.cgroups, launch.cgroup, move |report| {
        let enter = || {
            adjust_oom_score(launch.spec.resources.oom_score_adj)?;
            let mut namespaces = libc::CLONE_NEWNS | libc::CLONE_NEWCGROUP;
            if let Some(user) = launch.user {
                process::hand_streams_over(&stdio, user.ids)?;
                namespaces |= libc::CLONE_NEWUSER;
            }
            sys::setns(launch.pidfd, namespaces).step(|| "enter the container")?;
            if launch.user.is_some() {
                userns::become_root()?;
            }
            rustix::process::chdir("/").step(|| "enter the container")?;
            let terminal = if is_terminal { Some(terminal::for_exec()?) } else { None };
            hand_over(terminal, report)
        };
        match enter() {
            Ok(terminal) => process::run(&prepared.program(launch.spec, launch.args), stdio, terminal, report),
            Err(failure) => failure,
        }
    })
}

/// What is worked out in the shim, where failing is cheap.
struct Prepared {
    filter: Option<Filter>,
    capabilities: capability::CapabilitySet,
    apparmor: bool,
}

impl Prepared {
    fn of(spec: &ContainerSpec) -> Result<Self, Failure> {
        let capabilities = capability::wanted(&spec.security).map_err(|m| Failure::create("set capabilities", m))?;
        let filter = match &spec.security.seccomp {
            _ if spec.security.privileged => None,
            Seccomp::Unconfined => None,
            Seccomp::RuntimeDefault => Some(crate::seccomp::default_filter(|name| capabilities.has(name))),
            Seccomp::Profile(file) => {
                let filter = crate::seccomp::filter_from_file(file, |name| capabilities.has(name));
                Some(filter.map_err(|e| Failure::create(format!("read seccomp profile {}", file.display()), e))?)
            }
        };
        let apparmor =
            std::fs::read("/sys/module/apparmor/parameters/enabled").is_ok_and(|text| text.starts_with(b"Y"));
        Ok(Prepared { filter, capabilities, apparmor })
    }

    fn program<'a>(&'a self, spec: &'a ContainerSpec, args: &'a [String]) -> process::Program<'a> {
        let apparmor = spec.security.apparmor_profile.as_deref().filter(|_| self.apparmor);
        process::Program { spec, args, filter: self.filter.as_ref(), capabilities: self.capabilities, apparmor }
    }
}

fn create_error(step: &str, error: &dyn std::error::Error) -> Failure {
    Failure::create(step, error)
}

/// Forks a child that joins the cgroup, runs `body` and reports the failure that it returns.
fn fork(
    flags: i32,
    cgroups: &Cgroups,
    cgroup: &str,
    body: impl FnOnce(&OwnedFd) -> Failure,
) -> Result<Started, Failure> {
    let step = || "start a process";
    let (ours, theirs) = protocol::report_channel().step(step)?;
    let group = group_directory(cgroups, cgroup)?;
    // SAFETY: the shim runs this and is single-threaded by construction: it never starts a thread.
    match unsafe { sys::fork_with(flags as u64, group.as_ref().map(AsFd::as_fd)) }.step(step)? {
        Forked::Parent(pid) => Ok(Started { pid, report: ours }),
        Forked::Child => {
            drop(ours);
            let run = std::panic::AssertUnwindSafe(|| {
                sys::unblock_signals();
                if let Err(failure) = detach(cgroups, cgroup) {
                    return failure;
                }
                body(&theirs)
            });
            let failure = std::panic::catch_unwind(run).unwrap_or_else(|_| Failure::create(step(), "internal error"));
            protocol::report(&theirs, &failure);
            sys::exit_now(127)
        }
    }
}

/// The directory that a process is forked into, where the kernel can do that.
fn group_directory(cgroups: &Cgroups, cgroup: &str) -> Result<Option<OwnedFd>, Failure> {
    if !cgroups.is_v2() {
        return Ok(None);
    }
    let (_, directory) = cgroups.directories(cgroup).remove(0);
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(&directory, flags, Mode::empty()).step(|| format!("open {}", directory.display())).map(Some)
}

/// A session of its own, closed to debuggers, in its cgroup.
fn detach(cgroups: &Cgroups, cgroup: &str) -> Result<(), Failure> {
    rustix::process::setsid().step(|| "start a session")?;
    sys::prctl(libc::PR_SET_DUMPABLE, 0).step(|| "close the process to debuggers")?;
    if !cgroups.is_v2() {
        cgroups.join(cgroup).map_err(|e| create_error("join the cgroup", &e))?;
    }
    Ok(())
}

/// Lowering it takes CAP_SYS_RESOURCE, which mizzen itself may lack in a container: then it stays.
fn adjust_oom_score(score: Option<i32>) -> Result<(), Failure> {
    let score = score.unwrap_or(0); // Not the shim's own.
    match std::fs::write("/proc/self/oom_score_adj", score.to_string()) {
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => Ok(()),
        other => other.step(|| format!("set oom_score_adj to {score}")),
    }
}

/// Sends the master side of a terminal to the shim; keeps the other.
fn hand_over(terminal: Option<terminal::Terminal>, report: &OwnedFd) -> Result<Option<OwnedFd>, Failure> {
    let Some(terminal) = terminal else { return Ok(None) };
    protocol::report_terminal(report, &terminal.master).step(|| "hand over the terminal")?;
    Ok(Some(terminal.slave))
}
