//! The state machine: what a transaction does to the map. Pure: no clock, no files, no randomness, so every voter that
//! applies the same transactions holds the same state.

use std::sync::Arc;

use bytes::Bytes;

use crate::lanes::weight;
use crate::{Change, CommitError, Committed, Entry, Event, Expect, Operation, Revision, Snapshot, Txn, Value};

/// The newest state, and how much it weighs.
#[derive(Debug, Default)]
pub(crate) struct State {
    current: Snapshot,
    bytes: u64,
}

impl State {
    /// A state machine that continues from a stored state.
    pub(crate) fn from_snapshot(current: Snapshot) -> Self {
        let bytes = current.map.values().map(|entry| weight(entry)).sum();
        Self { current, bytes }
    }

    /// The newest state.
    pub(crate) fn current(&self) -> &Snapshot {
        &self.current
    }

    /// The bytes of all keys and values.
    pub(crate) fn live_bytes(&self) -> u64 {
        self.bytes
    }

    /// Applies one transaction if its conditions hold; what changed is added to `events`.
    pub(crate) fn apply(&mut self, txn: &Txn, events: &mut Vec<Arc<Event>>) -> Result<Committed, CommitError> {
        for (key, expect) in &txn.expect {
            let actual = self.current.get(key);
            if !holds(*expect, actual) {
                return Err(CommitError::Conflict { key: key.clone(), expect: *expect, actual: actual.cloned() });
            }
        }
        let revision = Revision(self.current.revision.0 + 1);
        let before = events.len();
        let entries = txn
            .operations
            .iter()
            .map(|operation| match operation {
                Operation::Put { key, value } => Some(self.put(key, value, revision, events)),
                Operation::Delete { key } => self.delete(key, revision, events),
            })
            .collect();
        if events.len() > before {
            self.current.revision = revision;
        }
        Ok(Committed { revision: self.current.revision, entries })
    }

    fn put(&mut self, key: &str, value: &Value, revision: Revision, events: &mut Vec<Arc<Event>>) -> Arc<Entry> {
        let previous = self.current.get(key).cloned();
        let (key, created) = match &previous {
            Some(previous) => (Arc::clone(&previous.key), previous.created),
            None => (Arc::from(key), revision),
        };
        let (bytes, span) = splice(value, revision);
        let entry = Arc::new(Entry::new(Arc::clone(&key), bytes, revision, created, span));
        self.bytes += weight(&entry);
        self.bytes -= previous.as_ref().map_or(0, |previous| weight(previous));
        self.current.change(&key, Some(Arc::clone(&entry)), revision);
        events.push(Arc::new(Event { revision, change: Change::Put { entry: Arc::clone(&entry), previous } }));
        entry
    }

    fn delete(&mut self, key: &str, revision: Revision, events: &mut Vec<Arc<Event>>) -> Option<Arc<Entry>> {
        let key = Arc::clone(&self.current.get(key)?.key);
        let previous = self.current.change(&key, None, revision)?;
        self.bytes -= weight(&previous);
        events.push(Arc::new(Event { revision, change: Change::Delete { previous: Arc::clone(&previous) } }));
        Some(previous)
    }
}

fn holds(expect: Expect, actual: Option<&Arc<Entry>>) -> bool {
    match expect {
        Expect::Absent => actual.is_none(),
        Expect::Present => actual.is_some(),
        Expect::At(revision) => actual.is_some_and(|entry| entry.revision == revision),
    }
}

/// The value with `revision` written where it asked for it, and where it now stands. An offset past the end means the end.
fn splice(value: &Value, revision: Revision) -> (Bytes, std::ops::Range<u32>) {
    let Some(at) = value.revision_at else { return (value.bytes.clone(), 0..0) };
    let at = (at as usize).min(value.bytes.len());
    let text = revision.to_string();
    let mut out = Vec::with_capacity(value.bytes.len() + text.len());
    out.extend_from_slice(&value.bytes[..at]);
    out.extend_from_slice(text.as_bytes());
    out.extend_from_slice(&value.bytes[at..]);
    (Bytes::from(out), at as u32..(at + text.len()) as u32)
}

