//! `verify` and `fix`: the same checks, one changes nothing, the other mends.

use crate::docs;
use crate::run::{Result, is_there, run};

/// Formatting, lints, generated docs, licences.
pub fn verify() -> Result {
    run("cargo", &["fmt", "--all", "--check"])?;
    run("cargo", &["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"])?;
    docs::check()?;
    dependencies()
}

/// Licences, banned crates and sources of the dependencies; known vulnerabilities where their database can be fetched.
fn dependencies() -> Result {
    if !is_there("cargo-deny") {
        println!(
            "skipped: dependencies are not checked, for cargo-deny is not installed (cargo install cargo-deny --locked)"
        );
        return Ok(());
    }
    run("cargo", &["deny", "check", "bans", "licenses", "sources"])?;
    if let Err(error) = run("cargo", &["deny", "fetch", "db"]) {
        println!(
            "skipped: dependencies are not held against known vulnerabilities, for their database cannot be fetched ({error})"
        );
        return Ok(());
    }
    run("cargo", &["deny", "check", "advisories"])
}

/// Formats and writes the generated docs.
pub fn fix() -> Result {
    run("cargo", &["fmt", "--all"])?;
    docs::write()
}
