//! `bench`: the benchmarks by one command each.

use crate::run::{Result, run};

/// The benchmarks.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub enum Bench {
    /// Commits a second beside a bare fdatasync loop
    Store,
    /// Starting containers and execs
    Runtime,
    /// Requests against a whole `mizzen up`, beside nginx and, where it is to be had, kube-apiserver
    Api,
    /// Starts, pods, Deployments, memory and CPU at rest of a whole `mizzen up`
    Node,
}

/// Builds for release and measures.
pub fn bench(what: Bench) -> Result {
    let example =
        |package: &str, name: &str| run("cargo", &["run", "--release", "--package", package, "--example", name]);
    match what {
        Bench::Store => example("mizzen-store", "commit_bench"),
        Bench::Runtime => example("mizzen-runtime", "start_bench"),
        Bench::Api => run("bash", &["docs/bench/api.sh"]),
        Bench::Node => run("bash", &["docs/bench/node.sh"]),
    }
}
