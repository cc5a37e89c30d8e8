//! What is computed from a part of the store, kept until that part changes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwapOption;
use mizzen_store::Snapshot;

/// Keeps what `build` makes of the objects under a prefix for as long as it is right.
#[derive(Debug)]
pub(crate) struct Cache<T> {
    prefix: &'static str,
    build: fn(&Snapshot) -> T,
    current: ArcSwapOption<Cached<T>>,
}

#[derive(Debug)]
struct Cached<T> {
    fingerprint: Fingerprint,
    value: Arc<T>,
    /// The value is that of every revision from here …
    first: u64,
    /// … to here.
    last: AtomicU64,
}

/// How many objects there are, and the newest revision among them: any write raises the revision, any deletion lowers
/// the number.
#[derive(Debug, PartialEq, Eq)]
struct Fingerprint {
    count: usize,
    newest: u64,
}

impl Fingerprint {
    fn of(snapshot: &Snapshot, prefix: &str) -> Self {
        let start = Self { count: 0, newest: 0 };
        snapshot
            .prefix(prefix)
            .fold(start, |sum, entry| Self { count: sum.count + 1, newest: sum.newest.max(entry.revision.0) })
    }
}

impl<T> Cache<T> {
    /// A cache of what `build` makes of what is under `prefix`.
    pub fn new(prefix: &'static str, build: fn(&Snapshot) -> T) -> Self {
        Self { prefix, build, current: ArcSwapOption::empty() }
    }

    /// The value as of a snapshot.
    pub fn get(&self, snapshot: &Snapshot) -> Arc<T> {
        let revision = snapshot.revision().0;
        let current = self.current.load();
        let known = |cached: &Cached<T>| (cached.first..=cached.last.load(Ordering::Acquire)).contains(&revision);
        if let Some(cached) = current.as_deref().filter(|cached| known(cached)) {
            return Arc::clone(&cached.value);
        }
        let fingerprint = Fingerprint::of(snapshot, self.prefix);
        if let Some(cached) = current.as_deref().filter(|cached| cached.fingerprint == fingerprint) {
            cached.last.fetch_max(revision, Ordering::AcqRel);
            return Arc::clone(&cached.value);
        }
        let value = Arc::new((self.build)(snapshot));
        // A request that still works on an older snapshot gets its own value and leaves the newer one in place.
        if current.as_deref().is_none_or(|cached| cached.first <= revision) {
            let last = AtomicU64::new(revision);
            let cached = Cached { fingerprint, value: Arc::clone(&value), first: revision, last };
            self.current.store(Some(Arc::new(cached)));
        }
        value
    }
}
