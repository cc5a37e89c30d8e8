//! What is counted of the requests of one FlowSchema at one level.

use std::sync::{Arc, RwLock};

use mizzen_metrics::{Count, Gauge, Histogram};

/// Bounds of waiting and execution times, in seconds.
const TIMES: &[f64] = &[0.0, 0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0];
/// Bounds of queue lengths.
const LENGTHS: &[f64] = &[0.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0];
/// Bounds of seats.
const SEATS: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 100.0];

/// Why requests are refused.
pub const REASONS: [&str; 4] = ["queue-full", "concurrency-limit", "time-out", "cancelled"];

/// The counters.
#[derive(Debug)]
pub struct Tally {
    /// FlowSchema.
    pub schema: Box<str>,
    /// PriorityLevelConfiguration.
    pub level: Box<str>,
    /// Requests that were let through.
    pub dispatched: Count,
    /// Those of them that have ended.
    pub ended: Count,
    /// Refused, by reason.
    pub rejected: [Count; REASONS.len()],
    /// Waiting now.
    pub queued: Gauge,
    /// Seats in use now.
    pub seats: Gauge,
    /// How long those that had to wait waited.
    pub waited: Histogram,
    /// How long seats were held.
    pub executed: Histogram,
    /// How many were in the queue, the new one with them.
    pub lengths: Histogram,
    /// Seats a request takes.
    pub widths: Histogram,
}

impl Tally {
    /// Counts a refusal.
    pub fn reject(&self, reason: &str) {
        if let Some(at) = REASONS.iter().position(|known| *known == reason) {
            self.rejected[at].one();
        }
    }
}

/// The counters of all schemas there have been; they outlive the plans, so that counts never fall.
#[derive(Debug, Default)]
pub struct Tallies(RwLock<Vec<Arc<Tally>>>);

/// Schemas that are counted apart; what names come after that share the counters of the last.
const TALLIES_MAX: usize = 1000;

impl Tallies {
    /// The counters of a schema at a level. Called when plans change, never for a request.
    pub fn of(&self, schema: &str, level: &str) -> Arc<Tally> {
        let mut all = self.0.write().unwrap_or_else(|poisoned| poisoned.into_inner());
        let known = all.iter().find(|tally| *tally.schema == *schema && *tally.level == *level);
        if let Some(known) = known.or(all.get(TALLIES_MAX)) {
            return Arc::clone(known);
        }
        let tally = Arc::new(Tally {
            schema: schema.into(),
            level: level.into(),
            dispatched: Count::default(),
            ended: Count::default(),
            rejected: Default::default(),
            queued: Gauge::default(),
            seats: Gauge::default(),
            waited: Histogram::new(TIMES),
            executed: Histogram::new(TIMES),
            lengths: Histogram::new(LENGTHS),
            widths: Histogram::new(SEATS),
        });
        all.push(Arc::clone(&tally));
        tally
    }

    /// All of them.
    pub fn all(&self) -> Vec<Arc<Tally>> {
        self.0.read().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }
}
