//! A layer onto disk (OCI image specification, layer changesets).
//!
//! Every path is resolved by the kernel inside the layer's directory (`openat2` with `RESOLVE_IN_ROOT`), so neither `..`, absolute
//! names nor symbolic links made by the layer itself lead outside. Whiteouts become overlayfs' own: a 0/0 character device for
//! a removed name, an attribute for an opaque directory.

use std::ffi::OsStr;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{self, AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, Timespec, Timestamps, XattrFlags};

use crate::image::StoreError;

/// Most entries of a layer: more than any real image has, fewer than fill an inode table.
const ENTRIES_MAX: usize = 2_000_000;
/// Longest path of an entry (PATH_MAX).
const PATH_MAX: usize = 4096;

/// Why an entry could not be written, before it is known which layer it is in.
enum EntryError {
    Io(io::Error),
    Unsafe(&'static str),
}

impl From<io::Error> for EntryError {
    fn from(error: io::Error) -> Self {
        EntryError::Io(error)
    }
}

impl From<rustix::io::Errno> for EntryError {
    fn from(error: rustix::io::Errno) -> Self {
        EntryError::Io(error.into())
    }
}

type EntryResult<T> = Result<T, EntryError>;

/// Unpacks an uncompressed layer into `directory`, which exists and is empty. Returns the bytes of its files.
///
/// # Errors
/// [`StoreError::Entry`] naming the entry that is unsafe or could not be written; [`StoreError::Malformed`] if it is no tar.
pub fn unpack(layer: &str, reader: impl Read, directory: &Path) -> Result<u64, StoreError> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root =
        fs::open(directory, flags, Mode::empty()).map_err(|e| StoreError::file("opening", directory)(e.into()))?;
    let mut target = Unpacker { root, directories: Vec::new(), bytes: 0 };
    let mut archive = tar::Archive::new(reader);
    let malformed = |e: io::Error| StoreError::malformed(format!("layer {layer}"), e);
    for (count, entry) in archive.entries().map_err(malformed)?.enumerate() {
        let mut entry = entry.map_err(malformed)?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let failed = |message: String| StoreError::Entry { layer: layer.to_string(), entry: name.clone(), message };
        if count >= ENTRIES_MAX {
            return Err(failed(format!("the layer has more than {ENTRIES_MAX} entries")));
        }
        target.write(&mut entry).map_err(|e| match e {
            EntryError::Io(error) => failed(error.to_string()),
            EntryError::Unsafe(message) => failed(message.to_string()),
        })?;
    }
    target.finish().map_err(|e| StoreError::file("setting the times of directories in", directory)(e))?;
    Ok(target.bytes)
}

struct Unpacker {
    root: OwnedFd,
    /// Directories whose times are set last, since writing into them changes them.
    directories: Vec<(PathBuf, Timestamps)>,
    bytes: u64,
}

