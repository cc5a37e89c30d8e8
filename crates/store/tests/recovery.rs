//! Restarts, damage, bounded disk use, a full disk.

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use mizzen_store::{CommitError, Embedded, OpenError, Options, Retention, Revision, Store, Txn, Value};

fn value(len: usize) -> Value {
    Value { bytes: Bytes::from(vec![b'x'; len]), revision_at: Some(0) }
}

fn open(dir: &Path) -> Embedded {
    Embedded::open(dir, Options::default()).expect("opens")
}

async fn put(store: &Embedded, key: &str, len: usize) -> Revision {
    store.commit(Txn::put(key, None, value(len))).await.expect("a put").revision
}

/// Keys, revisions and lengths: what must be the same after a restart.
fn contents(store: &Embedded) -> Vec<(String, Revision, Revision, Bytes)> {
    let entries = store.snapshot();
    entries
        .prefix("")
        .map(|entry| (entry.key.to_string(), entry.revision, entry.created, entry.value.clone()))
        .collect()
}

/// The log's files that hold something, oldest first.
fn segments(dir: &Path) -> Vec<PathBuf> {
    let names = std::fs::read_dir(dir).expect("readable").map(|entry| entry.expect("readable").path());
    let mut logs: Vec<_> = names.filter(|path| path.extension().is_some_and(|extension| extension == "log")).collect();
    logs.sort();
    logs
}

fn disk_use(dir: &Path) -> u64 {
    let files = std::fs::read_dir(dir).expect("readable");
    files.map(|entry| entry.expect("readable").metadata().expect("readable").len()).sum()
}

#[tokio::test]
async fn a_restart_finds_everything() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut before = Vec::new();
    for round in 0..4 {
        let store = open(dir.path());
        assert_eq!(contents(&store), before, "round {round}");
        for i in 0..50 {
            put(&store, &format!("k/{}", i * (round + 1)), 100 + i).await;
        }
        store.commit(Txn::delete("k/0", None)).await.expect("delete");
        before = contents(&store);
        assert_eq!(store.snapshot().revision(), Revision(51 * (round as u64 + 1)));
        if round % 2 == 0 {
            store.shutdown().await;
        }
    }
    let store = open(dir.path());
    assert_eq!(contents(&store), before);
    let past = store.snapshot_at(Revision(1)).expect("no snapshot file was written, so the history is whole");
    assert_eq!(past.prefix("").count(), 1);
}

#[tokio::test]
async fn one_process_at_a_time() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = open(dir.path());
    let refused = Embedded::open(dir.path(), Options::default()).expect_err("it is in use");
    assert!(matches!(refused, OpenError::Locked { .. }), "{refused}");
    let mut watch = store.watch("", Revision(0)).expect("held");
    store.shutdown().await;
    assert!(watch.next(1).await.is_err(), "watches end");
    let refused = store.commit(Txn::delete("a", None)).await;
    assert!(matches!(refused, Err(CommitError::Unavailable { .. })));
    open(dir.path()).shutdown().await;
}

#[tokio::test]
async fn a_transaction_over_the_limit_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = Embedded::open(dir.path(), Options { txn_bytes: 1000, ..Options::default() }).expect("opens");
    let refused = store.commit(Txn::put("a", None, value(1001))).await;
    assert!(matches!(refused, Err(CommitError::TooLarge { limit: 1000, .. })));
    put(&store, "a", 900).await;
}

#[tokio::test]
async fn a_transaction_larger_than_a_segment_fits() {
    let dir = tempfile::tempdir().expect("a directory");
    let options = Options { first_segment_bytes: 64 << 10, segment_bytes: 256 << 10, ..Options::default() };
    let store = Embedded::open(dir.path(), options).expect("opens");
    for (i, len) in [100, 1 << 20, 100, 7 << 20, 100].into_iter().enumerate() {
        put(&store, &i.to_string(), len).await;
    }
    let before = contents(&store);
    store.shutdown().await;
    assert_eq!(contents(&Embedded::open(dir.path(), options).expect("opens")), before);
}

/// Where the `n`th frame of a log's segment starts, and where the last one ends, walking the lengths in their headers.
fn frames(bytes: &[u8]) -> Vec<usize> {
    let mut at = 512;
    let mut starts = Vec::new();
    while bytes.len() > at + 24 && bytes[at + 8..at + 16] == bytes[16..24] {
        starts.push(at);
        let len = u32::from_le_bytes(bytes[at + 4..at + 8].try_into().expect("four bytes")) as usize;
        at += (24 + len).next_multiple_of(512);
    }
    starts.push(at);
    starts
}

