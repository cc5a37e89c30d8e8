//! The last steps of a container's or exec's process: limits, user, capabilities, filter, program.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::process::{Resource, Rlimit};

use super::capability::{self, CapabilitySet};
use super::failure::{Failure, Step, plain};
use super::user::{self, Ids};
use crate::seccomp::Filter;
use crate::spec::ContainerSpec;
use crate::sys::{self, check, prctl};

/// The standard streams of a process.
#[derive(Debug)]
pub(crate) enum Stdio {
    /// Pipes, or `/dev/null` where there is none.
    Pipes { stdin: Option<OwnedFd>, stdout: OwnedFd, stderr: OwnedFd },
    /// A terminal allocated by the process itself.
    Terminal,
}

/// What to run, once the process lives in the container's root.
pub(super) struct Program<'a> {
    pub(super) spec: &'a ContainerSpec,
    pub(super) args: &'a [String],
    pub(super) filter: Option<&'a Filter>,
    pub(super) capabilities: CapabilitySet,
    pub(super) apparmor: Option<&'a str>,
}

/// Names of `getrlimit(2)`.
const RLIMITS: [(&str, Resource); 16] = [
    ("RLIMIT_AS", Resource::As),
    ("RLIMIT_CORE", Resource::Core),
    ("RLIMIT_CPU", Resource::Cpu),
    ("RLIMIT_DATA", Resource::Data),
    ("RLIMIT_FSIZE", Resource::Fsize),
    ("RLIMIT_LOCKS", Resource::Locks),
    ("RLIMIT_MEMLOCK", Resource::Memlock),
    ("RLIMIT_MSGQUEUE", Resource::Msgqueue),
    ("RLIMIT_NICE", Resource::Nice),
    ("RLIMIT_NOFILE", Resource::Nofile),
    ("RLIMIT_NPROC", Resource::Nproc),
    ("RLIMIT_RSS", Resource::Rss),
    ("RLIMIT_RTPRIO", Resource::Rtprio),
    ("RLIMIT_RTTIME", Resource::Rttime),
    ("RLIMIT_SIGPENDING", Resource::Sigpending),
    ("RLIMIT_STACK", Resource::Stack),
];

/// Gives pipes of the machine's root to root of a user namespace: only who has a mapped owner can be given another.
pub(super) fn hand_streams_over(stdio: &Stdio, ids: crate::spec::IdRange) -> Result<(), Failure> {
    let Stdio::Pipes { stdin, stdout, stderr } = stdio else { return Ok(()) };
    for stream in stdin.iter().chain([stdout, stderr]) {
        super::userns::hand_over(stream, ids).step(|| "connect the standard streams")?;
    }
    Ok(())
}

/// Connects the standard streams. Pipes become the user's, so that `/dev/stdout` can be opened by it.
pub(super) fn connect(stdio: Stdio, terminal: Option<OwnedFd>, uid: u32) -> Result<(), Failure> {
    let step = || "connect the standard streams";
    let null = || {
        rustix::fs::open("/dev/null", rustix::fs::OFlags::RDWR | rustix::fs::OFlags::CLOEXEC, rustix::fs::Mode::empty())
    };
    let own = |fd: &OwnedFd| rustix::fs::fchown(fd, Some(rustix::fs::Uid::from_raw(uid)), None);
    let streams: [OwnedFd; 3] = match (stdio, terminal) {
        (_, Some(slave)) => {
            super::terminal::control(&slave)?;
            own(&slave).step(step)?;
            [slave.try_clone().step(step)?, slave.try_clone().step(step)?, slave]
        }
        (Stdio::Pipes { stdin, stdout, stderr }, None) => {
            own(&stdout).step(step)?;
            own(&stderr).step(step)?;
            let stdin = match stdin {
                Some(stdin) => {
                    own(&stdin).step(step)?;
                    stdin
                }
                None => null().step(step)?,
            };
            [stdin, stdout, stderr]
        }
        (Stdio::Terminal, None) => return Err(Failure::create(step(), "no terminal was allocated")),
    };
    for (number, stream) in streams.iter().enumerate() {
        // SAFETY: both are plain descriptor numbers; the shim keeps 0 to 2 on /dev/null, owned by no Rust value.
        check(unsafe { libc::dup2(stream.as_raw_fd(), number as i32) }).step(step)?;
    }
    Ok(()) // The originals are closed here; all of them are above 2.
}

