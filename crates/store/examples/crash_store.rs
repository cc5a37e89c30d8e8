//! Kills a writing store with SIGKILL at random points, again and again, and checks each time that no acknowledged write
//! is lost and no transaction is seen half.
//!
//! `cargo run -p mizzen-store --example crash_store -- [rounds] [seed]`. The seed is printed; it fixes what is written and when
//! the process is killed (not how the kernel schedules it).

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use mizzen_store::{Embedded, Operation, Options, Revision, Snapshot, Store, Txn, Value};

const WRITERS: u64 = 12;
const ROUNDS: u64 = 200;

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() -> Result<(), Failure> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [mode, dir, seed] = &args[..]
        && mode == "child"
    {
        return child(Path::new(dir), seed.parse()?);
    }
    let rounds = args.first().map_or(Ok(ROUNDS), |arg| arg.parse())?;
    let seed = match args.get(1) {
        Some(arg) => arg.parse()?,
        None => SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_nanos() as u64,
    };
    println!("crash_store: {rounds} rounds, seed {seed}; again with: crash_store {rounds} {seed}");
    let dir = tempfile::tempdir()?;
    let started = Instant::now();
    let mut totals = Totals::default();
    let mut known = HashMap::new();
    for round in 0..rounds {
        let acknowledged = crash(dir.path(), mix(seed ^ round), &mut totals)?;
        verify(dir.path(), &mut known, &acknowledged)
            .map_err(|error| format!("seed {seed}, round {round}: {error}"))?;
        if round % 20 == 19 {
            println!("{} rounds: {totals:?} in {:.1} s", round + 1, started.elapsed().as_secs_f64());
        }
    }
    println!("no acknowledged write was lost and none was seen half");
    Ok(())
}

/// Small files, so that rolling over, snapshots and purging happen all the time.
fn options() -> Options {
    Options {
        first_segment_bytes: 128 << 10,
        segment_bytes: 512 << 10,
        snapshot_log_bytes: 300 << 10,
        ..Options::default()
    }
}

#[derive(Debug, Default)]
struct Totals {
    acknowledged: u64,
    killed_while_opening: u64,
}

/// What a killed process had acknowledged: per writer the last number, and the highest revision.
#[derive(Debug, Default)]
struct Acknowledged {
    numbers: HashMap<u64, u64>,
    revision: Revision,
}

fn crash(dir: &Path, seed: u64, totals: &mut Totals) -> Result<Acknowledged, Failure> {
    let mut child = Command::new(std::env::current_exe()?)
        .args(["child", &dir.display().to_string(), &seed.to_string()])
        .stdout(Stdio::piped())
        .spawn()?;
    let output = child.stdout.take().ok_or("the child has no output")?;
    let reader = std::thread::spawn(move || acknowledged(BufReader::new(output)));
    // Mostly while it writes, sometimes while it still opens the store.
    std::thread::sleep(Duration::from_micros(2_000 + seed % 120_000));
    child.kill()?;
    child.wait()?;
    let read = reader.join().map_err(|_| "the reader failed")??;
    totals.acknowledged += read.1;
    totals.killed_while_opening += u64::from(read.1 == 0);
    Ok(read.0)
}

fn acknowledged(mut output: impl BufRead) -> Result<(Acknowledged, u64), std::io::Error> {
    let (mut read, mut count, mut line) = (Acknowledged::default(), 0, String::new());
    while output.read_line(&mut line)? > 0 {
        // The last line may have been cut by the kill.
        let fields: Vec<u64> = line.split_whitespace().filter_map(|field| field.parse().ok()).collect();
        if let ([writer, number, revision], true) = (&fields[..], line.ends_with('\n')) {
            read.numbers.insert(*writer, *number);
            read.revision = read.revision.max(Revision(*revision));
            count += 1;
        }
        line.clear();
    }
    Ok((read, count))
}

fn verify(dir: &Path, known: &mut HashMap<u64, u64>, acknowledged: &Acknowledged) -> Result<(), Failure> {
    let store = Embedded::open(dir, options())?;
    let state = store.snapshot();
    if state.revision() < acknowledged.revision {
        return Err(format!("at {}, but {} was acknowledged", state.revision(), acknowledged.revision).into());
    }
    for writer in 0..WRITERS {
        let least = acknowledged.numbers.get(&writer).or(known.get(&writer)).copied().unwrap_or(0);
        let found = number(&state, writer)?;
        // One more may have been written and not acknowledged.
        if found < least || found > least + 1 {
            return Err(format!("writer {writer} is at {found}, acknowledged was {least}").into());
        }
        for part in ["a", "b"] {
            let value = state.get(&key(writer, part)).map(|entry| entry.value.clone());
            if value != content(writer, found) {
                return Err(format!("writer {writer}'s transaction {found} is not whole").into());
            }
        }
        known.insert(writer, found);
    }
    Ok(())
}

fn key(writer: u64, part: &str) -> String {
    format!("writers/{writer}/{part}")
}

fn number(state: &Snapshot, writer: u64) -> Result<u64, Failure> {
    match state.get(&key(writer, "number")) {
        Some(entry) => Ok(std::str::from_utf8(&entry.value)?.parse()?),
        None => Ok(0),
    }
}

/// What a writer's transaction of this number leaves at its two other keys.
fn content(writer: u64, number: u64) -> Option<Bytes> {
    let random = mix(writer << 32 | number);
    let len = if random.is_multiple_of(50) { 200_000 } else { random % 5000 };
    let words = || (0..len / 8).flat_map(|at| (random ^ at).to_le_bytes()).collect();
    (number != 0 && !number.is_multiple_of(7)).then(words)
}

fn child(dir: &Path, _seed: u64) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let store = Arc::new(Embedded::open(dir, options())?);
    runtime.block_on(async {
        let writers: Vec<_> = (0..WRITERS).map(|writer| tokio::spawn(write(Arc::clone(&store), writer))).collect();
        for writer in writers {
            writer.await??;
        }
        Ok(())
    })
}

async fn write(store: Arc<Embedded>, writer: u64) -> Result<(), Failure> {
    let first = number(&store.snapshot(), writer)? + 1;
    for number in first.. {
        let raw = |bytes: Bytes| Value { bytes, revision_at: None };
        let put = |part: &str, bytes: Bytes| Operation::Put { key: key(writer, part), value: raw(bytes) };
        let part = |name: &str| match content(writer, number) {
            Some(bytes) => put(name, bytes),
            None => Operation::Delete { key: key(writer, name) },
        };
        let operations = vec![part("a"), put("number", Bytes::from(number.to_string())), part("b")];
        let done = store.commit(Txn { expect: Vec::new(), operations }).await?;
        let line = format!("{writer} {number} {}\n", done.revision);
        std::io::stdout().lock().write_all(line.as_bytes())?;
    }
    Ok(())
}

/// splitmix64.
fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
