//! One stored value at one revision.

use std::any::Any;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;

/// A point in the one history of all objects. Counts up by one a committed transaction; 0 is the empty store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, serde::Serialize, serde::Deserialize)]
pub struct Revision(pub u64);

impl std::fmt::Display for Revision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// A value as stored, with the revision that wrote it spliced in where the writer asked for it.
///
/// Shared by everyone who reads it; what a reader computes from it (a decoded struct, parsed labels) can be kept beside
/// it once for all readers with [`Entry::derived`].
#[derive(Debug)]
pub struct Entry {
    /// Its key.
    pub key: Arc<str>,
    /// The bytes that clients are served.
    pub value: Bytes,
    /// The transaction that wrote it.
    pub revision: Revision,
    /// The transaction that first wrote this key since it was last absent.
    pub created: Revision,
    /// Where in `value` the revision stands in decimal; empty if the writer asked for none.
    pub revision_span: Range<u32>,
    derived: Derived,
}

/// What readers derived, at most one value of each type.
#[derive(Debug, Default)]
struct Derived {
    first: OnceLock<Arc<dyn Any + Send + Sync>>,
    second: OnceLock<Arc<dyn Any + Send + Sync>>,
}

impl Entry {
    /// An entry as committed.
    pub fn new(key: Arc<str>, value: Bytes, revision: Revision, created: Revision, revision_span: Range<u32>) -> Self {
        Self { key, value, revision, created, revision_span, derived: Derived::default() }
    }

    /// What `derive` makes of this entry, computed once and shared by all who ask for the same type.
    ///
    /// Two types are kept (the server's parsed metadata and the controllers' decoded object); a third is computed each time.
    pub fn derived<T: Send + Sync + 'static>(&self, derive: impl FnOnce(&Entry) -> T) -> Arc<T> {
        let mut derive = Some(derive);
        for slot in [&self.derived.first, &self.derived.second] {
            let kept = slot.get_or_init(|| match derive.take() {
                Some(derive) => Arc::new(derive(self)),
                None => Arc::new(()),
            });
            if let Ok(kept) = Arc::clone(kept).downcast::<T>() {
                return kept;
            }
        }
        match derive.take() {
            Some(derive) => Arc::new(derive(self)),
            // `derive` is consumed only by the slot whose value is then of type T and returned above.
            None => unreachable!("a slot initialised here holds a T"),
        }
    }

    /// The same bytes with another revision spliced in: what a watch sends when this entry is deleted at `revision`.
    pub fn value_at(&self, revision: Revision) -> Bytes {
        if self.revision_span.is_empty() {
            return self.value.clone();
        }
        let (start, end) = (self.revision_span.start as usize, self.revision_span.end as usize);
        let text = revision.to_string();
        let mut out = Vec::with_capacity(self.value.len() + text.len());
        out.extend_from_slice(&self.value[..start]);
        out.extend_from_slice(text.as_bytes());
        out.extend_from_slice(&self.value[end..]);
        out.into()
    }
}
