//! What the machine has, and what of it pods may use.

use std::collections::BTreeMap;
use std::path::Path;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::config::Config;

/// Size of the machine. Read once at the start.
#[derive(Debug, Clone, Default)]
pub struct Capacity {
    /// Thousandths of a core.
    pub cpu_millis: i64,
    /// Bytes.
    pub memory_bytes: i64,
    /// `status.capacity`.
    pub capacity: BTreeMap<String, Quantity>,
    /// `status.allocatable`.
    pub allocatable: BTreeMap<String, Quantity>,
}

/// Disk that pods may not request, as a share of the whole: it is what eviction keeps free.
const DISK_RESERVED_PERCENT: u64 = 10;

impl Capacity {
    /// Reads the machine.
    pub fn read(config: &Config) -> Self {
        let cpus = std::thread::available_parallelism().map_or(1, |n| n.get() as i64);
        let memory = memory_total(&std::fs::read_to_string("/proc/meminfo").unwrap_or_default());
        let disk = rustix::fs::statvfs(&config.data_dir).map_or(0, |s| s.f_blocks.saturating_mul(s.f_frsize));
        Self::compute(config, cpus * 1000, memory, disk, &huge_pages(Path::new("/sys/kernel/mm/hugepages")))
    }

    fn compute(config: &Config, cpu_millis: i64, memory: i64, disk: u64, huge: &[(String, i64)]) -> Self {
        let quantity = |v: i64| Quantity(v.to_string());
        let mut capacity = BTreeMap::from([
            ("cpu".to_string(), cpu(cpu_millis)),
            ("memory".to_string(), Quantity(format!("{}Ki", memory / 1024))),
            ("ephemeral-storage".to_string(), Quantity(format!("{}Ki", disk / 1024))),
            ("pods".to_string(), quantity(i64::from(config.max_pods))),
        ]);
        let free_memory = (memory - config.reserved_memory_bytes).max(0);
        let mut allocatable = capacity.clone();
        allocatable.insert("cpu".into(), cpu((cpu_millis - config.reserved_cpu_millis).max(0)));
        allocatable.insert("memory".into(), Quantity(format!("{}Ki", free_memory / 1024)));
        let reserved = u64::try_from(config.reserved_disk_bytes).unwrap_or(0);
        let usable = (disk / 100 * (100 - DISK_RESERVED_PERCENT)).saturating_sub(reserved);
        allocatable.insert("ephemeral-storage".into(), Quantity(usable.to_string()));
        for (name, bytes) in huge {
            capacity.insert(name.clone(), quantity(*bytes));
            allocatable.insert(name.clone(), quantity(*bytes));
        }
        Self { cpu_millis, memory_bytes: memory, capacity, allocatable }
    }
}

impl Capacity {
    /// With devices: (resource, how many, how many of them healthy).
    pub fn with_devices(&self, devices: &[(String, usize, usize)]) -> Self {
        let mut all = self.clone();
        for (resource, count, healthy) in devices {
            all.capacity.insert(resource.clone(), Quantity(count.to_string()));
            all.allocatable.insert(resource.clone(), Quantity(healthy.to_string()));
        }
        all
    }
}

fn cpu(millis: i64) -> Quantity {
    if millis % 1000 == 0 { Quantity((millis / 1000).to_string()) } else { Quantity(format!("{millis}m")) }
}

/// `MemTotal` in bytes.
fn memory_total(meminfo: &str) -> i64 {
    memory_field(meminfo, "MemTotal:").unwrap_or(0)
}

/// A line of `/proc/meminfo` in bytes.
pub fn memory_field(meminfo: &str, name: &str) -> Option<i64> {
    let line = meminfo.lines().find_map(|l| l.strip_prefix(name))?;
    line.split_whitespace().next()?.parse::<i64>().ok().map(|kib| kib * 1024)
}

/// Reserved huge pages by resource name.
fn huge_pages(dir: &Path) -> Vec<(String, i64)> {
    let mut pages = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(kib) =
            name.strip_prefix("hugepages-").and_then(|n| n.strip_suffix("kB")).and_then(|k| k.parse::<i64>().ok())
        else {
            continue;
        };
        let count = std::fs::read_to_string(entry.path().join("nr_hugepages")).ok();
        let count = count.and_then(|c| c.trim().parse::<i64>().ok()).unwrap_or(0);
        let size = if kib % (1 << 20) == 0 { format!("{}Gi", kib >> 20) } else { format!("{}Mi", kib >> 10) };
        pages.push((format!("hugepages-{size}"), count * kib * 1024));
    }
    pages
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_parts_are_not_allocatable() {
        let mut config = Config::new("n", vec![], "/tmp");
        config.reserved_cpu_millis = 100;
        config.reserved_memory_bytes = 1 << 20;
        let got = Capacity::compute(&config, 2000, 1 << 30, 100 << 30, &[]);
        assert_eq!(got.capacity["cpu"].0, "2");
        assert_eq!(got.allocatable["cpu"].0, "1900m");
        assert_eq!(got.allocatable["memory"].0, "1047552Ki");
        assert_eq!(memory_total("MemTotal:       1024 kB\nMemFree: 1 kB\n"), 1 << 20);
    }
}
