//! What the machine as a whole uses.

use crate::node::capacity::memory_field;

/// A line of the machine's memory table, bytes.
pub fn meminfo(name: &str) -> Option<i64> {
    memory_field(&std::fs::read_to_string("/proc/meminfo").ok()?, name)
}

/// Counters of the machine as a whole.
pub fn usage() -> mizzen_runtime::driver::Usage {
    let stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let bytes = |name: &str| meminfo(name).and_then(|b| u64::try_from(b).ok()).unwrap_or(0);
    let (total, free, available) = (bytes("MemTotal:"), bytes("MemFree:"), bytes("MemAvailable:"));
    mizzen_runtime::driver::Usage {
        cpu_nanos: cpu_nanos(&stat),
        memory_bytes: total.saturating_sub(free),
        working_set_bytes: total.saturating_sub(available),
        rss_bytes: bytes("AnonPages:"),
        pids: 0,
    }
}

/// Time that the processors were busy, from the first line of `/proc/stat`.
fn cpu_nanos(stat: &str) -> u64 {
    /// A tick is a hundredth of a second on every Linux that user space sees (`USER_HZ`).
    const NANOS_PER_TICK: u64 = 10_000_000;
    let fields: Vec<u64> =
        stat.lines().next().unwrap_or_default().split_whitespace().skip(1).filter_map(|f| f.parse().ok()).collect();
    // user, nice, system, then idle and iowait, which are not use, then irq, softirq, steal.
    let busy: u64 = fields.iter().take(8).enumerate().filter(|(i, _)| !matches!(i, 3 | 4)).map(|(_, v)| v).sum();
    busy.saturating_mul(NANOS_PER_TICK)
}

#[cfg(test)]
mod tests {
    #[test]
    fn idle_time_is_not_use() {
        assert_eq!(super::cpu_nanos("cpu  1 2 3 1000 1000 4 5 6 7 8\n"), 210_000_000);
    }
}