/// Everything between "the root is entered" and the program. Returns only a failure.
pub(super) fn run(program: &Program<'_>, stdio: Stdio, terminal: Option<OwnedFd>, lifeline: &OwnedFd) -> Failure {
    match prepare(program, stdio, terminal, lifeline) {
        Ok(ready) => ready.execute(),
        Err(failure) => failure,
    }
}

struct Ready {
    path: CString,
    shown: String,
    args: Vec<CString>,
    env: Vec<CString>,
}

impl Ready {
    fn execute(self) -> Failure {
        let error = sys::execve(&self.path, &self.args, &self.env);
        Failure::Start { message: format!("exec {}: {}", self.shown, plain(&error)) }
    }
}

fn prepare(
    program: &Program<'_>,
    stdio: Stdio,
    terminal: Option<OwnedFd>,
    lifeline: &OwnedFd,
) -> Result<Ready, Failure> {
    let spec = program.spec;
    let ids = user::resolve(&spec.user)?;
    let has_terminal = terminal.is_some();
    connect(stdio, terminal, ids.uid)?;
    set_rlimits(&spec.rlimits)?;
    sys::new_session_keyring();
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    if let Some(profile) = program.apparmor {
        change_profile(profile)?;
    }
    if spec.security.no_new_privileges {
        prctl(libc::PR_SET_NO_NEW_PRIVS, 1).step(|| "set no_new_privs")?;
    }
    let have = capability::bound(program.capabilities).step(|| "limit capabilities")?;
    become_user(&ids)?;
    enter_cwd(&spec.cwd)?;
    let env = environment(&spec.env, &ids.home, has_terminal);
    let path = look_up(&program.args[0], &env)?;
    sys::close_on_exec_from(3).step(|| "close files on exec")?;

    let ready = Ready {
        path: c_string(path.as_os_str().as_bytes())?,
        shown: path.display().to_string(),
        args: c_strings(program.args)?,
        env: c_strings(&env)?,
    };
    let step = || "set capabilities";
    match program.filter {
        // With no_new_privs the filter goes last; otherwise installing it takes a capability that is given up after.
        Some(filter) if spec.security.no_new_privileges => {
            capability::set(have, None).step(step)?;
            die_with_the_shim(lifeline)?;
            filter.install().step(|| "install the seccomp filter")?;
        }
        Some(filter) => {
            capability::set(have, Some(capability::SYS_ADMIN)).step(step)?;
            die_with_the_shim(lifeline)?;
            filter.install().step(|| "install the seccomp filter")?;
            capability::set(have, None).step(step)?;
        }
        None => {
            capability::set(have, None).step(step)?;
            die_with_the_shim(lifeline)?;
        }
    }
    Ok(ready)
}

/// The kernel kills this process when the shim ends. Set after the last change of ids, which clears it.
fn die_with_the_shim(lifeline: &OwnedFd) -> Result<(), Failure> {
    prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as u64).step(|| "bind the process to the shim")?;
    let mut poll = [rustix::event::PollFd::new(lifeline, rustix::event::PollFlags::empty())];
    let no_wait = rustix::time::Timespec { tv_sec: 0, tv_nsec: 0 };
    match rustix::event::poll(&mut poll, Some(&no_wait)) {
        Ok(0) => Ok(()),
        _ => sys::exit_now(1), // The shim ended before the line above: nobody waits for an answer.
    }
}

fn set_rlimits(limits: &[(String, u64, u64)]) -> Result<(), Failure> {
    for (name, soft, hard) in limits {
        let step = || format!("set {name} to {soft}/{hard}");
        let number = RLIMITS.iter().find(|(known, _)| known == name).map(|(_, number)| *number);
        let number = number.ok_or_else(|| Failure::create(step(), "the name is unknown"))?;
        let finite = |limit: u64| Some(limit).filter(|limit| *limit != libc::RLIM_INFINITY);
        let limit = Rlimit { current: finite(*soft), maximum: finite(*hard) };
        rustix::process::setrlimit(number, limit).step(step)?;
    }
    Ok(())
}

fn cwd_path(cwd: &str) -> &Path {
    Path::new(if cwd.is_empty() { "/" } else { cwd })
}

fn become_user(ids: &Ids) -> Result<(), Failure> {
    let step = || format!("become user {}:{}", ids.uid, ids.gid);
    let result = |code: libc::c_long| check(code as i32).step(step);
    prctl(libc::PR_SET_KEEPCAPS, 1).step(step)?;
    // SAFETY: raw calls on the only thread of this process; the group list outlives its call.
    unsafe {
        result(libc::syscall(libc::SYS_setgroups, ids.groups.len(), ids.groups.as_ptr()))?;
        result(libc::syscall(libc::SYS_setresgid, ids.gid, ids.gid, ids.gid))?;
        result(libc::syscall(libc::SYS_setresuid, ids.uid, ids.uid, ids.uid))?;
    }
    prctl(libc::PR_SET_KEEPCAPS, 0).step(step).map(drop)
}

