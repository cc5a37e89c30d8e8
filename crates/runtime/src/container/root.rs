//! The container's file systems: overlay root, kernel file systems, volumes, masks, and moving into it.
//!
//! Runs in the container's first process, in a mount namespace of its own, before anything of the image has run. Volumes
//! are copied (`open_tree`) while the namespace is still a peer of the host's, so that propagation is as asked; only then
//! is it cut off and the root built. Nothing made here needs to be unmounted: it ends with the namespace.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::{MountAttrFlags, MountFlags, MountPropagationFlags, UnmountFlags};

use super::failure::{Failure, Step};
use super::{ContainerLaunch, mount, path};
use crate::spec::{ContainerSpec, Mount, MountSource, Propagation};

const NOSUID_NODEV: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_NOSUID.union(MountAttrFlags::MOUNT_ATTR_NODEV);
const KERNEL: MountAttrFlags = NOSUID_NODEV.union(MountAttrFlags::MOUNT_ATTR_NOEXEC);
const PROC_MAGIC: i64 = 0x9fa0;

/// Hidden from containers that are not privileged.
const MASKED: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

/// Read-only for containers that are not privileged.
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Files of `/proc` that a volume may cover (as lxcfs does); everything else there could deceive whoever trusts it.
const PROC_VOLUMES: [&str; 7] =
    ["/proc/cpuinfo", "/proc/diskstats", "/proc/loadavg", "/proc/meminfo", "/proc/stat", "/proc/swaps", "/proc/uptime"];

/// A root that has been built; the process still lives outside of it.
pub(super) struct Built {
    /// The new root.
    pub(super) root: OwnedFd,
    /// Both sides of the container's terminal, if it has one.
    pub(super) terminal: Option<super::terminal::Terminal>,
}

/// What a root is built of, opened while the host's file systems are there, and by its root.
pub(super) struct Parts {
    volumes: Vec<OwnedFd>,
    null: OwnedFd,
    cgroups: super::cgroup_mount::Opened,
    root: OwnedFd,
    dev: super::device::Dev,
}

/// Opens everything, and mounts the layers, in a mount namespace of its own.
pub(super) fn gather(launch: &ContainerLaunch<'_>) -> Result<Parts, Failure> {
    let volumes = launch.spec.mounts.iter().map(|m| open_volume(launch, m)).collect::<Result<Vec<_>, _>>()?;
    let null = super::device::open_null()?;
    let cgroups = super::cgroup_mount::open(launch)?;
    rustix::mount::mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)
        .step(|| "make mounts private to the container")?;
    let mut root = overlay(launch)?;
    if launch.user.is_some() {
        // Only what is attached nowhere can be taken along into another mount namespace.
        root = mount::copy_of(&root, false).step(|| "copy the mount of the image's layers")?;
    }
    let dev = super::device::make(launch)?;
    Ok(Parts { volumes, null, cgroups, root, dev })
}

/// Builds the root of a container.
pub(super) fn build(launch: &ContainerLaunch<'_>, parts: Parts) -> Result<Built, Failure> {
    let spec = &launch.spec;
    let Parts { volumes, mut null, cgroups, root, dev } = parts;
    let proc = mount::new("proc", &[], KERNEL).step(|| "make /proc")?;
    let sysfs_attributes = if spec.security.privileged { KERNEL } else { KERNEL | MountAttrFlags::MOUNT_ATTR_RDONLY };
    let sysfs = mount::new("sysfs", &[], sysfs_attributes).step(|| "make /sys")?;
    if launch.user.is_some() {
        // Anywhere: this mount namespace is the container's own, and every host has a /proc.
        let place = open_directory(Path::new("/proc"))?;
        mount::attach(&root, &place).step(|| "mount the image's layers")?;
    }
    attach_real(&proc, &root, "/proc")?;
    let devices = super::device::attach(launch, dev, &root)?;
    attach_real(&sysfs, &root, "/sys")?;
    super::cgroup_mount::attach(launch, cgroups, &sysfs)?;

    let terminal = if spec.tty { Some(super::terminal::for_container(&devices)?) } else { None };
    for (volume, spec) in volumes.into_iter().zip(&spec.mounts) {
        attach_volume(volume, spec, &root)?;
    }
    if !spec.security.privileged && !spec.security.unmasked_proc {
        if launch.user.is_some() {
            // The host's is in another mount namespace by now; this one was made by the host's root.
            null = path::open_beneath(&devices.dev, Path::new("null"), OFlags::PATH).step(|| "open /dev/null")?;
        }
        mask(&proc, &sysfs, &null)?;
    }
    Ok(Built { root, terminal })
}

