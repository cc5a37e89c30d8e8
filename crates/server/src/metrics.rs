//! What the server counts, in the text format of Prometheus at `/metrics`.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The verbs that are counted apart; the last stands for non-resource requests.
const VERBS: [&str; 9] = ["get", "list", "watch", "create", "update", "patch", "delete", "deletecollection", "other"];

/// Upper bounds of the histogram of durations, in seconds.
const BUCKETS: [f64; 9] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.25, 1.0, 5.0];

/// The counters.
#[derive(Debug, Default)]
pub struct Metrics {
    requests: [[AtomicU64; 4]; VERBS.len()],
    durations: [AtomicU64; BUCKETS.len() + 1],
    duration_nanos: AtomicU64,
    connections: AtomicU64,
    watches: AtomicU64,
    watch_events: AtomicU64,
}

/// Counts down again when dropped.
pub(crate) struct Gauge<'a>(&'a AtomicU64);

impl Drop for Gauge<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Metrics {
    /// Counts an answered request.
    pub fn request(&self, verb: &str, code: u16, took: Duration) {
        let verb_at = VERBS.iter().position(|v| *v == verb).unwrap_or(VERBS.len() - 1);
        let class = usize::from((code / 100).clamp(2, 5) - 2);
        self.requests[verb_at][class].fetch_add(1, Ordering::Relaxed);
        if verb != "watch" {
            let seconds = took.as_secs_f64();
            let bucket = BUCKETS.iter().position(|b| seconds <= *b).unwrap_or(BUCKETS.len());
            self.durations[bucket].fetch_add(1, Ordering::Relaxed);
            self.duration_nanos.fetch_add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
        }
    }

    pub(crate) fn connection(&self) -> Gauge<'_> {
        self.connections.fetch_add(1, Ordering::Relaxed);
        Gauge(&self.connections)
    }

    pub(crate) fn watch_started(&self) {
        self.watches.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn watch_ended(&self) {
        self.watches.fetch_sub(1, Ordering::Relaxed);
    }

    pub(crate) fn watch_events(&self, count: usize) {
        self.watch_events.fetch_add(count as u64, Ordering::Relaxed);
    }

    /// Connections that are open.
    pub fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }

    /// All counters as Prometheus reads them.
    pub fn render(&self, revision: u64) -> String {
        let mut out = String::with_capacity(4096);
        head(&mut out, "apiserver_request_total", "counter", "Requests answered, by verb and class of code.");
        for (verb, classes) in VERBS.iter().zip(&self.requests) {
            for (class, count) in ["2xx", "3xx", "4xx", "5xx"].iter().zip(classes) {
                let count = count.load(Ordering::Relaxed);
                if count > 0 {
                    line(&mut out, format_args!("apiserver_request_total{{verb=\"{verb}\",code=\"{class}\"}} {count}"));
                }
            }
        }
        self.render_durations(&mut out);
        let gauges = [
            ("apiserver_connections", "Open connections.", &self.connections),
            ("apiserver_longrunning_requests", "Watches that are open.", &self.watches),
        ];
        for (name, help, value) in gauges {
            head(&mut out, name, "gauge", help);
            line(&mut out, format_args!("{name} {}", value.load(Ordering::Relaxed)));
        }
        head(&mut out, "apiserver_watch_events_total", "counter", "Watch events sent.");
        line(&mut out, format_args!("apiserver_watch_events_total {}", self.watch_events.load(Ordering::Relaxed)));
        head(&mut out, "mizzen_store_revision", "counter", "Newest revision of the store.");
        line(&mut out, format_args!("mizzen_store_revision {revision}"));
        out
    }

    fn render_durations(&self, out: &mut String) {
        let name = "apiserver_request_duration_seconds";
        head(out, name, "histogram", "Time to answer requests that are no watches.");
        let mut total = 0;
        for (at, count) in self.durations.iter().enumerate() {
            total += count.load(Ordering::Relaxed);
            match BUCKETS.get(at) {
                Some(bound) => line(out, format_args!("{name}_bucket{{le=\"{bound}\"}} {total}")),
                None => line(out, format_args!("{name}_bucket{{le=\"+Inf\"}} {total}")),
            }
        }
        let seconds = self.duration_nanos.load(Ordering::Relaxed) as f64 / 1e9;
        line(out, format_args!("{name}_sum {seconds}"));
        line(out, format_args!("{name}_count {total}"));
    }
}

fn head(out: &mut String, name: &str, kind: &str, help: &str) {
    line(out, format_args!("# HELP {name} {help}"));
    line(out, format_args!("# TYPE {name} {kind}"));
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = out.write_fmt(text);
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_show() {
        let metrics = Metrics::default();
        metrics.request("get", 200, Duration::from_micros(300));
        metrics.request("get", 404, Duration::from_millis(3));
        let text = metrics.render(7);
        for expected in [
            "apiserver_request_total{verb=\"get\",code=\"2xx\"} 1\n",
            "apiserver_request_total{verb=\"get\",code=\"4xx\"} 1\n",
            "apiserver_request_duration_seconds_bucket{le=\"0.0005\"} 1\n",
            "apiserver_request_duration_seconds_bucket{le=\"+Inf\"} 2\n",
            "mizzen_store_revision 7\n",
        ] {
            assert!(text.contains(expected), "{expected} in {text}");
        }
    }
}
