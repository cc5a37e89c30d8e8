//! Several voters in one process, joined by a switchboard that can be cut.

mod switchboard;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use mizzen_store::{
    Change, CommitError, Committed, Compacted, Embedded, Expect, MemberError, Options, Revision, Snapshot, Store, Txn,
    Watch, testing,
};
use switchboard::{Cluster, PATIENCE, newest};

fn small() -> Options {
    Options {
        first_segment_bytes: 64 << 10,
        segment_bytes: 256 << 10,
        snapshot_log_bytes: 64 << 10,
        ..Options::default()
    }
}

/// Writes through every server in turn; what was acknowledged, by key.
async fn write(cluster: &Cluster, from: usize, count: usize) -> BTreeMap<String, Revision> {
    let mut written = BTreeMap::new();
    for i in from..from + count {
        let ids = cluster.running();
        let store = cluster.store(ids[i % ids.len()]);
        let key = format!("k/{i}");
        let committed =
            store.commit(Txn::put(&key, Some(Expect::Absent), testing::object("x"))).await.expect("a commit");
        written.insert(key, committed.revision);
    }
    written
}

/// Every server has all that was acknowledged, at its revision, and all have the same.
async fn all_have(cluster: &Cluster, written: &BTreeMap<String, Revision>) {
    for id in cluster.running() {
        let store = cluster.store(id);
        newest(&store).await.expect("a leader answers");
        let snapshot = store.snapshot();
        for (key, revision) in written {
            let entry = snapshot.get(key).unwrap_or_else(|| panic!("{key} is missing on server {id}"));
            assert_eq!(entry.revision, *revision, "{key} on server {id}");
        }
        let objects = snapshot.prefix("k/").count();
        assert_eq!(objects, written.len(), "server {id} has what nobody was told of");
    }
}

/// The store of a server that does not lead.
struct Follower(Arc<Embedded>);

impl Store for Follower {
    fn snapshot(&self) -> Snapshot {
        self.0.snapshot()
    }

    fn snapshot_at(&self, revision: Revision) -> Result<Snapshot, Compacted> {
        self.0.snapshot_at(revision)
    }