/// Makes the built root this process' root, and forgets the host's.
pub(super) fn enter(root: OwnedFd, spec: &ContainerSpec) -> Result<(), Failure> {
    make_working_directory(&root, &spec.cwd)?;
    if spec.security.read_only_root {
        mount::read_only(&root, false).step(|| "make the root file system read-only")?;
    }
    rustix::process::fchdir(&root).step(|| "enter the root file system")?;
    drop(root);
    rustix::process::pivot_root(".", ".").step(|| "change the root file system")?;
    rustix::mount::unmount(".", UnmountFlags::DETACH).step(|| "leave the host's file systems")?;
    rustix::process::chdir("/").step(|| "enter the root file system")
}

/// Working directories that the image lacks are made, as Docker does.
fn make_working_directory(root: &OwnedFd, cwd: &str) -> Result<(), Failure> {
    let step = || format!("make working directory {cwd:?}");
    let path = Path::new(if cwd.is_empty() { "/" } else { cwd });
    if !path.is_absolute() {
        return Err(Failure::create(step(), "it is not an absolute path"));
    }
    match path::make_directory(root, path) {
        // In a read-only volume, or one of a network file system that root may not enter: entering it decides.
        Err(error) if matches!(error.raw_os_error(), Some(libc::EROFS | libc::EACCES)) => Ok(()),
        other => other.map(drop).step(step),
    }
}

