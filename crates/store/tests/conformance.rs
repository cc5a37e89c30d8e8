//! Every engine passes the one suite.

use mizzen_store::{Embedded, Memory, Options, Retention, testing};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory() {
    testing::conformance(async || Memory::default()).await;
    let retention = Retention { events: 20, ..Retention::default() };
    testing::compacts_by_count(&Memory::new(retention), 20).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn embedded() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut stores = 0;
    testing::conformance(async || {
        stores += 1;
        Embedded::open(dir.path().join(stores.to_string()), Options::default()).expect("opens")
    })
    .await;
    let options = Options { retention: Retention { events: 20, ..Retention::default() }, ..Options::default() };
    let store = Embedded::open(dir.path().join("small"), options).expect("opens");
    testing::compacts_by_count(&store, 20).await;
}
