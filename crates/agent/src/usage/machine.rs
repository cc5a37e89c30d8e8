//! What the machine as a whole uses, and whether little is left.

use std::path::Path;

use crate::node::capacity::memory_field;
use crate::node::object::Pressure;

/// Memory below which the node is short of it (kubelet's `memory.available` threshold).
const MEMORY_MIN: i64 = 100 << 20;
/// Percent of disk and inodes below which the node is short of it (`nodefs.available`, `nodefs.inodesFree`).
const DISK_MIN_PERCENT: u64 = 10;
const INODES_MIN_PERCENT: u64 = 5;

/// Whether little is left of something.
pub fn pressure(data_dir: &Path) -> Pressure {
    let available = meminfo("MemAvailable:");
    let disk = rustix::fs::statvfs(data_dir).is_ok_and(|s| {
        let low = |free: u64, all: u64, percent: u64| all > 0 && free.saturating_mul(100) < all.saturating_mul(percent);
        low(s.f_bavail, s.f_blocks, DISK_MIN_PERCENT) || low(s.f_ffree, s.f_files, INODES_MIN_PERCENT)
    });
    Pressure { memory: available.is_some_and(|a| a < MEMORY_MIN), disk, pid: false }
}

/// A line of the machine's memory table, bytes.
pub fn meminfo(name: &str) -> Option<i64> {
    memory_field(&std::fs::read_to_string("/proc/meminfo").ok()?, name)
}
