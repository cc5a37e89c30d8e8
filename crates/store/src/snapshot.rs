//! The state at one revision.

use std::sync::Arc;

use crate::{Entry, Revision};

/// Everything as of one revision; cloning costs a pointer, holding it costs only what has changed since.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    pub(crate) revision: Revision,
    pub(crate) map: imbl::OrdMap<Arc<str>, Arc<Entry>>,
}

impl Snapshot {
    /// The revision this is the state of.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// The entry at `key`.
    pub fn get(&self, key: &str) -> Option<&Arc<Entry>> {
        self.map.get(key)
    }

    /// The entries whose keys start with `prefix`, in key order.
    pub fn prefix<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = &'a Arc<Entry>> + 'a {
        self.prefix_from(prefix, prefix)
    }

    /// As [`Snapshot::prefix`], from the first key that is not before `from` (paging).
    pub fn prefix_from<'a>(&'a self, prefix: &'a str, from: &str) -> impl Iterator<Item = &'a Arc<Entry>> + 'a {
        let start: Arc<str> = Arc::from(from.max(prefix));
        self.map.range(start..).map(|(_, entry)| entry).take_while(move |entry| entry.key.starts_with(prefix))
    }

    /// The object at `key` decoded from JSON; decoded once for all who ask. `None` if it is not there or not readable as `T`.
    pub fn get_as<T: serde::de::DeserializeOwned + Send + Sync + 'static>(&self, key: &str) -> Option<Arc<T>> {
        self.get(key).and_then(decoded)
    }

    /// All objects under `prefix` decoded from JSON, with those that cannot be read as `T` left out.
    pub fn list_as<'a, T: serde::de::DeserializeOwned + Send + Sync + 'static>(
        &'a self,
        prefix: &'a str,
    ) -> impl Iterator<Item = Arc<T>> + 'a {
        self.prefix(prefix).filter_map(decoded)
    }
}

/// A state that was never committed, for tests of those who read snapshots; its revision is the newest of its entries.
impl FromIterator<Entry> for Snapshot {
    fn from_iter<I: IntoIterator<Item = Entry>>(entries: I) -> Self {
        let map: imbl::OrdMap<Arc<str>, Arc<Entry>> =
            entries.into_iter().map(|entry| (Arc::clone(&entry.key), Arc::new(entry))).collect();
        let revision = map.values().map(|entry: &Arc<Entry>| entry.revision).max().unwrap_or_default();
        Self { revision, map }
    }
}

fn decoded<T: serde::de::DeserializeOwned + Send + Sync + 'static>(entry: &Arc<Entry>) -> Option<Arc<T>> {
    let kept = entry.derived(|entry| serde_json::from_slice::<T>(&entry.value).ok().map(Arc::new));
    (*kept).clone()
}
