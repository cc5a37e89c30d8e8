//! Who depends on whom: the keys of the dependents of every owner, kept current from the changes of all kinds.
//!
//! It only says where to look: whatever is done is decided from the snapshot. Objects without owners cost nothing here.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use mizzen_store::{Change, Entry, Event, Snapshot};

use super::head::{Head, is_watched, may_matter};
use crate::served;

/// The keys of dependents by the UID of their owner.
#[derive(Debug, Default)]
pub struct Owners {
    dependents: HashMap<String, BTreeSet<Arc<str>>>,
}

impl Owners {
    /// The dependents in a state, and the keys that may have something to be done about.
    pub fn of(snapshot: &Snapshot) -> (Self, Vec<String>) {
        let (mut owners, mut keys) = (Self::default(), Vec::new());
        for entry in snapshot.prefix("") {
            if !is_watched(&entry.key) {
                continue;
            }
            let head = Head::of(entry);
            owners.add(&entry.key, &head);
            if !head.owners().is_empty() || head.waits_for_us() {
                keys.push(entry.key.to_string());
            }
        }
        (owners, keys)
    }

    /// The keys of what names this UID as an owner.
    pub fn dependents(&self, uid: &str) -> impl Iterator<Item = &Arc<str>> {
        self.dependents.get(uid).into_iter().flatten()
    }

    /// Takes a change in; answers which keys may now have something to be done about.
    pub fn follow(&mut self, snapshot: &Snapshot, event: &Event) -> Vec<String> {
        if !is_watched(event.key()) {
            return Vec::new();
        }
        match &event.change {
            Change::Put { entry, previous } => self.put(snapshot, entry, previous.as_ref()),
            Change::Delete { previous } => self.delete(snapshot, previous),
        }
    }

    fn put(&mut self, snapshot: &Snapshot, entry: &Arc<Entry>, previous: Option<&Arc<Entry>>) -> Vec<String> {
        if !may_matter(entry) && !previous.is_some_and(|p| may_matter(p)) {
            return Vec::new();
        }
        let head = Head::of(entry);
        let before = previous.map(|p| Head::of(p)).unwrap_or_default();
        let mut woken = Vec::new();
        if head.owners() != before.owners() {
            self.remove(&entry.key, &before);
            self.add(&entry.key, &head);
            woken.push(entry.key.to_string());
            woken.extend(waiting(snapshot, &before, &entry.key));
        }
        if head.waits_for_us() {
            woken.push(entry.key.to_string());
            if !before.waits_for_us() {
                woken.extend(self.dependents(head.uid()).map(|k| k.to_string()));
            }
        }
        // A dependent that begins to wait itself may close a circle.
        if head.waits_for_us() && !before.waits_for_us() {
            woken.extend(waiting(snapshot, &head, &entry.key));
        }
        woken
    }

    fn delete(&mut self, snapshot: &Snapshot, previous: &Arc<Entry>) -> Vec<String> {
        let before = Head::of(previous);
        self.remove(&previous.key, &before);
        let mut woken: Vec<String> = self.dependents(before.uid()).map(|k| k.to_string()).collect();
        woken.extend(waiting(snapshot, &before, &previous.key));
        woken
    }

    fn add(&mut self, key: &Arc<str>, head: &Head) {
        for owner in head.owners() {
            self.dependents.entry(owner.uid.clone()).or_default().insert(Arc::clone(key));
        }
    }

    fn remove(&mut self, key: &Arc<str>, head: &Head) {
        for owner in head.owners() {
            if let Some(keys) = self.dependents.get_mut(&owner.uid) {
                keys.remove(key);
                if keys.is_empty() {
                    self.dependents.remove(&owner.uid);
                }
            }
        }
    }
}

/// The owners that wait for what becomes of this dependent.
fn waiting(snapshot: &Snapshot, head: &Head, key: &str) -> Vec<String> {
    let namespace = mizzen_api::key::parse(key).map_or("", |(_, _, namespace, _)| namespace);
    let find = |owner: &super::head::Owner| {
        let at = served::by_kind(snapshot, &owner.api_version, &owner.kind)?.key(namespace, &owner.name);
        snapshot.get(&at).filter(|e| Head::of(e).waits_for_us()).map(|_| at)
    };
    head.owners().iter().filter_map(find).collect()
}
