//! What the server counts, as Prometheus reads it at `/metrics`, under Kubernetes' names where there are such.
//!
//! A request costs a look-up without a lock and a few atomic additions. Other parts of the process hand in what they
//! count with [`Metrics::register`].

mod objects;
mod process;
mod requests;

use std::sync::{Arc, RwLock};
use std::time::Duration;

use mizzen_metrics::{Count, Gauge, Histogram, Kind, Source, Text};
use mizzen_store::Snapshot;

use requests::Requests;
pub(crate) use requests::Watching;

use crate::request::RequestInfo;

/// Bounds of commit times, in seconds: a sync of a good disk takes 0.2 ms.
const COMMITS: &[f64] = &[0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];

/// The counters.
pub struct Metrics {
    requests: Requests,
    connections: Gauge,
    handshake_errors: Count,
    commits: Histogram,
    sources: RwLock<Vec<Arc<dyn Source>>>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            requests: Requests::default(),
            connections: Gauge::default(),
            handshake_errors: Count::default(),
            commits: Histogram::new(COMMITS),
            sources: RwLock::default(),
        }
    }
}

impl Metrics {
    /// Adds what another part of the process counts.
    pub fn register(&self, source: Arc<dyn Source>) {
        self.sources.write().unwrap_or_else(|poisoned| poisoned.into_inner()).push(source);
    }

    /// Connections that are open.
    pub fn connections(&self) -> u64 {
        u64::try_from(self.connections.get()).unwrap_or_default()
    }

    pub(crate) fn connection(&self) -> impl Drop + '_ {
        self.connections.hold()
    }

    pub(crate) fn handshake_failed(&self) {
        self.handshake_errors.one();
    }

    /// Counts a request as under way until the guard is dropped.
    pub(crate) fn inflight(&self, verb: &str) -> impl Drop + '_ {
        self.requests.inflight(verb)
    }

    /// Counts an answered request.
    pub(crate) fn answered(&self, info: &RequestInfo<'_>, dry_run: bool, code: u16, took: Duration) {
        self.requests.answered(info, dry_run, code, took);
    }

    /// Counts a request of a deprecated version.
    pub(crate) fn deprecated(&self, info: &RequestInfo<'_>, removed: &'static str) {
        self.requests.deprecated(info, removed);
    }

    /// Counts a watch as open until this is dropped.
    pub(crate) fn watching(&self, info: &RequestInfo<'_>) -> Watching {
        self.requests.watching(info)
    }

    /// Counts a commit.
    pub(crate) fn committed(&self, took: Duration) {
        self.commits.observe(took);
    }

    /// Writes all counters.
    pub(crate) fn write(&self, out: &mut Text, snapshot: &Snapshot) {
        self.requests.write(out);
        out.single("apiserver_open_connections", Kind::Gauge, "Open connections.", self.connections.get());
        out.single(
            "apiserver_tls_handshake_errors_total",
            Kind::Counter,
            "Connections that failed in their TLS handshake.",
            self.handshake_errors.get(),
        );
        out.family(
            "mizzen_store_commit_duration_seconds",
            Kind::Histogram,
            "Time from a transaction to its being on disk, and answered.",
        );
        out.histogram(&[], &self.commits);
        objects::write(out, snapshot);
        process::write(out);
        let sources = self.sources.read().unwrap_or_else(|poisoned| poisoned.into_inner()).clone();
        for source in sources {
            source.write(out);
        }
    }
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Metrics {{ connections: {} }}", self.connections())
    }
}
