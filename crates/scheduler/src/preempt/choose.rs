//! Which of several nodes loses its pods.

use std::cmp::{Ordering, Reverse};

use jiff::Timestamp;

use super::Candidate;
use crate::cluster::PodInfo;

/// The node where least is lost: the fewest broken budgets, the least important victims, the fewest, the youngest.
pub(super) fn best(candidates: Vec<Candidate>) -> Option<Candidate> {
    candidates.into_iter().min_by_key(|c| {
        let highest = c.victims.iter().map(PodInfo::priority).max();
        // Each victim weighs more than nothing, however low its priority is.
        let sum: i64 = c.victims.iter().map(|v| i64::from(v.priority()) - i64::from(i32::MIN)).sum();
        (c.violations, highest, sum, c.victims.len(), Reverse(oldest_of_the_highest(c)), c.at)
    })
}

/// When the oldest of the most important victims started.
fn oldest_of_the_highest(candidate: &Candidate) -> Option<Timestamp> {
    let highest = candidate.victims.iter().map(PodInfo::priority).max()?;
    candidate.victims.iter().filter(|v| v.priority() == highest).filter_map(started).min()
}

/// The more important first: higher priority, then longer running.
pub(super) fn by_importance(a: &PodInfo, b: &PodInfo) -> Ordering {
    let since = |p: &PodInfo| started(p).unwrap_or(Timestamp::MAX);
    b.priority().cmp(&a.priority()).then_with(|| since(a).cmp(&since(b)))
}

fn started(pod: &PodInfo) -> Option<Timestamp> {
    pod.pod.status.as_ref()?.start_time.as_ref().map(|t| t.0)
}
