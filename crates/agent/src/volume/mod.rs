//! The volumes of a pod: made before its containers start, renewed while they run, removed after.
//!
//! Content that must not touch a disk (secrets, tokens, `medium: Memory`) lies on a tmpfs of the node's, where one can
//! be mounted. Everything else lies in the pod's directory.

pub mod atomic;
pub mod host_path;
mod huge_pages;
pub mod local;
pub mod ownership;
pub mod payload;
mod projected;
pub mod sub_path;
pub mod token;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{EmptyDirVolumeSource, PersistentVolume, PersistentVolumeClaim, Pod, PodSpec, Volume};
use mizzen_client::ClientError;
use mizzen_runtime::images::{ImageError, PullPolicy};

use crate::config::PODS;
use crate::context::Context;
use crate::pod::uses::Uses;
use crate::quantity;

/// A volume cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// An object it shows does not exist.
    #[error("{kind} {name:?} not found")]
    NotFound {
        /// `configmap`, `secret`, `persistentvolumeclaim`.
        kind: &'static str,
        /// Its name.
        name: String,
    },
    /// Something about the object.
    #[error(transparent)]
    Payload(#[from] payload::PayloadError),
    /// The files could not be written.
    #[error(transparent)]
    Atomic(#[from] atomic::AtomicError),
    /// The host path is not as asked.
    #[error(transparent)]
    HostPath(#[from] host_path::HostPathError),
    /// The API did not answer.
    #[error("ask the API")]
    Api(#[from] ClientError),
    /// The image could not be had.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The claim is not bound.
    #[error("persistentvolumeclaim {name:?} is not bound")]
    Unbound {
        /// The claim.
        name: String,
    },
    /// The volume is a directory of another node.
    #[error("persistentvolume {name:?} is on node {node:?}, not on this one")]
    Elsewhere {
        /// The volume.
        name: String,
        /// The node.
        node: String,
    },
    /// The API did not give what the pod refers to.
    #[error("timed out waiting for ConfigMaps and Secrets")]
    Timeout,
    /// Huge pages of one size must be asked for.
    #[error(transparent)]
    HugePages(#[from] huge_pages::HugePagesError),
    /// A kind of volume that this node cannot make.
    #[error("volumes of this type are not supported by this node")]
    Unsupported,
    /// The file system refused.
    #[error("{what} {path}")]
    Io {
        /// What was done.
        what: &'static str,
        /// On which path.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
}

/// Where a volume is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mounted {
    /// A file or directory of the host.
    Path {
        /// Where.
        path: PathBuf,
        /// Containers may not write to it, whatever their mounts say.
        read_only: bool,
    },
    /// An image.
    Image {
        /// As the image store knows it.
        image_id: String,
    },
}

/// The volumes of a pod by name, and when to renew them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct MountedVolumes {
    /// By name.
    pub by_name: BTreeMap<String, Mounted>,
    /// When the next token must be renewed.
    pub refresh_at: Option<Timestamp>,
}

/// The volume that could not be made, and why.
#[derive(Debug)]
pub struct Failure {
    /// Its name.
    pub volume: String,
    /// Why.
    pub error: Box<VolumeError>,
}

/// Makes or renews all volumes. On failure says which volume, and why.
pub async fn set_up(ctx: &Context, pod: &Pod, uses: &Uses, now: Timestamp) -> Result<MountedVolumes, Failure> {
    let mut mounted = MountedVolumes::default();
    let empty = PodSpec::default();
    let spec = pod.spec.as_ref().unwrap_or(&empty);
    for volume in spec.volumes.iter().flatten() {
        let maker = Maker { ctx, pod, spec, uses, now };
        let (place, refresh) = maker
            .make(volume)
            .await
            .map_err(|error| Failure { volume: volume.name.clone(), error: Box::new(error) })?;
        mounted.by_name.insert(volume.name.clone(), place);
        mounted.refresh_at = [mounted.refresh_at, refresh].into_iter().flatten().min();
    }
    Ok(mounted)
}

/// Removes everything that was made for a pod's volumes.
pub async fn tear_down(ctx: &Context, pod_uid: &str) -> Result<(), VolumeError> {
    let (dir, volatile) = (ctx.config.pod_dir(pod_uid), volatile_dir(&ctx.config.data_dir).join(pod_uid));
    blocking(move || {
        unmount_below(&dir)?;
        unmount_below(&volatile)?;
        remove_all(&dir.join("volumes"))?;
        remove_all(&dir.join("subpaths"))?;
        remove_all(&volatile)
    })
    .await
}

/// Takes away all mounts below an agent's data directory and the pods' directories, once no pod runs any more
/// (`mizzen down`). Whoever removes the rest may then do so: no path below leads to files of others.
///
/// # Errors
/// A mount stays; then nothing was removed.
pub fn clean_up(data_dir: &Path) -> Result<(), VolumeError> {
    unmount_below(data_dir)?;
    remove_all(&data_dir.join(PODS))
}

/// The directory on the node's own tmpfs.
pub fn volatile_dir(data_dir: &Path) -> PathBuf {
    data_dir.join("volatile")
}

/// Mounts the node's tmpfs, unless it is there. Without the right to, the directory stays on disk.
pub fn prepare_volatile(data_dir: &Path) -> io::Result<()> {
    let dir = volatile_dir(data_dir);
    fs::create_dir_all(&dir)?;
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o711))?;
    if is_mount_point(&dir)? {
        return Ok(());
    }
    let flags = rustix::mount::MountFlags::NOSUID | rustix::mount::MountFlags::NODEV;
    match rustix::mount::mount("tmpfs", &dir, "tmpfs", flags, Some(c"mode=0711")) {
        Ok(()) => Ok(()),
        Err(error) => {
            tracing::warn!(%error, path = %dir.display(), "no tmpfs for secrets: they are kept on disk");
            Ok(())
        }
    }
}

fn is_mount_point(dir: &Path) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt;
    let parent = dir.parent().unwrap_or(dir);
    Ok(fs::metadata(dir)?.dev() != fs::metadata(parent)?.dev())
}

