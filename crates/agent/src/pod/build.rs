//! From the API's words to the runtime's: the sandbox and the containers of a pod.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, VolumeMount};
use mizzen_runtime::images::Image;
use mizzen_runtime::spec::{ContainerSpec, Device, Mount, MountSource, PodSpec as SandboxSpec, Propagation};

use super::env::{EnvError, Environment};
use super::files;
use super::resources;
use super::security::{self, SecurityError};
use crate::context::Context;
use crate::devices::plugin::Allotment;
use crate::volume::sub_path::{self, SubPathError};
use crate::volume::{Mounted, MountedVolumes};

/// Annotations of a sandbox, by which a container is known again after a restart of the agent.
pub const POD_NAME: &str = "io.kubernetes.pod.name";
/// Namespace of the pod.
pub const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";

/// A container's configuration cannot be made: `CreateContainerConfigError`.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// Its environment.
    #[error(transparent)]
    Env(#[from] EnvError),
    /// Its user.
    #[error(transparent)]
    Security(#[from] SecurityError),
    /// A sub-path of a volume.
    #[error("volume {volume:?}")]
    SubPath {
        /// The volume.
        volume: String,
        /// The cause.
        #[source]
        source: SubPathError,
    },
    /// A mount names a volume that the pod does not have.
    #[error("volume {volume:?} not found in pod")]
    NoVolume {
        /// The volume.
        volume: String,
    },
    /// Neither pod nor image says what to run.
    #[error("no command specified")]
    NoCommand,
    /// The kubelet's own files could not be written.
    #[error("write {path}")]
    Io {
        /// Which.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
}

/// The sandbox of a pod.
pub fn sandbox(ctx: &Context, pod: &Pod) -> SandboxSpec {
    let empty = PodSpec::default();
    let spec = pod.spec.as_ref().unwrap_or(&empty);
    let meta = &pod.metadata;
    let (namespace, name, uid) = (
        meta.namespace.clone().unwrap_or_default(),
        meta.name.clone().unwrap_or_default(),
        meta.uid.clone().unwrap_or_default(),
    );
    let sysctls = spec.security_context.as_ref().and_then(|s| s.sysctls.as_ref());
    SandboxSpec {
        hostname: files::names(pod, spec, &ctx.config.cluster_domain).hostname,
        cgroup: resources::cgroup(pod),
        resources: resources::pod(pod, ctx.config.pod_pids_limit),
        host_network: spec.host_network == Some(true),
        host_pid: spec.host_pid == Some(true),
        host_ipc: spec.host_ipc == Some(true),
        user_namespace: None,
        share_process_namespace: spec.share_process_namespace == Some(true),
        sysctls: sysctls.into_iter().flatten().map(|s| (s.name.replace('/', "."), s.value.clone())).collect(),
        log_directory: ctx.config.log_dir(&namespace, &name, &uid),
        annotations: BTreeMap::from([(POD_NAME.into(), name.clone()), (POD_NAMESPACE.into(), namespace.clone())]),
        uid,
        namespace,
        name,
    }
}

/// What a container is made from.
pub struct Ingredients<'a> {
    /// The node.
    pub ctx: &'a Context,
    /// The pod.
    pub pod: &'a Pod,
    /// The container.
    pub container: &'a Container,
    /// Its image.
    pub image: &'a Image,
    /// Its environment from the pod.
    pub env: Environment,
    /// What it has for its devices.
    pub devices: Allotment,
    /// The pod's volumes.
    pub volumes: &'a MountedVolumes,
    /// How often it was started before.
    pub attempt: u32,
    /// Names it at the driver.
    pub id: String,
}

/// A container as the runtime is to run it. Creates mount points of sub-paths and the file for its last words.
pub fn container(from: Ingredients<'_>) -> Result<ContainerSpec, BuildError> {
    let Ingredients { ctx, pod, container, image, env, devices, volumes, attempt, id } = from;
    let empty = PodSpec::default();
    let spec = pod.spec.as_ref().unwrap_or(&empty);
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    let dir = ctx.config.pod_dir(uid);
    let mut mounts = Vec::new();
    for (index, mount) in container.volume_mounts.iter().flatten().enumerate() {
        let target = dir.join("subpaths").join(&container.name).join(index.to_string());
        mounts.push(volume_mount(mount, volumes, &env, &target)?);
    }
    for (destination, source, read_only) in &devices.mounts {
        mounts.push(Mount {
            source: MountSource::Bind(PathBuf::from(source)),
            destination: destination.clone(),
            read_only: *read_only,
            recursive_read_only: false,
            propagation: Propagation::Private,
        });
    }
    let taken: Vec<String> = mounts.iter().map(|m: &Mount| m.destination.clone()).collect();
    own_files(spec, container, &dir, &mut mounts, &taken)?;
    let security = security::security(spec, container, &ctx.config.data_dir.join("seccomp"));
    let command = |own: &Option<Vec<String>>| own.iter().flatten().map(|a| env.expand(a)).collect::<Vec<_>>();
    let (mut args, rest) = (command(&container.command), command(&container.args));
    if args.is_empty() {
        args = image.config.entrypoint.clone();
        args.extend(if rest.is_empty() { image.config.cmd.clone() } else { rest });
    } else {
        args.extend(rest);
    }
    if args.is_empty() {
        return Err(BuildError::NoCommand);
    }
    let mut full = Environment::default();
    full.set("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into());
    full.set("HOSTNAME", files::names(pod, spec, &ctx.config.cluster_domain).hostname);
    let of_devices: Vec<String> = devices.envs.iter().map(|(name, value)| format!("{name}={value}")).collect();
    for line in image.config.env.iter().chain(&of_devices).chain(&env.lines()) {
        let (name, value) = line.split_once('=').unwrap_or((line, ""));
        full.set(name, value.to_string());
    }
    let cwd = container.working_dir.clone().filter(|d| !d.is_empty());
    let cwd = cwd.or_else(|| Some(image.config.working_dir.clone()).filter(|d| !d.is_empty()));
    let signal = container.lifecycle.as_ref().and_then(|l| l.stop_signal.clone()).or(image.config.stop_signal.clone());
    Ok(ContainerSpec {
        log_path: PathBuf::from(&container.name).join(format!("{attempt}.log")),
        id,
        name: container.name.clone(),
        attempt,
        image_id: image.id.clone(),
        args,
        env: full.lines(),
        cwd: cwd.unwrap_or_else(|| "/".into()),
        user: security::user(spec, container, &image.config)?,
        mounts,
        devices: devices.devices.into_iter().map(device).collect(),
        resources: resources::container(pod, container, ctx.capacity.memory_bytes),
        security,
        tty: container.tty == Some(true),
        stdin: container.stdin == Some(true),
        stdin_once: container.stdin_once == Some(true),
        stop_signal: signal.as_deref().and_then(signal_number).unwrap_or(libc::SIGTERM),
        rlimits: Vec::new(),
    })
}

fn device((container_path, host_path, permissions): (String, String, String)) -> Device {
    Device { host_path: host_path.into(), container_path, permissions }
}

fn volume_mount(
    mount: &VolumeMount,
    volumes: &MountedVolumes,
    env: &Environment,
    target: &Path,
) -> Result<Mount, BuildError> {
    let no_volume = || BuildError::NoVolume { volume: mount.name.clone() };
    let sub_path = match (&mount.sub_path_expr, &mount.sub_path) {
        (Some(text), _) if !text.is_empty() => Some(env.expand(text)),
        (_, Some(text)) if !text.is_empty() => Some(text.clone()),
        _ => None,
    };
    let (source, forced_read_only) = match volumes.by_name.get(&mount.name).ok_or_else(no_volume)? {
        Mounted::Image { image_id } => (MountSource::Image { image_id: image_id.clone(), sub_path }, true),
        Mounted::Path { path, read_only } => {
            let path = match &sub_path {
                None => path.clone(),
                Some(sub) => sub_path::expose(path, sub, target)
                    .map_err(|source| BuildError::SubPath { volume: mount.name.clone(), source })?,
            };
            (MountSource::Bind(path), *read_only)
        }
    };
    Ok(Mount {
        source,
        destination: mount.mount_path.clone(),
        read_only: forced_read_only || mount.read_only == Some(true),
        recursive_read_only: matches!(mount.recursive_read_only.as_deref(), Some("Enabled")),
        propagation: match mount.mount_propagation.as_deref() {
            Some("HostToContainer") => Propagation::HostToContainer,
            Some("Bidirectional") => Propagation::Bidirectional,
            _ => Propagation::Private,
        },
    })
}

/// Mounts of the files that the node writes, unless the container mounts something there itself.
fn own_files(
    spec: &PodSpec,
    container: &Container,
    dir: &Path,
    mounts: &mut Vec<Mount>,
    taken: &[String],
) -> Result<(), BuildError> {
    let mut add = |path: PathBuf, destination: &str| {
        if !taken.iter().any(|t| t.trim_end_matches('/') == destination) {
            mounts.push(Mount {
                source: MountSource::Bind(path),
                destination: destination.to_string(),
                read_only: false,
                recursive_read_only: false,
                propagation: Propagation::Private,
            });
        }
    };
    add(dir.join("etc-hosts"), "/etc/hosts");
    if spec.host_network != Some(true) {
        add(dir.join("hostname"), "/etc/hostname");
    }
    add(dir.join("resolv.conf"), "/etc/resolv.conf");
    if spec.host_ipc != Some(true) {
        add(dir.join("shm"), "/dev/shm");
    }
    let path = termination_log(dir, &container.name);
    let io = |source| BuildError::Io { path: path.clone(), source };
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(io)?;
    }
    std::fs::write(&path, b"").map_err(io)?;
    // Whoever the container runs as may leave a word.
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o666)).map_err(io)?;
    add(path.clone(), container.termination_message_path.as_deref().unwrap_or("/dev/termination-log"));
    Ok(())
}

