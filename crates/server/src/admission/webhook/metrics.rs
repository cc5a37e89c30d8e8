//! What is counted of webhooks, under Kubernetes' names.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Upper bounds of the histogram of durations, in seconds.
const BUCKETS: [f64; 8] = [0.005, 0.025, 0.1, 0.5, 1.0, 2.5, 10.0, 25.0];
/// Most combinations of labels that are counted: webhooks come and go, memory does not.
const SERIES_MAX: usize = 2000;

/// Which of the two phases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Admit,
    Validating,
}

impl Phase {
    fn name(self) -> &'static str {
        match self {
            Phase::Admit => "admit",
            Phase::Validating => "validating",
        }
    }

    /// What annotations of the phase begin with.
    pub fn annotation(self) -> &'static str {
        match self {
            Phase::Admit => "mutation.webhook.admission.k8s.io",
            Phase::Validating => "validating.webhook.admission.k8s.io",
        }
    }
}

/// Why a webhook made a request fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rejection {
    /// It could not be asked.
    Calling,
    /// It said no.
    Denied,
    /// The server could not go on.
    Internal,
}

impl Rejection {
    fn name(self) -> &'static str {
        match self {
            Rejection::Calling => "calling_webhook_error",
            Rejection::Denied => "no_error",
            Rejection::Internal => "apiserver_internal_error",
        }
    }
}

/// What was called.
pub(super) struct Call<'a> {
    pub name: &'a str,
    pub phase: Phase,
    pub operation: &'static str,
}

impl Call<'_> {
    fn labels(&self) -> String {
        format!("name=\"{}\",operation=\"{}\",type=\"{}\"", self.name, self.operation, self.phase.name())
    }
}

/// The counters.
#[derive(Debug, Default)]
pub(super) struct Metrics {
    series: Mutex<Series>,
}

#[derive(Debug, Default)]
struct Series {
    durations: BTreeMap<String, Histogram>,
    requests: BTreeMap<String, u64>,
    rejections: BTreeMap<String, u64>,
    failed_open: BTreeMap<String, u64>,
    excluded: BTreeMap<String, u64>,
    not_evaluated: BTreeMap<String, u64>,
}

#[derive(Debug, Default)]
struct Histogram {
    buckets: [u64; BUCKETS.len()],
    count: u64,
    sum: f64,
}

impl Metrics {
    /// Counts a call.
    pub fn called(&self, call: &Call<'_>, took: Duration, code: u16, rejected: bool) {
        let mut series = self.lock();
        count(&mut series.requests, format!("code=\"{}\",{},rejected=\"{rejected}\"", code.min(600), call.labels()));
        let labels = format!("{},rejected=\"{rejected}\"", call.labels());
        if series.durations.len() >= SERIES_MAX && !series.durations.contains_key(&labels) {
            return;
        }
        let histogram = series.durations.entry(labels).or_default();
        let seconds = took.as_secs_f64();
        if let Some(bucket) = BUCKETS.iter().position(|bound| seconds <= *bound) {
            histogram.buckets[bucket] += 1;
        }
        histogram.count += 1;
        histogram.sum += seconds;
    }

    /// Counts a request that failed because of a webhook.
    pub fn rejected(&self, call: &Call<'_>, why: Rejection, code: u16) {
        let labels = format!("error_type=\"{}\",{},rejection_code=\"{}\"", why.name(), call.labels(), code.min(600));
        count(&mut self.lock().rejections, labels);
    }

    /// Counts a failure that was ignored.
    pub fn failed_open(&self, call: &Call<'_>) {
        count(&mut self.lock().failed_open, format!("name=\"{}\",type=\"{}\"", call.name, call.phase.name()));
    }

    /// Counts a request that a webhook was not asked about, for its conditions did not hold.
    pub fn excluded(&self, call: &Call<'_>) {
        count(&mut self.lock().excluded, format!("kind=\"webhook\",{}", call.labels()));
    }

    /// Counts a request of which the conditions could not be evaluated.
    pub fn not_evaluated(&self, call: &Call<'_>) {
        count(&mut self.lock().not_evaluated, format!("kind=\"webhook\",{}", call.labels()));
    }

    /// The counters as Prometheus reads them; nothing where no webhook was ever called.
    pub fn render(&self, out: &mut String) {
        let series = self.lock();
        for (name, help, counts) in [
            ("webhook_request_total", "Calls of admission webhooks.", &series.requests),
            ("webhook_rejection_count", "Requests that failed because of an admission webhook.", &series.rejections),
            ("webhook_fail_open_count", "Failed calls of admission webhooks that were ignored.", &series.failed_open),
            (
                "match_condition_exclusions_total",
                "Requests that were not asked about, for match conditions did not hold.",
                &series.excluded,
            ),
            (
                "match_condition_evaluation_errors_total",
                "Match conditions that could not be evaluated.",
                &series.not_evaluated,
            ),
        ] {
            if !counts.is_empty() {
                head(out, name, "counter", help);
            }
            for (labels, value) in counts {
                line(out, format_args!("apiserver_admission_{name}{{{labels}}} {value}"));
            }
        }
        if !series.durations.is_empty() {
            head(out, "webhook_admission_duration_seconds", "histogram", "Time that calls of admission webhooks took.");
        }
        for (labels, histogram) in &series.durations {
            render_histogram(out, "apiserver_admission_webhook_admission_duration_seconds", labels, histogram);
        }
    }

    /// The maps are whole whatever happened to another holder.
    fn lock(&self) -> MutexGuard<'_, Series> {
        self.series.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn render_histogram(out: &mut String, name: &str, labels: &str, histogram: &Histogram) {
    let mut total = 0;
    for (bound, count) in BUCKETS.iter().zip(histogram.buckets) {
        total += count;
        line(out, format_args!("{name}_bucket{{{labels},le=\"{bound}\"}} {total}"));
    }
    line(out, format_args!("{name}_bucket{{{labels},le=\"+Inf\"}} {}", histogram.count));
    line(out, format_args!("{name}_sum{{{labels}}} {}", histogram.sum));
    line(out, format_args!("{name}_count{{{labels}}} {}", histogram.count));
}

fn count(series: &mut BTreeMap<String, u64>, labels: String) {
    if series.len() < SERIES_MAX || series.contains_key(&labels) {
        *series.entry(labels).or_default() += 1;
    }
}

fn head(out: &mut String, name: &str, kind: &str, help: &str) {
    line(out, format_args!("# HELP apiserver_admission_{name} {help}"));
    line(out, format_args!("# TYPE apiserver_admission_{name} {kind}"));
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = out.write_fmt(text);
    out.push('\n');
}
