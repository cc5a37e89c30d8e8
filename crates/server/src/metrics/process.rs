//! The process as the kernel sees it.

use mizzen_metrics::{Kind, Text};

/// The kernel counts CPU time for `/proc` in hundredths of a second, whatever its own tick is.
const TICKS_PER_SECOND: f64 = 100.0;

pub(super) fn write(out: &mut Text) {
    // Where `/proc` is not mounted, nothing is said.
    let Ok(stat) = std::fs::read_to_string("/proc/self/stat") else { return };
    let Some(used) = Used::parse(&stat) else { return };
    out.single("process_cpu_seconds_total", Kind::Counter, "User and system time.", used.cpu_seconds);
    if let Some(bytes) = std::fs::read_to_string("/proc/self/status").ok().and_then(|text| resident(&text)) {
        out.single("process_resident_memory_bytes", Kind::Gauge, "Resident memory.", bytes);
    }
    out.single("process_virtual_memory_bytes", Kind::Gauge, "Virtual memory.", used.virtual_bytes);
    out.single("process_threads", Kind::Gauge, "Threads.", used.threads);
    if let Some(booted) = std::fs::read_to_string("/proc/stat").ok().and_then(|text| booted(&text)) {
        let started = booted as f64 + used.start_seconds;
        out.single("process_start_time_seconds", Kind::Gauge, "Start, in Unix time.", started);
    }
    if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
        // One of them is that of the directory itself.
        let open = open.count().saturating_sub(1);
        out.single("process_open_fds", Kind::Gauge, "Open file descriptors.", open);
    }
    let most = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    if let Some(most) = most {
        out.single("process_max_fds", Kind::Gauge, "File descriptors that may be open.", most);
    }
}

/// From `/proc/self/stat` (proc_pid_stat(5)).
#[derive(Debug, PartialEq)]
struct Used {
    cpu_seconds: f64,
    threads: u64,
    /// Since boot.
    start_seconds: f64,
    virtual_bytes: u64,
}

impl Used {
    fn parse(stat: &str) -> Option<Self> {
        // The second field is a name in parentheses that may hold anything; what follows is numbers from the third on.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
        Some(Self {
            cpu_seconds: (number(14)? + number(15)?) as f64 / TICKS_PER_SECOND,
            threads: number(20)?,
            start_seconds: number(22)? as f64 / TICKS_PER_SECOND,
            virtual_bytes: number(23)?,
        })
    }
}

fn resident(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

fn booted(stat: &str) -> Option<u64> {
    stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_lines_are_read() {
        let line = "7 (a b) c) S 1 7 7 0 -1 4194560 9 0 0 0 150 50 0 0 20 0 4 0 3000 10485760 512 184 1 1 0";
        let expected = Used { cpu_seconds: 2.0, threads: 4, start_seconds: 30.0, virtual_bytes: 10_485_760 };
        assert_eq!(Used::parse(line), Some(expected));
        assert_eq!(Used::parse("7 (x) S 1"), None);
        assert_eq!(resident("Name:\tx\nVmRSS:\t    2048 kB\n"), Some(2 << 20));
        assert_eq!(booted("cpu 1 2\nbtime 1700000000\nprocesses 3\n"), Some(1_700_000_000));
    }
}
