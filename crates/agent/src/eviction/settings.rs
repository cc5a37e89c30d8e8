//! Signals, thresholds and the words they are configured in (kubelet's `evictionHard` and its companions).

use std::collections::BTreeMap;
use std::time::Duration;

use crate::quantity;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// What can run out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Signal {
    /// Memory of the machine, bytes. First: nothing is as urgent.
    MemoryAvailable,
    /// Disk of the data directory, bytes.
    NodefsAvailable,
    /// Inodes there.
    NodefsInodesFree,
    /// Disk of the images, bytes.
    ImagefsAvailable,
    /// Inodes there.
    ImagefsInodesFree,
    /// Process ids.
    PidAvailable,
}

impl Signal {
    /// All signals, most urgent first.
    pub const ALL: [Self; 6] = [
        Self::MemoryAvailable,
        Self::NodefsAvailable,
        Self::NodefsInodesFree,
        Self::ImagefsAvailable,
        Self::ImagefsInodesFree,
        Self::PidAvailable,
    ];

    /// As the configuration names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::MemoryAvailable => "memory.available",
            Self::NodefsAvailable => "nodefs.available",
            Self::NodefsInodesFree => "nodefs.inodesFree",
            Self::ImagefsAvailable => "imagefs.available",
            Self::ImagefsInodesFree => "imagefs.inodesFree",
            Self::PidAvailable => "pid.available",
        }
    }

    /// The resource that pods are told about.
    pub fn resource(self) -> &'static str {
        match self {
            Self::MemoryAvailable => "memory",
            Self::NodefsAvailable | Self::ImagefsAvailable => "ephemeral-storage",
            Self::NodefsInodesFree | Self::ImagefsInodesFree => "inodes",
            Self::PidAvailable => "pids",
        }
    }

    /// The machine's disk is what runs out.
    pub fn is_disk(self) -> bool {
        !matches!(self, Self::MemoryAvailable | Self::PidAvailable)
    }
}

/// An amount, as a number, as a share of the whole, or the smaller of both.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Amount {
    /// Bytes or pieces.
    pub units: Option<i64>,
    /// Percent of the capacity.
    pub percent: Option<f64>,
}

impl Amount {
    /// The number it comes to.
    pub fn of(&self, capacity: i64) -> i64 {
        // Rounding towards zero is fine for a share.
        let share = self.percent.map(|p| (capacity as f64 * p / 100.0) as i64);
        self.units.into_iter().chain(share).min().unwrap_or(0)
    }

    fn parse(text: &str) -> Option<Self> {
        if let Some(percent) = text.strip_suffix('%') {
            let percent: f64 = percent.parse().ok()?;
            return (0.0..=100.0).contains(&percent).then_some(Self { percent: Some(percent), units: None });
        }
        let units = quantity::units(&Quantity(text.into())).filter(|u| *u >= 0)?;
        Some(Self { units: Some(units), percent: None })
    }
}

/// Less than this of a signal means pressure.
#[derive(Debug, Clone, PartialEq)]
pub struct Threshold {
    /// Of what.
    pub signal: Signal,
    /// How much.
    pub amount: Amount,
    /// A soft threshold must be crossed this long before pods end; `None`: hard.
    pub grace: Option<Duration>,
    /// So much more than the threshold must be free before it counts as uncrossed.
    pub min_reclaim: Amount,
}

/// What is configured.
#[derive(Debug, Clone, PartialEq)]
pub struct Eviction {
    /// All thresholds.
    pub thresholds: Vec<Threshold>,
    /// A pressure is shown at least this long.
    pub transition: Duration,
    /// Longest time that pods get to stop at a soft threshold, seconds.
    pub max_grace_seconds: i64,
}

/// With this much free the disk is not short, whatever share of it that is: a laptop that is nine tenths full must take pods.
const DISK_ENOUGH: i64 = 5 << 30;

impl Default for Eviction {
    fn default() -> Self {
        let hard = |signal, units, percent| Threshold {
            signal,
            amount: Amount { units, percent },
            grace: None,
            min_reclaim: Amount::default(),
        };
        Self {
            thresholds: vec![
                hard(Signal::MemoryAvailable, Some(100 << 20), None),
                hard(Signal::NodefsAvailable, Some(DISK_ENOUGH), Some(10.0)),
                hard(Signal::NodefsInodesFree, None, Some(5.0)),
                hard(Signal::ImagefsAvailable, Some(DISK_ENOUGH), Some(15.0)),
                hard(Signal::ImagefsInodesFree, None, Some(5.0)),
            ],
            transition: Duration::from_secs(300),
            max_grace_seconds: 0,
        }
    }
}

/// A setting that cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{setting}: {message}")]
pub struct BadSetting {
    /// Which.
    pub setting: String,
    /// Why not.
    pub message: String,
}