async fn filled(dir: &Path) -> PathBuf {
    let store = open(dir);
    for i in 0..20 {
        put(&store, &format!("k/{i}"), 1500).await;
    }
    store.shutdown().await;
    segments(dir).pop().expect("a log")
}

#[tokio::test]
async fn a_torn_tail_is_cut() {
    // What is left of the last frame: nothing, its header, a part, or all but a bit.
    for damage in 0..5 {
        let dir = tempfile::tempdir().expect("a directory");
        let path = filled(dir.path()).await;
        let mut bytes = std::fs::read(&path).expect("readable");
        let starts = frames(&bytes);
        let (last, end) = (starts[starts.len() - 2], starts[starts.len() - 1]);
        match damage {
            0 => bytes[last..end].fill(0),
            1 => bytes[last + 24..end].fill(0),
            2 => bytes[last + 512..end].fill(0),
            3 => bytes[last + 600] ^= 1,
            _ => bytes[last..last + 512].fill(0),
        }
        std::fs::write(&path, &bytes).expect("writable");
        let store = open(dir.path());
        assert_eq!(store.snapshot().revision(), Revision(19), "damage {damage}");
        assert!(store.snapshot().get("k/19").is_none(), "nothing of the cut write is seen");
        for i in 0..100 {
            put(&store, "k/more", 20_000 + i % 7).await;
        }
        let before = contents(&store);
        store.shutdown().await;
        assert_eq!(contents(&open(dir.path())), before, "what came after the cut");
    }
}

#[tokio::test]
async fn damage_elsewhere_is_refused_with_its_place() {
    for frame in [0, 1, 5, 18] {
        let dir = tempfile::tempdir().expect("a directory");
        let path = filled(dir.path()).await;
        let bytes = std::fs::read(&path).expect("readable");
        let start = frames(&bytes)[frame];
        for at in [start, start + 5, start + 30] {
            let file = std::fs::File::options().write(true).open(&path).expect("opens");
            file.write_all_at(&[bytes[at] ^ 0x40], at as u64).expect("writable");
            let refused = Embedded::open(dir.path(), Options::default()).expect_err("damaged");
            let OpenError::Corrupt { path: named, offset, .. } = &refused else { panic!("{refused}") };
            assert_eq!((named, *offset), (&path, start as u64), "{refused}");
            file.write_all_at(&[bytes[at]], at as u64).expect("writable");
        }
        assert_eq!(open(dir.path()).snapshot().revision(), Revision(20), "undamaged again");
    }
}

#[tokio::test]
async fn a_damaged_header_or_a_missing_segment_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let options = Options { first_segment_bytes: 64 << 10, segment_bytes: 64 << 10, ..Options::default() };
    let store = Embedded::open(dir.path(), options).expect("opens");
    for i in 0..200 {
        put(&store, &format!("k/{i}"), 1500).await;
    }
    store.shutdown().await;
    let logs = segments(dir.path());
    assert!(logs.len() > 3, "{logs:?}");
    let header = std::fs::read(&logs[0]).expect("readable")[9];
    let file = std::fs::File::options().write(true).open(&logs[0]).expect("opens");
    file.write_all_at(&[header ^ 1], 9).expect("writable");
    let refused = Embedded::open(dir.path(), options).expect_err("damaged");
    assert!(matches!(&refused, OpenError::Corrupt { path, offset: 0, .. } if *path == logs[0]), "{refused}");
    file.write_all_at(&[header], 9).expect("writable");
    for missing in [0, 1] {
        let aside = dir.path().join("aside");
        std::fs::rename(&logs[missing], &aside).expect("renames");
        let refused = Embedded::open(dir.path(), options).expect_err("a segment is missing");
        assert!(matches!(refused, OpenError::Corrupt { .. }), "{refused}");
        std::fs::rename(&aside, &logs[missing]).expect("renames");
    }
    assert_eq!(Embedded::open(dir.path(), options).expect("whole again").snapshot().revision(), Revision(200));
}

