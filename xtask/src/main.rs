//! Developer tasks: `cargo xtask <task>`.
//!
//! * `verify` changes nothing and gates everything; CI runs it.
//! * `fix` mends what can be mended: formatting, generated docs.
//! * `test` sets up what the tests need, says plainly what it cannot, and runs them all.
//! * `conformance` writes `docs/conformance.md` from the public suite's results.
//! * `vm` runs the node's tests in a virtual machine whose kernel has cgroup v2 only.
//! * `bench`, `crash-store`, `fuzz`: measure and torture.

mod bench;
mod conformance;
mod docs;
mod fuzz;
mod packages;
mod run;
mod test;
mod verify;
mod vm;

use clap::{Parser, Subcommand};

/// Developer tasks of mizzen
#[derive(Debug, Parser)]
#[command(name = "cargo xtask")]
struct Tasks {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Check formatting, lints, licences and generated docs; changes nothing
    Verify,
    /// Format and regenerate docs
    Fix,
    /// Install what the tests need (on Debian) and run all of them
    Test {
        /// Do not install anything
        #[arg(long)]
        offline: bool,
        /// Only tests whose names contain this
        filter: Option<String>,
    },
    /// Run the node's tests in a virtual machine with Debian's kernel and cgroup v2 only
    Vm {
        /// Do not install or download anything
        #[arg(long)]
        offline: bool,
        /// Only tests whose names contain this
        filter: Option<String>,
    },
    /// Run a benchmark: store, runtime, api, node
    Bench {
        /// Which one
        #[arg(value_enum)]
        what: bench::Bench,
    },
    /// Write docs/conformance.md from JUnit files of the public end-to-end suite; later files win over earlier ones
    Conformance {
        /// The commit that was tested; HEAD unless said
        #[arg(long)]
        commit: Option<String>,
        /// The files
        #[arg(required = true)]
        files: Vec<std::path::PathBuf>,
    },
    /// Fuzz the decoders, guided by the code they reach, from the kept corpora in fuzz/corpus
    Fuzz {
        /// How long each target runs
        #[arg(long, default_value_t = 60)]
        seconds: u64,
        /// Most inputs of each target
        #[arg(long)]
        inputs: Option<u64>,
        /// Add what reached something new to the corpora
        #[arg(long)]
        keep: bool,
        /// Only this target
        target: Option<String>,
    },
    /// Kill the store at random points under writers and check that nothing acknowledged is lost
    CrashStore {
        /// How often to kill it
        #[arg(default_value_t = 200)]
        rounds: u32,
        /// Seed of the run, as printed by a failed one
        seed: Option<u64>,
    },
}

fn main() -> std::process::ExitCode {
    let result = match Tasks::parse().task {
        Task::Verify => verify::verify(),
        Task::Fix => verify::fix(),
        Task::Test { offline, filter } => test::test(offline, filter.as_deref()),
        Task::Vm { offline, filter } => vm::vm(offline, filter.as_deref()),
        Task::Bench { what } => bench::bench(what),
        Task::Conformance { commit, files } => conformance::write(&files, commit.as_deref()),
        Task::Fuzz { seconds, inputs, keep, target } => fuzz::fuzz(seconds, inputs, keep, target.as_deref()),
        Task::CrashStore { rounds, seed } => test::crash_store(rounds, seed),
    };
    match result {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error}");
            std::process::ExitCode::FAILURE
        }
    }
}