/// The container's root: the layers, and a directory of its own on top. Volatile: what a container wrote does not outlive
/// it, so its end need not wait until the whole disk is synced. In a user namespace its files are owned on disk by the
/// namespace's ids: the kernel makes them as the host's root, whom no mapping knows.
fn overlay(launch: &ContainerLaunch<'_>) -> Result<OwnedFd, Failure> {
    let directory = |name: &str| launch.directory.join(name);
    let target = &launch.mount_point;
    let fds = Layers::open(launch, &launch.layers)?;
    let (upper, work) = (open_directory(&directory("upper"))?, open_directory(&directory("work"))?);
    let options = format!(
        "lowerdir={},upperdir={},workdir={},volatile",
        fds.option(),
        mount::fd_path(&upper),
        mount::fd_path(&work)
    );
    mount_overlay(target, &options).step(|| "mount the image's layers")?;
    rustix::fs::open(target, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .step(|| format!("open {}", target.display()))
}

/// A read-only view of the layers of an image.
fn image_volume(launch: &ContainerLaunch<'_>, layers: &[PathBuf]) -> Result<OwnedFd, Failure> {
    let step = || "mount an image volume";
    let fds = Layers::open(launch, layers)?;
    if let [only] = fds.0.as_slice() {
        let copy = mount::copy_of(only, false).step(step)?;
        mount::read_only(&copy, false).step(step)?;
        return Ok(copy);
    }
    let target = &launch.mount_point;
    mount_overlay(target, &format!("lowerdir={}", fds.option())).step(step)?;
    let copy = mount::copy(CWD, target, false).step(step)?;
    rustix::mount::unmount(target, UnmountFlags::DETACH).step(step)?;
    mount::read_only(&copy, false).step(step)?;
    Ok(copy)
}

fn mount_overlay(target: &Path, options: &str) -> std::io::Result<()> {
    let options = std::ffi::CString::new(options)?;
    Ok(rustix::mount::mount("overlay", target, "overlay", MountFlags::empty(), options.as_c_str())?)
}

/// Descriptors of layers, named to overlayfs as `/proc/self/fd/N`: short, and free of characters it would split at.
struct Layers(Vec<OwnedFd>);

impl Layers {
    fn open(launch: &ContainerLaunch<'_>, paths: &[PathBuf]) -> Result<Self, Failure> {
        if paths.is_empty() {
            return Err(Failure::create("mount the image's layers", "the image has none"));
        }
        let open = |path: &PathBuf| map_directory(launch, path).and_then(|()| open_directory(path));
        paths.iter().map(open).collect::<Result<_, _>>().map(Layers)
    }

    fn option(&self) -> String {
        self.0.iter().map(mount::fd_path).collect::<Vec<_>>().join(":")
    }
}

/// Covers a directory with itself, its owners mapped into the pod's user namespace, if it has one.
fn map_directory(launch: &ContainerLaunch<'_>, directory: &Path) -> Result<(), Failure> {
    let Some(user) = launch.user else { return Ok(()) };
    let step = || format!("map the owners of {}", directory.display());
    let tree = mount::copy(CWD, directory, false).step(step)?;
    match mount::map_owners(&tree, false, user) {
        // It lies on one that is mapped: an image can have a layer twice.
        Err(error) if error.raw_os_error() == Some(libc::EPERM) => return Ok(()),
        other => other.step(step)?,
    }
    mount::attach(&tree, open_directory(directory)?).step(step)
}

fn open_directory(path: &Path) -> Result<OwnedFd, Failure> {
    rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .step(|| format!("open {}", path.display()))
}

/// Attaches a kernel file system at a directory of the root that must be a real one: an image that makes it a symbolic
/// link would have its masks and read-only flags land elsewhere.
pub(super) fn attach_real(tree: &OwnedFd, root: &OwnedFd, at: &str) -> Result<(), Failure> {
    let relative = Path::new(at.trim_start_matches('/'));
    let flags = OFlags::PATH | OFlags::DIRECTORY;
    let target = match path::open_beneath(root, relative, flags) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            rustix::fs::mkdirat(root, relative, Mode::from_raw_mode(0o755)).step(|| format!("make {at}"))?;
            path::open_beneath(root, relative, flags)
        }
        other => other,
    }
    .step(|| format!("open {at} of the image, which must be a directory"))?;
    mount::attach(tree, &target).step(|| format!("mount {at}"))
}

/// The source of a mount, ready to attach.
fn open_volume(launch: &ContainerLaunch<'_>, spec: &Mount) -> Result<OwnedFd, Failure> {
    let step = || format!("mount {}", spec.destination);
    let tree = match &spec.source {
        MountSource::Bind(source) => {
            let tree = mount::copy(CWD, source, true)
                .step(|| format!("mount {} at {}", source.display(), spec.destination))?;
            if let Some(user) = launch.user {
                mount::map_owners(&tree, true, user).map_err(|error| unmappable(source, &error))?;
            }
            tree
        }
        MountSource::Tmpfs { size_bytes, mode } => {
            let (mode, size) = (format!("{mode:o}"), size_bytes.map(|s| s.to_string()));
            let mut options = vec![("mode", mode.as_str())];
            options.extend(size.as_deref().map(|size| ("size", size)));
            let tree = mount::new("tmpfs", &options, NOSUID_NODEV).step(step)?;
            if let Some(user) = launch.user {
                mount::map_owners(&tree, false, user).step(step)?;
            }
            tree
        }
        MountSource::Image { image_id, sub_path } => {
            let missing = || Failure::create(step(), format!("image {image_id} is unknown"));
            let image = image_volume(launch, image_layers(&launch.image_layers, image_id).ok_or_else(missing)?)?;
            match sub_path {
                None => image,
                Some(sub_path) => {
                    let inside = path::open(&image, Path::new(sub_path)).step(step)?;
                    let copy = mount::copy_of(&inside, false).step(step)?;
                    mount::read_only(&copy, false).step(step)?;
                    copy
                }
            }
        }
    };
    if !matches!(spec.source, MountSource::Image { .. }) {
        let kind = match spec.propagation {
            Propagation::Private => libc::MS_PRIVATE,
            Propagation::HostToContainer => libc::MS_SLAVE,
            Propagation::Bidirectional => libc::MS_SHARED,
        };
        mount::propagate(&tree, kind).step(|| format!("set the propagation of {}", spec.destination))?;
    }
    if spec.read_only || spec.recursive_read_only {
        mount::read_only(&tree, spec.recursive_read_only).step(|| format!("make {} read-only", spec.destination))?;
    }
    Ok(tree)
}