    fn commit(&self, txn: Txn) -> BoxFuture<'_, Result<Committed, CommitError>> {
        self.0.commit(txn)
    }

    fn watch(&self, prefix: &str, after: Revision) -> Result<Watch, Compacted> {
        self.0.watch(prefix, after)
    }

    fn reached(&self, revision: Revision) -> BoxFuture<'_, ()> {
        self.0.reached(revision)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_engine_test_passes_on_a_follower() {
    let mut clusters = Vec::new();
    testing::conformance(async || {
        let mut cluster = Cluster::found(Options::default()).await;
        cluster.grow(3).await;
        let follower = Follower(cluster.store(cluster.followers()[0]));
        clusters.push(cluster);
        follower
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_grows_to_three_and_shrinks_to_one_under_writes() {
    let mut cluster = Cluster::found(small()).await;
    let mut written = write(&cluster, 0, 300).await;
    let refused = cluster.store(1).remove(1).await;
    assert_eq!(refused, Err(MemberError::Last { id: 1 }));
    cluster.grow(3).await;
    written.extend(write(&cluster, 300, 300).await);
    all_have(&cluster, &written).await;
    let follower = cluster.followers()[0];
    let refused = cluster.store(follower).remove(1).await;
    assert!(matches!(refused, Err(MemberError::NotLeader { leader: Some(_) })), "{refused:?}");

    for id in cluster.followers() {
        cluster.leader().await.remove(id).await.expect("removed");
        cluster.stop(id).await;
    }
    written.extend(write(&cluster, 600, 50).await);
    all_have(&cluster, &written).await;
    let last = cluster.running()[0];
    assert_eq!(cluster.store(last).members().len(), 1);
    cluster.stop(last).await;
    cluster.start(last);
    all_have(&cluster, &written).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_leader_costs_no_write_and_no_event() {
    let mut cluster = Cluster::found(small()).await;
    cluster.grow(3).await;
    let mut written = BTreeMap::new();
    for round in 0..4 {
        let lost = cluster.leader().await.id();
        let watcher = cluster.running().into_iter().find(|id| *id != lost).expect("another server");
        let store = cluster.store(watcher);
        let mut watch = store.watch("k/", store.snapshot().revision()).expect("a watch");
        written.extend(write(&cluster, round * 100, 50).await);
        cluster.stop(lost).await;
        written.extend(write(&cluster, round * 100 + 50, 50).await);
        let mut seen = 0;
        while seen < 100 {
            let events = tokio::time::timeout(PATIENCE, watch.next(1000)).await.expect("events").expect("no gap");
            for event in events {
                let Change::Put { entry, .. } = &event.change else { panic!("nothing was deleted") };
                assert_eq!(written.get(&*entry.key), Some(&entry.revision));
                seen += 1;
            }
        }
        cluster.start(lost);
        all_have(&cluster, &written).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_was_away_for_long_is_sent_a_snapshot() {
    let mut cluster = Cluster::found(small()).await;
    cluster.grow(3).await;
    let mut written = write(&cluster, 0, 10).await;
    let away = cluster.followers()[0];
    cluster.stop(away).await;
    written.extend(write(&cluster, 10, 2000).await);
    cluster.start(away);
    all_have(&cluster, &written).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_majority_nothing_is_acknowledged_and_nothing_new_is_read() {
    let mut cluster = Cluster::found(small()).await;
    cluster.grow(3).await;
    let mut written = write(&cluster, 0, 10).await;
    let cut = cluster.leader().await.id();
    cluster.cut(cut);
    let alone = cluster.store(cut);
    let attempt = tokio::spawn({
        let alone = Arc::clone(&alone);
        async move { alone.commit(Txn::put("k/lost", None, testing::object("x"))).await }
    });
    // The others go on.
    for id in cluster.running().into_iter().filter(|id| *id != cut) {
        let key = format!("k/other-{id}");
        let put = Txn::put(&key, None, testing::object("x"));
        let committed = cluster.store(id).commit(put).await.expect("a majority commits");
        written.insert(key, committed.revision);
    }
    assert!(newest(&alone).await.is_err(), "a server that is cut off does not say that what it has is the newest");
    let refused = attempt.await.expect("no panic");
    assert!(matches!(refused, Err(CommitError::Unavailable { .. })), "{refused:?}");
    cluster.mend(cut);
    tokio::time::timeout(PATIENCE, alone.reached(Revision(written.values().max().expect("some").0)))
        .await
        .expect("it catches up");
    newest(&cluster.store(cut)).await.expect("a leader answers");
    for (key, revision) in &written {
        assert_eq!(alone.snapshot().get(key).map(|entry| entry.revision), Some(*revision), "{key}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_acknowledged_is_read_everywhere_at_once() {
    let mut cluster = Cluster::found(small()).await;
    cluster.grow(3).await;
    for i in 0..200_u32 {
        let ids = cluster.running();
        let (writer, reader) = (ids[i as usize % 3], ids[(i as usize + 1) % 3]);
        let put = Txn::put("k/one", None, testing::object(&i.to_string()));
        let committed = cluster.store(writer).commit(put).await.expect("a commit");
        let reader = cluster.store(reader);
        newest(&reader).await.expect("a leader answers");
        assert!(reader.snapshot().revision() >= committed.revision, "round {i}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_counter_loses_no_step_while_links_break() {
    let mut cluster = Cluster::found(small()).await;
    cluster.grow(3).await;
    let seed = std::env::var("MIZZEN_STORE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(7_u64);
    println!("seed {seed}");
    let cluster = Arc::new(cluster);
    let counting: Vec<_> = cluster.running().into_iter().map(|id| tokio::spawn(count(cluster.store(id)))).collect();
    let mut dice = seed;
    for _ in 0..8 {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let id = cluster.running()[(dice >> 33) as usize % 3];
        cluster.cut(id);
        tokio::time::sleep(Duration::from_millis(300 + (dice >> 40) % 1000)).await;
        cluster.mend(id);
        tokio::time::sleep(Duration::from_millis((dice >> 50) % 500)).await;
    }
    let mut known = 0;
    let mut unknown = 0;
    for counter in counting {
        let (steps, lost) = counter.await.expect("no panic");
        known += steps;
        unknown += lost;
    }
    let store = cluster.leader().await;
    newest(&store).await.expect("a leader answers");
    let value = number(&store);
    assert!(
        value >= known && value <= known + unknown,
        "{value} after {known} steps, and {unknown} of unknown outcome"
    );
    assert!(known > 0);
}

/// Adds one to a shared number, again and again, by compare and swap: the steps that were acknowledged, and those whose
/// outcome nobody knows.
async fn count(store: Arc<mizzen_store::Embedded>) -> (u64, u64) {
    let (mut steps, mut unknown) = (0, 0);
    for _ in 0..150 {
        let snapshot = store.snapshot();
        let expect = snapshot.get("n").map_or(Expect::Absent, |entry| Expect::At(entry.revision));
        let next = snapshot.get("n").map_or(0, |entry| testing_number(&entry.value)) + 1;
        match store.commit(Txn::put("n", Some(expect), testing::object(&next.to_string()))).await {
            Ok(_) => steps += 1,
            Err(CommitError::Conflict { .. }) => tokio::time::sleep(Duration::from_millis(5)).await,
            Err(_) => unknown += 1,
        }
    }
    (steps, unknown)
}

fn testing_number(value: &[u8]) -> u64 {
    let text = String::from_utf8_lossy(value);
    let digits = text.split('"').nth(3).expect("an object of the suite");
    digits.parse().expect("a number")
}

fn number(store: &mizzen_store::Embedded) -> u64 {
    store.snapshot().get("n").map_or(0, |entry| testing_number(&entry.value))
}
