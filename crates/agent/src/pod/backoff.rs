//! Waits between attempts: containers that keep ending, and things that keep failing.

use jiff::{SignedDuration, Timestamp};

/// First wait between restarts, seconds (kubelet's `BackOffPeriod`-based crash loop back-off).
const CRASH_FIRST: i64 = 10;
/// Longest wait between restarts, seconds.
const CRASH_MAX: i64 = 300;
/// A container that ran this long starts over with no wait, seconds.
const CRASH_RESET: i64 = 600;

/// Back-off of a container: its first restart is at once, then 10 s doubling to 300 s.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CrashBackoff {
    /// Seconds that the present wait is long.
    pub wait: i64,
    next: i64,
}

impl CrashBackoff {
    /// The container ended.
    pub fn ended(&mut self, started: Option<Timestamp>, finished: Timestamp) {
        let ran = started.map_or(0, |s| finished.duration_since(s).as_secs());
        self.wait = if ran >= CRASH_RESET { 0 } else { self.next };
        self.next = if self.wait == 0 { CRASH_FIRST } else { (self.wait * 2).min(CRASH_MAX) };
    }

    /// When it may be started again.
    pub fn restart_at(&self, finished: Timestamp) -> Timestamp {
        later(finished, self.wait)
    }
}

/// When to try again, and how long the wait was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// When.
    pub at: Timestamp,
    /// Seconds waited.
    pub wait: i64,
}

impl Retry {
    /// After a failure at `now`: `first` seconds, or twice the previous wait up to `max`.
    pub fn after(previous: Option<Retry>, now: Timestamp, first: i64, max: i64) -> Retry {
        let wait = previous.map_or(first, |p| (p.wait * 2).clamp(first, max));
        Retry { at: later(now, wait), wait }
    }
}

/// `seconds` after `time`; the end of time if that is later than can be written.
pub fn later(time: Timestamp, seconds: i64) -> Timestamp {
    time.saturating_add(SignedDuration::from_secs(seconds)).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_and_start_over_after_a_long_run() {
        let t = |s: i64| Timestamp::from_second(s).unwrap();
        let mut backoff = CrashBackoff::default();
        let waits: Vec<i64> = [1, 1, 1, 1, 1, 1, 1, 1, 600, 1, 1]
            .into_iter()
            .map(|ran| {
                backoff.ended(Some(t(0)), t(ran));
                backoff.wait
            })
            .collect();
        assert_eq!(waits, [0, 10, 20, 40, 80, 160, 300, 300, 0, 10, 20]);
    }
}
