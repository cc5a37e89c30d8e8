//! Events are kept for an hour after they were last seen (api-facts §9.10), and removed here.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use mizzen_api::key;
use mizzen_store::{CommitError, Expect, Operation, Revision, Snapshot, Txn};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::server::Core;

/// How long an event is kept.
const KEPT: SignedDuration = SignedDuration::from_hours(1);
/// Shortest pause between two rounds, so that a stream of events does not make one of rounds.
const PAUSE: Duration = Duration::from_secs(60);
/// Most events removed in one transaction.
const BATCH: usize = 256;

/// Removes events as they get too old, until `shutdown`.
pub(crate) async fn run(core: Arc<Core>, shutdown: CancellationToken) {
    loop {
        let now = Timestamp::now();
        let Round { due, next } = round(&core.store.snapshot(), now);
        for batch in due.chunks(BATCH) {
            match core.store.commit(removal(batch)).await {
                // One of them was seen again meanwhile: the next round decides anew.
                Ok(_) | Err(CommitError::Conflict { .. }) => {}
                Err(error) => tracing::warn!(%error, "old events cannot be removed"),
            }
        }
        let rest = next.map_or(KEPT, |next| next.duration_since(now));
        let rest = Duration::try_from(rest).unwrap_or(PAUSE).max(PAUSE);
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(rest) => {}
        }
    }
}

/// What a round finds.
#[derive(Debug, PartialEq)]
struct Round {
    /// Keys of events that are too old, with the revision that was looked at.
    due: Vec<(String, Revision)>,
    /// When the next one will be.
    next: Option<Timestamp>,
}

fn round(snapshot: &Snapshot, now: Timestamp) -> Round {
    let mut found = Round { due: Vec::new(), next: None };
    for entry in snapshot.prefix(&key::resource_prefix("", "events")) {
        let event: Value = serde_json::from_slice(&entry.value).unwrap_or_default();
        let end = last_seen(&event).unwrap_or(Timestamp::UNIX_EPOCH) + KEPT;
        if end <= now {
            found.due.push((entry.key.to_string(), entry.revision));
        } else {
            found.next = Some(found.next.map_or(end, |next| next.min(end)));
        }
    }
    found
}

fn last_seen(event: &Value) -> Option<Timestamp> {
    let times = [
        &event["metadata"]["creationTimestamp"],
        &event["lastTimestamp"],
        &event["eventTime"],
        &event["series"]["lastObservedTime"],
    ];
    times.iter().filter_map(|time| time.as_str()?.parse().ok()).max()
}

fn removal(batch: &[(String, Revision)]) -> Txn {
    Txn {
        expect: batch.iter().map(|(key, revision)| (key.clone(), Expect::At(*revision))).collect(),
        operations: batch.iter().map(|(key, _)| Operation::Delete { key: key.clone() }).collect(),
    }
}

#[cfg(test)]
mod tests {
    use mizzen_store::{Memory, Store, Value as Stored};
    use serde_json::json;

    use super::*;

    #[tokio::test]
    async fn events_go_an_hour_after_they_were_last_seen() {
        let store = Memory::default();
        for (name, event) in [
            ("old", json!({"metadata": {"creationTimestamp": "2026-01-01T00:00:00Z"}})),
            (
                "again",
                json!({"metadata": {"creationTimestamp": "2026-01-01T00:00:00Z"}, "lastTimestamp": "2026-01-01T00:30:00Z"}),
            ),
            ("new", json!({"metadata": {"creationTimestamp": "2026-01-01T00:50:00Z"}})),
        ] {
            let value = Stored { bytes: event.to_string().into(), revision_at: None };
            store.commit(Txn::put(format!("core/events/d/{name}"), None, value)).await.unwrap();
        }
        let found = round(&store.snapshot(), "2026-01-01T01:00:00Z".parse().unwrap());
        assert_eq!(found.due, [("core/events/d/old".to_string(), Revision(1))]);
        assert_eq!(found.next, Some("2026-01-01T01:30:00Z".parse().unwrap()));
        store.commit(removal(&found.due)).await.unwrap();
        assert!(store.snapshot().get("core/events/d/old").is_none());
    }
}
