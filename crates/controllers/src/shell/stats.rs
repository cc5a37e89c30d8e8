//! What the shell counts of each controller, under the names that Kubernetes' work queues have.

use std::sync::{Arc, PoisonError, RwLock};

use mizzen_metrics::{Count, Gauge, Histogram, Kind, Source, Text};

/// Bounds of times, in seconds.
const TIMES: &[f64] = &[1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0];

/// The counters of all controllers. Give it to the shell, and to whoever serves `/metrics`.
#[derive(Debug, Default)]
pub struct Stats(RwLock<Vec<Arc<QueueStats>>>);

/// The counters of one controller.
#[derive(Debug)]
pub(super) struct QueueStats {
    name: &'static str,
    pub depth: Gauge,
    pub adds: Count,
    pub retries: Count,
    /// Keys that are worked on.
    pub working: Gauge,
    /// In line.
    pub waited: Histogram,
    /// From being taken to being done, writes included.
    pub worked: Histogram,
}

impl QueueStats {
    pub fn new(name: &'static str) -> Self {
        Self {
            name,
            depth: Gauge::default(),
            adds: Count::default(),
            retries: Count::default(),
            working: Gauge::default(),
            waited: Histogram::new(TIMES),
            worked: Histogram::new(TIMES),
        }
    }
}

impl Stats {
    /// The counters of a controller that starts.
    pub(super) fn of(&self, name: &'static str) -> Arc<QueueStats> {
        let stats = Arc::new(QueueStats::new(name));
        self.0.write().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&stats));
        stats
    }
}

impl Source for Stats {
    fn write(&self, out: &mut Text) {
        let queues = self.0.read().unwrap_or_else(PoisonError::into_inner).clone();
        type Number = fn(&QueueStats) -> i64;
        let numbers: [(&str, Kind, &str, Number); 4] = [
            ("workqueue_depth", Kind::Gauge, "Keys in line.", |q| q.depth.get()),
            ("workqueue_adds_total", Kind::Counter, "Keys put in line.", |q| q.adds.get() as i64),
            ("workqueue_retries_total", Kind::Counter, "Keys put in line after a failure.", |q| q.retries.get() as i64),
            ("workqueue_unfinished_work", Kind::Gauge, "Keys that are worked on.", |q| q.working.get()),
        ];
        for (name, kind, help, number) in numbers {
            out.family(name, kind, help);
            for queue in &queues {
                out.sample(&[("name", queue.name)], number(queue));
            }
        }
        type Times = fn(&QueueStats) -> &Histogram;
        let histograms: [(&str, &str, Times); 2] = [
            ("workqueue_queue_duration_seconds", "Time in line.", |q| &q.waited),
            ("workqueue_work_duration_seconds", "Time of work on a key.", |q| &q.worked),
        ];
        for (name, help, times) in histograms {
            out.family(name, Kind::Histogram, help);
            for queue in queues.iter().filter(|queue| queue.adds.get() > 0) {
                out.histogram(&[("name", queue.name)], times(queue));
            }
        }
    }
}