async fn with_snapshot(dir: &Path, options: Options) -> PathBuf {
    let store = Embedded::open(dir, options).expect("opens");
    for i in 0..400 {
        put(&store, &format!("k/{}", i % 50), 1500).await;
    }
    store.shutdown().await;
    let names = std::fs::read_dir(dir).expect("readable").map(|entry| entry.expect("readable").path());
    let mut found: Vec<_> = names.filter(|path| path.display().to_string().contains("snapshot-")).collect();
    assert_eq!(found.len(), 1, "one snapshot is kept: {found:?}");
    found.remove(0)
}

#[tokio::test]
async fn a_snapshot_and_the_log_after_it_are_enough() {
    let options = Options { first_segment_bytes: 64 << 10, snapshot_log_bytes: 100 << 10, ..Options::default() };
    let dir = tempfile::tempdir().expect("a directory");
    with_snapshot(dir.path(), options).await;
    let store = Embedded::open(dir.path(), options).expect("opens");
    assert_eq!(store.snapshot().revision(), Revision(400));
    let entry = store.snapshot().get("k/7").cloned().expect("k/7");
    assert_eq!((entry.revision, entry.created), (Revision(358), Revision(8)));
    assert_eq!(&entry.value[..4], b"358x");
    assert_eq!(entry.revision_span, 0..3);
    let gone = store.snapshot_at(Revision(1)).expect_err("before the snapshot");
    assert!(gone.oldest > Revision(1) && gone.oldest <= Revision(400));
    let mut watch = store.watch("k/", gone.oldest).expect("from the snapshot on");
    if gone.oldest < Revision(400) {
        assert_eq!(watch.next(usize::MAX).await.expect("replayed").len() as u64, 400 - gone.oldest.0);
    }
}

#[tokio::test]
async fn a_damaged_snapshot_is_refused_with_its_place() {
    let options = Options { first_segment_bytes: 64 << 10, snapshot_log_bytes: 100 << 10, ..Options::default() };
    let dir = tempfile::tempdir().expect("a directory");
    let path = with_snapshot(dir.path(), options).await;
    let whole = std::fs::read(&path).expect("readable");
    for at in [0, 9, 12, 40, whole.len() / 2, whole.len() - 1] {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        std::fs::write(&path, &bytes).expect("writable");
        let refused = Embedded::open(dir.path(), options).expect_err("damaged");
        assert!(matches!(&refused, OpenError::Corrupt { path: named, .. } if *named == path), "{at}: {refused}");
    }
    std::fs::write(&path, &whole[..whole.len() - 10]).expect("writable");
    let refused = Embedded::open(dir.path(), options).expect_err("cut short");
    assert!(matches!(&refused, OpenError::Corrupt { .. }), "{refused}");
    std::fs::write(&path, &whole).expect("writable");
    assert_eq!(Embedded::open(dir.path(), options).expect("whole again").snapshot().revision(), Revision(400));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn disk_use_is_bounded_by_what_is_stored() {
    const UPDATES: usize = 100_000;
    let dir = tempfile::tempdir().expect("a directory");
    let store = std::sync::Arc::new(open(dir.path()));
    let writers: Vec<_> = (0..64)
        .map(|_| {
            let store = std::sync::Arc::clone(&store);
            tokio::spawn(async move {
                for _ in 0..UPDATES / 64 + 1 {
                    put(&store, "the/one/object", 1024).await;
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.expect("no panic");
    }
    store.shutdown().await;
    let live = 1024 + 14;
    let bound = 2 * live + Options::default().segment_bytes;
    assert!(disk_use(dir.path()) <= bound, "{} bytes on disk", disk_use(dir.path()));
    assert!(open(dir.path()).snapshot().revision() >= Revision(UPDATES as u64));
}

#[tokio::test]
async fn history_is_bounded_by_bytes_and_age() {
    let dir = tempfile::tempdir().expect("a directory");
    for retention in [
        Retention { bytes: 10_000, ..Retention::default() },
        Retention { age: Duration::from_millis(50), ..Retention::default() },
    ] {
        let store = Embedded::open(dir.path(), Options { retention, ..Options::default() }).expect("opens");
        let first = put(&store, "k", 1000).await;
        for _ in 0..30 {
            tokio::time::sleep(Duration::from_millis(4)).await;
            put(&store, "k", 1000).await;
        }
        assert!(store.snapshot_at(first).is_err(), "{retention:?}");
        let newest = store.snapshot().revision();
        assert!(store.snapshot_at(Revision(newest.0 - 2)).is_ok(), "{retention:?}");
    }
}
