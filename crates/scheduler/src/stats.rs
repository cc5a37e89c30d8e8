//! What the scheduler counts, under the names that kube-scheduler has.

use std::time::Duration;

use mizzen_metrics::{Count, Gauge, Histogram, Kind, Source, Text};

/// Bounds of the times of a cycle, in seconds.
const TIMES: &[f64] = &[0.0001, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.024, 2.048];

/// The counters. Give it to the shell, and to whoever serves `/metrics`.
#[derive(Debug)]
pub struct Stats {
    scheduled: Count,
    unschedulable: Count,
    pending: Gauge,
    gated: Gauge,
    cycles: Histogram,
}

impl Default for Stats {
    fn default() -> Self {
        Self {
            scheduled: Count::default(),
            unschedulable: Count::default(),
            pending: Gauge::default(),
            gated: Gauge::default(),
            cycles: Histogram::new(TIMES),
        }
    }
}

impl Stats {
    /// Counts a cycle: pods that got a node, that fit nowhere, and that are not to be placed yet.
    pub(crate) fn cycle(&self, placed: u64, refused: u64, gated: u64, took: Duration) {
        self.scheduled.add(placed);
        self.unschedulable.add(refused);
        self.pending.set(refused as i64);
        self.gated.set(gated as i64);
        if placed + refused > 0 {
            self.cycles.observe(took);
        }
    }
}

impl Source for Stats {
    fn write(&self, out: &mut Text) {
        out.family("scheduler_schedule_attempts_total", Kind::Counter, "Pods looked at, by outcome.");
        for (result, count) in [("scheduled", &self.scheduled), ("unschedulable", &self.unschedulable)] {
            out.sample(&[("profile", "default-scheduler"), ("result", result)], count.get());
        }
        out.family("scheduler_pending_pods", Kind::Gauge, "Pods that wait for a node.");
        for (queue, gauge) in [("unschedulable", &self.pending), ("gated", &self.gated)] {
            out.sample(&[("queue", queue)], gauge.get());
        }
        out.family(
            "scheduler_scheduling_algorithm_duration_seconds",
            Kind::Histogram,
            "Time of a decision about all pods that wait.",
        );
        out.histogram(&[], &self.cycles);
    }
}
