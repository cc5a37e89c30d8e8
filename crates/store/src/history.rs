//! The retained past: the events after a floor, in order, for watchers and for states at past revisions.
//!
//! Everything here is guarded by one lock in [`crate::shared::Shared`]; it reads no clock and wakes nobody itself.
//! Events lie once in `all` and once in the lane of their resource (the key's first two parts), so that a watcher of one
//! resource looks only at that resource's events. Watchers of one prefix form a group, found from a key by its parts;
//! only groups that a key belongs to are touched by a write.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::lanes::lane_of;
use crate::{Change, Compacted, Event, Revision, Snapshot};

/// How much of the past is kept; what is over any of the limits goes, oldest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Events older than this go at the next commit.
    pub age: Duration,
    /// At most this many events.
    pub events: usize,
    /// At most this many bytes of replaced and deleted values.
    pub bytes: usize,
}

impl Default for Retention {
    /// Five minutes, 100,000 events, 64 MiB.
    fn default() -> Self {
        Self { age: Duration::from_secs(300), events: 100_000, bytes: 64 << 20 }
    }
}

/// A checkpoint of the state is kept each so many events; a state between two is computed by undoing at most so many.
/// (A state per revision would cost some 4 KiB of map nodes each.)
const CHECKPOINT_EVENTS: u64 = 4096;

/// The number of an event; counts up by one an event, over all keys.
pub(crate) type Sequence = u64;

/// The watchers of one prefix (rounded down to a `/`).
#[derive(Debug, Default)]
pub(crate) struct Group {
    /// Wakes all of them.
    pub(crate) notify: Notify,
}

#[derive(Debug, Default)]
struct GroupState {
    group: Arc<Group>,
    watchers: usize,
    /// The newest event of this group, and the newest that is no longer held: the number after it, 0 for none.
    written: Sequence,
    pruned: Sequence,
}

#[derive(Debug)]
struct Recorded {
    event: Arc<Event>,
    at: Instant,
    bytes: usize,
}

#[derive(Debug, Default)]
struct Lane {
    events: VecDeque<(Sequence, Arc<Event>)>,
}

/// The retained past.
#[derive(Debug)]
pub(crate) struct History {
    retention: Retention,
    /// The newest revision whose events are all in here.
    newest: Revision,
    /// States before this revision cannot be told, and events up to it are gone.
    floor: Revision,
    all: VecDeque<Recorded>,
    /// The number of the first event in `all`.
    first: Sequence,
    bytes: usize,
    lanes: HashMap<Arc<str>, Lane>,
    groups: HashMap<Arc<str>, GroupState>,
    checkpoints: VecDeque<(Sequence, Snapshot)>,
}

/// What a watcher got from one look.
#[derive(Debug)]
pub(crate) struct Look {
    /// The events under its prefix, at most as many as asked for.
    pub(crate) events: Vec<Arc<Event>>,
    /// Where to look next.
    pub(crate) next: Sequence,
    /// The revision up to which everything has been handed out.
    pub(crate) position: Revision,
}

impl History {
    /// An empty past that starts at `revision`.
    pub(crate) fn new(retention: Retention, revision: Revision) -> Self {
        Self {
            retention,
            newest: revision,
            floor: revision,
            all: VecDeque::new(),
            first: 1,
            bytes: 0,
            lanes: HashMap::new(),
            groups: HashMap::new(),
            checkpoints: VecDeque::new(),
        }
    }

    /// Forgets everything: the state was replaced as a whole by one at `revision`.
    pub(crate) fn reset(&mut self, revision: Revision) -> Vec<Arc<Group>> {
        let end = self.end();
        self.all.clear();
        self.lanes.clear();
        self.checkpoints.clear();
        (self.first, self.bytes) = (end + 1, 0);
        (self.newest, self.floor) = (revision, revision);
        let gone = |state: &mut GroupState| {
            (state.written, state.pruned) = (end + 1, end + 1);
            Arc::clone(&state.group)
        };
        self.groups.values_mut().map(gone).collect()
    }

