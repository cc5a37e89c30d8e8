//! The log files of a container: one for each run, and older parts of it that were rotated away.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The files of one run, oldest first; the last is the one being written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunFiles {
    /// Which run.
    pub attempt: u32,
    /// Rotated parts, `.gz` if compressed.
    pub rotated: Vec<PathBuf>,
    /// Being written.
    pub current: PathBuf,
}

/// The files of the latest run in a container's log directory, or of the one before it.
pub fn find(directory: &Path, previous: bool) -> io::Result<Option<RunFiles>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(directory)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    Ok(choose(directory, &names, previous))
}

fn choose(directory: &Path, names: &[String], previous: bool) -> Option<RunFiles> {
    let mut attempts: Vec<u32> = names.iter().filter_map(|n| n.strip_suffix(".log")?.parse().ok()).collect();
    attempts.sort_unstable();
    let attempt = if previous { attempts.iter().rev().nth(1) } else { attempts.last() };
    let attempt = *attempt?;
    let prefix = format!("{attempt}.log.");
    let mut rotated: Vec<&String> = names.iter().filter(|n| n.starts_with(&prefix) && !n.ends_with(".tmp")).collect();
    // Their names end in the time of rotation.
    rotated.sort();
    Some(RunFiles {
        attempt,
        rotated: rotated.into_iter().map(|n| directory.join(n)).collect(),
        current: directory.join(format!("{attempt}.log")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_and_their_parts() {
        let names: Vec<String> = [
            "9.log",
            "10.log",
            "10.log.20260101-000002",
            "10.log.20260101-000001.gz",
            "9.log.20260101-000000.gz",
            "10.log.x.tmp",
        ]
        .map(String::from)
        .to_vec();
        let latest = choose(Path::new("/l"), &names, false).unwrap();
        assert_eq!(latest.attempt, 10);
        let rotated: Vec<_> = latest.rotated.iter().map(|p| p.file_name().unwrap().to_str().unwrap()).collect();
        assert_eq!(rotated, ["10.log.20260101-000001.gz", "10.log.20260101-000002"]);
        assert_eq!(choose(Path::new("/l"), &names, true).unwrap().current, Path::new("/l/9.log"));
        assert_eq!(choose(Path::new("/l"), &names[..1], true), None);
    }
}
