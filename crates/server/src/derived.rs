//! What is computed from some resources of the store, kept until one of their objects changes.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use mizzen_store::{Revision, Snapshot};

/// Keeps what `build` makes of all objects of some resources for as long as it is right. To find that it is costs one
/// look-up in a small table for each resource, whatever else is written meanwhile.
#[derive(Debug)]
pub(crate) struct Cache<T> {
    resources: &'static [&'static str],
    build: fn(&Snapshot) -> T,
    current: ArcSwapOption<Cached<T>>,
}

#[derive(Debug)]
struct Cached<T> {
    /// When the resources last changed. Every change has a later revision than all before it, so the latest of them tells
    /// any two states apart.
    changed: Revision,
    value: Arc<T>,
}

impl<T> Cache<T> {
    /// A cache of what `build` makes of `resources`, which are the first two parts of keys (`core/pods/`).
    pub fn new(resources: &'static [&'static str], build: fn(&Snapshot) -> T) -> Self {
        Self { resources, build, current: ArcSwapOption::empty() }
    }

    /// The value as of a snapshot.
    pub fn get(&self, snapshot: &Snapshot) -> Arc<T> {
        let changed = self.resources.iter().map(|name| snapshot.resource(name).changed).max().unwrap_or_default();
        let current = self.current.load();
        if let Some(cached) = current.as_deref().filter(|cached| cached.changed == changed) {
            return Arc::clone(&cached.value);
        }
        let value = Arc::new((self.build)(snapshot));
        // A request that still works on an older snapshot gets its own value and leaves the newer one in place.
        if current.as_deref().is_none_or(|cached| cached.changed <= changed) {
            self.current.store(Some(Arc::new(Cached { changed, value: Arc::clone(&value) })));
        }
        value
    }
}

#[cfg(test)]
mod tests {
    use mizzen_store::{Memory, Store, Txn, Value};

    use super::*;

    #[tokio::test]
    async fn values_are_made_anew_only_when_their_resources_change() {
        let store = Memory::default();
        let cache = Cache::new(&["a/x/", "a/y/"], |snapshot| snapshot.prefix("a/").count());
        let mut last = cache.get(&store.snapshot());
        let value = || Value { bytes: "1".into(), revision_at: None };
        for (txn, objects, anew) in [
            (Txn::put("a/x/n/1", None, value()), 1, true),
            (Txn::put("a/z/n/1", None, value()), 1, false),
            (Txn::put("a/y/n/1", None, value()), 3, true),
            (Txn::delete("a/z/n/1", None), 3, false),
            (Txn::put("a/x/n/1", None, value()), 2, true),
            (Txn::delete("a/x/n/1", None), 1, true),
        ] {
            store.commit(txn).await.unwrap();
            let got = cache.get(&store.snapshot());
            assert_eq!((*got, !Arc::ptr_eq(&got, &last)), (objects, anew));
            last = got;
        }
    }
}
