//! Why an image could not be stored.

use std::io;
use std::path::PathBuf;

use crate::images::{ImageError, ImageErrorReason};

/// Why an image could not be pulled, loaded, read or removed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The name is not an image reference.
    #[error("couldn't parse image name {name:?}: {message}")]
    Name {
        /// As given.
        name: String,
        /// What is wrong with it.
        message: &'static str,
    },
    /// A file of the store, or one given, could not be read or written.
    #[error("{action} {path}")]
    File {
        /// What was being done.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The kernel's word.
        #[source]
        source: io::Error,
    },
    /// The registry could not be reached or broke off.
    #[error("{url}: {message}")]
    Transport {
        /// What was asked for.
        url: String,
        /// What happened.
        message: String,
    },
    /// The registry answered, but not with what was asked for.
    #[error("{url}: the registry answered {code}: {message}")]
    Refused {
        /// What was asked for.
        url: String,
        /// HTTP status.
        code: u16,
        /// Its explanation, or what the code means here.
        message: String,
    },
    /// A document is not what the image specification says.
    #[error("{what}: {message}")]
    Malformed {
        /// Which document.
        what: String,
        /// What is wrong with it.
        message: String,
    },
    /// The content has another digest than promised.
    #[error("{what}: expected {expected}, but the content has {actual}")]
    DigestMismatch {
        /// Which content.
        what: String,
        /// The digest promised.
        expected: String,
        /// The digest found.
        actual: String,
    },
    /// A layer holds an entry that is not safe or not possible.
    #[error("layer {layer}: entry {entry:?}: {message}")]
    Entry {
        /// Digest of the layer.
        layer: String,
        /// Path in the layer.
        entry: String,
        /// What is wrong with it.
        message: String,
    },
    /// The archive lacks a blob that its manifest names.
    #[error("{what} is missing: {digest}")]
    Missing {
        /// `layer`, `configuration`, `manifest`.
        what: &'static str,
        /// Its digest or file name.
        digest: String,
    },
}

impl StoreError {
    pub(crate) fn file(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| StoreError::File { action, path, source }
    }

    pub(crate) fn malformed(what: impl Into<String>, message: impl ToString) -> Self {
        StoreError::Malformed { what: what.into(), message: message.to_string() }
    }

    /// As a container's waiting state shows it.
    pub(crate) fn for_image(&self, reference: &str) -> ImageError {
        let reason = match self {
            StoreError::Name { .. } => ImageErrorReason::InvalidImageName,
            _ => ImageErrorReason::ErrImagePull,
        };
        ImageError { reason, message: format!("failed to pull image {reference:?}: {}", chain(self)) }
    }
}

/// The error and its causes in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