/// Unmounts what is mounted below a directory, deepest first. Stops at what stays: files below it may be somebody else's.
fn unmount_below(dir: &Path) -> Result<(), VolumeError> {
    let table = "/proc/self/mountinfo";
    let failed = |what, path: &Path| {
        let path = path.to_path_buf();
        move |source| VolumeError::Io { what, path, source }
    };
    let text = fs::read_to_string(table).map_err(failed("read", Path::new(table)))?;
    for mount in mounts_below(&text, dir) {
        let flags = rustix::mount::UnmountFlags::DETACH | rustix::mount::UnmountFlags::NOFOLLOW;
        match rustix::mount::unmount(&mount, flags) {
            // Gone meanwhile, with the container that had it.
            Ok(()) | Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => {}
            Err(error) => return Err(failed("unmount", &mount)(error.into())),
        }
    }
    Ok(())
}

/// Mount points below a directory, deepest first.
fn mounts_below(mountinfo: &str, dir: &Path) -> Vec<PathBuf> {
    let paths = mountinfo.lines().filter_map(|line| line.split(' ').nth(4)).map(unescape);
    let mut found: Vec<PathBuf> = paths.filter(|path| path.starts_with(dir) && path != dir).collect();
    found.sort_by(|a, b| b.cmp(a));
    found
}

/// The kernel writes blanks, line ends and backslashes of paths in octal.
fn unescape(path: &str) -> PathBuf {
    let plain = path.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\");
    PathBuf::from(plain)
}

fn remove_all(path: &Path) -> Result<(), VolumeError> {
    match fs::remove_dir_all(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(VolumeError::Io { what: "remove", path: path.to_path_buf(), source })
        }
        _ => Ok(()),
    }
}

/// Runs file system work where it may block.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, VolumeError> + Send + 'static,
) -> Result<T, VolumeError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        // The work does not panic by itself; a cancelled runtime is the only other way.
        Err(source) => Err(VolumeError::Io { what: "work on", path: PathBuf::new(), source: io::Error::other(source) }),
    }
}

