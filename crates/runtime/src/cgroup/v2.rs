//! Cgroup v2: file names and values, and handing controllers down to groups below.

use std::io;
use std::path::Path;

use super::{CgroupError, Setting};
use crate::spec::Resources;

/// Controllers handed down, where the kernel has them.
const DELEGATED: [&str; 5] = ["cpu", "memory", "pids", "hugetlb", "cpuset"];

/// Creates the groups above `path` and lets groups in them use the controllers.
pub(super) fn delegate(mount: &Path, path: &Path) -> Result<(), CgroupError> {
    let mut directory = mount.to_owned();
    let above = path.parent().unwrap_or(Path::new(""));
    enable(&directory)?;
    for part in above.components() {
        directory.push(part);
        match std::fs::create_dir(&directory) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(CgroupError::on(&directory, "create")(error));
            }
            _ => enable(&directory)?,
        }
    }
    Ok(())
}

fn enable(directory: &Path) -> Result<(), CgroupError> {
    let read = |name: &str| {
        let file = directory.join(name);
        std::fs::read_to_string(&file).map_err(CgroupError::on(&file, "read"))
    };
    let (offered, enabled) = (read("cgroup.controllers")?, read("cgroup.subtree_control")?);
    let has = |list: &str, name: &str| list.split_whitespace().any(|c| c == name);
    let missing: Vec<String> = DELEGATED
        .iter()
        .filter(|name| has(&offered, name) && !has(&enabled, name))
        .map(|name| format!("+{name}"))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let file = directory.join("cgroup.subtree_control");
    std::fs::write(&file, missing.join(" ")).map_err(CgroupError::on(&file, format!("write {missing:?}")))
}

/// The files that hold these limits.
pub(super) fn settings(resources: &Resources) -> Vec<Setting> {
    let mut list = Vec::new();
    let mut set = |controller, file: &str, value: String, optional| {
        list.push(Setting { controller, file: file.to_owned(), value, optional });
    };
    let limit_or_max = |limit: i64| {
        if limit <= 0 { "max".to_owned() } else { limit.to_string() }
    };
    if let Some(shares) = resources.cpu_shares {
        set("cpu", "cpu.weight", weight_of_shares(shares).to_string(), false);
    }
    if resources.cpu_quota_us.is_some() || resources.cpu_period_us.is_some() {
        let quota = resources.cpu_quota_us.unwrap_or(-1);
        let value = format!("{} {}", limit_or_max(quota), resources.cpu_period_us.unwrap_or(100_000));
        set("cpu", "cpu.max", value, false);
    }
    if let Some(limit) = resources.memory_limit_bytes {
        set("memory", "memory.max", limit_or_max(limit), false);
        set("memory", "memory.swap.max", if limit <= 0 { "max" } else { "0" }.to_owned(), true);
    }
    if let Some(limit) = resources.pids_limit {
        set("pids", "pids.max", limit_or_max(limit), false);
    }
    for (size, bytes) in &resources.hugepage_limits {
        set("hugetlb", &format!("hugetlb.{size}.max"), bytes.to_string(), false);
    }
    list
}

/// v1 shares (2 to 262,144) on the scale of v2 weights (1 to 10,000), linear as in the Kubernetes KEP 2254.
fn weight_of_shares(shares: u64) -> u64 {
    1 + ((shares.clamp(2, 262_144) - 2) * 9_999) / 262_142
}

/// Kills every process of a group and of those below, in one write (Linux 5.14).
pub(super) fn kill(directory: &Path) -> Result<(), CgroupError> {
    let file = directory.join("cgroup.kill");
    match std::fs::write(&file, "1") {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result.map_err(CgroupError::on(&file, "kill")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_become_weights() {
        for (shares, weight) in [(0, 1), (2, 1), (1024, 39), (262_144, 10_000), (u64::MAX, 10_000)] {
            assert_eq!(weight_of_shares(shares), weight, "{shares}");
        }
    }

    #[test]
    fn limits_become_files() {
        let resources = Resources {
            cpu_quota_us: Some(50_000),
            memory_limit_bytes: Some(4096),
            pids_limit: Some(7),
            hugepage_limits: [("2MB".to_owned(), 1 << 21)].into(),
            ..Resources::default()
        };
        let lines: Vec<String> = settings(&resources).iter().map(|s| format!("{}={}", s.file, s.value)).collect();
        let expected =
            ["cpu.max=50000 100000", "memory.max=4096", "memory.swap.max=0", "pids.max=7", "hugetlb.2MB.max=2097152"];
        assert_eq!(lines, expected);
    }
}