impl Unpacker {
    fn write<R: Read>(&mut self, entry: &mut tar::Entry<'_, R>) -> EntryResult<()> {
        let path = relative(&entry.path_bytes())?;
        let kind = entry.header().entry_type();
        if matches!(kind, tar::EntryType::XGlobalHeader) {
            return Ok(());
        }
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return if kind.is_dir() {
                self.attributes_of_root(entry)
            } else {
                Err(EntryError::Unsafe("only a directory can be the root"))
            };
        };
        let parent_fd = self.directory(parent)?;
        if let Some(hidden) = name.as_bytes().strip_prefix(b".wh.") {
            return self.whiteout(&parent_fd, hidden);
        }
        match kind {
            tar::EntryType::Directory => self.make_directory(entry, &path, &parent_fd, name),
            tar::EntryType::Symlink => self.make_symlink(entry, &parent_fd, name),
            tar::EntryType::Link => self.make_hard_link(entry, &parent_fd, name),
            tar::EntryType::Fifo => self.make_fifo(entry, &parent_fd, name),
            tar::EntryType::Char | tar::EntryType::Block => device(&path),
            kind if kind.is_file() || kind.is_contiguous() || kind.is_gnu_sparse() => {
                self.make_file(entry, &parent_fd, name)
            }
            _ => Err(EntryError::Unsafe("an entry of this type cannot be stored")),
        }
    }

    /// Opens a directory of the layer, making what is missing.
    fn directory(&self, path: &Path) -> EntryResult<OwnedFd> {
        if path.as_os_str().is_empty() {
            return Ok(self.open(Path::new("."), OFlags::PATH | OFlags::DIRECTORY)?);
        }
        match self.open(path, OFlags::PATH | OFlags::DIRECTORY) {
            Err(rustix::io::Errno::NOENT) => {}
            other => return Ok(other?),
        }
        let parent = self.directory(path.parent().unwrap_or(Path::new("")))?;
        let name = path.file_name().ok_or(EntryError::Unsafe("the path has no name"))?;
        match fs::mkdirat(&parent, name, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(self.open(path, OFlags::PATH | OFlags::DIRECTORY)?)
    }

    fn open(&self, path: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        fs::openat2(
            &self.root,
            path,
            flags | OFlags::CLOEXEC,
            Mode::empty(),
            ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
        )
    }

    fn whiteout(&self, parent: &OwnedFd, hidden: &[u8]) -> EntryResult<()> {
        if hidden == b".wh..opq" {
            let directory =
                fs::openat(parent, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
            return Ok(fs::fsetxattr(&directory, "trusted.overlay.opaque", b"y", XattrFlags::empty())?);
        }
        if hidden.starts_with(b".wh.") {
            return Ok(()); // AUFS' own bookkeeping, of no meaning here.
        }
        if hidden.is_empty() || matches!(hidden, b"." | b"..") {
            return Err(EntryError::Unsafe("a whiteout must hide a name"));
        }
        let name = OsStr::from_bytes(hidden);
        remove(parent, name)?;
        Ok(fs::mknodat(parent, name, FileType::CharacterDevice, Mode::empty(), 0)?)
    }

    fn make_directory<R: Read>(
        &mut self,
        entry: &mut tar::Entry<'_, R>,
        path: &Path,
        parent: &OwnedFd,
        name: &OsStr,
    ) -> EntryResult<()> {
        match fs::mkdirat(parent, name, Mode::from_raw_mode(0o755)) {
            Ok(()) => {}
            Err(rustix::io::Errno::EXIST) => {
                let there = fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
                if FileType::from_raw_mode(there.st_mode) != FileType::Directory {
                    remove(parent, name)?;
                    fs::mkdirat(parent, name, Mode::from_raw_mode(0o755))?;
                }
            }
            Err(error) => return Err(error.into()),
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory = fs::openat(parent, name, flags, Mode::empty())?;
        attributes(entry, &directory)?;
        self.directories.push((path.to_path_buf(), times(entry)));
        Ok(())
    }

    fn attributes_of_root<R: Read>(&mut self, entry: &mut tar::Entry<'_, R>) -> EntryResult<()> {
        let root = fs::openat(&self.root, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        attributes(entry, &root)
    }

    fn make_file<R: Read>(&mut self, entry: &mut tar::Entry<'_, R>, parent: &OwnedFd, name: &OsStr) -> EntryResult<()> {
        remove(parent, name)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file = std::fs::File::from(fs::openat(parent, name, flags, Mode::from_raw_mode(0o600))?);
        self.bytes += io::copy(entry, &mut file)?;
        attributes(entry, &file)?;
        Ok(fs::futimens(&file, &times(entry))?)
    }

    fn make_symlink<R: Read>(&self, entry: &tar::Entry<'_, R>, parent: &OwnedFd, name: &OsStr) -> EntryResult<()> {
        let target = entry.link_name_bytes().ok_or(EntryError::Unsafe("a symbolic link without target"))?;
        remove(parent, name)?;
        fs::symlinkat(OsStr::from_bytes(&target), parent, name)?;
        owner(entry, parent, name)?;
        Ok(fs::utimensat(parent, name, &times(entry), AtFlags::SYMLINK_NOFOLLOW)?)
    }

    fn make_hard_link<R: Read>(&self, entry: &tar::Entry<'_, R>, parent: &OwnedFd, name: &OsStr) -> EntryResult<()> {
        let target = entry.link_name_bytes().ok_or(EntryError::Unsafe("a hard link without target"))?;
        let target = relative(&target)?;
        let (Some(directory), Some(file)) = (target.parent(), target.file_name()) else {
            return Err(EntryError::Unsafe("a hard link to the root"));
        };
        let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
        let directory = self.open(directory, OFlags::PATH | OFlags::DIRECTORY)?;
        remove(parent, name)?;
        Ok(fs::linkat(&directory, file, parent, name, AtFlags::empty())?)
    }

    fn make_fifo<R: Read>(&self, entry: &tar::Entry<'_, R>, parent: &OwnedFd, name: &OsStr) -> EntryResult<()> {
        remove(parent, name)?;
        let mode = Mode::from_raw_mode(entry.header().mode()? & 0o7777);
        fs::mknodat(parent, name, FileType::Fifo, mode, 0)?;
        owner(entry, parent, name)
    }

    fn finish(&mut self) -> io::Result<()> {
        for (path, times) in self.directories.drain(..).rev() {
            match fs::openat2(
                &self.root,
                &path,
                OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
                Mode::empty(),
                ResolveFlags::IN_ROOT,
            ) {
                Ok(directory) => fs::futimens(directory, &times)?,
                // A later entry or whiteout replaced it.
                Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

/// The entry's path below the root: without leading `/` or `./`, refused with `..`.
fn relative(bytes: &[u8]) -> EntryResult<PathBuf> {
    if bytes.len() > PATH_MAX || bytes.contains(&0) {
        return Err(EntryError::Unsafe("the path is longer than 4096 bytes or holds a zero byte"));
    }
    let mut path = PathBuf::new();
    for component in Path::new(OsStr::from_bytes(bytes)).components() {
        match component {
            Component::Normal(name) => path.push(name),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => {
                return Err(EntryError::Unsafe("the path leads out of the layer with \"..\""));
            }
        }
    }
    Ok(path)
}

/// Device nodes below `/dev` are of no use (a container has its own `/dev`) and are left out; elsewhere they are refused.
fn device(path: &Path) -> EntryResult<()> {
    if path.starts_with("dev") { Ok(()) } else { Err(EntryError::Unsafe("device nodes are not allowed in images")) }
}

/// Removes what is there, a whole directory too, without following links.
fn remove(parent: &OwnedFd, name: &OsStr) -> EntryResult<()> {
    match fs::unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(()),
        Err(rustix::io::Errno::ISDIR | rustix::io::Errno::PERM) => {
            // remove_dir_all does not follow symbolic links, and the parent is held open by descriptor.
            Ok(std::fs::remove_dir_all(Path::new(&format!("/proc/self/fd/{}", parent.as_raw_fd())).join(name))?)
        }
        Err(error) => Err(error.into()),
    }
}

/// Owner, mode (after the owner, which clears setuid) and extended attributes.
fn attributes<R: Read>(entry: &mut tar::Entry<'_, R>, file: impl AsFd) -> EntryResult<()> {
    let (uid, gid) = ids(entry)?;
    fs::fchown(&file, Some(uid), Some(gid))?;
    fs::fchmod(&file, Mode::from_raw_mode(entry.header().mode()? & 0o7777))?;
    let Ok(Some(extensions)) = entry.pax_extensions() else {
        return Ok(());
    };
    for extension in extensions {
        let extension = extension?;
        let Some(name) = extension.key_bytes().strip_prefix(b"SCHILY.xattr.") else {
            continue;
        };
        // Attributes that steer overlayfs or other security modules are the host's business.
        if !(name.starts_with(b"user.") || name == b"security.capability") {
            continue;
        }
        match fs::fsetxattr(&file, OsStr::from_bytes(name), extension.value_bytes(), XattrFlags::empty()) {
            Ok(()) | Err(rustix::io::Errno::OPNOTSUPP) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn owner<R: Read>(entry: &tar::Entry<'_, R>, parent: &OwnedFd, name: &OsStr) -> EntryResult<()> {
    let (uid, gid) = ids(entry)?;
    Ok(fs::chownat(parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?)
}

fn ids<R: Read>(entry: &tar::Entry<'_, R>) -> EntryResult<(fs::Uid, fs::Gid)> {
    let id = |value: u64| {
        u32::try_from(value).ok().filter(|v| *v != u32::MAX).ok_or(EntryError::Unsafe("the owner is out of range"))
    };
    Ok((fs::Uid::from_raw(id(entry.header().uid()?)?), fs::Gid::from_raw(id(entry.header().gid()?)?)))
}

fn times<R: Read>(entry: &tar::Entry<'_, R>) -> Timestamps {
    let seconds = entry.header().mtime().ok().and_then(|t| i64::try_from(t).ok()).unwrap_or(0);
    let time = Timespec { tv_sec: seconds, tv_nsec: 0 };
    Timestamps { last_access: time, last_modification: time }
}

/// Removes a tree that may be half written. Missing is fine.
pub fn remove_tree(path: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Makes all that was written to the file system of `path` durable.
pub fn sync_file_system(path: &Path) -> io::Result<()> {
    let fd = fs::openat(CWD, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    Ok(fs::syncfs(fd)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{FileTypeExt, MetadataExt};

    /// A tar of entries `(type, path, link or content)`.
    fn tar(entries: &[(tar::EntryType, &str, &str)]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (kind, path, content) in entries {
            let mut header = tar::Header::new_ustar();
            header.set_entry_type(*kind);
            header.set_mode(0o644);
            let link = kind.is_symlink() || kind.is_hard_link();
            let data = if link { "" } else { content };
            header.set_size(data.len() as u64);
            header.set_uid(0);
            header.set_gid(0);
            header.set_mtime(1);
            // Written into the raw field: the crate's own setter refuses the very paths under test.
            header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
            if link {
                header.as_old_mut().linkname[..content.len()].copy_from_slice(content.as_bytes());
            }
            header.set_cksum();
            builder.append(&header, data.as_bytes()).unwrap();
        }
        builder.into_inner().unwrap()
    }

    fn try_unpack(entries: &[(tar::EntryType, &str, &str)]) -> (tempfile::TempDir, Result<u64, StoreError>) {
        let dir = tempfile::tempdir().unwrap();
        let layer = dir.path().join("layer");
        std::fs::create_dir(&layer).unwrap();
        let result = unpack("sha256:test", tar(entries).as_slice(), &layer);
        (dir, result)
    }

    use tar::EntryType as T;

    #[test]
    fn stays_inside_whatever_the_names_say() {
        for (case, entries) in [
            ("parent", vec![(T::Regular, "../outside", "x")]),
            ("parent inside", vec![(T::Regular, "a/../../outside", "x")]),
            ("hard link out", vec![(T::Link, "a", "../../outside")]),
            ("device", vec![(T::Char, "disk", "")]),
        ] {
            let (dir, result) = try_unpack(&entries);
            assert!(matches!(result, Err(StoreError::Entry { .. })), "{case}: {result:?}");
            assert!(!dir.path().join("outside").exists(), "{case}");
        }
        let (dir, result) =
            try_unpack(&[(T::Symlink, "up", "/.."), (T::Regular, "up/outside", "x"), (T::Regular, "/etc/x", "y")]);
        result.unwrap();
        assert!(!dir.path().join("outside").exists());
        assert!(dir.path().join("layer/outside").exists() && dir.path().join("layer/etc/x").exists());
    }

    #[test]
    fn replaces_and_hides() {
        let (dir, result) = try_unpack(&[
            (T::Regular, "a", "one"),
            (T::Regular, "a", "two!"),
            (T::Directory, "d", ""),
            (T::Regular, "d/.wh.gone", ""),
            (T::Link, "b", "a"),
            (T::Symlink, "s", "nowhere"),
            (T::Regular, "s", "now a file"),
            (T::Char, "dev/null", ""),
        ]);
        result.unwrap();
        let layer = dir.path().join("layer");
        assert_eq!(std::fs::read_to_string(layer.join("b")).unwrap(), "two!");
        assert_eq!(std::fs::metadata(layer.join("a")).unwrap().nlink(), 2);
        assert!(std::fs::symlink_metadata(layer.join("d/gone")).unwrap().file_type().is_char_device());
        assert_eq!(std::fs::read_to_string(layer.join("s")).unwrap(), "now a file");
        assert!(!layer.join("nowhere").exists() && !layer.join("dev/null").exists());
    }

    #[test]
    fn a_cut_archive_is_said_to_be_one() {
        let dir = tempfile::tempdir().unwrap();
        let bytes = tar(&[(T::Regular, "a", &"x".repeat(5000))]);
        assert!(unpack("sha256:test", &bytes[..1000], dir.path()).is_err());
    }
}
