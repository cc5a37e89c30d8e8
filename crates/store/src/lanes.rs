//! What the objects of each resource amount to, kept up to date with the state: how many, how large, when last changed.
//!
//! A resource is the first two parts of its keys (`core/pods/`). Readers that keep something computed from all objects of
//! a resource learn from [`Lane::changed`] in a few nanoseconds whether it is still right.

use std::collections::HashMap;
use std::sync::Arc;

use crate::{Entry, Revision};

/// One resource as of a snapshot; all zero for one that has never been written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lane {
    /// Objects there are.
    pub objects: u64,
    /// The bytes of their keys and values.
    pub bytes: u64,
    /// Two snapshots of one store that agree in this hold the same objects of the resource.
    pub changed: Revision,
}

/// All resources. Cloning copies one flat array: a clone is made at most once a batch of writes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Lanes {
    places: Arc<HashMap<Box<str>, usize>>,
    lanes: Vec<Lane>,
}

impl Lanes {
    /// Of a whole state; every resource counts as changed at `revision`, for what was deleted before is not known.
    pub(crate) fn of<'a>(entries: impl Iterator<Item = &'a Arc<Entry>>, revision: Revision) -> Self {
        let mut lanes = Self::default();
        for entry in entries {
            lanes.change(&entry.key, None, Some(entry), revision);
        }
        lanes
    }

    /// Takes note that the entry at `key` was replaced.
    pub(crate) fn change(&mut self, key: &str, before: Option<&Entry>, after: Option<&Entry>, revision: Revision) {
        let Some(name) = lane_of(key) else { return };
        let place = match self.places.get(name) {
            Some(place) => *place,
            None => {
                let place = self.lanes.len();
                Arc::make_mut(&mut self.places).insert(name.into(), place);
                self.lanes.push(Lane::default());
                place
            }
        };
        let lane = &mut self.lanes[place];
        let weight = |entry: Option<&Entry>| entry.map_or((0, 0), |e| (1, weight(e)));
        let ((objects, bytes), (gone, lost)) = (weight(after), weight(before));
        lane.objects = (lane.objects + objects).saturating_sub(gone);
        lane.bytes = (lane.bytes + bytes).saturating_sub(lost);
        lane.changed = revision;
    }

    /// The resource that a key or prefix belongs to.
    pub(crate) fn get(&self, key: &str) -> Lane {
        let place = lane_of(key).and_then(|name| self.places.get(name));
        place.map(|place| self.lanes[*place]).unwrap_or_default()
    }

    /// All resources that have ever been written, in no order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, Lane)> {
        self.places.iter().map(|(name, place)| (&**name, self.lanes[*place]))
    }
}

/// What an entry weighs.
pub(crate) fn weight(entry: &Entry) -> u64 {
    (entry.key.len() + entry.value.len()) as u64
}

/// The first two parts of a key or prefix with their slashes, if it has them.
pub(crate) fn lane_of(key: &str) -> Option<&str> {
    let mut slashes = key.bytes().enumerate().filter(|(_, byte)| *byte == b'/').map(|(at, _)| at);
    slashes.nth(1).map(|at| &key[..=at])
}
