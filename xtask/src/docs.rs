//! Pages that are generated from the program: the command reference.

use crate::run::{Result, output, root};

const REFERENCE: &str = "docs/reference/cli.md";

/// Writes the generated pages.
pub fn write() -> Result {
    let path = root().join(REFERENCE);
    std::fs::write(&path, reference()?).map_err(|e| format!("{}: {e}", path.display()))
}

/// Fails if a generated page is stale.
pub fn check() -> Result {
    let kept = std::fs::read_to_string(root().join(REFERENCE)).unwrap_or_default();
    if kept == reference()? {
        return Ok(());
    }
    Err(format!("{REFERENCE} is stale; run `cargo xtask fix`"))
}

fn reference() -> Result<String> {
    output("cargo", &["run", "--quiet", "--package", "mizzen", "--", "reference"])
}
