//! How an embedded store is opened, and why it may not be.

use std::io;
use std::path::PathBuf;

use crate::SealError;
use crate::dump::DumpError;
use crate::history::Retention;
use crate::wal::WalError;

/// Settings of [`crate::Embedded`]. The defaults suit everything from a laptop to some gigabytes of objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// The log's first file in an empty directory: small, since opening waits for it.
    pub first_segment_bytes: u64,
    /// No file of the log is larger (save for one large transaction); they grow up to this with what is stored.
    pub segment_bytes: u64,
    /// A snapshot is written when the log has grown by this much, or by half of what is stored if that is more.
    pub snapshot_log_bytes: u64,
    /// Larger transactions are refused. At most 8 MiB.
    pub txn_bytes: usize,
    /// How much of the past is kept in memory.
    pub retention: Retention,
}

/// [`Options::txn_bytes`] at most: a log frame with it still fits what recovery is prepared to read.
pub(crate) const TXN_BYTES_MAX: usize = 8 << 20;

impl Default for Options {
    fn default() -> Self {
        Self {
            first_segment_bytes: 1 << 20,
            segment_bytes: 64 << 20,
            snapshot_log_bytes: 8 << 20,
            txn_bytes: TXN_BYTES_MAX,
            retention: Retention::default(),
        }
    }
}

/// Why a store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error("the store in {dir} is in use by another process; stop it, or choose another data directory")]
    Locked {
        /// The store's directory.
        dir: PathBuf,
    },
    /// A file could not be read or written.
    #[error("cannot use {path}")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Acknowledged data is damaged. Nothing has been changed.
    #[error("{path} is damaged at offset {offset}: {what}; restore it from a copy")]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// Where in it.
        offset: u64,
        /// What is wrong there.
        what: String,
    },
    /// A value cannot be opened with the keys that were given.
    #[error("{path}: the value of {key}: {error}")]
    Sealed {
        /// The file.
        path: PathBuf,
        /// Whose value.
        key: String,
        /// Why.
        error: SealError,
    },
    /// The consensus engine did not start.
    #[error("the store in {dir} cannot start: {reason}")]
    Consensus {
        /// The store's directory.
        dir: PathBuf,
        /// What it said.
        reason: String,
    },
}

impl From<WalError> for OpenError {
    fn from(error: WalError) -> Self {
        match error {
            WalError::Io { path, source } => Self::Io { path, source },
            WalError::Corrupt { path, offset, what } => Self::Corrupt { path, offset, what },
            WalError::Sealed { path, key, error } => Self::Sealed { path, key, error },
        }
    }
}

impl From<DumpError> for OpenError {
    fn from(error: DumpError) -> Self {
        match error {
            DumpError::Io { path, source } => Self::Io { path, source },
            DumpError::Corrupt { path, offset, what } => Self::Corrupt { path, offset, what },
            DumpError::Sealed { path, key, error } => Self::Sealed { path, key, error },
        }
    }
}
