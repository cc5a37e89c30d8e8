//! Sealed values: plain in memory, unreadable in the files, written anew when asked.

use std::path::Path;
use std::sync::Arc;

use mizzen_store::{Embedded, OpenError, Options, Seal, SealError, Store, Txn, Value};

/// Turns bytes around, and says with which number.
#[derive(Debug)]
struct Mask(u8);

impl Seal for Mask {
    fn seals(&self, key: &str) -> bool {
        key.starts_with("secret/")
    }

    fn seal(&self, key: &str, value: &[u8]) -> Result<Vec<u8>, SealError> {
        let masked = value.iter().map(|byte| byte ^ 0x55);
        Ok([self.0, key.len() as u8].into_iter().chain(masked).collect())
    }

    fn open(&self, key: &str, sealed: &[u8]) -> Result<Vec<u8>, SealError> {
        match sealed {
            [number, ..] if *number != self.0 => Err(SealError::UnknownKey(number.to_string())),
            [_, len, rest @ ..] if *len == key.len() as u8 => Ok(rest.iter().map(|byte| byte ^ 0x55).collect()),
            _ => Err(SealError::Broken),
        }
    }
}

fn open(dir: &Path, mask: Option<u8>) -> Result<Embedded, OpenError> {
    let seal = mask.map(|number| Arc::new(Mask(number)) as Arc<dyn Seal>);
    Embedded::open_sealed(dir, Options { snapshot_log_bytes: 1 << 30, ..Options::default() }, seal)
}

async fn put(store: &Embedded, key: &str, text: &'static str) {
    let value = Value { bytes: text.into(), revision_at: Some(1) };
    store.commit(Txn::put(key, None, value)).await.unwrap();
}

fn value(store: &Embedded, key: &str) -> String {
    String::from_utf8(store.snapshot().get(key).unwrap().value.to_vec()).unwrap()
}

fn files_hold(dir: &Path, text: &str) -> bool {
    let files = std::fs::read_dir(dir).unwrap().map(|entry| std::fs::read(entry.unwrap().path()).unwrap());
    let mut files = files;
    files.any(|bytes| bytes.windows(text.len()).any(|window| window == text.as_bytes()))
}

#[tokio::test(flavor = "multi_thread")]
async fn files_hold_no_secret_and_memory_does() {
    let dir = tempfile::tempdir().unwrap();
    for round in 0..3 {
        let store = open(dir.path(), Some(1)).unwrap();
        if round == 0 {
            put(&store, "secret/a", "{hunter2 of a}").await;
            put(&store, "plain/a", "{everybody knows}").await;
        }
        assert_eq!(value(&store, "secret/a"), "{1hunter2 of a}", "round {round}");
        if round == 1 {
            assert!(store.rewrite().await, "a snapshot is written");
        }
        store.shutdown().await;
        assert!(!files_hold(dir.path(), "hunter2"), "round {round}");
        assert!(files_hold(dir.path(), "everybody knows"), "round {round}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_keys_a_store_does_not_open() {
    for rewritten in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path(), Some(1)).unwrap();
        put(&store, "secret/a", "{hunter2}").await;
        assert!(!rewritten || store.rewrite().await);
        store.shutdown().await;
        for (mask, why) in [(None, "no keys were given"), (Some(2), "sealed with the key 1")] {
            let error = open(dir.path(), mask).err().unwrap().to_string();
            assert!(error.contains("secret/a") && error.contains(why), "{error}");
        }
        assert!(open(dir.path(), Some(1)).is_ok(), "nothing was changed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rewrite_leaves_nothing_of_before() {
    let dir = tempfile::tempdir().unwrap();
    // Values from before anything was sealed.
    let store = open(dir.path(), None).unwrap();
    put(&store, "secret/a", "{hunter2}").await;
    store.shutdown().await;
    assert!(files_hold(dir.path(), "hunter2"));
    let store = open(dir.path(), Some(1)).unwrap();
    for _ in 0..3 {
        assert!(store.rewrite().await);
        assert!(!files_hold(dir.path(), "hunter2"));
    }
    put(&store, "secret/b", "{other}").await;
    store.shutdown().await;
    let store = open(dir.path(), Some(1)).unwrap();
    assert_eq!(value(&store, "secret/a"), "{1hunter2}");
    assert_eq!(value(&store, "secret/b"), "{2other}");
}
