//! A full disk: writes are refused, nothing is lost, and it goes on when there is room again. Needs root, for a tmpfs.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use mizzen_store::{CommitError, Embedded, Options, Store, Txn, Value};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

/// A small file system of its own, taken away when dropped.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn new() -> Option<Self> {
        let dir = tempfile::tempdir().expect("a directory");
        match mount("tmpfs", dir.path(), "tmpfs", MountFlags::empty(), Some(c"size=4m")) {
            Ok(()) => Some(Self(dir)),
            Err(error) => {
                eprintln!("skipped: mounting a tmpfs needs root ({error})");
                None
            }
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily, so that it goes away even if a failed test still has files open.
        let _ = unmount(self.0.path(), UnmountFlags::DETACH);
    }
}

fn options() -> Options {
    Options {
        first_segment_bytes: 64 << 10,
        segment_bytes: 256 << 10,
        snapshot_log_bytes: 512 << 10,
        ..Options::default()
    }
}

fn fill(ballast: &Path) {
    let mut file = std::fs::File::create(ballast).expect("creates");
    for size in [64 << 10, 4096, 1] {
        while file.write_all(&vec![1; size]).is_ok() {}
    }
}

async fn put(store: &Embedded, i: usize) -> Result<(), CommitError> {
    let value = Value { bytes: Bytes::from(i.to_string().repeat(300)), revision_at: None };
    store.commit(Txn::put(format!("k/{}", i % 40), None, value)).await.map(|_| ())
}

fn check(store: &Embedded, acknowledged: usize) {
    assert_eq!(store.snapshot().revision().0 as usize, acknowledged);
    for i in acknowledged.saturating_sub(40)..acknowledged {
        let entry = store.snapshot().get(&format!("k/{}", i % 40)).cloned().expect("an acknowledged write");
        assert_eq!(&entry.value[..], i.to_string().repeat(300).as_bytes());
    }
}

#[tokio::test]
async fn a_full_disk_refuses_writes_and_loses_nothing() {
    let Some(disk) = SmallDisk::new() else { return };
    let (dir, ballast) = (disk.0.path().join("store"), disk.0.path().join("ballast"));
    let mut store = Embedded::open(&dir, options()).expect("opens");
    let mut acknowledged = 0;
    for round in 0..3 {
        for _ in 0..200 {
            put(&store, acknowledged).await.expect("there is room");
            acknowledged += 1;
        }
        fill(&ballast);
        let mut tries = 0;
        let refused = loop {
            fill(&ballast.with_extension(tries.to_string()));
            match put(&store, acknowledged).await {
                Ok(()) => acknowledged += 1,
                Err(error) => break error,
            }
            tries += 1;
            assert!(tries < 5000, "a full disk must refuse at last");
        };
        assert!(matches!(refused, CommitError::NoSpace { .. }), "{refused}");
        assert!(put(&store, acknowledged).await.is_err(), "still full");
        check(&store, acknowledged);
        if round == 1 {
            store.shutdown().await;
            store = Embedded::open(&dir, options()).expect("opens on a full disk");
            check(&store, acknowledged);
        }
        for file in std::fs::read_dir(disk.0.path()).expect("readable") {
            let path = file.expect("readable").path();
            if path.display().to_string().contains("ballast") {
                std::fs::remove_file(path).expect("removes");
            }
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
        put(&store, acknowledged).await.expect("there is room again");
        acknowledged += 1;
    }
    store.shutdown().await;
    check(&Embedded::open(&dir, options()).expect("opens"), acknowledged);
}
