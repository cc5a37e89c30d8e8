//! What to run: pods and containers in terms of Linux and OCI, after everything Kubernetes-specific has been resolved.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The sandbox of a pod: the namespaces its containers share, and their cgroup.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PodSpec {
    /// Names the sandbox; also the identity under which it is adopted after a restart.
    pub uid: String,
    /// For people and log paths.
    pub namespace: String,
    /// For people and log paths.
    pub name: String,
    /// Host name inside the UTS namespace.
    pub hostname: String,
    /// Cgroup of the pod relative to mizzen's root, such as `burstable/pod<uid>`.
    pub cgroup: String,
    /// Limits of the pod's cgroup.
    pub resources: Resources,
    /// Uses the host's network namespace instead of its own.
    pub host_network: bool,
    /// Uses the host's PID namespace.
    pub host_pid: bool,
    /// Uses the host's IPC namespace.
    pub host_ipc: bool,
    /// Ids of the host that the pod has in a user namespace of its own, counted from 0 inside; `None`: the host's.
    #[serde(default)]
    pub user_namespace: Option<IdRange>,
    /// All containers share one PID namespace, with the shim's pause process as PID 1.
    pub share_process_namespace: bool,
    /// Namespaced sysctls to set.
    pub sysctls: BTreeMap<String, String>,
    /// Directory for the containers' log files; created if missing.
    pub log_directory: PathBuf,
    /// Opaque to the runtime; given back on adoption.
    pub annotations: BTreeMap<String, String>,
}

/// Users and groups that follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdRange {
    /// The first, as the host counts.
    pub first: u32,
    /// How many.
    pub length: u32,
}

/// A container of a pod.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ContainerSpec {
    /// Unique on this node; lower-case hexadecimal.
    pub id: String,
    /// Name in the pod.
    pub name: String,
    /// How often this container was started before in its pod.
    pub attempt: u32,
    /// Root file system: the image's layers, as the image store knows them.
    pub image_id: String,
    /// Program and arguments, after expansion; never empty.
    pub args: Vec<String>,
    /// `NAME=value`.
    pub env: Vec<String>,
    /// Working directory; created if missing.
    pub cwd: String,
    /// Who runs it.
    pub user: User,
    /// Mounts on top of the usual ones (`/proc`, `/dev`, `/sys`, …), in order.
    pub mounts: Vec<Mount>,
    /// Devices of the host to allow and create.
    pub devices: Vec<Device>,
    /// Limits.
    pub resources: Resources,
    /// What it may do.
    pub security: Security,
    /// Allocates a terminal.
    pub tty: bool,
    /// Keeps standard input open for attach.
    pub stdin: bool,
    /// Closes standard input after the first attach ends.
    pub stdin_once: bool,
    /// Log file, relative to the pod's log directory: `<container>/<attempt>.log` in CRI format.
    pub log_path: PathBuf,
    /// Signal that asks it to stop; 15 unless the image or pod says otherwise.
    pub stop_signal: i32,
    /// Resource limits `(RLIMIT_* name, soft, hard)`.
    pub rlimits: Vec<(String, u64, u64)>,
}

/// User and groups of a process.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct User {
    /// User id, or a name to be looked up in the image's `/etc/passwd`.
    pub user: UserName,
    /// Primary group; `None`: from `/etc/passwd`, else 0.
    pub gid: Option<u32>,
    /// Supplementary groups beside those of `/etc/group`.
    pub additional_gids: Vec<u32>,
    /// Uses only `additional_gids`, not what the image's `/etc/group` says (supplementalGroupsPolicy Strict).
    pub strict_groups: bool,
}

/// A user id or name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum UserName {
    /// Numeric.
    Id(u32),
    /// As written in an image: `name`, `name:group`, `uid:gid`; empty means root.
    Image(String),
}

impl Default for UserName {
    fn default() -> Self {
        UserName::Id(0)
    }
}

/// What is mounted where.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Mount {
    /// Where from.
    pub source: MountSource,
    /// Absolute path in the container; resolved inside its root.
    pub destination: String,
    /// No writes.
    pub read_only: bool,
    /// No writes in mounts below either; fails if the kernel cannot.
    pub recursive_read_only: bool,
    /// How mounts made later travel.
    pub propagation: Propagation,
}

/// Where a mount comes from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum MountSource {
    /// A file or directory of the host (recursive bind).
    Bind(PathBuf),
    /// A file system in memory.
    Tmpfs {
        /// Limit in bytes, if any.
        size_bytes: Option<u64>,
        /// Permission bits of its root.
        mode: u32,
    },
    /// The layers of an image, read-only.
    Image {
        /// As the image store knows it.
        image_id: String,
        /// Sub-directory of the image.
        sub_path: Option<String>,
    },
}

/// Mount propagation (`mountPropagation`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Propagation {
    /// None.
    #[default]
    Private,
    /// Host to container.
    HostToContainer,
    /// Both ways.
    Bidirectional,
}

/// A device of the host.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Device {
    /// Path on the host.
    pub host_path: PathBuf,
    /// Path in the container.
    pub container_path: String,
    /// Some of `rwm`.
    pub permissions: String,
}

/// Limits of a cgroup; `None` leaves the kernel's default.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Resources {
    /// Relative weight (cgroup v1 `cpu.shares`; converted for v2).
    pub cpu_shares: Option<u64>,
    /// CPU time per period in microseconds.
    pub cpu_quota_us: Option<i64>,
    /// Length of the period in microseconds.
    pub cpu_period_us: Option<u64>,
    /// Hard memory limit in bytes.
    pub memory_limit_bytes: Option<i64>,
    /// Most processes.
    pub pids_limit: Option<i64>,
    /// Huge pages: page size as the kernel names it (`2MB`) to bytes.
    pub hugepage_limits: BTreeMap<String, u64>,
    /// `oom_score_adj` of the container's processes; where the kernel forbids lowering it, it is left.
    pub oom_score_adj: Option<i32>,
}

/// What a container may do.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Security {
    /// All capabilities, all devices, nothing masked.
    pub privileged: bool,
    /// The root file system is read-only.
    pub read_only_root: bool,
    /// setuid programs gain nothing.
    pub no_new_privileges: bool,
    /// Capabilities on top of the usual set (`NET_ADMIN`, `ALL`).
    pub capabilities_add: Vec<String>,
    /// Capabilities taken from the usual set.
    pub capabilities_drop: Vec<String>,
    /// System call filter.
    pub seccomp: Seccomp,
    /// AppArmor profile to change to, where the kernel has AppArmor.
    pub apparmor_profile: Option<String>,
    /// `/proc` is not masked (procMount Unmasked).
    pub unmasked_proc: bool,
}

/// System call filter of a container.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub enum Seccomp {
    /// The runtime's default profile.
    #[default]
    RuntimeDefault,
    /// None.
    Unconfined,
    /// A profile file in OCI/Docker JSON form.
    Profile(PathBuf),
}
