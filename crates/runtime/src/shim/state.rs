//! The state file: what a driver learns of a sandbox whose shim is gone.

use std::io;
use std::path::Path;

use crate::protocol::Description;

/// Its name in the pod's directory.
pub(crate) const FILE: &str = "state.json";

/// Longest state file that is read.
const MAX: u64 = 64 << 20;

/// Writes it in one step, so that readers see the old one or the new one. Not synced: after a crash of the machine none of
/// the containers runs any more.
pub(super) fn write(directory: &Path, description: &Description) -> io::Result<()> {
    let (temporary, file) = (directory.join("state.json.new"), directory.join(FILE));
    std::fs::write(&temporary, serde_json::to_vec(description)?)?;
    std::fs::rename(temporary, file)
}

/// Reads it.
pub(crate) fn read(directory: &Path) -> io::Result<Description> {
    let mut text = Vec::new();
    io::Read::read_to_end(&mut io::Read::take(std::fs::File::open(directory.join(FILE))?, MAX), &mut text)?;
    Ok(serde_json::from_slice(&text)?)
}
