//! What a commit costs, beside the disk's own limit measured in the same run; then memory, restart and fan-out.
//!
//! `cargo run --release -p mizzen-store --example commit_bench -- [directory] [seconds per row]`.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use mizzen_store::{Embedded, Options, Revision, Store, Txn, Value};

type Failure = Box<dyn std::error::Error + Send + Sync>;

const OBJECT_BYTES: usize = 1024;
const OBJECTS: usize = 30_000;
const WATCHERS: usize = 1000;

fn main() -> Result<(), Failure> {
    let mut args = std::env::args().skip(1);
    let dir = match args.next() {
        Some(dir) => tempfile::tempdir_in(dir)?,
        None => tempfile::tempdir()?,
    };
    let time = Duration::from_secs_f64(args.next().map_or(Ok(3.0), |arg| arg.parse())?);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    println!("{:<44} {:>9} {:>9} {:>9}", "", "per s", "p50 ms", "p99 ms");
    report("one thread: 4 KiB written and fdatasync'd", time, syncs(dir.path(), time)?);
    for writers in [1, 16, 64, 256] {
        let path = dir.path().join(format!("store-{writers}"));
        let times = runtime.block_on(commits(&path, writers, time))?;
        report(&format!("{writers} writers: commits of 1 KiB"), time, times);
    }
    report("one thread: 4 KiB written and fdatasync'd", time, syncs(dir.path(), time)?);
    runtime.block_on(many_objects(&dir.path().join("objects")))?;
    runtime.block_on(fan_out(&dir.path().join("fan-out")))
}

fn report(what: &str, time: Duration, mut times: Vec<Duration>) {
    times.sort();
    let at = |share: f64| times.get((times.len() as f64 * share) as usize).copied().unwrap_or_default().as_secs_f64();
    let rate = times.len() as f64 / time.as_secs_f64();
    println!("{what:<44} {rate:>9.0} {:>9.3} {:>9.3}", at(0.5) * 1e3, at(0.99) * 1e3);
}

fn syncs(dir: &Path, time: Duration) -> Result<Vec<Duration>, Failure> {
    let file = File::create(dir.join("syncs"))?;
    let blocks = 8192;
    for block in 0..blocks {
        file.write_all_at(&[0; 4096], block * 4096)?;
    }
    file.sync_all()?;
    let (started, mut times) = (Instant::now(), Vec::new());
    while started.elapsed() < time {
        let one = Instant::now();
        file.write_all_at(&[7; 4096], times.len() as u64 % blocks * 4096)?;
        file.sync_data()?;
        times.push(one.elapsed());
    }
    Ok(times)
}

fn value() -> Value {
    let head = br#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"resourceVersion":""#;
    let mut bytes = head.to_vec();
    bytes.extend_from_slice(br#""},"data":{"k":""#);
    bytes.resize(OBJECT_BYTES - 3, b'x');
    bytes.extend_from_slice(br#""}}"#);
    Value { revision_at: Some(head.len() as u32), bytes: Bytes::from(bytes) }
}

async fn commits(dir: &Path, writers: usize, time: Duration) -> Result<Vec<Duration>, Failure> {
    let store = Arc::new(Embedded::open(dir, Options::default())?);
    let until = Instant::now() + time;
    let tasks: Vec<_> = (0..writers)
        .map(|writer| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                let mut times = Vec::new();
                while Instant::now() < until {
                    let key = format!("core/configmaps/ns-{writer}/cm-{}", times.len());
                    let one = Instant::now();
                    store.commit(Txn::put(key, None, value())).await?;
                    times.push(one.elapsed());
                }
                Ok::<_, Failure>(times)
            })
        })
        .collect();
    let mut times = Vec::new();
    for task in tasks {
        times.extend(task.await??);
    }
    store.shutdown().await;
    Ok(times)
}

fn resident_bytes() -> Result<usize, Failure> {
    let pages = std::fs::read_to_string("/proc/self/statm")?;
    Ok(pages.split_whitespace().nth(1).ok_or("no resident size")?.parse::<usize>()? * 4096)
}

async fn many_objects(dir: &PathBuf) -> Result<(), Failure> {
    let started = Instant::now();
    let store = Arc::new(Embedded::open(dir, Options::default())?);
    println!("opening an empty directory: {:.1} ms", started.elapsed().as_secs_f64() * 1e3);
    let writers: Vec<_> = (0..64)
        .map(|writer| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                for i in 0..OBJECTS / 64 + 1 {
                    store.commit(Txn::put(format!("core/configmaps/ns-{writer}/cm-{i}"), None, value())).await?;
                }
                Ok::<_, Failure>(())
            })
        })
        .collect();
    for writer in writers {
        writer.await??;
    }
    store.shutdown().await;
    drop(store);
    let on_disk: u64 =
        std::fs::read_dir(dir)?.map(|file| file.and_then(|file| file.metadata()).map_or(0, |found| found.len())).sum();
    let (started, before) = (Instant::now(), resident_bytes()?);
    let store = Embedded::open(dir, Options::default())?;
    let opened = started.elapsed();
    let count = store.snapshot().prefix("").count();
    println!(
        "opening {count} objects of 1 KiB: {:.0} ms; {} bytes of memory and {} on disk an object",
        opened.as_secs_f64() * 1e3,
        resident_bytes()?.saturating_sub(before) / count,
        on_disk / count as u64
    );
    store.shutdown().await;
    Ok(())
}

async fn fan_out(dir: &Path) -> Result<(), Failure> {
    let store = Arc::new(Embedded::open(dir, Options::default())?);
    let (seen, mut all_seen) = tokio::sync::mpsc::channel(WATCHERS);
    for _ in 0..WATCHERS {
        let (mut watch, seen) = (store.watch("core/configmaps/", Revision(0))?, seen.clone());
        tokio::spawn(async move {
            while watch.next(100).await.is_ok() {
                if seen.send(()).await.is_err() {
                    break;
                }
            }
        });
    }
    let (mut acknowledged, mut delivered) = (Vec::new(), Vec::new());
    for i in 0..200 {
        let started = Instant::now();
        store.commit(Txn::put(format!("core/configmaps/ns/cm-{i}"), None, value())).await?;
        acknowledged.push(started.elapsed());
        for _ in 0..WATCHERS {
            all_seen.recv().await;
        }
        delivered.push(started.elapsed());
    }
    acknowledged.sort();
    delivered.sort();
    println!(
        "{WATCHERS} watchers: commit p50 {:.2} ms, last delivery p50 {:.2} ms",
        acknowledged[100].as_secs_f64() * 1e3,
        delivered[100].as_secs_f64() * 1e3
    );
    store.shutdown().await;
    Ok(())
}
