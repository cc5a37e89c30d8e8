//! Fuzzing: `cargo xtask fuzz`, or this program by hand.
//!
//! `mizzen-fuzz TARGET CORPUS [--seconds N] [--inputs N] [--seed N] [--keep]` starts from the files of a corpus, changes
//! them at random, and goes on from what reaches new code. It ends with an error, and the input beside it, on a panic, a
//! hang, or growth of memory; `--keep` adds what was found new to the corpus. A crash that ends the process leaves its
//! input in the file named at the start.

mod coverage;
mod mutate;
mod targets;

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use coverage::Coverage;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use targets::{TARGETS, Target};

/// An input that takes longer, in time of the processor, has found a hang: they take microseconds. (A busy machine may let
/// one wait for seconds.)
const HANG: Duration = Duration::from_secs(5);
/// Growth of the process beyond this is a leak, or an input that asks for too much.
const MEMORY_MAX: u64 = 1 << 30;
/// Most inputs that are gone on from.
const POPULATION_MAX: usize = 20_000;
/// Most files that a corpus is grown to, and the largest of them: it is kept with the code.
const CORPUS_MAX: usize = 400;
const FILE_MAX: usize = 2 << 10;

struct Options {
    target: &'static Target,
    corpus: PathBuf,
    time: Duration,
    inputs: u64,
    seed: u64,
    keep: bool,
}

fn main() -> std::process::ExitCode {
    let outcome = options().and_then(|options| fuzz(&options));
    match outcome {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("fuzz: {error}");
            std::process::ExitCode::FAILURE
        }
    }
}

fn options() -> Result<Options, String> {
    let mut arguments = std::env::args().skip(1);
    let name = arguments.next().unwrap_or_default();
    let names = || TARGETS.iter().map(|t| t.name).collect::<Vec<_>>().join(", ");
    let target =
        TARGETS.iter().find(|t| t.name == name).ok_or_else(|| format!("no target {name:?}; there are {}", names()))?;
    let corpus = arguments.next().map(PathBuf::from).ok_or("name the directory of the corpus")?;
    let mut options =
        Options { target, corpus, time: Duration::from_secs(10), inputs: u64::MAX, seed: rand::random(), keep: false };
    while let Some(option) = arguments.next() {
        let mut number =
            || arguments.next().and_then(|n| n.parse::<u64>().ok()).ok_or(format!("{option} needs a number"));
        match option.as_str() {
            "--seconds" => options.time = Duration::from_secs(number()?),
            "--inputs" => options.inputs = number()?,
            "--seed" => options.seed = number()?,
            "--keep" => options.keep = true,
            _ => return Err(format!("no option {option}")),
        }
    }
    Ok(options)
}

/// A run of one target.
struct Run<'a> {
    options: &'a Options,
    coverage: Coverage,
    population: Vec<Vec<u8>>,
    /// The input that runs, for when it ends the process.
    current: File,
    done: u64,
}

fn fuzz(options: &Options) -> Result<(), String> {
    let name = options.target.name;
    let current = std::env::temp_dir().join(format!("mizzen-fuzz-{name}-{}", std::process::id()));
    let file = File::create(&current).map_err(|e| format!("{}: {e}", current.display()))?;
    std::panic::set_hook(Box::new(|_| {}));
    let mut run = Run { options, coverage: Coverage::new(), population: Vec::new(), current: file, done: 0 };
    println!(
        "{name}: seed {}, {} counters, input under way in {}",
        options.seed,
        run.coverage.counters(),
        current.display()
    );
    for (path, input) in read(&options.corpus)? {
        run.try_one(input).map_err(|e| format!("{} of the corpus: {e}", path.display()))?;
    }
    let known = run.population.len();
    run.search()?;
    println!(
        "{name}: {} inputs, {} of {} counters reached, {} inputs reached something new",
        run.done,
        run.coverage.reached(),
        run.coverage.counters(),
        run.population.len() - known
    );
    if options.keep {
        keep(&options.corpus, &run.population[known..])?;
    }
    std::fs::remove_file(&current).map_err(|e| format!("{}: {e}", current.display()))
}

