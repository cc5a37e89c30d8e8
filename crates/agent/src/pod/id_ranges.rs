//! Users and groups of the machine that pods in user namespaces of their own have: each its own range.
//!
//! A range is kept in a file of the pod's directory while the pod is on the node, so that an agent that starts anew gives it
//! to nobody else.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, PoisonError};

use mizzen_runtime::spec::IdRange;

/// Ids of a pod: as many as every image may expect (`nobody` is 65534).
const LENGTH: u32 = 65_536;
/// The first range, above what machines give to people and services.
const FIRST: u32 = 16;
/// Ranges end where the kernel's ids do, 4294967295 being no id.
const END: u32 = u32::MAX / LENGTH;
/// The file in a pod's directory.
const FILE: &str = "userns";

/// The ranges of a node.
#[derive(Debug)]
pub struct IdRanges {
    pods: PathBuf,
    /// By pod uid, in units of [`LENGTH`]; read from disk when it is first asked for.
    taken: Mutex<Option<BTreeMap<String, u32>>>,
    /// How often a pod with a range was started.
    pub started: AtomicU64,
    /// How often that failed, or a container of such a pod could not be started.
    pub failed: AtomicU64,
}

impl IdRanges {
    /// Those of the pods whose directories lie below `pods`.
    pub fn new(pods: PathBuf) -> Self {
        Self { pods, taken: Mutex::new(None), started: AtomicU64::new(0), failed: AtomicU64::new(0) }
    }

    /// The range of a pod, whose directory exists; the same whenever it is asked for.
    ///
    /// # Errors
    /// It cannot be kept on disk, or there is none left.
    pub fn of(&self, uid: &str) -> io::Result<IdRange> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = taken.get_or_insert_with(|| read_all(&self.pods));
        let number = match taken.get(uid) {
            Some(number) => *number,
            None => {
                let free = (FIRST..END).find(|n| !taken.values().any(|t| t == n));
                let free = free.ok_or_else(|| io::Error::other("no range of user ids is left"))?;
                fs::write(self.pods.join(uid).join(FILE), format!("{} {LENGTH}\n", free * LENGTH))?;
                taken.insert(uid.to_string(), free);
                free
            }
        };
        Ok(IdRange { first: number * LENGTH, length: LENGTH })
    }

    /// The pod is gone from the node.
    pub fn release(&self, uid: &str) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.get_or_insert_with(|| read_all(&self.pods)).remove(uid).is_some() {
            // Gone with its directory soon; until then it must not be read again.
            let _ = fs::remove_file(self.pods.join(uid).join(FILE));
        }
    }
}

fn read_all(pods: &Path) -> BTreeMap<String, u32> {
    let number = |directory: &Path| -> Option<u32> {
        let text = fs::read_to_string(directory.join(FILE)).ok()?;
        text.split(' ').next()?.parse::<u32>().ok().map(|first| first / LENGTH)
    };
    let entries = fs::read_dir(pods).into_iter().flatten().flatten();
    entries.filter_map(|e| Some((e.file_name().to_string_lossy().into_owned(), number(&e.path())?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_kept_and_never_shared() {
        let directory = tempfile::tempdir().unwrap();
        for pod in ["a", "b", "c"] {
            fs::create_dir(directory.path().join(pod)).unwrap();
        }
        let ranges = IdRanges::new(directory.path().into());
        let first = |ranges: &IdRanges, pod: &str| ranges.of(pod).unwrap().first;
        assert_eq!([first(&ranges, "a"), first(&ranges, "b"), first(&ranges, "a")], [1_048_576, 1_114_112, 1_048_576]);
        let anew = IdRanges::new(directory.path().into());
        assert_eq!([first(&anew, "c"), first(&anew, "b")], [1_179_648, 1_114_112]);
        anew.release("b");
        fs::create_dir(directory.path().join("d")).unwrap();
        assert_eq!(first(&anew, "d"), 1_114_112);
        assert!(anew.of("none").is_err(), "it has no directory");
    }
}
