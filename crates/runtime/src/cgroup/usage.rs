//! Reading what a group uses.

use std::path::{Path, PathBuf};

use super::CgroupError;
use crate::driver::Usage;

/// Usage from the files of a group. `directory` finds its directory for a controller.
pub(super) fn read(v2: bool, directory: impl Fn(&str) -> Option<PathBuf>) -> Result<Usage, CgroupError> {
    let text = |controller: &str, file: &str| -> Result<String, CgroupError> {
        match directory(controller) {
            Some(directory) => read_file(&directory.join(file)),
            None => Ok(String::new()),
        }
    };
    let number = |controller: &str, file: &str| text(controller, file).map(|t| t.trim().parse().unwrap_or(0));
    let (cpu_nanos, memory_bytes, inactive, rss_bytes);
    if v2 {
        let stat = text("memory", "memory.stat")?;
        cpu_nanos = keyed(&text("cpu", "cpu.stat")?, "usage_usec") * 1000;
        memory_bytes = number("memory", "memory.current")?;
        (inactive, rss_bytes) = (keyed(&stat, "inactive_file"), keyed(&stat, "anon"));
    } else {
        let stat = text("memory", "memory.stat")?;
        cpu_nanos = number("cpuacct", "cpuacct.usage")?;
        memory_bytes = number("memory", "memory.usage_in_bytes")?;
        (inactive, rss_bytes) = (keyed(&stat, "total_inactive_file"), keyed(&stat, "total_rss"));
    }
    let working_set_bytes = memory_bytes.saturating_sub(inactive);
    Ok(Usage { cpu_nanos, memory_bytes, working_set_bytes, rss_bytes, pids: number("pids", "pids.current")? })
}

fn read_file(path: &Path) -> Result<String, CgroupError> {
    std::fs::read_to_string(path).map_err(CgroupError::on(path, "read"))
}

/// The number after `key` in lines of `key number`; 0 if there is none.
pub(super) fn keyed(text: &str, key: &str) -> u64 {
    let value = |line: &str| line.split_once(' ').filter(|(k, _)| *k == key).and_then(|(_, v)| v.trim().parse().ok());
    text.lines().find_map(value).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    #[test]
    fn reads_keyed_numbers() {
        let text = "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n";
        assert_eq!(super::keyed(text, "oom_kill"), 3);
        assert_eq!(super::keyed(text, "oom"), 0);
    }
}
