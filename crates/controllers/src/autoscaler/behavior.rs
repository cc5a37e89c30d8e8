//! How fast and how far the number of pods may change (autoscaling/v2 HorizontalPodAutoscalerBehavior).

use jiff::Timestamp;
use k8s_openapi::api::autoscaling::v2::{HPAScalingPolicy, HPAScalingRules, HorizontalPodAutoscaler};

use super::history::History;
use super::replicas::Tolerance;

/// Difference from the target that is ignored unless the spec says otherwise.
const TOLERANCE: f64 = 0.1;
/// How long a smaller number must have been enough before pods go.
const DOWN_WINDOW_SECONDS: i64 = 300;
/// The period of the policies that hold where the spec has none.
const PERIOD_SECONDS: i64 = 15;

/// The fewest and most pods of a spec.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Fewest.
    pub min: i64,
    /// Most.
    pub max: i64,
}

impl Bounds {
    /// Those of an autoscaler.
    pub fn of(autoscaler: &HorizontalPodAutoscaler) -> Self {
        let spec = &autoscaler.spec;
        Self { min: spec.min_replicas.unwrap_or(1).into(), max: spec.max_replicas.into() }
    }

    /// The nearest number within, and why, if `replicas` is without.
    pub fn out_of(self, replicas: i64) -> Option<(i64, String)> {
        if replicas > self.max {
            Some((self.max, "Current number of replicas above Spec.MaxReplicas".into()))
        } else if replicas < self.min {
            Some((self.min, "Current number of replicas below Spec.MinReplicas".into()))
        } else {
            None
        }
    }
}

/// The differences that are ignored.
pub fn tolerance(autoscaler: &HorizontalPodAutoscaler) -> Tolerance {
    let behavior = autoscaler.spec.behavior.as_ref();
    let of = |rules: Option<&HPAScalingRules>| {
        let said = rules.and_then(|r| r.tolerance.as_ref()).and_then(|t| t.0.parse().ok());
        said.map_or(TOLERANCE, |t: mizzen_api::quantity::Quantity| t.approximate())
    };
    let (up, down) = (behavior.and_then(|b| b.scale_up.as_ref()), behavior.and_then(|b| b.scale_down.as_ref()));
    Tolerance { up: of(up), down: of(down) }
}

/// A condition that follows from the rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// `AbleToScale`, `ScalingLimited`.
    pub condition: &'static str,
    /// Whether it holds.
    pub holds: bool,
    /// `ScaleDownStabilized`.
    pub reason: &'static str,
    /// In words.
    pub message: &'static str,
}

/// The number of pods that the rules allow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allowed {
    /// It.
    pub replicas: i64,
    /// What is to be said about it.
    pub said: Vec<Said>,
}

/// The rules of one autoscaler.
pub struct Rules {
    bounds: Bounds,
    up: Direction,
    down: Direction,
}

struct Direction {
    window: i64,
    /// `None`: no change in this direction.
    policies: Option<Vec<HPAScalingPolicy>>,
    /// The policy that allows the larger change counts.
    larger: bool,
}

impl Direction {
    fn of(rules: Option<&HPAScalingRules>, window: i64, usual: &[(&str, i32)]) -> Self {
        let usual = usual.iter().map(|(kind, value)| HPAScalingPolicy {
            type_: (*kind).into(),
            value: *value,
            period_seconds: PERIOD_SECONDS as i32,
        });
        let select = rules.and_then(|r| r.select_policy.as_deref()).unwrap_or("Max");
        let said = rules.and_then(|r| r.policies.clone()).filter(|p| !p.is_empty());
        Self {
            window: rules.and_then(|r| r.stabilization_window_seconds).map_or(window, i64::from),
            policies: (select != "Disabled").then(|| said.unwrap_or_else(|| usual.collect())),
            larger: select != "Min",
        }
    }

    /// The number each policy allows, given how many pods there were when its period began.
    fn limits(&self, allows: impl Fn(&HPAScalingPolicy) -> i64) -> Option<(i64, i64)> {
        let limits: Vec<i64> = self.policies.as_ref()?.iter().map(allows).collect();
        Some((limits.iter().copied().min()?, limits.iter().copied().max()?))
    }
}

impl Rules {
    /// Those of an autoscaler, with what holds where it says nothing.
    pub fn of(autoscaler: &HorizontalPodAutoscaler) -> Self {
        let behavior = autoscaler.spec.behavior.as_ref();
        let (up, down) = (behavior.and_then(|b| b.scale_up.as_ref()), behavior.and_then(|b| b.scale_down.as_ref()));
        Self {
            bounds: Bounds::of(autoscaler),
            up: Direction::of(up, 0, &[("Pods", 4), ("Percent", 100)]),
            down: Direction::of(down, DOWN_WINDOW_SECONDS, &[("Percent", 100)]),
        }
    }

    /// What is allowed of `proposed` when there are `current` pods. The proposal is added to the history.
    pub fn allow(&self, current: i64, proposed: i64, history: &mut History, now: Timestamp) -> Allowed {
        let mut said = Vec::new();
        history.recommend(proposed, now);
        let stable = self.stabilize(current, proposed, history, now);
        said.push(match stable.cmp(&proposed) {
            std::cmp::Ordering::Greater => Said {
                condition: "AbleToScale",
                holds: true,
                reason: "ScaleDownStabilized",
                message: "recent recommendations were higher than current one, applying the highest recent recommendation",
            },
            std::cmp::Ordering::Less => Said {
                condition: "AbleToScale",
                holds: true,
                reason: "ScaleUpStabilized",
                message: "recent recommendations were lower than current one, applying the lowest recent recommendation",
            },
            std::cmp::Ordering::Equal => Said {
                condition: "AbleToScale",
                holds: true,
                reason: "ReadyForNewScale",
                message: "recommended size matches current size",
            },
        });
        let (replicas, limited) = self.limit(current, stable, history, now);
        said.push(limited);
        Allowed { replicas, said }
    }

