//! Mutating and validating admission webhooks (api-facts §7.2).
//!
//! [`Webhooks`] keeps what is registered ([`hook`]) as of a snapshot. [`mutating`] asks one after the other and applies
//! their patches, [`validating`] asks all at once. [`review`] writes the question and reads the answer; [`ask`] sends it.

use std::sync::Arc;

use mizzen_store::Snapshot;

mod ask;
pub(crate) mod conditions;
mod hook;
mod metrics;
pub(super) mod mutating;
mod review;
pub(super) mod validating;

pub(super) use ask::{from_version, in_version};
pub(super) use mutating::well_formed;

use crate::derived::Cache;
use hook::Hook;
use metrics::Metrics;

/// What registers webhooks.
const RESOURCES: &[&str] = &[MUTATING, VALIDATING];
const MUTATING: &str = "admissionregistration.k8s.io/mutatingwebhookconfigurations/";
const VALIDATING: &str = "admissionregistration.k8s.io/validatingwebhookconfigurations/";

/// The registered webhooks of the newest state, and what is counted of them.
#[derive(Debug)]
pub(crate) struct Webhooks {
    cache: Cache<Registered>,
    metrics: Metrics,
}

impl Default for Webhooks {
    fn default() -> Self {
        Self { cache: Cache::new(RESOURCES, Registered::new), metrics: Metrics::default() }
    }
}

impl Webhooks {
    /// What is registered as of a snapshot.
    pub fn registered(&self, snapshot: &Snapshot) -> Arc<Registered> {
        self.cache.get(snapshot)
    }

    /// The counters as Prometheus reads them.
    pub fn render(&self, out: &mut String) {
        self.metrics.render(out);
    }
}

/// The webhooks in the order in which they are asked: configurations by name, then as they stand in them.
#[derive(Debug)]
pub(crate) struct Registered {
    pub mutating: Vec<Hook>,
    pub validating: Vec<Hook>,
}

impl Registered {
    fn new(snapshot: &Snapshot) -> Self {
        let list = |prefix: &'static str| snapshot.prefix(prefix).flat_map(|entry| hook::read(&entry.value)).collect();
        Self { mutating: list(MUTATING), validating: list(VALIDATING) }
    }

    /// Nobody is to be asked about anything.
    pub fn is_empty(&self) -> bool {
        self.mutating.is_empty() && self.validating.is_empty()
    }
}
