//! Files that hold keys: readable by their owner only, and either the old or the new content after a crash.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use super::PkiError;

/// More than any file written here; whoever put a larger one there made a mistake.
const FILE_BYTES_MAX: u64 = 64 * 1024;

fn failed(path: &Path, action: &'static str) -> impl FnOnce(std::io::Error) -> PkiError {
    move |source| PkiError::File { path: path.into(), action, source }
}

/// Makes the folder, readable by its owner only.
pub fn make_dir(dir: &Path) -> Result<(), PkiError> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed(dir, "create the folder"))?;
    fs::set_permissions(dir, fs::Permissions::from_mode(0o700)).map_err(failed(dir, "set the mode of the folder"))
}

/// The text of a file; `None` if there is none.
pub fn read(path: &Path) -> Result<Option<String>, PkiError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(path, "read")(error)),
    };
    let mut text = String::new();
    file.take(FILE_BYTES_MAX).read_to_string(&mut text).map_err(failed(path, "read"))?;
    Ok(Some(text))
}

/// Replaces a file as a whole: a temporary file with mode 0600 is written, synced and renamed over it.
pub fn write(path: &Path, text: &str) -> Result<(), PkiError> {
    let temporary = path.with_extension("tmp");
    // A leftover of a crash may have another mode; `mode` below only counts for a new file.
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed(&temporary, "remove")(error)),
        _ => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&temporary)
        .map_err(failed(&temporary, "create"))?;
    file.write_all(text.as_bytes()).map_err(failed(&temporary, "write"))?;
    file.sync_all().map_err(failed(&temporary, "sync"))?;
    fs::rename(&temporary, path).map_err(failed(path, "replace"))?;
    if let Some(dir) = path.parent() {
        File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed(dir, "sync the folder"))?;
    }
    Ok(())
}
