//! Cgroup v1: file names and values, and killing by freezing first.

use std::path::Path;
use std::time::{Duration, Instant};

use super::{CgroupError, DeviceRule, Setting};
use crate::spec::Resources;

/// The files that hold these limits.
pub(super) fn settings(resources: &Resources) -> Vec<Setting> {
    let mut list = Vec::new();
    let mut set = |controller, file: &str, value: String, optional| {
        list.push(Setting { controller, file: file.to_owned(), value, optional });
    };
    if let Some(shares) = resources.cpu_shares {
        set("cpu", "cpu.shares", shares.clamp(2, 262_144).to_string(), false);
    }
    if let Some(period) = resources.cpu_period_us {
        set("cpu", "cpu.cfs_period_us", period.to_string(), false);
    }
    if let Some(quota) = resources.cpu_quota_us {
        set("cpu", "cpu.cfs_quota_us", if quota <= 0 { -1 } else { quota }.to_string(), false);
    }
    if let Some(limit) = resources.memory_limit_bytes {
        let limit = if limit <= 0 { -1 } else { limit };
        // memory.memsw must not be under memory.limit: it is lifted first. Then it is brought down: no swap beyond the limit.
        set("memory", "memory.memsw.limit_in_bytes", "-1".to_owned(), true);
        set("memory", "memory.limit_in_bytes", limit.to_string(), false);
        set("memory", "memory.memsw.limit_in_bytes", limit.to_string(), true);
    }
    if let Some(limit) = resources.pids_limit {
        set("pids", "pids.max", if limit <= 0 { "max".to_owned() } else { limit.to_string() }, false);
    }
    for (size, bytes) in &resources.hugepage_limits {
        set("hugetlb", &format!("hugetlb.{size}.limit_in_bytes"), bytes.to_string(), false);
    }
    list
}

/// Denies all devices, then allows those of `rules`.
pub(super) fn allow_devices(directory: &Path, rules: &[DeviceRule]) -> Result<(), CgroupError> {
    let write = |name: &str, value: &str| {
        let file = directory.join(name);
        std::fs::write(&file, value).map_err(CgroupError::on(&file, format!("write {value:?}")))
    };
    if rules.contains(&DeviceRule::ALL) {
        return write("devices.allow", "a");
    }
    write("devices.deny", "a")?;
    rules.iter().try_for_each(|rule| write("devices.allow", &rule.to_string()))
}

/// Kills what `processes` lists: frozen meanwhile, so that none of them can fork away.
pub(super) fn kill(freezer: Option<&Path>, processes: impl Fn() -> Vec<i32>) -> Result<(), CgroupError> {
    let state = freezer.map(|directory| directory.join("freezer.state")).filter(|file| file.exists());
    if let Some(file) = &state {
        freeze(file)?;
    }
    let killed = processes().into_iter().try_for_each(|pid| crate::sys::kill(pid, libc::SIGKILL));
    if let Some(file) = &state {
        std::fs::write(file, "THAWED").map_err(CgroupError::on(file, "thaw"))?;
    }
    killed.map_err(CgroupError::on(freezer.unwrap_or(Path::new("cgroup.procs")), "kill"))
}

/// Longest wait for a group to freeze; a process in uninterruptible sleep would hold it up for ever.
const FREEZE_WITHIN: Duration = Duration::from_millis(100);

fn freeze(file: &Path) -> Result<(), CgroupError> {
    let deadline = Instant::now() + FREEZE_WITHIN;
    std::fs::write(file, "FROZEN").map_err(CgroupError::on(file, "freeze"))?;
    while Instant::now() < deadline {
        let state = std::fs::read_to_string(file).map_err(CgroupError::on(file, "read"))?;
        if state.trim() == "FROZEN" {
            break;
        }
        std::thread::sleep(Duration::from_micros(100));
    }
    Ok(()) // Not frozen in time: what forks away meanwhile is found when the group is removed.
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_become_files() {
        let resources = Resources {
            cpu_shares: Some(1),
            cpu_quota_us: Some(-1),
            cpu_period_us: Some(100_000),
            memory_limit_bytes: Some(1 << 20),
            pids_limit: Some(0),
            ..Resources::default()
        };
        let lines: Vec<String> = settings(&resources).iter().map(|s| format!("{}={}", s.file, s.value)).collect();
        assert_eq!(
            lines,
            [
                "cpu.shares=2",
                "cpu.cfs_period_us=100000",
                "cpu.cfs_quota_us=-1",
                "memory.memsw.limit_in_bytes=-1",
                "memory.limit_in_bytes=1048576",
                "memory.memsw.limit_in_bytes=1048576",
                "pids.max=max",
            ]
        );
        assert_eq!(settings(&Resources::default()), []);
    }
}