    fn stabilize(&self, current: i64, proposed: i64, history: &History, now: Timestamp) -> i64 {
        let lowest = history.recommended_within(self.up.window, now).fold(proposed, i64::min);
        let highest = history.recommended_within(self.down.window, now).fold(proposed, i64::max);
        if current < lowest {
            lowest
        } else if current > highest {
            highest
        } else {
            current
        }
    }

    fn limit(&self, current: i64, wanted: i64, history: &History, now: Timestamp) -> (i64, Said) {
        if wanted > current {
            let limit = self.up_limit(current, history, now);
            let (most, reason, message) = if limit < self.bounds.max {
                (limit, "ScaleUpLimit", "the desired replica count is increasing faster than the maximum scale rate")
            } else {
                (self.bounds.max, "TooManyReplicas", "the desired replica count is more than the maximum replica count")
            };
            return if wanted > most { (most, limited(reason, message)) } else { (wanted, within()) };
        }
        if wanted < current {
            let limit = self.down_limit(current, history, now);
            let (fewest, reason, message) = if limit > self.bounds.min {
                (limit, "ScaleDownLimit", "the desired replica count is decreasing faster than the maximum scale rate")
            } else {
                (self.bounds.min, "TooFewReplicas", "the desired replica count is less than the minimum replica count")
            };
            return if wanted < fewest { (fewest, limited(reason, message)) } else { (wanted, within()) };
        }
        (current, within())
    }

    fn up_limit(&self, current: i64, history: &History, now: Timestamp) -> i64 {
        let allows = |policy: &HPAScalingPolicy| {
            let before = current - history.change_within(policy.period_seconds.into(), now);
            match policy.type_.as_str() {
                "Percent" => (before as f64 * (1.0 + f64::from(policy.value) / 100.0)).ceil() as i64,
                _ => before + i64::from(policy.value),
            }
        };
        let limits = self.up.limits(allows);
        limits.map_or(current, |(min, max)| if self.up.larger { max } else { min }).max(current)
    }

    fn down_limit(&self, current: i64, history: &History, now: Timestamp) -> i64 {
        let allows = |policy: &HPAScalingPolicy| {
            let before = current - history.change_within(policy.period_seconds.into(), now);
            match policy.type_.as_str() {
                "Percent" => (before as f64 * (1.0 - f64::from(policy.value) / 100.0)) as i64,
                _ => before - i64::from(policy.value),
            }
        };
        let limits = self.down.limits(allows);
        limits.map_or(current, |(min, max)| if self.down.larger { min } else { max }).min(current)
    }
}

fn limited(reason: &'static str, message: &'static str) -> Said {
    Said { condition: "ScalingLimited", holds: true, reason, message }
}

fn within() -> Said {
    let message = "the desired count is within the acceptable range";
    Said { condition: "ScalingLimited", holds: false, reason: "DesiredWithinRange", message }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn rules(behavior: Value) -> Rules {
        let spec = json!({"minReplicas": 1, "maxReplicas": 100, "scaleTargetRef": {"kind": "D", "name": "d"}, "behavior": behavior});
        let autoscaler = json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "spec": spec});
        Rules::of(&serde_json::from_value(autoscaler).unwrap())
    }

    #[test]
    fn changes_follow_the_rules() {
        // Each case is a run of (second, proposal, number that comes of it), beginning with the number of pods.
        for (case, behavior, start, run) in [
            (
                "up at once, by doubling or four",
                json!({}),
                1,
                &[(0, 50, 5), (1, 50, 5), (16, 50, 10), (32, 50, 20)][..],
            ),
            ("down after five minutes", json!({}), 9, &[(0, 3, 9), (299, 3, 9), (301, 3, 3)]),
            ("the highest of the last five minutes", json!({}), 9, &[(0, 3, 9), (100, 6, 9), (301, 3, 6), (602, 3, 3)]),
            ("never below the fewest", json!({"scaleDown": {"stabilizationWindowSeconds": 0}}), 9, &[(0, 0, 1)]),
            ("never above the most", json!({}), 90, &[(0, 500, 100)]),
            ("not at all", json!({"scaleUp": {"selectPolicy": "Disabled"}}), 2, &[(0, 50, 2)]),
            (
                "one pod a minute",
                json!({"scaleUp": {"policies": [{"type": "Pods", "value": 1, "periodSeconds": 60}]}}),
                2,
                &[(0, 9, 3), (30, 9, 3), (61, 9, 4)],
            ),
            (
                "the smaller of two",
                json!({"scaleUp": {"selectPolicy": "Min", "policies": [
                    {"type": "Pods", "value": 9, "periodSeconds": 60}, {"type": "Percent", "value": 50, "periodSeconds": 60}]}}),
                4,
                &[(0, 50, 6)],
            ),
            (
                "up only when it lasts",
                json!({"scaleUp": {"stabilizationWindowSeconds": 60}}),
                2,
                &[(0, 2, 2), (10, 4, 2), (50, 4, 2), (71, 4, 4)],
            ),
        ] {
            let (rules, mut current) = (rules(behavior), start);
            let mut history = History::default();
            history.recommend(start, Timestamp::from_second(0).unwrap());
            for (second, proposed, expected) in run {
                let now = Timestamp::from_second(*second).unwrap();
                let allowed = rules.allow(current, *proposed, &mut history, now);
                history.note_change(current, allowed.replicas, now);
                current = allowed.replicas;
                assert_eq!(current, *expected, "{case} at {second}");
            }
        }
    }
}
