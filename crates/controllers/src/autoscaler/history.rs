//! What an autoscaler recommended and did lately, as an annotation of it.

use jiff::Timestamp;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::meta::Meta;
use crate::plan::{Target, Write};

/// The annotation.
const ANNOTATION: &str = "mizzen.dev/autoscaler-history";
/// Nothing older matters: the longest window and period of a spec.
const KEPT_SECONDS: i64 = 3600;
/// Most entries of each list; the oldest go first.
const ENTRIES_MAX: usize = 64;

/// Points in time (seconds since 1970) with numbers.
type Entries = Vec<(i64, i64)>;

/// The memory of an autoscaler.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct History {
    /// Recommendations; each holds until the next.
    recommended: Entries,
    /// Pods added.
    added: Entries,
    /// Pods removed.
    removed: Entries,
}

impl History {
    /// What is written on the autoscaler; of one without, that what is there was recommended.
    pub fn of(autoscaler: &HorizontalPodAutoscaler, current: i64, now: Timestamp) -> Self {
        let written = autoscaler.annotation(ANNOTATION).and_then(|text| serde_json::from_str::<Self>(text).ok());
        let mut history = written.unwrap_or_default();
        history.forget(now);
        if history.recommended.is_empty() {
            history.recommended.push((now.as_second(), current));
        }
        history
    }

    fn forget(&mut self, now: Timestamp) {
        let cutoff = now.as_second() - KEPT_SECONDS;
        for entries in [&mut self.added, &mut self.removed] {
            entries.retain(|(at, _)| *at > cutoff);
            let excess = entries.len().saturating_sub(ENTRIES_MAX);
            entries.drain(..excess);
        }
        // The last recommendation before the cutoff holds beyond it.
        let old = self.recommended.iter().filter(|(at, _)| *at <= cutoff).count().saturating_sub(1);
        let excess = self.recommended.len().saturating_sub(ENTRIES_MAX);
        self.recommended.drain(..old.max(excess));
    }

    /// Notes a recommendation.
    pub fn recommend(&mut self, replicas: i64, now: Timestamp) {
        if self.recommended.last().map(|(_, last)| *last) != Some(replicas) {
            self.recommended.push((now.as_second(), replicas));
        }
    }

    /// All numbers that were recommended at some time of the last `seconds`.
    pub fn recommended_within(&self, seconds: i64, now: Timestamp) -> impl Iterator<Item = i64> + '_ {
        let cutoff = now.as_second() - seconds;
        let ends = self.recommended.iter().skip(1).map(|(at, _)| *at).chain([i64::MAX]);
        self.recommended.iter().zip(ends).filter(move |(_, end)| *end > cutoff).map(|((_, replicas), _)| *replicas)
    }

    /// Pods added less pods removed in the last `seconds`.
    pub fn change_within(&self, seconds: i64, now: Timestamp) -> i64 {
        let cutoff = now.as_second() - seconds;
        let sum = |entries: &Entries| entries.iter().filter(|(at, _)| *at > cutoff).map(|(_, n)| n).sum::<i64>();
        sum(&self.added) - sum(&self.removed)
    }

    /// Notes what is done.
    pub fn note_change(&mut self, from: i64, to: i64, now: Timestamp) {
        match to - from {
            0 => {}
            more @ 1.. => self.added.push((now.as_second(), more)),
            less => self.removed.push((now.as_second(), -less)),
        }
    }

    /// The write of it, if the autoscaler says something else.
    pub fn patch(&self, autoscaler: &HorizontalPodAutoscaler) -> Option<Write> {
        // Numbers and lists can always be written.
        let text = serde_json::to_string(self).ok()?;
        if autoscaler.annotation(ANNOTATION) == Some(&text) {
            return None;
        }
        Some(Write::Merge {
            target: Target::of::<HorizontalPodAutoscaler>(autoscaler.namespace(), autoscaler.name()),
            subresource: "",
            patch: json!({"metadata": {"uid": autoscaler.uid(), "annotations": {ANNOTATION: text}}}),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_recommendation_holds_until_the_next() {
        let mut history = History { recommended: vec![(0, 5)], ..History::default() };
        history.recommend(5, at(50));
        history.recommend(2, at(100));
        let within = |seconds, now| history.recommended_within(seconds, at(now)).collect::<Vec<_>>();
        assert_eq!(within(60, 150), [5, 2]);
        assert_eq!(within(60, 160), [2]);
        assert_eq!(within(0, 160), [2]);
    }

    #[test]
    fn the_past_is_bounded() {
        let mut history = History::default();
        for second in 0..10_000 {
            history.recommend(second % 7, at(second));
            history.note_change(1, 1 + second % 3, at(second));
            history.forget(at(second));
        }
        assert!(history.recommended.len() <= ENTRIES_MAX + 1 && history.added.len() <= ENTRIES_MAX + 1);
        assert_eq!(history.change_within(3, at(10_000)), 2);
    }
}
