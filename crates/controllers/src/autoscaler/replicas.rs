//! From measured values to a number of pods (the arithmetic of autoscaling/v2).

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodCondition};

/// A pod's CPU right after its start says little.
const CPU_INITIALIZATION_SECONDS: i64 = 300;
/// A pod that was never ready within this time of its start has just begun.
const INITIAL_READINESS_SECONDS: i64 = 30;

/// A value of one pod.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// In thousandths.
    pub value: i64,
    /// When it was taken.
    pub at: Timestamp,
    /// Over how many seconds.
    pub window: i64,
}

/// How far the ratio may be from 1 before anything is done.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tolerance {
    /// Above.
    pub up: f64,
    /// Below.
    pub down: f64,
}

impl Tolerance {
    /// It is near enough.
    pub fn covers(self, ratio: f64) -> bool {
        (1.0 - self.down..=1.0 + self.up).contains(&ratio)
    }
}

/// Pods by what their values are worth.
#[derive(Debug, Default)]
pub struct Groups {
    /// Values of pods that count.
    pub measured: BTreeMap<String, i64>,
    /// Pods that just began: their values do not count.
    pub unready: Vec<String>,
    /// Pods without a value.
    pub missing: Vec<String>,
}

impl Groups {
    /// Sorts pods; those that are ending or have failed are left out.
    pub fn of<'a>(
        pods: impl Iterator<Item = &'a Pod>,
        samples: &BTreeMap<String, Sample>,
        is_cpu: bool,
        now: Timestamp,
    ) -> Self {
        let mut groups = Self::default();
        for pod in pods {
            let name = pod.metadata.name.clone().unwrap_or_default();
            let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref()).unwrap_or_default();
            if pod.metadata.deletion_timestamp.is_some() || phase == "Failed" {
                continue;
            }
            match samples.get(&name) {
                _ if phase == "Pending" => groups.unready.push(name),
                None => groups.missing.push(name),
                Some(sample) if is_cpu && has_just_begun(pod, sample, now) => groups.unready.push(name),
                Some(sample) => drop(groups.measured.insert(name, sample.value)),
            }
        }
        groups
    }
}

fn has_just_begun(pod: &Pod, sample: &Sample, now: Timestamp) -> bool {
    let status = pod.status.as_ref();
    let is_ready = |c: &&PodCondition| c.type_ == "Ready";
    let ready = status.and_then(|s| s.conditions.as_ref()).and_then(|c| c.iter().find(is_ready));
    let (Some(ready), Some(start)) = (ready, status.and_then(|s| s.start_time.as_ref())) else { return true };
    let not_ready = ready.status == "False";
    let since = ready.last_transition_time.as_ref().map_or(start.0, |t| t.0);
    if now.as_second() < start.0.as_second() + CPU_INITIALIZATION_SECONDS {
        // The value was taken, at least partly, before the pod was ready.
        return not_ready || sample.at.as_second() < since.as_second() + sample.window;
    }
    not_ready && start.0.as_second() + INITIAL_READINESS_SECONDS > since.as_second()
}

/// How many pods the values ask for. `ratio` of given values to their target; a missing pod counts as `expected` when that
/// would save pods, and as nothing when it would add some: what is not known never makes the change larger.
pub fn from_pods(
    current: i64,
    groups: &Groups,
    ratio: impl Fn(&BTreeMap<String, i64>) -> f64,
    expected: impl Fn(&str) -> i64,
    tolerance: Tolerance,
) -> i64 {
    let first = ratio(&groups.measured);
    let counts_unready = !groups.unready.is_empty() && first > 1.0;
    if !counts_unready && groups.missing.is_empty() {
        return if tolerance.covers(first) { current } else { ceil(first * groups.measured.len() as f64) };
    }
    let mut values = groups.measured.clone();
    for name in &groups.missing {
        let value = if first < 1.0 { expected(name) } else { 0 };
        values.insert(name.clone(), value);
    }
    if counts_unready {
        values.extend(groups.unready.iter().map(|name| (name.clone(), 0)));
    }
    let second = ratio(&values);
    let turned = (first < 1.0 && second > 1.0) || (first > 1.0 && second < 1.0);
    if tolerance.covers(second) || turned {
        return current;
    }
    let replicas = ceil(second * values.len() as f64);
    let backwards = (second < 1.0 && replicas > current) || (second > 1.0 && replicas < current);
    if backwards { current } else { replicas }
}

/// How many pods a ratio asks for that is not measured on pods.
pub fn from_ratio(current: i64, ready: i64, ratio: f64, tolerance: Tolerance) -> i64 {
    match current {
        0 => ceil(ratio),
        _ if tolerance.covers(ratio) => current,
        _ => ceil(ratio * ready as f64),
    }
}

/// How many pods there must be so that each has at most `target` of `total`.
pub fn from_average(current: i64, total: i64, target: i64, tolerance: Tolerance) -> i64 {
    let ratio = total as f64 / (target as f64 * current as f64);
    if current != 0 && tolerance.covers(ratio) { current } else { ceil(total as f64 / target as f64) }
}

fn ceil(value: f64) -> i64 {
    // Numbers of pods are far below what a float holds exactly; a larger one is cut to the bounds of the spec later.
    value.ceil().clamp(0.0, f64::from(i32::MAX)) as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOLERANCE: Tolerance = Tolerance { up: 0.1, down: 0.1 };

    #[test]
    fn values_ask_for_pods() {
        // Each pod should have 100.
        let ratio =
            |values: &BTreeMap<String, i64>| values.values().sum::<i64>() as f64 / (100.0 * values.len() as f64);
        for (case, measured, unready, missing, current, expected) in [
            ("as wanted", &[100, 100][..], 0, 0, 2, 2),
            ("near enough", &[105, 108], 0, 0, 2, 2),
            ("more", &[200, 200], 0, 0, 2, 4),
            ("less", &[50, 50], 0, 0, 2, 1),
            ("part of a pod is a pod", &[150], 0, 0, 1, 2),
            ("the new do not count against more", &[300], 2, 0, 3, 3),
            ("though with so much there will be more", &[900], 2, 0, 3, 9),
            ("the missing may be idle", &[200], 0, 1, 2, 2),
            ("the missing may be busy", &[20, 20], 0, 1, 3, 2),
            ("the new do not count against less", &[20, 20], 1, 0, 3, 1),
        ] {
            let names = |prefix: &str, n: usize| (0..n).map(|i| format!("{prefix}{i}")).collect::<Vec<_>>();
            let groups = Groups {
                measured: measured.iter().enumerate().map(|(i, v)| (format!("m{i}"), *v)).collect(),
                unready: names("u", unready),
                missing: names("x", missing),
            };
            assert_eq!(from_pods(current, &groups, ratio, |_| 100, TOLERANCE), expected, "{case}");
        }
    }

    #[test]
    fn values_of_other_things_ask_for_pods() {
        assert_eq!(from_ratio(4, 4, 1.05, TOLERANCE), 4);
        assert_eq!(from_ratio(4, 3, 2.0, TOLERANCE), 6);
        assert_eq!(from_ratio(0, 0, 2.5, TOLERANCE), 3);
        assert_eq!(from_average(4, 400, 100, TOLERANCE), 4);
        assert_eq!(from_average(4, 1000, 100, TOLERANCE), 10);
        assert_eq!(from_average(0, 250, 100, TOLERANCE), 3);
    }
}