fn unmappable(source: &Path, error: &std::io::Error) -> Failure {
    let step = format!("map the owners of {} into the pod's user namespace", source.display());
    match error.raw_os_error() {
        Some(libc::EINVAL | libc::EPERM) => Failure::create(step, "its file system cannot do that (idmapped mounts)"),
        _ => Failure::create(step, super::plain(error)),
    }
}

fn image_layers<'a>(all: &'a BTreeMap<String, Vec<PathBuf>>, image: &str) -> Option<&'a [PathBuf]> {
    all.get(image).map(Vec::as_slice)
}

fn attach_volume(tree: OwnedFd, spec: &Mount, root: &OwnedFd) -> Result<(), Failure> {
    let step = || format!("mount {}", spec.destination);
    let destination = Path::new(&spec.destination);
    if !destination.is_absolute() {
        return Err(Failure::create(step(), "the destination is not an absolute path"));
    }
    let target = if path::is_directory(&tree).step(step)? {
        path::make_directory(root, destination)
    } else {
        path::make_file(root, destination)
    }
    .step(step)?;
    let over_proc = crate::sys::filesystem_magic(&target).step(step)? == PROC_MAGIC;
    if over_proc && !PROC_VOLUMES.contains(&spec.destination.as_str()) {
        return Err(Failure::create(step(), "it is inside /proc, which volumes must not cover"));
    }
    mount::attach(&tree, &target).step(step)
}

fn mask(proc: &OwnedFd, sysfs: &OwnedFd, null: &OwnedFd) -> Result<(), Failure> {
    let below = |at: &'static str| match at.strip_prefix("/proc/") {
        Some(rest) => (proc, Path::new(rest)),
        None => (sysfs, Path::new(at.trim_start_matches("/sys/"))),
    };
    let mut empty: Option<OwnedFd> = None;
    for at in MASKED {
        let step = || format!("hide {at}");
        let (tree, inside) = below(at);
        let target = match path::open_beneath(tree, inside, OFlags::PATH) {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => continue,
            Err(error) if error.raw_os_error() == Some(libc::EXDEV) => continue, // Something else is mounted there.
            other => other.step(step)?,
        };
        if !path::is_directory(&target).step(step)? {
            mount::attach(mount::copy_of(null, false).step(step)?, &target).step(step)?;
            continue;
        }
        let cover = match &empty {
            Some(first) => mount::copy_of(first, false).step(step)?,
            None => {
                mount::new("tmpfs", &[("nr_blocks", "1")], KERNEL | MountAttrFlags::MOUNT_ATTR_RDONLY).step(step)?
            }
        };
        mount::attach(&cover, &target).step(step)?;
        empty.get_or_insert(cover);
    }
    for at in READ_ONLY {
        let step = || format!("make {at} read-only");
        let (tree, inside) = below(at);
        let target = match path::open_beneath(tree, inside, OFlags::PATH) {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => continue,
            other => other.step(step)?,
        };
        let copy = mount::copy_of(&target, true).step(step)?;
        mount::read_only(&copy, true).step(step)?;
        mount::attach(&copy, target.as_fd()).step(step)?;
    }
    Ok(())
}
