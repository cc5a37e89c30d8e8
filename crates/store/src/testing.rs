//! What every engine must do, as a suite that any engine runs.
//!
//! Call [`conformance`] in a test with a way to open a fresh, empty store; it panics on the first difference.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::{Change, CommitError, Expect, Operation, Revision, Store, Txn, Value, WatchError};

/// A wait that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(10);

/// A value in which the revision is spliced between the quotes.
pub fn object(text: &str) -> Value {
    let head = format!(r#"{{"text":"{text}","revision":""#);
    Value { revision_at: Some(head.len() as u32), bytes: Bytes::from(head + r#""}"#) }
}

/// Runs every case, each on a store of its own.
///
/// # Panics
/// If the engine differs from what the interface promises.
pub async fn conformance<S: Store>(mut open: impl AsyncFnMut() -> S) {
    puts_and_deletes(&open().await).await;
    conditions(&open().await).await;
    transactions_are_whole(&open().await).await;
    past_states(&open().await).await;
    prefixes(&open().await).await;
    watch_sees_all_changes(&open().await).await;
    watch_starts_anywhere(&open().await).await;
    watch_keeps_to_its_prefix(&open().await).await;
    watch_waits(Arc::new(open().await)).await;
    many_writers(Arc::new(open().await)).await;
    reached(Arc::new(open().await)).await;
}

async fn put(store: &impl Store, key: &str, text: &str) -> Revision {
    store.commit(Txn::put(key, None, object(text))).await.expect("an unconditional put").revision
}

async fn puts_and_deletes(store: &impl Store) {
    assert_eq!(store.snapshot().revision(), Revision(0), "an empty store");
    let first = store.commit(Txn::put("a/b/c", None, object("one"))).await.expect("put");
    assert_eq!(first.revision, Revision(1));
    let entry = first.entries[0].clone().expect("the entry it wrote");
    assert_eq!(&entry.value[..], br#"{"text":"one","revision":"1"}"#);
    assert_eq!(&entry.value[entry.revision_span.start as usize..entry.revision_span.end as usize], b"1");
    assert!(Arc::ptr_eq(&entry, store.snapshot().get("a/b/c").expect("readable once acknowledged")));

    let second = store.commit(Txn::put("a/b/c", None, object("two"))).await.expect("put");
    let entry = second.entries[0].clone().expect("the entry it wrote");
    assert_eq!((entry.revision, entry.created), (Revision(2), Revision(1)));

    let gone = store.commit(Txn::delete("a/b/c", None)).await.expect("delete");
    assert_eq!(gone.revision, Revision(3));
    assert_eq!(gone.entries[0].as_ref().map(|entry| entry.revision), Some(Revision(2)));
    assert!(store.snapshot().get("a/b/c").is_none());

    let nothing = store.commit(Txn::delete("a/b/c", None)).await.expect("a delete of nothing");
    assert_eq!((nothing.revision, nothing.entries[0].is_none()), (Revision(3), true));
    let again = store.commit(Txn::put("a/b/c", None, object("three"))).await.expect("put");
    assert_eq!(again.entries[0].as_ref().map(|entry| entry.created), Some(Revision(4)), "created anew");
}

async fn conditions(store: &impl Store) {
    let at = put(store, "k", "one").await;
    let cases = [
        ("k", Expect::Absent, false),
        ("k", Expect::Present, true),
        ("k", Expect::At(at), true),
        ("k", Expect::At(Revision(at.0 + 1)), false),
        ("other", Expect::Absent, true),
        ("other", Expect::Present, false),
        ("other", Expect::At(Revision(0)), false),
    ];
    for (key, expect, holds) in cases {
        let outcome = store.commit(Txn { expect: vec![(key.to_owned(), expect)], operations: Vec::new() }).await;
        match outcome {
            Ok(committed) => assert!(holds && committed.revision == at, "{key} {expect:?}"),
            Err(CommitError::Conflict { key: named, expect: failed, actual }) => {
                assert!(!holds, "{key} {expect:?}");
                assert_eq!((named.as_str(), failed), (key, expect));
                assert_eq!(actual.map(|entry| entry.revision), (key == "k").then_some(at));
            }
            Err(other) => panic!("{key} {expect:?}: {other}"),
        }
    }
    let second = Txn {
        expect: vec![("k".to_owned(), Expect::Present), ("other".to_owned(), Expect::Present)],
        operations: vec![Operation::Delete { key: "k".to_owned() }],
    };
    let failed = store.commit(second).await.expect_err("the second condition fails");
    assert!(matches!(failed, CommitError::Conflict { key, .. } if key == "other"));
    assert_eq!(store.snapshot().revision(), at, "a failed transaction changes nothing");
}

async fn transactions_are_whole(store: &impl Store) {
    put(store, "gone", "x").await;
    let operations = vec![
        Operation::Put { key: "a".to_owned(), value: object("a") },
        Operation::Put { key: "b".to_owned(), value: Value { bytes: Bytes::from_static(b"raw"), revision_at: None } },
        Operation::Delete { key: "gone".to_owned() },
        Operation::Delete { key: "never".to_owned() },
    ];
    let before = store.snapshot();
    let mut watch = store.watch("", before.revision()).expect("the newest revision is held");
    let done = store.commit(Txn { expect: Vec::new(), operations }).await.expect("commit");
    assert_eq!(done.revision, Revision(before.revision().0 + 1), "one transaction is one revision");
    let written: Vec<_> = done.entries.iter().map(|entry| entry.as_ref().map(|entry| entry.revision)).collect();
    assert_eq!(written, [Some(done.revision), Some(done.revision), Some(before.revision()), None]);
    let entry = store.snapshot().get("b").cloned().expect("b");
    assert_eq!((&entry.value[..], entry.revision_span.is_empty()), (&b"raw"[..], true));
    assert_eq!((before.get("a").is_none(), before.get("gone").is_some()), (true, true), "a snapshot never changes");
    let events = watch.next(100).await.expect("events");
    assert_eq!(events.len(), 3);
    assert!(events.iter().all(|event| event.revision == done.revision));
}

async fn past_states(store: &impl Store) {
    let mut states = vec![store.snapshot()];
    for i in 0..40 {
        let key = format!("k{}", i % 7);
        match i % 5 {
            4 => drop(store.commit(Txn::delete(key, None)).await.expect("delete")),
            _ => drop(put(store, &key, &i.to_string()).await),
        }
        states.push(store.snapshot());
    }
    for state in &states {
        let past = store.snapshot_at(state.revision()).expect("all of it is held");
        assert_eq!(past.revision(), state.revision());
        let keys = |snapshot: &crate::Snapshot| -> Vec<_> {
            snapshot.prefix("").map(|entry| (entry.key.clone(), entry.revision)).collect()
        };
        assert_eq!(keys(&past), keys(state), "the state at {}", state.revision());
    }
    let ahead = store.snapshot_at(Revision(u64::MAX)).expect("the newest");
    assert_eq!(ahead.revision(), store.snapshot().revision());
}

async fn prefixes(store: &impl Store) {
    for key in ["core/pods/a/1", "core/pods/a/2", "core/pods/ab/1", "core/pods/b/1", "core/podsets/a/1"] {
        put(store, key, key).await;
    }
    let snapshot = store.snapshot();
    let keys = |prefix: &str| snapshot.prefix(prefix).map(|entry| entry.key.to_string()).collect::<Vec<_>>();
    assert_eq!(keys("core/pods/a/"), ["core/pods/a/1", "core/pods/a/2"]);
    assert_eq!(keys("core/pods/").len(), 4);
    assert_eq!(keys("").len(), 5);
    assert_eq!(keys("zzz").len(), 0);
    let from: Vec<_> = snapshot.prefix_from("core/pods/", "core/pods/a/2").map(|entry| entry.key.to_string()).collect();
    assert_eq!(from, ["core/pods/a/2", "core/pods/ab/1", "core/pods/b/1"]);
}

async fn watch_sees_all_changes(store: &impl Store) {
    let mut watch = store.watch("k/", Revision(0)).expect("the beginning is held");
    put(store, "k/1", "one").await;
    put(store, "k/1", "two").await;
    store.commit(Txn::delete("k/1", None)).await.expect("delete");
    let first = watch.next(1).await.expect("one");
    assert_eq!((first.len(), watch.position()), (1, Revision(1)), "no more than asked for");
    assert!(matches!(&first[0].change, Change::Put { previous: None, entry } if entry.revision == Revision(1)));
    let rest = watch.next(100).await.expect("the rest");
    assert_eq!((rest.len(), watch.position()), (2, Revision(3)));
    assert!(matches!(&rest[0].change, Change::Put { previous: Some(old), .. } if old.revision == Revision(1)));
    assert!(matches!(&rest[1].change, Change::Delete { previous } if previous.revision == Revision(2)));
    let Change::Delete { previous } = &rest[1].change else { unreachable!("matched above") };
    assert_eq!(&previous.value_at(rest[1].revision)[..], br#"{"text":"two","revision":"3"}"#);
}

async fn watch_starts_anywhere(store: &impl Store) {
    for i in 0..10 {
        put(store, &format!("k/{i}"), "x").await;
    }
    for after in 0..10 {
        let mut watch = store.watch("k/", Revision(after)).expect("held");
        let revisions: Vec<_> = watch.next(100).await.expect("events").iter().map(|event| event.revision.0).collect();
        assert_eq!(revisions, (after + 1..=10).collect::<Vec<_>>());
    }
}

async fn watch_keeps_to_its_prefix(store: &impl Store) {
    let prefixes = ["", "core/", "core/pods/", "core/pods/a/", "core/pods/a/we", "core/pods/a/web", "apps/"];
    let mut watches: Vec<_> =
        prefixes.iter().map(|prefix| (prefix, store.watch(prefix, Revision(0)).expect("held"))).collect();
    let keys = ["core/pods/a/web", "core/pods/b/web", "core/nodes/n", "apps/deployments/a/web", "core/pods/a/x"];
    for key in keys {
        put(store, key, key).await;
    }
    let newest = store.snapshot().revision();
    for (prefix, watch) in &mut watches {
        let mut seen = Vec::new();
        let expected: Vec<_> = keys.iter().filter(|key| key.starts_with(**prefix)).map(|key| key.to_string()).collect();
        while seen.len() < expected.len() {
            let events = tokio::time::timeout(PATIENCE, watch.next(2)).await.expect("in time").expect("events");
            seen.extend(events.iter().map(|event| event.key().to_string()));
        }
        assert_eq!(seen, expected, "under {prefix:?}");
        assert_eq!(watch.position(), newest, "under {prefix:?} nothing is left to hand out");
        assert!(tokio::time::timeout(Duration::from_millis(1), watch.next(1)).await.is_err(), "nothing more");
    }
    put(store, "unrelated/x/y", "x").await;
    let (_, pods) = &watches[2];
    assert_eq!(pods.position(), Revision(newest.0 + 1), "writes elsewhere move the position");
}

async fn watch_waits<S: Store>(store: Arc<S>) {
    let mut watch = store.watch("core/pods/", Revision(0)).expect("held");
    let waiting = tokio::spawn(async move { watch.next(10).await });
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert!(!waiting.is_finished());
    put(&*store, "core/pods/a/1", "x").await;
    let events = tokio::time::timeout(PATIENCE, waiting).await.expect("woken").expect("no panic").expect("events");
    assert_eq!(events.len(), 1);
}

/// Each writer increments one of few counters by compare-and-swap: no increment may be lost, and a watcher sees each.
async fn many_writers<S: Store>(store: Arc<S>) {
    const WRITERS: usize = 16;
    const INCREMENTS: usize = 30;
    let mut watch = store.watch("counter/", Revision(0)).expect("held");
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                for _ in 0..INCREMENTS {
                    increment(&*store, &format!("counter/{}", writer % 4)).await;
                }
            })
        })
        .collect();
    let mut last = Revision(0);
    let mut seen = 0;
    while seen < WRITERS * INCREMENTS {
        let events = tokio::time::timeout(PATIENCE, watch.next(7)).await.expect("in time").expect("events");
        for event in &events {
            assert!(event.revision > last, "in order");
            last = event.revision;
        }
        seen += events.len();
    }
    for writer in writers {
        writer.await.expect("no panic");
    }
    assert_eq!(store.snapshot().revision(), Revision((WRITERS * INCREMENTS) as u64));
    for entry in store.snapshot().prefix("counter/") {
        assert_eq!(&entry.value[..], (WRITERS / 4 * INCREMENTS).to_string().as_bytes(), "{}", entry.key);
    }
}

async fn increment(store: &impl Store, key: &str) {
    loop {
        let current = store.snapshot().get(key).cloned();
        let count: u64 = match &current {
            Some(entry) => std::str::from_utf8(&entry.value).expect("a number").parse().expect("a number"),
            None => 0,
        };
        let expect = current.map_or(Expect::Absent, |entry| Expect::At(entry.revision));
        let value = Value { bytes: Bytes::from((count + 1).to_string()), revision_at: None };
        match store.commit(Txn::put(key, Some(expect), value)).await {
            Ok(_) => return,
            Err(CommitError::Conflict { .. }) => tokio::task::yield_now().await,
            Err(other) => panic!("{other}"),
        }
    }
}

async fn reached<S: Store>(store: Arc<S>) {
    let waiting = tokio::spawn({
        let store = Arc::clone(&store);
        async move { store.reached(Revision(2)).await }
    });
    put(&*store, "a", "x").await;
    tokio::time::sleep(Duration::from_millis(5)).await;
    assert!(!waiting.is_finished());
    put(&*store, "a", "x").await;
    tokio::time::timeout(PATIENCE, waiting).await.expect("reached").expect("no panic");
    store.reached(Revision(1)).await;
}

/// That the history is bounded: call it with a store whose [`crate::Retention::events`] is `events`.
///
/// # Panics
/// If the engine keeps more, or says something else than that it is gone.
pub async fn compacts_by_count(store: &impl Store, events: u64) {
    let mut late = store.watch("k/", Revision(0)).expect("held");
    let mut quiet = store.watch("quiet/", Revision(0)).expect("held");
    for i in 0..events * 3 {
        put(store, &format!("k/{}", i % 5), "x").await;
    }
    let newest = store.snapshot().revision();
    let oldest = match store.snapshot_at(Revision(1)) {
        Err(compacted) => compacted.oldest,
        Ok(_) => panic!("revision 1 is held"),
    };
    assert_eq!(oldest, Revision(newest.0 - events));
    assert_eq!(store.snapshot_at(oldest).expect("the oldest held").revision(), oldest);
    assert!(store.watch("k/", Revision(oldest.0 - 1)).is_err());
    let mut whole = store.watch("k/", oldest).expect("the oldest held");
    assert_eq!(whole.next(usize::MAX).await.expect("all of it").len() as u64, events);
    assert!(matches!(late.next(1).await, Err(WatchError::Compacted(gone)) if gone.oldest == oldest));
    put(store, "quiet/1", "x").await;
    assert_eq!(quiet.next(1).await.expect("it missed nothing under its prefix").len(), 1);
}
