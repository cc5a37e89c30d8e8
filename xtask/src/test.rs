//! `test`: everything the README's second command runs.

use std::process::Command;

use crate::packages;
use crate::run::{Result, is_there, root, run};

/// Installs what is missing, then runs the tests of the workspace and the whole binary against real clients.
pub fn test(offline: bool, filter: Option<&str>) -> Result {
    packages::install(offline);
    run("cargo", &["build", "--package", "mizzen"])?;
    let mut command = if is_there("cargo-nextest") {
        let mut command = Command::new("cargo");
        command.args(["nextest", "run", "--workspace", "--no-fail-fast"]);
        command
    } else {
        let mut command = Command::new("cargo");
        command.args(["test", "--workspace", "--no-fail-fast"]);
        command
    };
    command.args(filter).current_dir(root());
    command.env("MIZZEN_TEST_PYTHON", packages::python());
    if let Some(kubectl) = packages::kubectl() {
        command.env("MIZZEN_TEST_KUBECTL", kubectl);
    }
    let status = command.status().map_err(|e| format!("cargo cannot be run: {e}"))?;
    if status.success() { Ok(()) } else { Err(format!("tests failed: {status}")) }
}

/// Kills the store many times.
pub fn crash_store(rounds: u32, seed: Option<u64>) -> Result {
    let (rounds, seed) = (rounds.to_string(), seed.map(|s| s.to_string()));
    let mut args = vec!["run", "--package", "mizzen-store", "--example", "crash_store", "--", &rounds];
    args.extend(seed.as_deref());
    run("cargo", &args)
}