    /// Adds the events that led to `after`, drops what is over the limits, and tells which groups to wake.
    pub(crate) fn record(&mut self, events: Vec<Arc<Event>>, after: &Snapshot, now: Instant) -> Vec<Arc<Group>> {
        let mut woken: Vec<Arc<Group>> = Vec::new();
        let before = self.end();
        for event in events {
            let sequence = self.end();
            self.each_group(event.key(), |state| {
                if state.written <= before {
                    woken.push(Arc::clone(&state.group));
                }
                state.written = sequence + 1;
            });
            self.push(event, sequence, now);
        }
        self.newest = after.revision();
        if self.end() >= self.checkpoints.back().map_or(self.first, |(sequence, _)| *sequence) + CHECKPOINT_EVENTS {
            self.checkpoints.push_back((self.end(), after.clone()));
        }
        self.prune(now);
        woken
    }

    fn push(&mut self, event: Arc<Event>, sequence: Sequence, now: Instant) {
        let bytes = match &event.change {
            Change::Put { previous, .. } => previous.as_ref().map_or(0, |previous| previous.value.len()),
            Change::Delete { previous } => previous.value.len(),
        };
        let lane = lane_of(event.key()).unwrap_or(event.key());
        match self.lanes.get_mut(lane) {
            Some(lane) => lane.events.push_back((sequence, Arc::clone(&event))),
            None => {
                let events = VecDeque::from([(sequence, Arc::clone(&event))]);
                self.lanes.insert(Arc::from(lane), Lane { events });
            }
        }
        self.bytes += bytes;
        self.all.push_back(Recorded { event, at: now, bytes });
    }

    /// One past the number of the newest event.
    fn end(&self) -> Sequence {
        self.first + self.all.len() as u64
    }

    fn prune(&mut self, now: Instant) {
        while let Some(oldest) = self.all.front() {
            let over = self.all.len() > self.retention.events
                || self.bytes > self.retention.bytes
                || now.saturating_duration_since(oldest.at) > self.retention.age;
            // All events of a revision go together.
            if !over && oldest.event.revision > self.floor {
                break;
            }
            self.drop_oldest();
        }
        if self.all.capacity() > 1024 && self.all.len() < self.all.capacity() / 4 {
            self.all.shrink_to(self.all.len() * 2);
        }
        while self.checkpoints.front().is_some_and(|(_, snapshot)| snapshot.revision() < self.floor) {
            self.checkpoints.pop_front();
        }
    }

    fn drop_oldest(&mut self) {
        let Some(oldest) = self.all.pop_front() else { return };
        let sequence = self.first;
        self.first += 1;
        self.bytes -= oldest.bytes;
        self.floor = oldest.event.revision;
        let key = oldest.event.key();
        let lane = lane_of(key).unwrap_or(key);
        if let Some(events) = self.lanes.get_mut(lane).map(|lane| &mut lane.events) {
            events.pop_front();
            if events.is_empty() {
                self.lanes.remove(lane);
            }
        }
        self.each_group(key, |state| state.pruned = sequence + 1);
    }

    fn each_group(&mut self, key: &str, mut visit: impl FnMut(&mut GroupState)) {
        if self.groups.is_empty() {
            return;
        }
        let parts = key.bytes().enumerate().filter(|(_, byte)| *byte == b'/').map(|(at, _)| &key[..=at]);
        for part in std::iter::once("").chain(parts) {
            if let Some(state) = self.groups.get_mut(part) {
                visit(state);
            }
        }
    }

    /// A watcher's start: the events after `after`.
    pub(crate) fn join(&mut self, prefix: &str, after: Revision) -> Result<(Arc<Group>, Sequence), Compacted> {
        if after < self.floor {
            return Err(Compacted { asked: after, oldest: self.floor });
        }
        let at = self.all.partition_point(|recorded| recorded.event.revision <= after);
        let next = self.first + at as u64;
        let (first, end) = (self.first, self.end());
        // What was written before the group existed is not known: take it that the newest event was its own, and that all
        // that is gone was too (the floor has been checked above).
        let new = || GroupState { written: end, pruned: first, ..GroupState::default() };
        let state = self.groups.entry(Arc::from(prefix_group(prefix))).or_insert_with(new);
        state.watchers += 1;
        let group = Arc::clone(&state.group);
        Ok((group, next))
    }