/// As the configuration file has it: signals and amounts as text.
#[derive(Debug, Clone, Default)]
pub struct Texts<'a> {
    /// `evictionHard`; `None`: the defaults.
    pub hard: Option<&'a BTreeMap<String, String>>,
    /// `evictionSoft`.
    pub soft: Option<&'a BTreeMap<String, String>>,
    /// `evictionSoftGracePeriod`, as durations.
    pub grace: BTreeMap<String, Duration>,
    /// `evictionMinimumReclaim`.
    pub reclaim: Option<&'a BTreeMap<String, String>>,
}

/// The thresholds of a configuration. Naming any hard one replaces all defaults, as kubelet does it.
///
/// # Errors
/// An unknown signal, an unreadable amount, or a soft threshold without its grace period.
pub fn thresholds(texts: &Texts<'_>) -> Result<Vec<Threshold>, BadSetting> {
    let bad = |setting: &str, name: &str, message: String| BadSetting { setting: format!("{setting}.{name}"), message };
    let read = |setting: &str, map: Option<&BTreeMap<String, String>>| -> Result<Vec<(Signal, Amount)>, BadSetting> {
        let mut list = Vec::new();
        for (name, text) in map.into_iter().flatten() {
            let known = Signal::ALL.into_iter().find(|s| s.name() == name);
            let signal = known.ok_or_else(|| {
                let names: Vec<&str> = Signal::ALL.iter().map(|s| s.name()).collect();
                bad(setting, name, format!("no such signal; there are {}", names.join(", ")))
            })?;
            let amount = Amount::parse(text)
                .ok_or_else(|| bad(setting, name, format!("{text:?} is neither an amount nor a percentage")))?;
            list.push((signal, amount));
        }
        Ok(list)
    };
    let reclaim = read("evictionMinimumReclaim", texts.reclaim)?;
    let least = |signal| reclaim.iter().find(|(s, _)| *s == signal).map(|(_, a)| *a).unwrap_or_default();
    let mut all = match texts.hard {
        Some(hard) => read("evictionHard", Some(hard))?
            .into_iter()
            // 0 switches a threshold off.
            .filter(|(_, a)| a.units != Some(0) && a.percent != Some(0.0))
            .map(|(signal, amount)| Threshold { signal, amount, grace: None, min_reclaim: Amount::default() })
            .collect(),
        None => Eviction::default().thresholds,
    };
    for (signal, amount) in read("evictionSoft", texts.soft)? {
        let grace = texts.grace.get(signal.name()).copied();
        let grace = grace
            .ok_or_else(|| bad("evictionSoft", signal.name(), "evictionSoftGracePeriod must name it too".into()))?;
        all.push(Threshold { signal, amount, grace: Some(grace), min_reclaim: Amount::default() });
    }
    for threshold in &mut all {
        threshold.min_reclaim = least(threshold.signal);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(list: &[(&str, &str)]) -> BTreeMap<String, String> {
        list.iter().map(|(k, v)| ((*k).to_string(), (*v).to_string())).collect()
    }

    #[test]
    fn configured_thresholds_are_read_or_told() {
        let (hard, reclaim) =
            (map(&[("memory.available", "1Gi"), ("nodefs.available", "0%")]), map(&[("memory.available", "5%")]));
        let soft = map(&[("pid.available", "10%")]);
        let grace: BTreeMap<String, Duration> = [("pid.available".to_string(), Duration::from_secs(90))].into();
        let texts = Texts { hard: Some(&hard), soft: Some(&soft), grace, reclaim: Some(&reclaim) };
        let got = thresholds(&texts).unwrap();
        assert_eq!(got.len(), 2);
        assert_eq!((got[0].amount.of(9), got[0].min_reclaim.of(1000)), (1 << 30, 50));
        assert_eq!((got[1].amount.of(1000), got[1].grace), (100, Some(Duration::from_secs(90))));
        assert_eq!(thresholds(&Texts::default()).unwrap(), Eviction::default().thresholds);
        for (setting, value, told) in [
            ("hard", ("memory.availabel", "1Gi"), "no such signal"),
            ("hard", ("memory.available", "much"), "neither an amount"),
            ("hard", ("memory.available", "101%"), "neither an amount"),
            ("soft", ("memory.available", "1Gi"), "evictionSoftGracePeriod"),
        ] {
            let text = map(&[value]);
            let (hard, soft) = if setting == "hard" { (Some(&text), None) } else { (None, Some(&text)) };
            let error = thresholds(&Texts { hard, soft, ..Texts::default() }).unwrap_err();
            assert!(error.to_string().contains(told), "{error}");
        }
    }

    #[test]
    fn a_large_disk_needs_no_tenth_of_it() {
        let defaults = Eviction::default().thresholds;
        let disk = defaults.iter().find(|t| t.signal == Signal::NodefsAvailable).unwrap();
        assert_eq!((disk.amount.of(1000), disk.amount.of(1 << 50)), (100, DISK_ENOUGH));
    }
}
