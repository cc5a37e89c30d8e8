//! `verify` and `fix`: the same checks, one changes nothing, the other mends.

use crate::docs;
use crate::run::{Result, is_there, run};

/// Formatting, lints, generated docs, licences.
pub fn verify() -> Result {
    run("cargo", &["fmt", "--all", "--check"])?;
    run("cargo", &["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"])?;
    docs::check()?;
    if is_there("cargo-deny") {
        run("cargo", &["deny", "--offline", "check", "bans", "licenses", "sources"])
    } else {
        println!("skipped: cargo-deny is not installed (cargo install cargo-deny)");
        Ok(())
    }
}

/// Formats and writes the generated docs.
pub fn fix() -> Result {
    run("cargo", &["fmt", "--all"])?;
    docs::write()
}
