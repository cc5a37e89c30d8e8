//! `/dev` of the container: a tmpfs with the usual nodes, pts, shm, mqueue and the devices asked for.

use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Gid, Mode, OFlags, Uid};
use rustix::mount::MountAttrFlags;

use super::failure::{Failure, Step};
use super::{ContainerLaunch, mount, path};
use crate::cgroup::DeviceRule;
use crate::spec::ContainerSpec;

const USUAL: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

const LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

/// Nodes of the host's `/dev` given to a privileged container; a host with more is unusual, and no list is endless.
const HOST_DEVICES_MAX: usize = 4096;

/// What is mounted below `/dev`.
pub(super) struct Devices {
    /// The tmpfs.
    pub(super) dev: OwnedFd,
    /// The container's own devpts.
    pub(super) pts: OwnedFd,
}

/// The host's `/dev/null`, verified to be it: what hides files must not be something else.
pub(super) fn open_null() -> Result<OwnedFd, Failure> {
    let step = || "open /dev/null";
    let null = rustix::fs::open("/dev/null", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).step(step)?;
    let stat = rustix::fs::fstat(&null).step(step)?;
    let is_null =
        FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == rustix::fs::makedev(1, 3);
    if !is_null {
        return Err(Failure::create(step(), "it is not the null device"));
    }
    Ok(null)
}

/// The devices a container may use.
pub(crate) fn rules(spec: &ContainerSpec) -> Result<Vec<DeviceRule>, Failure> {
    if spec.security.privileged {
        return Ok(vec![DeviceRule::ALL]);
    }
    let mut rules = DeviceRule::USUAL.to_vec();
    for device in &spec.devices {
        let stat = host_device(&device.host_path)?;
        rules.push(DeviceRule {
            kind: if stat.block { 'b' } else { 'c' },
            major: Some(stat.major),
            minor: Some(stat.minor),
            read: device.permissions.contains('r'),
            write: device.permissions.contains('w'),
            mknod: device.permissions.contains('m'),
        });
    }
    Ok(rules)
}

/// A `/dev` that is not attached yet.
pub(super) struct Dev {
    tree: OwnedFd,
    shm: OwnedFd,
    /// Devices that can only be shown, not made, in the pod's user namespace: as the container asks for them.
    shown: Vec<OwnedFd>,
}

/// Builds `/dev`, and opens what will be mounted in it, as the host's root.
pub(super) fn make(launch: &ContainerLaunch<'_>) -> Result<Dev, Failure> {
    let step = || "make /dev";
    let tree =
        mount::new("tmpfs", &[("mode", "755"), ("size", "65536k")], MountAttrFlags::MOUNT_ATTR_NOSUID).step(step)?;
    for (name, major, minor) in USUAL {
        node(&tree, Path::new(name), &HostDevice { block: false, major, minor, mode: 0o666, gid: 0 })?;
    }
    for (name, target) in LINKS {
        rustix::fs::symlinkat(target, &tree, name).step(|| format!("make /dev/{name}"))?;
    }
    if launch.spec.security.privileged {
        host_devices(&tree)?;
    }
    let directories = ["pts", "shm", "mqueue"];
    for name in directories {
        rustix::fs::mkdirat(&tree, name, Mode::from_raw_mode(0o755)).step(|| format!("make /dev/{name}"))?;
    }
    let step = || "mount /dev/shm";
    let shm = mount::copy(rustix::fs::CWD, &launch.shm, false).step(step)?;
    mount::propagate(&shm, libc::MS_PRIVATE).step(step)?;
    let mut shown = Vec::new();
    if let Some(user) = launch.user {
        mount::map_owners(&tree, false, user).step(|| "map the owners of /dev")?;
        for device in &launch.spec.devices {
            let step = || format!("use device {}", device.host_path.display());
            let tree = mount::copy(rustix::fs::CWD, &device.host_path, false).step(step)?;
            mount::propagate(&tree, libc::MS_PRIVATE).step(step)?;
            shown.push(tree);
        }
    }
    Ok(Dev { tree, shm, shown })
}

