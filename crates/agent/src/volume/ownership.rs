//! `fsGroup`: the files of a volume belong to a group of the pod.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown};
use std::path::Path;

/// Gives everything below `root` to `group`, readable and writable by it; new files inherit it.
///
/// With `only_on_mismatch` (`fsGroupChangePolicy: OnRootMismatch`) nothing is done if the root is as it should be.
pub fn apply(root: &Path, group: u32, only_on_mismatch: bool) -> io::Result<()> {
    let top = fs::symlink_metadata(root)?;
    if only_on_mismatch && top.gid() == group && top.mode() & 0o2070 == 0o2070 {
        return Ok(());
    }
    let mut pending = vec![root.to_path_buf()];
    while let Some(path) = pending.pop() {
        let meta = fs::symlink_metadata(&path)?;
        lchown(&path, None, Some(group))?;
        if meta.is_symlink() {
            continue;
        }
        let add = if meta.is_dir() { 0o2070 } else { 0o060 };
        fs::set_permissions(&path, fs::Permissions::from_mode(meta.mode() & 0o7777 | add))?;
        if meta.is_dir() {
            for entry in fs::read_dir(&path)? {
                pending.push(entry?.path());
            }
        }
    }
    Ok(())
}
