//! What is left of everything that can run out.

use std::collections::BTreeMap;
use std::path::Path;

use super::settings::Signal;
use crate::usage::machine::meminfo;

/// What is left, and of how much.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// Left.
    pub available: i64,
    /// There at all.
    pub capacity: i64,
}

/// All that could be read.
pub type Readings = BTreeMap<Signal, Reading>;

/// Reads the machine. What cannot be read is left out: nobody ends for it.
pub fn read(data_dir: &Path) -> Readings {
    let mut readings = Readings::new();
    if let (Some(available), Some(capacity)) = (meminfo("MemAvailable:"), meminfo("MemTotal:")) {
        // A machine that is itself a container has no more than its group allows.
        let group = group_memory();
        let available = group.map_or(available, |g| available.min(g.available));
        let capacity = group.map_or(capacity, |g| capacity.min(g.capacity));
        readings.insert(Signal::MemoryAvailable, Reading { available, capacity });
    }
    disk(data_dir, Signal::NodefsAvailable, Signal::NodefsInodesFree, &mut readings);
    disk(&data_dir.join("images"), Signal::ImagefsAvailable, Signal::ImagefsInodesFree, &mut readings);
    if let Some(pids) = pids() {
        readings.insert(Signal::PidAvailable, pids);
    }
    readings
}

fn disk(path: &Path, bytes: Signal, inodes: Signal, readings: &mut Readings) {
    let Ok(stat) = rustix::fs::statvfs(path) else { return };
    let whole = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    let size = |blocks: u64| whole(blocks.saturating_mul(stat.f_frsize));
    readings.insert(bytes, Reading { available: size(stat.f_bavail), capacity: size(stat.f_blocks) });
    // Some file systems have no such limit and say 0.
    if stat.f_files > 0 {
        readings.insert(inodes, Reading { available: whole(stat.f_ffree), capacity: whole(stat.f_files) });
    }
}

fn pids() -> Option<Reading> {
    let number = |path: &str| std::fs::read_to_string(path).ok()?.trim().parse::<i64>().ok();
    let capacity = number("/proc/sys/kernel/pid_max")?.min(number("/proc/sys/kernel/threads-max")?);
    let used = threads(&std::fs::read_to_string("/proc/loadavg").ok()?)?;
    Some(Reading { available: capacity - used, capacity })
}

/// All threads of the machine: the second part of the fourth field of `/proc/loadavg`.
fn threads(loadavg: &str) -> Option<i64> {
    loadavg.split_whitespace().nth(3)?.split_once('/')?.1.parse().ok()
}

/// Memory of the group that the cgroup file system has as its root, if that is limited: then this is a container.
fn group_memory() -> Option<Reading> {
    let text = |path: &str| std::fs::read_to_string(Path::new("/sys/fs/cgroup").join(path)).ok();
    let (limit, used, stat, inactive) = match text("memory.max") {
        Some(limit) => (limit, text("memory.current")?, text("memory.stat")?, "inactive_file "),
        None => (
            text("memory/memory.limit_in_bytes")?,
            text("memory/memory.usage_in_bytes")?,
            text("memory/memory.stat")?,
            "total_inactive_file ",
        ),
    };
    limited(&limit, &used, &stat, inactive)
}

fn limited(limit: &str, used: &str, stat: &str, inactive: &str) -> Option<Reading> {
    /// Without a limit v1 shows the largest multiple of a page.
    const NONE: i64 = 1 << 60;
    let capacity = limit.trim().parse::<i64>().ok().filter(|l| *l < NONE)?;
    let used: i64 = used.trim().parse().ok()?;
    let cache = stat.lines().find_map(|l| l.strip_prefix(inactive)?.trim().parse::<i64>().ok()).unwrap_or(0);
    Some(Reading { available: (capacity - (used - cache).max(0)).max(0), capacity })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_shows_is_understood() {
        assert_eq!(threads("0.20 0.18 0.12 1/80 11206\n"), Some(80));
        let stat = "cache 9\ninactive_file 1\ntotal_inactive_file 30\n";
        let want = Reading { available: 50, capacity: 100 };
        assert_eq!(limited("100\n", "80\n", stat, "total_inactive_file "), Some(want));
        assert_eq!(limited("max\n", "80\n", stat, "inactive_file "), None);
        assert_eq!(limited("9223372036854771712\n", "80\n", stat, "total_inactive_file "), None);
    }
}
