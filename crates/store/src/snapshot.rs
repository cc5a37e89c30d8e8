//! The state at one revision.

use std::sync::Arc;

use crate::lanes::Lanes;
use crate::{Entry, Lane, Revision};

/// Everything as of one revision; cloning costs a pointer, holding it costs only what has changed since.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    pub(crate) revision: Revision,
    pub(crate) map: imbl::OrdMap<Arc<str>, Arc<Entry>>,
    pub(crate) lanes: Arc<Lanes>,
}

impl Snapshot {
    /// The revision this is the state of.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// What all objects of a resource amount to, and when one of them last changed; `prefix` is any prefix of its keys that
    /// holds their first two parts. Costs one look-up in a small table, however many objects there are.
    pub fn resource(&self, prefix: &str) -> Lane {
        self.lanes.get(prefix)
    }

    /// All resources that have ever been written with the first two parts of their keys (`core/pods/`), in no order.
    pub fn resources(&self) -> impl Iterator<Item = (&str, Lane)> {
        self.lanes.iter()
    }

    /// The state that these entries make.
    pub(crate) fn whole(revision: Revision, map: imbl::OrdMap<Arc<str>, Arc<Entry>>) -> Self {
        let lanes = Arc::new(Lanes::of(map.values(), revision));
        Self { revision, map, lanes }
    }

    /// Puts an entry, or takes away the one at `key`; answers the one that was there.
    pub(crate) fn change(&mut self, key: &Arc<str>, entry: Option<Arc<Entry>>, at: Revision) -> Option<Arc<Entry>> {
        let previous = match &entry {
            Some(entry) => self.map.insert(Arc::clone(key), Arc::clone(entry)),
            None => self.map.remove(key),
        };
        Arc::make_mut(&mut self.lanes).change(key, previous.as_deref(), entry.as_deref(), at);
        previous
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
        Self::whole(revision, map)
    }
}

fn decoded<T: serde::de::DeserializeOwned + Send + Sync + 'static>(entry: &Arc<Entry>) -> Option<Arc<T>> {
    let kept = entry.derived(|entry| serde_json::from_slice::<T>(&entry.value).ok().map(Arc::new));
    (*kept).clone()
}