    /// A watcher's end.
    pub(crate) fn leave(&mut self, prefix: &str) {
        let prefix = prefix_group(prefix);
        let Some(state) = self.groups.get_mut(prefix) else { return };
        state.watchers -= 1;
        if state.watchers == 0 {
            self.groups.remove(prefix);
        }
    }

    /// The events under `prefix` from number `next` on, at most `max`.
    pub(crate) fn look(&self, prefix: &str, next: Sequence, position: Revision, max: usize) -> Result<Look, Compacted> {
        let end = self.end();
        let idle = Look { events: Vec::new(), next: end, position: self.newest };
        let Some(state) = self.groups.get(prefix_group(prefix)) else { return Ok(idle) };
        if state.written <= next {
            return Ok(idle);
        }
        if next < self.first && state.pruned > next {
            return Err(Compacted { asked: position, oldest: self.floor });
        }
        let mut events: Vec<Arc<Event>> = Vec::new();
        for (sequence, event) in self.from(prefix, next).filter(|(_, event)| event.key().starts_with(prefix)) {
            if events.len() < max {
                events.push(Arc::clone(event));
                continue;
            }
            // What is handed out is complete only up to the revision before the first that was left.
            return Ok(Look { events, next: sequence, position: Revision(event.revision.0 - 1).max(position) });
        }
        Ok(Look { events, next: end, position: self.newest })
    }

    /// The events from number `next` on that may lie under `prefix`.
    fn from<'a>(&'a self, prefix: &str, next: Sequence) -> Box<dyn Iterator<Item = (Sequence, &'a Arc<Event>)> + 'a> {
        match lane_of(prefix) {
            Some(lane) => match self.lanes.get(lane) {
                Some(lane) => {
                    let at = lane.events.partition_point(|(sequence, _)| *sequence < next);
                    Box::new(lane.events.range(at..).map(|(sequence, event)| (*sequence, event)))
                }
                None => Box::new(std::iter::empty()),
            },
            None => {
                let at = next.saturating_sub(self.first) as usize;
                let events = self.all.range(at.min(self.all.len())..).enumerate();
                Box::new(events.map(move |(i, recorded)| (self.first + (at + i) as u64, &recorded.event)))
            }
        }
    }

    /// From which state and which events the state at `revision` can be computed; `None` stands for the newest state.
    pub(crate) fn past(&self, revision: Revision) -> Result<(Option<Snapshot>, Vec<Arc<Event>>), Compacted> {
        if revision < self.floor {
            return Err(Compacted { asked: revision, oldest: self.floor });
        }
        let later = self.checkpoints.partition_point(|(_, snapshot)| snapshot.revision() < revision);
        let checkpoint = self.checkpoints.get(later).map(|(_, snapshot)| snapshot.clone());
        let until = checkpoint.as_ref().map_or(self.newest, Snapshot::revision);
        let from = self.all.partition_point(|recorded| recorded.event.revision <= revision);
        let to = self.all.partition_point(|recorded| recorded.event.revision <= until);
        Ok((checkpoint, self.all.range(from..to).map(|recorded| Arc::clone(&recorded.event)).collect()))
    }

    /// Every group, to tell them of the end.
    pub(crate) fn groups(&self) -> Vec<Arc<Group>> {
        self.groups.values().map(|state| Arc::clone(&state.group)).collect()
    }
}

