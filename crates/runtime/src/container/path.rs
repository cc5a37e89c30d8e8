//! Paths inside a container's root, which the image and earlier containers of the pod control.
//!
//! Every path goes through `openat2(RESOLVE_IN_ROOT)`: `..` and absolute symbolic links end at the container's root, and
//! what is opened is used by descriptor, never by name again.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};

/// Symbolic links followed while missing directories are made; the kernel's own limit.
const LINKS_MAX: usize = 40;

/// Opens what is there, without reading it (`O_PATH`).
pub(super) fn open(root: impl AsFd, path: &Path) -> io::Result<OwnedFd> {
    open_with(root, path, OFlags::PATH)
}

/// Opens `path` in `root` with `flags`.
pub(super) fn open_with(root: impl AsFd, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    retry(|| rustix::fs::openat2(&root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve))
}

/// Opens `path` below `directory`, refusing every symbolic link and every change of mount on the way.
pub(super) fn open_beneath(directory: impl AsFd, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    retry(|| rustix::fs::openat2(&directory, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve))
}

/// RESOLVE_IN_ROOT answers EAGAIN when something on the path was renamed meanwhile.
fn retry(open: impl Fn() -> rustix::io::Result<OwnedFd>) -> io::Result<OwnedFd> {
    for _ in 0..128 {
        match open() {
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
            other => return Ok(other?),
        }
    }
    Err(io::Error::from(io::ErrorKind::WouldBlock))
}

/// Opens a directory, made with its parents (0755, root's) where missing.
pub(super) fn make_directory(root: impl AsFd, path: &Path) -> io::Result<OwnedFd> {
    let directory = |path: &Path| open_with(&root, path, OFlags::PATH | OFlags::DIRECTORY);
    match directory(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        other => return other,
    }
    let mut links = 0;
    let mut done = PathBuf::from("/");
    let mut rest: Vec<OsString> = parts(path);
    rest.reverse();
    while let Some(part) = rest.pop() {
        let next = done.join(&part);
        match directory(&next) {
            Ok(_) => done = next,
            Err(error) if error.kind() == io::ErrorKind::NotFound && part != ".." => {
                let parent = directory(&done)?;
                match rustix::fs::mkdirat(&parent, &part, Mode::from_raw_mode(0o755)) {
                    Ok(()) => done = next,
                    Err(rustix::io::Errno::EXIST) => {
                        // A symbolic link to nowhere: make what it points to.
                        links += 1;
                        if links > LINKS_MAX {
                            return Err(io::Error::from_raw_os_error(libc::ELOOP));
                        }
                        let target = rustix::fs::readlinkat(&parent, &part, Vec::new())?;
                        let target = PathBuf::from(OsString::from_vec(target.into_bytes()));
                        if target.is_absolute() {
                            done = PathBuf::from("/");
                        }
                        rest.extend(parts(&target).into_iter().rev());
                    }
                    Err(error) => return Err(error.into()),
                }
            }
            Err(error) => return Err(error),
        }
    }
    directory(&done)
}

/// Opens a mount point for a file, made empty where missing. A symbolic link to nowhere, as images have for
/// `/etc/resolv.conf`, is followed inside the root.
pub(super) fn make_file(root: impl AsFd, path: &Path) -> io::Result<OwnedFd> {
    let mut path = path.to_owned();
    for _ in 0..LINKS_MAX {
        match make_file_at(&root, &path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let parent = path.parent().unwrap_or(Path::new("/"));
                let name = path.file_name().unwrap_or_default();
                let directory = open_with(&root, parent, OFlags::PATH | OFlags::DIRECTORY)?;
                let target = rustix::fs::readlinkat(&directory, name, Vec::new())?;
                path = parent.join(OsString::from_vec(target.into_bytes()));
            }
            other => return other,
        }
    }
    Err(io::Error::from_raw_os_error(libc::ELOOP))
}

fn make_file_at(root: impl AsFd, path: &Path) -> io::Result<OwnedFd> {
    match open(&root, path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        other => return other,
    }
    let name = path.file_name().ok_or_else(|| io::Error::from_raw_os_error(libc::EISDIR))?;
    let parent = make_directory(&root, path.parent().unwrap_or(Path::new("/")))?;
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::WRONLY | OFlags::CLOEXEC;
    rustix::fs::openat(&parent, name, flags, Mode::from_raw_mode(0o644))?;
    Ok(rustix::fs::openat(&parent, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?)
}

fn parts(path: &Path) -> Vec<OsString> {
    let part = |component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsString::from("..")),
        _ => None,
    };
    path.components().filter_map(part).collect()
}

/// Whether `fd` is a directory.
pub(super) fn is_directory(fd: impl AsFd) -> io::Result<bool> {
    Ok(FileType::from_raw_mode(rustix::fs::fstat(fd)?.st_mode) == FileType::Directory)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_and_dots_stay_inside_the_root() {
        let outside = tempfile::tempdir().unwrap();
        let root = tempfile::tempdir().unwrap();
        symlink(outside.path(), root.path().join("absolute")).unwrap();
        symlink("../../../../../../../../..", root.path().join("up")).unwrap();
        symlink("dangling/target", root.path().join("link")).unwrap();
        let fd = std::fs::File::open(root.path()).unwrap();
        make_directory(&fd, Path::new("/absolute/a")).unwrap();
        make_directory(&fd, Path::new("/up/b")).unwrap();
        make_directory(&fd, Path::new("/../../c")).unwrap();
        make_directory(&fd, Path::new("/link/d")).unwrap();
        make_file(&fd, Path::new("/absolute/../e/file")).unwrap();
        symlink("../../../run/made/resolv.conf", root.path().join("e-link")).unwrap();
        make_file(&fd, Path::new("/e-link")).unwrap();
        assert!(root.path().join("run/made/resolv.conf").is_file());
        assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0, "something was made outside");
        let inside = outside.path().strip_prefix("/").unwrap().join("a");
        for made in [inside.as_path(), Path::new("b"), Path::new("c"), Path::new("dangling/target/d")] {
            assert!(root.path().join(made).is_dir(), "{made:?}");
        }
    }

    #[test]
    fn link_loops_end() {
        let root = tempfile::tempdir().unwrap();
        symlink("b", root.path().join("a")).unwrap();
        symlink("a", root.path().join("b")).unwrap();
        let fd = std::fs::File::open(root.path()).unwrap();
        assert!(make_directory(&fd, Path::new("/a/x")).is_err());
    }
}
