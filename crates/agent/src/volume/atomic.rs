//! Writes the files of a volume so that readers see all of an update or nothing of it.
//!
//! The layout is that of Kubernetes, which programs rely on: files live in a directory `..<time>.<random>`, `..data` is
//! a symbolic link to it that is swapped by a rename, and the names that users see are links to `..data/<name>`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, chown, symlink};
use std::path::{Component, Path, PathBuf};

use bytes::Bytes;

/// A file of a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Its content.
    pub data: Bytes,
    /// Permission bits.
    pub mode: u32,
    /// Owner, if not root.
    pub uid: Option<u32>,
}

/// The files of a volume by their path in it.
pub type Payload = BTreeMap<String, File>;

/// A failed write.
#[derive(Debug, thiserror::Error)]
pub enum AtomicError {
    /// A path leaves the volume, or begins with `..`.
    #[error("{path:?} is not a path inside the volume")]
    BadPath {
        /// The path.
        path: String,
    },
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

fn io_error<'a>(what: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> AtomicError + 'a {
    move |source| AtomicError::Io { what, path: path.to_path_buf(), source }
}

/// Makes the volume at `root` hold exactly `payload`. `stamp` names the new directory and must not have been used in it.
///
/// `false`: it already did, nothing was written.
pub fn write(root: &Path, payload: &Payload, group: Option<u32>, stamp: &str) -> Result<bool, AtomicError> {
    for path in payload.keys() {
        check_path(path)?;
    }
    let link = root.join("..data");
    let old = fs::read_link(&link).ok();
    if let Some(old) = &old
        && same(&root.join(old), payload)
    {
        return Ok(false);
    }
    let name = format!("..{stamp}");
    let new = root.join(&name);
    fs::DirBuilder::new().mode(0o755).create(&new).map_err(io_error("create", &new))?;
    fs::set_permissions(&new, fs::Permissions::from_mode(0o755)).map_err(io_error("chmod", &new))?;
    own(&new, None, group, true)?;
    for (path, file) in payload {
        write_file(&new, path, file, group)?;
    }
    let temporary = root.join("..data_tmp");
    match fs::remove_file(&temporary) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(io_error("remove", &temporary)(e)),
        _ => {}
    }
    symlink(&name, &temporary).map_err(io_error("link", &temporary))?;
    fs::rename(&temporary, &link).map_err(io_error("rename", &temporary))?;
    visible_names(root, payload)?;
    if let Some(old) = old {
        let old = root.join(old);
        fs::remove_dir_all(&old).map_err(io_error("remove", &old))?;
    }
    Ok(true)
}

fn check_path(path: &str) -> Result<(), AtomicError> {
    let plain = Path::new(path).components().all(|c| matches!(c, Component::Normal(_)));
    if path.is_empty() || !plain || path.starts_with("..") || path.len() > 4096 {
        return Err(AtomicError::BadPath { path: path.to_string() });
    }
    Ok(())
}

fn write_file(dir: &Path, path: &str, file: &File, group: Option<u32>) -> Result<(), AtomicError> {
    use std::io::Write as _;
    let target = dir.join(path);
    if let Some(parent) = Path::new(path).parent().filter(|p| !p.as_os_str().is_empty()) {
        let mut at = dir.to_path_buf();
        for part in parent.components() {
            at.push(part);
            if !at.is_dir() {
                fs::create_dir(&at).map_err(io_error("create", &at))?;
                fs::set_permissions(&at, fs::Permissions::from_mode(0o755)).map_err(io_error("chmod", &at))?;
                own(&at, None, group, true)?;
            }
        }
    }
    let mut out = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&target)
        .map_err(io_error("create", &target))?;
    out.write_all(&file.data).map_err(io_error("write", &target))?;
    // With a group of the pod, its members may read whatever the owner may.
    let mode = if group.is_some() { file.mode | ((file.mode & 0o400) >> 3) } else { file.mode };
    own(&target, file.uid, group, false)?;
    out.set_permissions(fs::Permissions::from_mode(mode)).map_err(io_error("chmod", &target))
}

fn own(path: &Path, uid: Option<u32>, group: Option<u32>, directory: bool) -> Result<(), AtomicError> {
    if uid.is_some() || group.is_some() {
        chown(path, uid, group).map_err(io_error("chown", path))?;
        if directory && group.is_some() {
            fs::set_permissions(path, fs::Permissions::from_mode(0o2755)).map_err(io_error("chmod", path))?;
        }
    }
    Ok(())
}

/// Adds and removes the links that users see.
fn visible_names(root: &Path, payload: &Payload) -> Result<(), AtomicError> {
    let wanted: BTreeSet<&str> = payload.keys().filter_map(|p| p.split('/').next()).collect();
    for name in &wanted {
        let link = root.join(name);
        match symlink(Path::new("..data").join(name), &link) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(io_error("link", &link)(e)),
            _ => {}
        }
    }
    for entry in fs::read_dir(root).map_err(io_error("read", root))? {
        let entry = entry.map_err(io_error("read", root))?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let is_link = entry.file_type().is_ok_and(|t| t.is_symlink());
        if is_link && !name.starts_with("..") && !wanted.contains(name.as_ref()) {
            fs::remove_file(entry.path()).map_err(io_error("remove", &entry.path()))?;
        }
    }
    Ok(())
}

/// Whether the directory holds exactly these files with this content.
fn same(dir: &Path, payload: &Payload) -> bool {
    let mut found = 0;
    let mut pending = vec![dir.to_path_buf()];
    while let Some(at) = pending.pop() {
        let Ok(entries) = fs::read_dir(&at) else { return false };
        for entry in entries {
            let Ok(entry) = entry else { return false };
            if entry.file_type().is_ok_and(|t| t.is_dir()) {
                pending.push(entry.path());
                continue;
            }
            let path = entry.path();
            let Some(file) = path.strip_prefix(dir).ok().and_then(|p| payload.get(&*p.to_string_lossy())) else {
                return false;
            };
            if !fs::read(&path).is_ok_and(|data| data == file.data) {
                return false;
            }
            found += 1;
        }
    }
    found == payload.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(files: &[(&str, &str)]) -> Payload {
        files
            .iter()
            .map(|(path, text)| {
                ((*path).to_string(), File { data: Bytes::copy_from_slice(text.as_bytes()), mode: 0o640, uid: None })
            })
            .collect()
    }

    #[test]
    fn an_update_replaces_all_files_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        assert!(write(root, &payload(&[("a", "1"), ("d/b", "2")]), None, "one").unwrap());
        assert_eq!(fs::read_to_string(root.join("a")).unwrap(), "1");
        assert_eq!(fs::read_to_string(root.join("d/b")).unwrap(), "2");
        assert_eq!(fs::metadata(root.join("a")).unwrap().permissions().mode() & 0o777, 0o640);
        assert!(!write(root, &payload(&[("a", "1"), ("d/b", "2")]), None, "two").unwrap(), "nothing changed");
        assert!(write(root, &payload(&[("a", "3")]), None, "three").unwrap());
        assert_eq!(fs::read_to_string(root.join("a")).unwrap(), "3");
        assert!(!root.join("d").exists());
        assert!(!root.join("..one").exists());
        assert_eq!(fs::read_link(root.join("..data")).unwrap(), Path::new("..three"));
    }

    #[test]
    fn paths_stay_inside() {
        let dir = tempfile::tempdir().unwrap();
        for path in ["/a", "../a", "a/../../b", "", "..a"] {
            assert!(write(dir.path(), &payload(&[(path, "x")]), None, "s").is_err(), "{path}");
        }
    }
}