/// The prefix whose group a watcher of `prefix` joins: cut after the last slash.
fn prefix_group(prefix: &str) -> &str {
    prefix.rfind('/').map_or("", |at| &prefix[..=at])
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::state::State;
    use crate::{Txn, Value};

    struct World {
        state: State,
        history: History,
        now: Instant,
    }

    impl World {
        fn new(retention: Retention) -> Self {
            let (state, now) = (State::default(), Instant::now());
            Self { history: History::new(retention, Revision(0)), state, now }
        }

        /// Writes a value of ten bytes and tells how many groups are woken.
        fn put(&mut self, key: &str) -> Vec<Arc<Group>> {
            let mut events = Vec::new();
            let value = Value { bytes: Bytes::from_static(b"0123456789"), revision_at: None };
            self.state.apply(&Txn::put(key, None, value), &mut events).expect("unconditional");
            self.history.record(events, self.state.current(), self.now)
        }
    }

    #[test]
    fn a_write_wakes_only_the_groups_of_its_key() {
        let mut world = World::new(Retention::default());
        let prefixes = ["", "core/", "core/pods/", "core/pods/a/", "core/pods/a/we", "core/pods/b/", "apps/sets/"];
        let groups = prefixes.map(|prefix| world.history.join(prefix, Revision(0)).expect("held").0);
        for (key, expected) in [
            ("core/pods/a/web", vec!["", "core/", "core/pods/", "core/pods/a/"]),
            ("core/nodes/n", vec!["", "core/"]),
            ("apps/sets/a/web", vec!["", "apps/sets/"]),
            ("other", vec![""]),
        ] {
            let woken = world.put(key);
            // Both watchers under core/pods/a/ are one group.
            let names: Vec<_> = woken
                .iter()
                .map(|group| prefixes[groups.iter().position(|known| Arc::ptr_eq(known, group)).expect("known")])
                .collect();
            assert_eq!(names, expected, "{key}");
        }
    }

    #[test]
    fn a_group_is_woken_once_a_batch_and_goes_with_its_last_watcher() {
        let mut world = World::new(Retention::default());
        let (group, _) = world.history.join("a/b/", Revision(0)).expect("held");
        let mut events = Vec::new();
        for key in ["a/b/1", "a/b/2", "a/b/1"] {
            world.state.apply(&Txn::put(key, None, Value { bytes: Bytes::new(), revision_at: None }), &mut events).ok();
        }
        assert_eq!(world.history.record(events, world.state.current(), world.now).len(), 1);
        let (second, _) = world.history.join("a/b/", Revision(3)).expect("held");
        assert!(Arc::ptr_eq(&group, &second));
        world.history.leave("a/b/");
        assert_eq!(world.history.groups().len(), 1, "one watcher is left");
        world.history.leave("a/b/");
        assert!(world.history.groups().is_empty());
    }

    #[test]
    fn each_limit_drops_the_oldest_whole_revisions() {
        let keep_all = Retention { age: Duration::from_secs(1000), events: 1000, bytes: 1000 };
        for (retention, held) in [
            (Retention { events: 7, ..keep_all }, 7),
            // The first write of the key replaces nothing, each later one ten bytes.
            (Retention { bytes: 45, ..keep_all }, 4),
            (Retention { age: Duration::from_secs(5), ..keep_all }, 6),
        ] {
            let mut world = World::new(retention);
            for _ in 0..20 {
                world.put("a/b/c");
                world.now += Duration::from_secs(1);
            }
            assert_eq!(world.history.floor, Revision(20 - held), "{retention:?}");
            assert!(world.history.past(Revision(20 - held)).is_ok());
            assert!(world.history.past(Revision(19 - held)).is_err());
            assert!(world.history.join("", Revision(19 - held)).is_err());
        }
    }

    #[test]
    fn checkpoints_shorten_the_way_to_a_past_state() {
        let mut world = World::new(Retention::default());
        for i in 0..3 * CHECKPOINT_EVENTS {
            world.put(&format!("a/b/{}", i % 10));
        }
        let (state, events) = world.history.past(Revision(10)).expect("held");
        assert!(state.is_some_and(|state| state.revision().0 <= CHECKPOINT_EVENTS));
        assert!(events.len() as u64 <= CHECKPOINT_EVENTS);
        let (newest, events) = world.history.past(Revision(3 * CHECKPOINT_EVENTS - 1)).expect("held");
        assert!(events.len() <= 1, "{} {newest:?}", events.len());
    }
}
