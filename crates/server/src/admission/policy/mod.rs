//! ValidatingAdmissionPolicy and MutatingAdmissionPolicy: admission that is written in CEL (api-facts §7.2).
//!
//! [`Policies`] keeps the policies that are bound, compiled ([`compile`]), as of a snapshot. [`validating`] and [`mutating`]
//! run those that a request matches, once for each binding and each of its parameters ([`params`]); [`evaluate`] gives
//! expressions their variables. [`check`] says what is wrong with the expressions of a policy when it is written.
//! Without a bound policy a request pays one look at what is bound.

pub(crate) mod check;
mod compile;
mod evaluate;
pub(super) mod mutating;
mod params;
pub(super) mod validating;

use std::collections::HashMap;
use std::sync::Arc;

use mizzen_store::Snapshot;
use serde_json::Value;

use crate::derived::Cache;
use compile::{Binding, Policy};

const VALIDATING: &str = "admissionregistration.k8s.io/validatingadmissionpolicies/";
const VALIDATING_BINDINGS: &str = "admissionregistration.k8s.io/validatingadmissionpolicybindings/";
const MUTATING: &str = "admissionregistration.k8s.io/mutatingadmissionpolicies/";
const MUTATING_BINDINGS: &str = "admissionregistration.k8s.io/mutatingadmissionpolicybindings/";
/// The resources that policies are made of.
const RESOURCES: &[&str] = &[VALIDATING, VALIDATING_BINDINGS, MUTATING, MUTATING_BINDINGS];

/// The policies of the newest state.
#[derive(Debug)]
pub(crate) struct Policies {
    cache: Cache<Bound>,
}

impl Default for Policies {
    fn default() -> Self {
        Self { cache: Cache::new(RESOURCES, Bound::new) }
    }
}

impl Policies {
    /// What is bound as of a snapshot.
    pub fn bound(&self, snapshot: &Snapshot) -> Arc<Bound> {
        self.cache.get(snapshot)
    }
}

/// The policies that have bindings, by name.
#[derive(Debug)]
pub(crate) struct Bound {
    pub validating: Vec<Policy>,
    pub mutating: Vec<Policy>,
}

impl Bound {
    /// Nothing is to hold.
    pub fn is_empty(&self) -> bool {
        self.validating.is_empty() && self.mutating.is_empty()
    }

    fn new(snapshot: &Snapshot) -> Self {
        Self {
            validating: bound(snapshot, VALIDATING, VALIDATING_BINDINGS),
            mutating: bound(snapshot, MUTATING, MUTATING_BINDINGS),
        }
    }
}

fn objects(snapshot: &Snapshot, prefix: &str) -> impl Iterator<Item = Value> {
    let entries = snapshot.prefix(prefix).map(Arc::clone).collect::<Vec<_>>();
    entries.into_iter().filter_map(|entry| serde_json::from_slice(&entry.value).ok())
}

fn bound(snapshot: &Snapshot, policies: &str, bindings: &str) -> Vec<Policy> {
    let mut by_policy: HashMap<String, Vec<Binding>> = HashMap::new();
    for binding in objects(snapshot, bindings) {
        let policy = binding["spec"]["policyName"].as_str().unwrap_or_default().to_owned();
        by_policy.entry(policy).or_default().push(Binding::read(&binding));
    }
    let mut bound = Vec::new();
    for policy in objects(snapshot, policies) {
        let name = policy["metadata"]["name"].as_str().unwrap_or_default();
        if let Some(bindings) = by_policy.remove(name) {
            bound.push(Policy::read(&policy, bindings));
        }
    }
    bound
}
