//! What is to be said about a request beside its answer: warnings to the client, annotations to the audit log.
//!
//! Kept beside the request, not in its result, for they are also said of requests that fail.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Warnings of one request; further ones are dropped. What headers carry of them is cut again.
const WARNINGS_MAX: usize = 128;
/// Annotations of one request.
const ANNOTATIONS_MAX: usize = 256;
/// Longest warning and annotation in bytes: callers are told by others what to note.
const TEXT_MAX: usize = 64 << 10;

/// Collects notes; shared by the tasks of one request.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    warnings: Vec<String>,
    annotations: Vec<Annotation>,
}

/// One annotation of the audit event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Annotation {
    /// `<webhook>/<key>` or a well-known key.
    pub key: String,
    /// Any text.
    pub value: String,
    /// Recorded only from level `Request` on, for it shows of the object.
    pub of_request: bool,
}

impl Notes {
    /// Tells the client something.
    pub fn warn(&self, text: &str) {
        let mut inner = self.lock();
        if inner.warnings.len() < WARNINGS_MAX {
            inner.warnings.push(cut(text));
        }
    }

    /// Tells the audit log something. The first value of a key stays.
    pub fn annotate(&self, key: &str, value: &str, of_request: bool) {
        let mut inner = self.lock();
        if inner.annotations.len() < ANNOTATIONS_MAX && !inner.annotations.iter().any(|a| a.key == key) {
            inner.annotations.push(Annotation { key: cut(key), value: cut(value), of_request });
        }
    }

    /// Takes the warnings.
    pub fn take_warnings(&self) -> Vec<String> {
        std::mem::take(&mut self.lock().warnings)
    }

    /// Takes the annotations.
    pub fn take_annotations(&self) -> Vec<Annotation> {
        std::mem::take(&mut self.lock().annotations)
    }

    /// The lists are whole whatever happened to another holder.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn cut(text: &str) -> String {
    let mut end = text.len().min(TEXT_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_string()
}
