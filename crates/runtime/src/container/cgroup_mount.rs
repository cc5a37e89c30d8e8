//! `/sys/fs/cgroup` inside the container: its own groups, read-only unless it is privileged.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::MountAttrFlags;

use super::failure::{Failure, Step};
use super::{ContainerLaunch, mount, path};

/// What will be attached: v1 copies of the container's directories by controller name.
pub(super) type Opened = Vec<(String, OwnedFd)>;

const KERNEL: MountAttrFlags =
    MountAttrFlags::MOUNT_ATTR_NOSUID.union(MountAttrFlags::MOUNT_ATTR_NODEV).union(MountAttrFlags::MOUNT_ATTR_NOEXEC);

/// Copies the container's own group of every v1 hierarchy, while the host's mounts are still there.
pub(super) fn open(launch: &ContainerLaunch<'_>) -> Result<Opened, Failure> {
    if launch.cgroups.is_v2() {
        return Ok(Vec::new());
    }
    let open = |(name, directory): (String, std::path::PathBuf)| {
        let step = || format!("open {}", directory.display());
        let copy = mount::copy(CWD, &directory, false).step(step)?;
        let attributes = if launch.spec.security.privileged { 0 } else { mount::READ_ONLY };
        crate::sys::mount_setattr(copy.as_fd(), false, attributes, 0, libc::MS_PRIVATE).step(step)?;
        Ok((name, copy))
    };
    launch.cgroups.directories(&launch.cgroup).into_iter().map(open).collect()
}

/// Attaches them below `/sys`.
pub(super) fn attach(launch: &ContainerLaunch<'_>, opened: Opened, sysfs: &OwnedFd) -> Result<(), Failure> {
    let step = || "mount /sys/fs/cgroup";
    let target = match path::open_beneath(sysfs, Path::new("fs/cgroup"), OFlags::PATH | OFlags::DIRECTORY) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()), // A kernel without cgroups in /sys.
        other => other.step(step)?,
    };
    let writable = launch.spec.security.privileged;
    let attributes = if writable { KERNEL } else { KERNEL | MountAttrFlags::MOUNT_ATTR_RDONLY };
    if launch.cgroups.is_v2() {
        let tree = mount::new("cgroup2", &[], attributes).step(step)?;
        return mount::attach(&tree, &target).step(step);
    }
    let tree = mount::new("tmpfs", &[("mode", "755"), ("size", "64k")], KERNEL).step(step)?;
    mount::attach(&tree, &target).step(step)?;
    for (name, hierarchy) in &opened {
        rustix::fs::mkdirat(&tree, name, Mode::from_raw_mode(0o755)).step(step)?;
        for alias in name.split(',').filter(|alias| alias != name) {
            rustix::fs::symlinkat(name, &tree, alias).step(step)?;
        }
        let place = path::open_beneath(&tree, Path::new(name), OFlags::PATH | OFlags::DIRECTORY).step(step)?;
        mount::attach(hierarchy, &place).step(step)?;
    }
    if !writable {
        mount::read_only(&tree, false).step(step)?;
    }
    Ok(())
}