/// The file for a container's last words.
pub fn termination_log(pod_dir: &Path, container: &str) -> PathBuf {
    pod_dir.join("containers").join(container).join("termination-log")
}

/// Writes the files that all containers of a pod share.
pub fn write_pod_files(ctx: &Context, pod: &Pod, ips: &[IpAddr]) -> Result<(), BuildError> {
    let empty = PodSpec::default();
    let spec = pod.spec.as_ref().unwrap_or(&empty);
    let dir = ctx.config.pod_dir(pod.metadata.uid.as_deref().unwrap_or_default());
    let names = files::names(pod, spec, &ctx.config.cluster_domain);
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let host_hosts = if spec.host_network == Some(true) {
        std::fs::read_to_string("/etc/hosts").unwrap_or_default()
    } else {
        String::new()
    };
    let resolver = std::fs::read_to_string(&ctx.config.host_resolv_conf).unwrap_or_default();
    let resolver = files::Resolver::parse(&resolver);
    let (dns, domain) = (&ctx.config.cluster_dns, &ctx.config.cluster_domain);
    std::fs::create_dir_all(&dir).map_err(|source| BuildError::Io { path: dir.clone(), source })?;
    for (name, text) in [
        ("etc-hosts", files::hosts(spec, &names, ips, &host_hosts)),
        ("hostname", format!("{}\n", names.hostname)),
        ("resolv.conf", files::resolv_conf(namespace, spec, dns, domain, &resolver)),
    ] {
        let path = dir.join(name);
        std::fs::write(&path, text).map_err(|source| BuildError::Io { path, source })?;
    }
    Ok(())
}