/// Attaches `/dev` to the root.
pub(super) fn attach(launch: &ContainerLaunch<'_>, dev: Dev, root: &OwnedFd) -> Result<Devices, Failure> {
    let Dev { tree: dev, shm, shown } = dev;
    super::root::attach_real(&dev, root, "/dev")?;
    let pts = below_dev(&dev, &shm)?;
    let mut shown = shown.into_iter();
    for device in &launch.spec.devices {
        let inside = Path::new(&device.container_path);
        let step = || format!("make device {}", inside.display());
        if let Some(tree) = shown.next() {
            let place = path::make_file(root, inside).step(step)?;
            mount::attach(&tree, &place).step(step)?;
            continue;
        }
        let parent = path::make_directory(root, inside.parent().unwrap_or(Path::new("/"))).step(step)?;
        let name = inside.file_name().ok_or_else(|| Failure::create(step(), "the path has no name"))?;
        node(&parent, Path::new(name), &host_device(&device.host_path)?)?;
    }
    Ok(Devices { dev, pts })
}

fn below_dev(dev: &OwnedFd, shm: &OwnedFd) -> Result<OwnedFd, Failure> {
    let place = |name: &str| path::open_beneath(dev, Path::new(name), OFlags::PATH | OFlags::DIRECTORY);
    let options = [("newinstance", ""), ("ptmxmode", "0666"), ("mode", "0620"), ("gid", "5")];
    let no_exec = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let pts = mount::new("devpts", &options, no_exec).step(|| "make /dev/pts")?;
    mount::attach(&pts, place("pts").step(|| "open /dev/pts")?).step(|| "mount /dev/pts")?;

    let step = || "mount /dev/shm";
    mount::attach(shm, place("shm").step(step)?).step(step)?;

    let step = || "mount /dev/mqueue";
    match mount::new("mqueue", &[], no_exec | MountAttrFlags::MOUNT_ATTR_NODEV) {
        Err(error) if error.raw_os_error() == Some(libc::ENODEV) => {} // A kernel without POSIX message queues.
        other => mount::attach(&other.step(step)?, place("mqueue").step(step)?).step(step)?,
    }
    Ok(pts)
}

struct HostDevice {
    block: bool,
    major: u32,
    minor: u32,
    mode: u32,
    gid: u32,
}

fn host_device(path: &Path) -> Result<HostDevice, Failure> {
    let step = || format!("use device {}", path.display());
    let data = std::fs::metadata(path).step(step)?;
    describe(&data).ok_or_else(|| Failure::create(step(), "it is no device"))
}

fn describe(data: &std::fs::Metadata) -> Option<HostDevice> {
    let block = data.file_type().is_block_device();
    (block || data.file_type().is_char_device()).then(|| HostDevice {
        block,
        major: rustix::fs::major(data.rdev()),
        minor: rustix::fs::minor(data.rdev()),
        mode: data.mode() & 0o777,
        gid: data.gid(),
    })
}

fn node(directory: &OwnedFd, name: &Path, device: &HostDevice) -> Result<(), Failure> {
    let step = || format!("make device {}", name.display());
    let kind = if device.block { FileType::BlockDevice } else { FileType::CharacterDevice };
    let number = rustix::fs::makedev(device.major, device.minor);
    match rustix::fs::mknodat(directory, name, kind, Mode::from_raw_mode(device.mode), number) {
        Err(rustix::io::Errno::EXIST) => return Ok(()),
        other => other.step(step)?,
    }
    if device.gid != 0 {
        rustix::fs::chownat(
            directory,
            name,
            Some(Uid::ROOT),
            Some(Gid::from_raw(device.gid)),
            rustix::fs::AtFlags::SYMLINK_NOFOLLOW,
        )
        .step(step)?;
    }
    Ok(())
}

/// Nodes for all devices of the host, for privileged containers.
fn host_devices(dev: &OwnedFd) -> Result<(), Failure> {
    let step = || "give the host's devices to a privileged container";
    let mut pending = vec![PathBuf::from("/dev")];
    let mut made = 0;
    while let Some(directory) = pending.pop() {
        for entry in std::fs::read_dir(&directory).step(step)?.flatten() {
            let Ok(kind) = entry.file_type() else { continue };
            let path = entry.path();
            let Ok(relative) = path.strip_prefix("/dev") else {
                continue;
            };
            if kind.is_dir() {
                if !["pts", "shm", "mqueue", "fd"].iter().any(|skip| relative == Path::new(skip)) {
                    pending.push(path.clone());
                }
            } else if let Some(device) = entry.metadata().ok().as_ref().and_then(describe) {
                if made == HOST_DEVICES_MAX {
                    return Err(Failure::create(step(), format!("there are more than {HOST_DEVICES_MAX}")));
                }
                made += 1;
                let parent = path::make_directory(dev, relative.parent().unwrap_or(Path::new(""))).step(step)?;
                node(&parent, Path::new(entry.file_name().as_os_str()), &device)?;
            }
        }
    }
    Ok(())
}
