//! The state machine: what a transaction does to the map. Pure: no clock, no files, no randomness, so every voter that
//! applies the same transactions holds the same state.

use std::sync::Arc;

use bytes::Bytes;

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
        self.current.map.insert(key, Arc::clone(&entry));
        events.push(Arc::new(Event { revision, change: Change::Put { entry: Arc::clone(&entry), previous } }));
        entry
    }

    fn delete(&mut self, key: &str, revision: Revision, events: &mut Vec<Arc<Event>>) -> Option<Arc<Entry>> {
        let previous = self.current.map.remove(key)?;
        self.bytes -= weight(&previous);
        events.push(Arc::new(Event { revision, change: Change::Delete { previous: Arc::clone(&previous) } }));
        Some(previous)
    }
}

fn weight(entry: &Entry) -> u64 {
    (entry.key.len() + entry.value.len()) as u64
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
                snapshot.map.remove(&entry.key);
            }
            Change::Put { previous: Some(previous), .. } | Change::Delete { previous } => {
                snapshot.map.insert(Arc::clone(&previous.key), Arc::clone(previous));
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
