//! Sub-paths of volumes: resolved without ever leaving the volume, whatever links a container put there.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};

/// A sub-path cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SubPathError {
    /// It leaves the volume by its text.
    #[error("subPath {path:?} must be relative and must not contain '..'")]
    Outside {
        /// The path.
        path: String,
    },
    /// The kernel refused, for example because a link leads outside.
    #[error("subPath {path:?}: {what}")]
    Io {
        /// The path.
        path: String,
        /// What was done.
        what: &'static str,
        /// The cause.
        #[source]
        source: io::Error,
    },
}

/// Makes `path` of the volume at `root` available at `target`, creating a directory if nothing is there.
///
/// The result is what to mount: `target`, bound to the very file that was resolved, so that exchanging a link afterwards
/// changes nothing. Without the right to mount, the resolved path.
pub fn expose(root: &Path, path: &str, target: &Path) -> Result<PathBuf, SubPathError> {
    let relative = Path::new(path);
    if !relative.components().all(|c| matches!(c, Component::Normal(_) | Component::CurDir)) {
        return Err(SubPathError::Outside { path: path.into() });
    }
    let io =
        |what| move |source: rustix::io::Errno| SubPathError::Io { path: path.into(), what, source: source.into() };
    let std_io = |what| move |source: io::Error| SubPathError::Io { path: path.into(), what, source };
    let base = rustix::fs::open(root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(io("open volume"))?;
    let mode = fs::metadata(root).map_err(std_io("read volume"))?.permissions().mode() & 0o7777;
    let found = open_or_create(&base, relative, mode).map_err(io("resolve"))?;
    let itself = PathBuf::from(format!("/proc/self/fd/{}", found.as_raw_fd()));
    let is_dir = fs::metadata(&itself).map_err(std_io("read"))?.is_dir();
    if let Some(parent) = target.parent() {
        fs::create_dir_all(parent).map_err(std_io("create mount point"))?;
    }
    // Left over from an earlier start of the container.
    detach(target);
    if is_dir {
        fs::create_dir_all(target).map_err(std_io("create mount point"))?;
    } else {
        fs::File::create(target).map_err(std_io("create mount point"))?;
    }
    match rustix::mount::mount_bind_recursive(&itself, target) {
        Ok(()) => Ok(target.to_path_buf()),
        Err(rustix::io::Errno::PERM) => fs::read_link(&itself).map_err(std_io("read link")),
        Err(error) => Err(io("bind")(error)),
    }
}

/// Takes away what [`expose`] made; nothing there is fine.
pub fn detach(target: &Path) {
    // EINVAL: not a mount point; ENOENT: not there. Either way there is nothing to undo.
    let _ = rustix::mount::unmount(target, rustix::mount::UnmountFlags::DETACH | rustix::mount::UnmountFlags::NOFOLLOW);
}

fn open_or_create(base: &OwnedFd, path: &Path, mode: u32) -> Result<OwnedFd, rustix::io::Errno> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let open = |at: &OwnedFd, path: &Path| rustix::fs::openat2(at, path, flags, Mode::empty(), resolve);
    match open(base, path) {
        Err(rustix::io::Errno::NOENT) => {}
        done => return done,
    }
    // Some of it is missing: make it step by step, each resolved beneath the volume.
    let mut so_far = PathBuf::new();
    let mut at = rustix::fs::openat(base, ".", flags, Mode::empty())?;
    for part in path.components() {
        so_far.push(part);
        let next = match open(base, &so_far) {
            Err(rustix::io::Errno::NOENT) => {
                rustix::fs::mkdirat(at.as_fd(), part.as_os_str(), Mode::from_raw_mode(mode))?;
                let made = open(base, &so_far)?;
                let by_fd = format!("/proc/self/fd/{}", made.as_raw_fd());
                // The umask took bits away.
                rustix::fs::chmodat(CWD, by_fd.as_str(), Mode::from_raw_mode(mode), rustix::fs::AtFlags::empty())?;
                made
            }
            other => other?,
        };
        at = next;
    }
    Ok(at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_do_not_lead_outside() {
        let dir = tempfile::tempdir().unwrap();
        let (root, target) = (dir.path().join("v"), dir.path().join("t"));
        fs::create_dir(&root).unwrap();
        fs::create_dir(dir.path().join("secret")).unwrap();
        symlink("../secret", root.join("out")).unwrap();
        symlink("/etc", root.join("abs")).unwrap();
        fs::create_dir(root.join("in")).unwrap();
        symlink("in", root.join("alias")).unwrap();
        for (path, ok) in [
            ("in", true),
            ("alias", true),
            ("new/deep", true),
            ("out", false),
            ("abs", false),
            ("../secret", false),
            ("/etc", false),
        ] {
            assert_eq!(expose(&root, path, &target).is_ok(), ok, "{path}");
            detach(&target);
        }
        assert!(root.join("new/deep").is_dir());
    }
}
