//! System call filters: the default profile, profiles from files in Docker's JSON form, and a compiler to classic BPF.
//!
//! The compiler is our own because a profile has several actions and errno values (`clone3` must answer `ENOSYS` where
//! others answer `EPERM`), which seccompiler's one action per filter cannot say; and because a search tree over ranges of
//! numbers loads and runs faster than a chain of comparisons.

mod compile;
mod default;
mod numbers;
mod profile;

use std::io;
use std::path::Path;

pub(crate) use compile::Filter;
pub(crate) use profile::ProfileError;

/// The default profile for a container with these capabilities.
pub(crate) fn default_filter(has_capability: impl Fn(&str) -> bool) -> Filter {
    Filter::compile(&default::rules(has_capability))
}

/// A profile from a file; its rules may depend on capabilities.
pub(crate) fn filter_from_file(path: &Path, has_capability: impl Fn(&str) -> bool) -> Result<Filter, ProfileError> {
    let text = read_limited(path).map_err(ProfileError::Read)?;
    Ok(Filter::compile(&profile::parse(&text, &has_capability)?))
}

/// Longest profile that is read: Docker's default has 20 KB.
const PROFILE_MAX: u64 = 4 << 20;

fn read_limited(path: &Path) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    io::Read::read_to_end(&mut io::Read::take(std::fs::File::open(path)?, PROFILE_MAX), &mut text)?;
    Ok(text)
}
