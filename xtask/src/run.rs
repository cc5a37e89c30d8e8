//! Running programs and saying which one failed.

use std::path::PathBuf;
use std::process::Command;

/// What tasks answer with.
pub type Result<T = ()> = std::result::Result<T, String>;

/// The root of the checkout.
pub fn root() -> PathBuf {
    // The manifest of xtask lies one level below the root.
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Runs a program in the checkout, with its output shown; failing is an error that names it.
pub fn run(program: &str, args: &[&str]) -> Result {
    println!("$ {program} {}", args.join(" "));
    let status = Command::new(program).args(args).current_dir(root()).status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("`{program} {}` failed: {status}", args.join(" "))),
        Err(error) => Err(format!("`{program}` cannot be run: {error}")),
    }
}

/// The output of a program; failing is an error with what it said.
pub fn output(program: &str, args: &[&str]) -> Result<String> {
    let output = Command::new(program).args(args).current_dir(root()).output();
    let output = output.map_err(|e| format!("`{program}` cannot be run: {e}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(format!("`{program} {}` failed: {}", args.join(" "), String::from_utf8_lossy(&output.stderr).trim()))
}

/// Is a program on the path?
pub fn is_there(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(program).is_file())
}
