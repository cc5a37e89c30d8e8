//! hostPath volumes: checks what is there, and creates what may be created.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// A hostPath cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HostPathError {
    /// What is there is of another type.
    #[error("hostPath type check failed: {path} is not a {wanted}")]
    WrongType {
        /// The path.
        path: PathBuf,
        /// The type asked for.
        wanted: &'static str,
    },
    /// Not a type that exists.
    #[error("hostPath type {kind:?} is unknown")]
    UnknownType {
        /// The type.
        kind: String,
    },
    /// It could not be made.
    #[error("create {path}")]
    Create {
        /// The path.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
}

/// Has `path` be what `kind` (`hostPath.type`) asks for.
pub fn prepare(path: &Path, kind: &str) -> Result<(), HostPathError> {
    let found = fs::metadata(path).ok().map(|m| m.file_type());
    let check =
        |ok: bool, wanted| if ok { Ok(()) } else { Err(HostPathError::WrongType { path: path.into(), wanted }) };
    let create_error = |source| HostPathError::Create { path: path.into(), source };
    match kind {
        "" if found.is_some() => Ok(()),
        // Docker's behaviour, which Kubernetes kept: a missing path becomes a directory.
        "" => fs::DirBuilder::new().recursive(true).mode(0o755).create(path).map_err(create_error),
        "DirectoryOrCreate" if found.is_none() => {
            fs::DirBuilder::new().recursive(true).mode(0o755).create(path).map_err(create_error)
        }
        "FileOrCreate" if found.is_none() => {
            fs::OpenOptions::new().write(true).create_new(true).mode(0o644).open(path).map(drop).map_err(create_error)
        }
        "Directory" | "DirectoryOrCreate" => check(found.is_some_and(|t| t.is_dir()), "directory"),
        "File" | "FileOrCreate" => check(found.is_some_and(|t| t.is_file()), "file"),
        "Socket" => check(found.is_some_and(|t| t.is_socket()), "socket file"),
        "CharDevice" => check(found.is_some_and(|t| t.is_char_device()), "character device"),
        "BlockDevice" => check(found.is_some_and(|t| t.is_block_device()), "block device"),
        _ => Err(HostPathError::UnknownType { kind: kind.into() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_checked_and_made() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::write(at("file"), "").unwrap();
        for (name, kind, ok) in [
            ("missing", "Directory", false),
            ("missing", "File", false),
            ("file", "Directory", false),
            ("file", "File", true),
            ("file", "", true),
            ("file", "Socket", false),
            ("a/b", "DirectoryOrCreate", true),
            ("a/b", "Directory", true),
            ("new", "FileOrCreate", true),
            ("new", "File", true),
            ("c", "", true),
            ("c", "Directory", true),
            ("c", "Nonsense", false),
        ] {
            assert_eq!(prepare(&at(name), kind).is_ok(), ok, "{name} {kind}");
        }
    }
}