fn enter_cwd(cwd: &str) -> Result<(), Failure> {
    let path = cwd_path(cwd);
    std::env::set_current_dir(path).map_err(|e| Failure::Start {
        message: format!("chdir to cwd ({cwd:?}) set in config.json failed: {}", plain(&e)),
    })?;
    // A working directory that is not below the root came in through a leaked descriptor (CVE-2024-21626).
    match rustix::process::getcwd(Vec::new()) {
        Ok(real) if real.as_bytes().starts_with(b"/") => Ok(()),
        _ => Err(Failure::Start { message: format!("working directory {cwd:?} is outside of the container") }),
    }
}

/// What programs are searched in when the environment does not say (as containerd and Docker set it).
const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The environment with what every program may expect.
fn environment(env: &[String], home: &str, terminal: bool) -> Vec<String> {
    let mut env = env.to_vec();
    let mut default = |entry: String| {
        let name = entry.split_inclusive('=').next().unwrap_or_default();
        if !env.iter().any(|e| e.starts_with(name)) {
            env.push(entry);
        }
    };
    default(DEFAULT_PATH.to_owned());
    default(format!("HOME={home}"));
    if terminal {
        default("TERM=xterm".to_owned());
    }
    env
}

/// Finds the program the way a shell would, with runc's words when it cannot.
fn look_up(name: &str, env: &[String]) -> Result<PathBuf, Failure> {
    let start = |message: String| Failure::Start { message };
    if name.contains('/') {
        return executable(Path::new(name)).map(|()| PathBuf::from(name)).map_err(|error| match error {
            Unusable::Missing(error) => start(format!("exec: {name:?}: stat {name}: {}", plain(&error))),
            Unusable::Directory => start(format!("exec: {name:?}: is a directory")),
            Unusable::Forbidden => start(format!("exec: {name:?}: permission denied")),
        });
    }
    let path = env.iter().rev().find_map(|e| e.strip_prefix("PATH=")).unwrap_or("");
    let mut forbidden = false;
    for directory in path.split(':') {
        // An empty element means the working directory, which runc refuses to search; so do we.
        if directory.is_empty() || name.is_empty() {
            continue;
        }
        let candidate = Path::new(directory).join(name);
        match executable(&candidate) {
            Ok(()) => return Ok(candidate),
            Err(Unusable::Forbidden) => forbidden = true,
            Err(_) => {}
        }
    }
    let reason = if forbidden { "permission denied" } else { "executable file not found in $PATH" };
    Err(start(format!("exec: {name:?}: {reason}")))
}

enum Unusable {
    Missing(io::Error),
    Directory,
    Forbidden,
}

fn executable(path: &Path) -> Result<(), Unusable> {
    let data = std::fs::metadata(path).map_err(|error| match error.kind() {
        io::ErrorKind::PermissionDenied => Unusable::Forbidden,
        _ => Unusable::Missing(error),
    })?;
    if data.is_dir() {
        return Err(Unusable::Directory);
    }
    // With the effective ids: they are the user's by now.
    let flags = rustix::fs::AtFlags::EACCESS;
    rustix::fs::accessat(rustix::fs::CWD, path, rustix::fs::Access::EXEC_OK, flags).map_err(|_| Unusable::Forbidden)
}

fn change_profile(profile: &str) -> Result<(), Failure> {
    let step = || format!("change to AppArmor profile {profile:?}");
    let file = ["/proc/self/attr/apparmor/exec", "/proc/self/attr/exec"]
        .iter()
        .find_map(|path| std::fs::OpenOptions::new().write(true).open(path).ok())
        .ok_or_else(|| Failure::create(step(), "the kernel offers no attribute file for it"))?;
    if sys::filesystem_magic(&file).step(step)? != 0x9fa0 {
        return Err(Failure::create(step(), "/proc of the container is not procfs"));
    }
    io::Write::write_all(&mut &file, format!("exec {profile}").as_bytes()).step(step)
}

fn c_strings(list: &[String]) -> Result<Vec<CString>, Failure> {
    list.iter().map(|s| c_string(s.as_bytes())).collect()
}

fn c_string(bytes: &[u8]) -> Result<CString, Failure> {
    CString::new(bytes)
        .map_err(|_| Failure::create("prepare arguments and environment", "a string contains a zero byte"))
}
