//! Which batches have been applied, so that one that was proposed twice counts once.
//!
//! Part of the replicated state: every voter that applies the same log holds the same. A run proposes one batch at a time,
//! so the number of its newest is enough.

use super::types::Origin;

/// So many runs are remembered, those that wrote last. A run is one start of one voter: nobody has so many that still write.
const RUNS_MAX: usize = 256;

/// The newest batch of each run.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub(crate) struct Runs(Vec<Origin>);

impl Runs {
    /// Notes a batch. False if it has been applied before.
    pub(crate) fn is_new(&mut self, origin: Origin) -> bool {
        if let Some(at) = self.0.iter().position(|known| known.run == origin.run) {
            if self.0[at].number >= origin.number {
                return false;
            }
            self.0.remove(at);
        } else if self.0.len() == RUNS_MAX {
            self.0.remove(0);
        }
        self.0.push(origin);
        true
    }

    /// Whether a batch has been applied.
    pub(crate) fn holds(&self, origin: Origin) -> bool {
        self.0.iter().any(|known| known.run == origin.run && known.number >= origin.number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_counts_once() {
        let mut runs = Runs::default();
        let cases =
            [(1, 1, true), (1, 1, false), (2, 1, true), (1, 3, true), (1, 2, false), (2, 1, false), (2, 2, true)];
        for (run, number, new) in cases {
            assert_eq!(runs.is_new(Origin { run, number }), new, "batch {number} of run {run}");
        }
        assert!(runs.holds(Origin { run: 1, number: 2 }) && !runs.holds(Origin { run: 1, number: 4 }));
    }

    #[test]
    fn the_runs_that_wrote_last_are_remembered() {
        let mut runs = Runs::default();
        let (silent, busy) = (1000, 2000);
        assert!(runs.is_new(Origin { run: silent, number: 1 }));
        for run in 1..RUNS_MAX as u64 {
            assert!(runs.is_new(Origin { run, number: 1 }));
            assert!(runs.is_new(Origin { run: busy, number: run }));
        }
        assert_eq!(runs.0.len(), RUNS_MAX);
        assert!(!runs.holds(Origin { run: silent, number: 1 }), "the one that was silent longest");
        assert!(runs.holds(Origin { run: busy, number: 1 }));
    }
}