struct Maker<'a> {
    ctx: &'a Context,
    pod: &'a Pod,
    spec: &'a PodSpec,
    uses: &'a Uses,
    now: Timestamp,
}

impl Maker<'_> {
    fn uid(&self) -> &str {
        self.pod.metadata.uid.as_deref().unwrap_or_default()
    }

    fn fs_group(&self) -> Option<u32> {
        self.spec.security_context.as_ref().and_then(|s| s.fs_group).and_then(|g| u32::try_from(g).ok())
    }

    /// Where a volume's files go.
    fn dir(&self, volume: &str, volatile: bool) -> PathBuf {
        if volatile {
            volatile_dir(&self.ctx.config.data_dir).join(self.uid()).join(volume)
        } else {
            self.ctx.config.pod_dir(self.uid()).join("volumes").join(volume)
        }
    }

    async fn make(&self, volume: &Volume) -> Result<(Mounted, Option<Timestamp>), VolumeError> {
        let name = volume.name.as_str();
        let at = |path: PathBuf, read_only: bool| Mounted::Path { path, read_only };
        if let Some(source) = &volume.empty_dir {
            return Ok((at(self.empty_dir(name, source).await?, false), None));
        }
        if let Some(source) = &volume.host_path {
            let path = crate::devices::host_path(&self.ctx.config.data_dir, &source.path);
            let kind = source.type_.clone().unwrap_or_default();
            let checked = path.clone();
            blocking(move || Ok(host_path::prepare(&checked, &kind)?)).await?;
            return Ok((at(path, false), None));
        }
        if let Some(source) = &volume.image {
            let policy = match source.pull_policy.as_deref() {
                Some("Always") => PullPolicy::Always,
                Some("Never") => PullPolicy::Never,
                _ => PullPolicy::IfNotPresent,
            };
            let credentials = crate::pod::pull::credentials(self.ctx, self.pod, self.uses).await;
            let reference = source.reference.as_deref().unwrap_or_default();
            let ensured = self.ctx.images.ensure(reference, policy, &credentials).await?;
            return Ok((Mounted::Image { image_id: ensured.image.id }, None));
        }
        if let Some(source) = &volume.persistent_volume_claim {
            return Ok((self.claim(&source.claim_name, source.read_only.unwrap_or(false)).await?, None));
        }
        if volume.ephemeral.is_some() {
            let claim = format!("{}-{name}", self.pod.metadata.name.as_deref().unwrap_or_default());
            return Ok((self.claim(&claim, false).await?, None));
        }
        self.written(volume).await
    }

    async fn empty_dir(&self, name: &str, source: &EmptyDirVolumeSource) -> Result<PathBuf, VolumeError> {
        let medium = source.medium.as_deref().unwrap_or_default();
        let memory = medium == "Memory";
        let pages =
            medium.starts_with("HugePages").then(|| huge_pages::mount_options(medium, self.spec)).transpose()?;
        let dir = self.dir(name, memory);
        let (made, group) = (dir.clone(), self.fs_group());
        let limit = source.size_limit.as_ref().and_then(quantity::units).filter(|l| *l > 0);
        // No more than the pod may use of memory anyway, or the node has for pods.
        let whole = crate::pod::resources::pod(self.pod, None).memory_limit_bytes;
        let most = whole.or_else(|| quantity::amount(Some(&self.ctx.capacity.allocatable), "memory"));
        let limit = limit.into_iter().chain(most).min();
        blocking(move || {
            let io = |what| {
                let path = made.clone();
                move |source| VolumeError::Io { what, path, source }
            };
            if made.is_dir() {
                return Ok(()); // It outlives its containers: what they wrote stays.
            }
            fs::create_dir_all(&made).map_err(io("create"))?;
            if memory {
                let options = limit.map_or_else(|| "mode=0777".to_string(), |l| format!("mode=0777,size={l}"));
                let options = std::ffi::CString::new(options).unwrap_or_default();
                let flags = rustix::mount::MountFlags::NOSUID | rustix::mount::MountFlags::NODEV;
                if let Err(error) = rustix::mount::mount("tmpfs", &made, "tmpfs", flags, Some(options.as_c_str())) {
                    tracing::warn!(%error, path = %made.display(), "no tmpfs of its own for a memory volume: its limit is not kept");
                }
            }
            if let Some(options) = pages {
                let flags = rustix::mount::MountFlags::NOSUID | rustix::mount::MountFlags::NODEV;
                rustix::mount::mount("hugetlbfs", &made, "hugetlbfs", flags, Some(options.as_c_str()))
                    .map_err(|error| io("mount huge pages at")(error.into()))?;
            }
            fs::set_permissions(&made, fs::Permissions::from_mode(0o777)).map_err(io("chmod"))?;
            match group {
                Some(group) => ownership::apply(&made, group, false).map_err(io("chown")),
                None => Ok(()),
            }
        })
        .await?;
        Ok(dir)
    }

    /// A claim on a volume that is a directory of this node.
    async fn claim(&self, name: &str, read_only: bool) -> Result<Mounted, VolumeError> {
        let namespace = self.pod.metadata.namespace.as_deref().unwrap_or_default();
        let claim: PersistentVolumeClaim = self
            .ctx
            .client
            .get(namespace, name)
            .await?
            .ok_or_else(|| VolumeError::NotFound { kind: "persistentvolumeclaim", name: name.into() })?;
        let bound = claim.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Bound");
        let volume = claim.spec.and_then(|s| s.volume_name).filter(|_| bound);
        let volume = volume.ok_or_else(|| VolumeError::Unbound { name: name.into() })?;
        let volume: PersistentVolume = self
            .ctx
            .client
            .get("", &volume)
            .await?
            .ok_or_else(|| VolumeError::NotFound { kind: "persistentvolume", name: volume.clone() })?;
        let (path, kind) = self.directory(&volume).await?;

        let (made, group) = (path.clone(), self.fs_group());
        let on_mismatch = self.spec.security_context.as_ref().and_then(|s| s.fs_group_change_policy.as_deref())
            == Some("OnRootMismatch");
        blocking(move || {
            host_path::prepare(&made, &kind)?;
            match group {
                Some(group) => ownership::apply(&made, group, on_mismatch).map_err(|source| VolumeError::Io {
                    what: "chown",
                    path: made.clone(),
                    source,
                }),
                None => Ok(()),
            }
        })
        .await?;
        Ok(Mounted::Path { path, read_only })
    }

    /// The directory behind a volume, and as what it is to be checked (HostPathVolumeSource `type`).
    async fn directory(&self, volume: &PersistentVolume) -> Result<(PathBuf, String), VolumeError> {
        let spec = volume.spec.as_ref().ok_or(VolumeError::Unsupported)?;
        if mizzen_api::volumes::local::node(volume).is_some() {
            return Ok((local::set_up(self.ctx, volume).await?, "Directory".into()));
        }
        match (&spec.local, &spec.host_path) {
            (Some(local), _) => Ok((PathBuf::from(&local.path), "Directory".into())),
            (None, Some(host)) => Ok((PathBuf::from(&host.path), host.type_.clone().unwrap_or_default())),
            (None, None) => Err(VolumeError::Unsupported),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_taken_away_deepest_first_and_only_below() {
        let table = "1 0 0:1 / /d rw - ext4 x rw\n2 1 0:2 / /d/a rw - tmpfs x rw\n3 2 0:3 / /d/a/b\\040c rw - tmpfs x rw\n\
                     4 1 0:4 / /d/a\\134n rw - tmpfs x rw\n5 1 0:5 / /dd rw - tmpfs x rw\n";
        let found = mounts_below(table, Path::new("/d"));
        assert_eq!(found, ["/d/a\\n", "/d/a/b c", "/d/a"].map(PathBuf::from));
    }

    #[test]
    fn nothing_is_removed_while_a_mount_stays() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let (pods, outside) = (dir.path().join("pods/uid/volumes/host"), dir.path().join("outside"));
        fs::create_dir_all(&pods).unwrap();
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("precious"), "").unwrap();
        rustix::mount::mount_bind(&outside, &pods).unwrap();
        clean_up(dir.path()).unwrap();
        assert!(outside.join("precious").exists() && !dir.path().join("pods").exists());
    }
}