impl Run<'_> {
    fn search(&mut self) -> Result<(), String> {
        let mut random = StdRng::seed_from_u64(self.options.seed);
        let began = Instant::now();
        while self.done < self.options.inputs && began.elapsed() < self.options.time {
            let mut pick = || match self.population.len() {
                0 => Vec::new(),
                // What was found last is looked at more often.
                n if random.random_bool(0.3) => self.population[n - 1 - random.random_range(0..n.min(32))].clone(),
                n => self.population[random.random_range(0..n)].clone(),
            };
            let (base, other) = (pick(), pick());
            let input = mutate::mutated(&mut random, &base, &other);
            self.try_one(input)?;
            if self.done.is_multiple_of(65_536) {
                let resident = resident();
                if resident > MEMORY_MAX {
                    return Err(format!("{} MiB of memory after {} inputs", resident >> 20, self.done));
                }
            }
        }
        Ok(())
    }

    fn try_one(&mut self, input: Vec<u8>) -> Result<(), String> {
        // Best effort: if it cannot be written, a crash is only harder to find again.
        let _ = self.current.set_len(input.len() as u64).and_then(|()| self.current.write_all_at(&input, 0));
        self.coverage.reset();
        let began = used();
        let ended = catch_unwind(AssertUnwindSafe(|| (self.options.target.run)(&input)));
        let took = used().saturating_sub(began);
        self.done += 1;
        if let Err(panic) = ended {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("a panic");
            return Err(format!("{text}\ninput: {}", save(self.options.target.name, &input)?));
        }
        if took > HANG {
            return Err(format!("took {took:?}\ninput: {}", save(self.options.target.name, &input)?));
        }
        if self.coverage.take() && self.population.len() < POPULATION_MAX {
            self.population.push(input);
        } else if self.coverage.counters() == 0 && self.population.len() < 1000 {
            // Blind: go on from anything.
            self.population.push(input);
        }
        Ok(())
    }
}

fn read(corpus: &Path) -> Result<Vec<(PathBuf, Vec<u8>)>, String> {
    let failed = |e: std::io::Error| format!("{}: {e}", corpus.display());
    let mut inputs = Vec::new();
    for entry in std::fs::read_dir(corpus).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let input = std::fs::read(&path).map_err(failed)?;
        inputs.push((path, input));
    }
    inputs.sort();
    Ok(inputs)
}

fn save(target: &str, input: &[u8]) -> Result<String, String> {
    let path = std::env::temp_dir().join(format!("mizzen-fuzz-{target}-crash-{:016x}", name_of(input)));
    std::fs::write(&path, input).map_err(|e| format!("{}: {e}", path.display()))?;
    Ok(path.display().to_string())
}

fn keep(corpus: &Path, found: &[Vec<u8>]) -> Result<(), String> {
    let there = read(corpus)?.len();
    for input in found.iter().filter(|input| input.len() <= FILE_MAX).take(CORPUS_MAX.saturating_sub(there)) {
        let path = corpus.join(format!("{:016x}", name_of(input)));
        std::fs::write(&path, input).map_err(|e| format!("{}: {e}", path.display()))?;
    }
    Ok(())
}

/// FNV-1a: the same input has the same name everywhere.
fn name_of(input: &[u8]) -> u64 {
    input.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

/// The processor's time of this thread.
fn used() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
}

fn resident() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").ok();
    let pages = pages.and_then(|text| text.split_whitespace().nth(1)?.parse::<u64>().ok());
    pages.unwrap_or_default() * 4096
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kept_corpora_pass() {
        let corpora = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
        for target in &TARGETS {
            let inputs = read(&corpora.join(target.name)).unwrap();
            assert!(!inputs.is_empty(), "{} has no corpus", target.name);
            for (path, input) in inputs {
                let ended = catch_unwind(AssertUnwindSafe(|| (target.run)(&input)));
                assert!(ended.is_ok(), "{}", path.display());
            }
        }
    }
}