/// The state as it was before `events` (oldest first), which led to `snapshot`.
pub(crate) fn undo(mut snapshot: Snapshot, events: &[Arc<Event>], revision: Revision) -> Snapshot {
    for event in events.iter().rev() {
        match &event.change {
            Change::Put { entry, previous: None } => {
                snapshot.change(&entry.key, None, revision);
            }
            Change::Put { previous: Some(previous), .. } | Change::Delete { previous } => {
                snapshot.change(&previous.key, Some(Arc::clone(previous)), revision);
            }
        }
    }
    snapshot.revision = revision;
    snapshot
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str, revision_at: Option<u32>) -> Value {
        Value { bytes: Bytes::copy_from_slice(text.as_bytes()), revision_at }
    }

    #[test]
    fn revision_is_spliced_where_asked() {
        for (text, at, revision, expected, span) in [
            (r#"{"v":""}"#, Some(6), 7, r#"{"v":"7"}"#, 6..7),
            (r#"{"v":""}"#, Some(6), 1234, r#"{"v":"1234"}"#, 6..10),
            (r#"{"v":""}"#, None, 7, r#"{"v":""}"#, 0..0),
            ("", Some(0), 12, "12", 0..2),
            ("ab", Some(99), 1, "ab1", 2..3),
        ] {
            let (bytes, actual) = splice(&value(text, at), Revision(revision));
            assert_eq!((&bytes[..], actual), (expected.as_bytes(), span), "{text}");
        }
    }

    #[test]
    fn live_bytes_follow_the_map() {
        let mut state = State::default();
        let mut events = Vec::new();
        for txn in [
            Txn::put("a", None, value("12345", None)),
            Txn::put("bb", None, value("1", None)),
            Txn::put("a", None, value("12", None)),
            Txn::delete("bb", None),
            Txn::delete("absent", None),
        ] {
            state.apply(&txn, &mut events).expect("unconditional");
        }
        assert_eq!(state.live_bytes(), 3);
        assert_eq!(state.live_bytes(), State::from_snapshot(state.current().clone()).live_bytes());
        assert_eq!(state.current().revision(), Revision(4), "a delete of nothing takes no revision");
    }

    #[test]
    fn resources_are_summed_up_in_every_state() {
        let mut state = State::default();
        let mut events = Vec::new();
        let mut states = vec![state.current().clone()];
        for (txn, expected) in [
            (Txn::put("core/pods/a/1", None, value("12345", None)), ["1 18 r1", "0 0 r0"]),
            (Txn::put("core/nodes//n", None, value("1", None)), ["1 18 r1", "1 14 r2"]),
            (Txn::put("core/pods/a/1", None, value("1", None)), ["1 14 r3", "1 14 r2"]),
            (Txn::put("core/pods/b/1", None, value("", None)), ["2 27 r4", "1 14 r2"]),
            (Txn::delete("core/pods/a/1", None), ["1 13 r5", "1 14 r2"]),
            (Txn::put("short", None, value("", None)), ["1 13 r5", "1 14 r2"]),
        ] {
            state.apply(&txn, &mut events).expect("unconditional");
            let told = ["core/pods/", "core/nodes/"].map(|name| {
                let lane = state.current().resource(name);
                format!("{} {} r{}", lane.objects, lane.bytes, lane.changed)
            });
            assert_eq!(told, expected, "{txn:?}");
            states.push(state.current().clone());
        }
        let whole = Snapshot::whole(Revision(9), state.current().map.clone());
        assert_eq!(whole.resource("core/pods/a/").changed, Revision(9));
        assert_eq!(whole.resource("core/pods/").objects, 1);
        for past in &states {
            let from = events.partition_point(|event| event.revision <= past.revision());
            let undone = undo(state.current().clone(), &events[from..], past.revision());
            assert_eq!(undone.resource("core/pods/").objects, past.resource("core/pods/").objects);
            assert_eq!(undone.resource("core/pods/").bytes, past.resource("core/pods/").bytes);
        }
    }

    #[test]
    fn undo_gives_every_earlier_state() {
        let mut state = State::default();
        let mut events = Vec::new();
        let mut states = vec![state.current().clone()];
        for i in 0..200_u32 {
            let key = format!("k{}", i * 7 % 13);
            let txn = match i % 3 {
                0 => Txn::delete(key, None),
                _ => Txn::put(key, None, value(&i.to_string(), Some(0))),
            };
            if state.apply(&txn, &mut events).expect("unconditional").revision > states[states.len() - 1].revision() {
                states.push(state.current().clone());
            }
        }
        for past in &states {
            let from = events.partition_point(|event| event.revision <= past.revision());
            let undone = undo(state.current().clone(), &events[from..], past.revision());
            assert!(same(&undone, past), "{}", past.revision());
        }
    }

    fn same(a: &Snapshot, b: &Snapshot) -> bool {
        a.map.len() == b.map.len() && a.map.values().zip(b.map.values()).all(|(a, b)| Arc::ptr_eq(a, b))
    }
}
