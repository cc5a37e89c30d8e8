//! How the agent drives whatever runs containers: the embedded OCI runtime today; CRI sockets, raw processes and VMs behind the same trait.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::spec::{ContainerSpec, PodSpec, Resources};

/// A running sandbox.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sandbox {
    /// As asked for.
    pub spec: PodSpec,
    /// Network namespace to attach an interface to; `None` with host network.
    pub network_namespace: Option<PathBuf>,
    /// The shim's process id.
    pub shim_pid: u32,
    /// Its containers, running and exited, oldest first.
    pub containers: Vec<Container>,
}

/// A container as the shim sees it. Times are Unix nanoseconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Container {
    /// As asked for.
    pub spec: ContainerSpec,
    /// Where it is in its life.
    pub state: ContainerState,
}

/// The states of a container.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum ContainerState {
    /// Its first process runs.
    Running {
        /// Process id on the host.
        pid: u32,
        /// When it was started.
        started_at: i64,
    },
    /// Its first process is gone.
    Exited {
        /// When it was started.
        started_at: i64,
        /// When it ended.
        finished_at: i64,
        /// Exit code; 128 + signal if a signal ended it.
        code: i32,
        /// The signal that ended it.
        signal: Option<i32>,
        /// The kernel killed it, or one of its processes, for memory.
        oom_killed: bool,
    },
}

/// Something happened without being asked for. It only says "look again": read the sandbox's state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DriverEvent {
    /// A container of this pod exited, or was killed for memory.
    Container {
        /// The pod.
        pod_uid: String,
    },
    /// The shim of this pod is gone; its containers were killed by the kernel.
    SandboxLost {
        /// The pod.
        pod_uid: String,
    },
}

/// A program to run inside a running container.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExecSpec {
    /// Program and arguments.
    pub args: Vec<String>,
    /// Allocate a terminal.
    pub tty: bool,
    /// Connect standard input.
    pub stdin: bool,
}

/// The streams of an exec or attach.
///
/// Exec with a terminal: `terminal` is its master side, for reading, writing and resizing; the others are `None`.
/// Attach to a container with a terminal: the shim goes on reading the terminal for the log, so read `stdout` and write
/// `stdin`, and use `terminal` for its window size (`TIOCSWINSZ`) alone. The fds of pipes are non-blocking.
#[derive(Debug)]
pub struct Streams {
    /// To the process.
    pub stdin: Option<OwnedFd>,
    /// From the process.
    pub stdout: Option<OwnedFd>,
    /// From the process.
    pub stderr: Option<OwnedFd>,
    /// Master side of the terminal (non-blocking).
    pub terminal: Option<OwnedFd>,
}

/// A running exec.
#[derive(Debug)]
pub struct Exec {
    /// Its streams.
    pub streams: Streams,
    /// Names it for [`Driver::kill_exec`].
    pub id: String,
    /// Receives the exit code once.
    pub exit: tokio::sync::oneshot::Receiver<i32>,
}

/// Usage of a pod or container, from its cgroup. Counters count from the start of the cgroup.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// CPU time used, nanoseconds.
    pub cpu_nanos: u64,
    /// Memory used, bytes, page cache included.
    pub memory_bytes: u64,
    /// Memory used without inactive file cache, bytes.
    pub working_set_bytes: u64,
    /// Anonymous memory, bytes.
    pub rss_bytes: u64,
    /// Processes.
    pub pids: u64,
}

/// Why the driver could not do as asked. `reason` is what the container's state shows.
#[derive(Debug, thiserror::Error)]
pub enum DriverError {
    /// The sandbox does not run.
    #[error("pod {pod_uid} has no running sandbox")]
    NoSandbox {
        /// The pod.
        pod_uid: String,
    },
    /// No such container.
    #[error("container {id} is unknown")]
    NoContainer {
        /// The container.
        id: String,
    },
    /// The container's root file system or its configuration could not be made (`CreateContainerError`).
    #[error("{step}: {message}")]
    Create {
        /// What was being done, on which object.
        step: String,
        /// What went wrong, with the kernel's words.
        message: String,
    },
    /// The container was made but its program could not be started (`RunContainerError`, exit code 128 or 127).
    #[error("{message}")]
    Start {
        /// As runc words it: `exec: "foo": executable file not found in $PATH`.
        message: String,
    },
    /// The shim does not answer or broke off.
    #[error("the shim of pod {pod_uid} does not answer: {message}")]
    Shim {
        /// The pod.
        pod_uid: String,
        /// What happened.
        message: String,
    },
}

type Answer<'a, T> = BoxFuture<'a, Result<T, DriverError>>;

/// What runs pods. All calls are idempotent where that makes sense (stopping what is stopped is `Ok`).
pub trait Driver: Send + Sync + 'static {
    /// Everything that runs, found anew: after a restart of the agent this adopts what outlived it.
    fn adopt(&self) -> Answer<'_, Vec<Sandbox>>;
    /// Events, for one listener.
    fn events(&self) -> mpsc::Receiver<DriverEvent>;
    /// Starts a sandbox.
    fn start_sandbox(&self, spec: PodSpec) -> Answer<'_, Sandbox>;
    /// The present state of a sandbox.
    fn sandbox<'a>(&'a self, pod_uid: &'a str) -> Answer<'a, Sandbox>;
    /// Kills what still runs in the sandbox, ends its shim and removes its mounts, cgroups and root file systems.
    fn remove_sandbox<'a>(&'a self, pod_uid: &'a str) -> Answer<'a, ()>;
    /// Creates and starts a container; answers when its program has been executed.
    fn start_container<'a>(&'a self, pod_uid: &'a str, spec: ContainerSpec) -> Answer<'a, Container>;
    /// Sends a signal to a container's first process.
    fn signal<'a>(&'a self, pod_uid: &'a str, id: &'a str, signal: i32) -> Answer<'a, ()>;
    /// Kills every process of a container.
    fn kill<'a>(&'a self, pod_uid: &'a str, id: &'a str) -> Answer<'a, ()>;
    /// Forgets an exited container and removes its root file system; its log stays.
    fn remove_container<'a>(&'a self, pod_uid: &'a str, id: &'a str) -> Answer<'a, ()>;
    /// Changes the limits of a running container, or of the pod if `id` is `None`.
    fn update<'a>(&'a self, pod_uid: &'a str, id: Option<&'a str>, resources: Resources) -> Answer<'a, ()>;
    /// Runs a program in a container.
    fn exec<'a>(&'a self, pod_uid: &'a str, id: &'a str, spec: ExecSpec) -> Answer<'a, Exec>;
    /// Kills an exec's process.
    fn kill_exec<'a>(&'a self, pod_uid: &'a str, exec_id: &'a str) -> Answer<'a, ()>;
    /// Connects to a running container's own streams; to its standard input, if it has one, only with `stdin`: when
    /// that is closed again, a container with `stdin_once` sees the end of its input.
    fn attach<'a>(&'a self, pod_uid: &'a str, id: &'a str, stdin: bool) -> Answer<'a, Streams>;
    /// Asks a container to write its log to a new file (after the agent renamed the old one).
    fn reopen_log<'a>(&'a self, pod_uid: &'a str, id: &'a str) -> Answer<'a, ()>;
    /// The directory that holds what a container wrote over its image, if the driver keeps one on this machine.
    fn writable_layer(&self, pod_uid: &str, id: &str) -> Option<PathBuf>;
    /// Usage of a container, or of the whole pod if `id` is `None`.
    fn usage<'a>(&'a self, pod_uid: &'a str, id: Option<&'a str>) -> Answer<'a, Usage>;
}