/// A signal's number from its name (`SIGTERM`, `TERM`, `15`, `SIGRTMIN+3`).
pub fn signal_number(name: &str) -> Option<i32> {
    if let Ok(number) = name.parse::<i32>() {
        return (1..=64).contains(&number).then_some(number);
    }
    let name = name.to_ascii_uppercase();
    let name = name.strip_prefix("SIG").unwrap_or(&name);
    if let Some(offset) = name.strip_prefix("RTMIN") {
        let offset: i32 = if offset.is_empty() { 0 } else { offset.strip_prefix('+')?.parse().ok()? };
        return (0..=30).contains(&offset).then_some(34 + offset);
    }
    Some(match name {
        "HUP" => libc::SIGHUP,
        "INT" => libc::SIGINT,
        "QUIT" => libc::SIGQUIT,
        "ILL" => libc::SIGILL,
        "TRAP" => libc::SIGTRAP,
        "ABRT" => libc::SIGABRT,
        "BUS" => libc::SIGBUS,
        "FPE" => libc::SIGFPE,
        "KILL" => libc::SIGKILL,
        "USR1" => libc::SIGUSR1,
        "SEGV" => libc::SIGSEGV,
        "USR2" => libc::SIGUSR2,
        "PIPE" => libc::SIGPIPE,
        "ALRM" => libc::SIGALRM,
        "TERM" => libc::SIGTERM,
        "CHLD" => libc::SIGCHLD,
        "CONT" => libc::SIGCONT,
        "STOP" => libc::SIGSTOP,
        "TSTP" => libc::SIGTSTP,
        "TTIN" => libc::SIGTTIN,
        "TTOU" => libc::SIGTTOU,
        "URG" => libc::SIGURG,
        "XCPU" => libc::SIGXCPU,
        "XFSZ" => libc::SIGXFSZ,
        "VTALRM" => libc::SIGVTALRM,
        "PROF" => libc::SIGPROF,
        "WINCH" => libc::SIGWINCH,
        "IO" | "POLL" => libc::SIGIO,
        "PWR" => libc::SIGPWR,
        "SYS" => libc::SIGSYS,
        _ => return None,
    })
}
