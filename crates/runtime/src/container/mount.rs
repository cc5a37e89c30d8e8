//! Making and attaching mounts by descriptor (the mount API of Linux 5.2 and `mount_setattr` of 5.12).

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
};

use crate::sys;

/// A new file system of a kind, not yet attached anywhere.
pub(super) fn new(kind: &str, options: &[(&str, &str)], attributes: MountAttrFlags) -> io::Result<OwnedFd> {
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (key, value) in options {
        if value.is_empty() {
            fsconfig_set_flag(&context, *key)?;
        } else {
            fsconfig_set_string(&context, *key, *value)?;
        }
    }
    fsconfig_create(&context)?;
    Ok(fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
}

/// A copy of the mount that `path` lies on, with `path` as its root, not yet attached; with the mounts below if `recursive`.
pub(super) fn copy(directory: BorrowedFd<'_>, path: &Path, recursive: bool) -> io::Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    Ok(open_tree(directory, path, flags)?)
}

/// Like [`copy`], of what `fd` names.
pub(super) fn copy_of(fd: impl AsFd, recursive: bool) -> io::Result<OwnedFd> {
    copy(fd.as_fd(), Path::new(""), recursive)
}

/// Attaches a mount on top of what `at` names.
pub(super) fn attach(mount: impl AsFd, at: impl AsFd) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(move_mount(mount.as_fd(), "", at.as_fd(), "", flags)?)
}

/// The attribute of read-only mounts, for `mount_setattr`.
pub(super) const READ_ONLY: u64 = MountAttrFlags::MOUNT_ATTR_RDONLY.bits() as u64;

/// Makes a mount (and, if `recursive`, those below) read-only.
pub(super) fn read_only(mount: impl AsFd, recursive: bool) -> io::Result<()> {
    sys::mount_setattr(mount.as_fd(), recursive, READ_ONLY, 0, 0)
}

/// Maps the owners of files by a user namespace; the mount must not be attached yet.
pub(super) fn map_owners(mount: impl AsFd, recursive: bool, user: impl AsFd) -> io::Result<()> {
    sys::map_owners(mount.as_fd(), recursive, user.as_fd())
}

/// Sets the propagation (`MS_PRIVATE`, `MS_SLAVE`, `MS_SHARED`) of a mount and those below.
pub(super) fn propagate(mount: impl AsFd, kind: u64) -> io::Result<()> {
    sys::mount_setattr(mount.as_fd(), true, 0, 0, kind)
}

/// A path that names an open descriptor, for system calls that only take paths.
pub(super) fn fd_path(fd: impl AsFd) -> String {
    format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd())
}
