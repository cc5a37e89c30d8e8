//! The controllers: desired state → writes.
//!
//! Floor 2. Each controller is a pure function of a snapshot, a key and the time to a [`plan::Plan`]; one file a controller.
//! Only [`shell`] waits, reads the clock and talks to the API, and it decides nothing. No controller opens a socket or
//! remembers anything between two calls.
#![forbid(unsafe_code)]

pub mod meta;
pub mod plan;
pub mod shell;

pub mod autoscaler;
pub mod certificates;
pub mod cluster_dns;
pub mod cluster_role_aggregation;
pub mod cron_job;
pub mod custom_resource_definition;
pub mod daemon_set;
pub mod deployment;
pub mod disruption;
pub mod endpoint_mirror;
pub mod endpoint_slice;
pub mod ephemeral_volume;
pub mod garbage_collector;
pub mod job;
pub mod local_volume;
pub mod namespace;
pub mod node_ipam;
pub mod node_lifecycle;
pub mod node_pods;
pub mod pod_gc;
pub mod replica_set;
pub mod replication_controller;
pub mod resource_quota;
pub mod revisions;
pub mod root_ca;
pub mod service_account;
pub mod stateful_set;
pub mod taint_eviction;
pub mod tokens;
pub mod validating_admission_policy;
pub mod volume_binder;
pub mod volume_protection;

mod pods;
mod served;
mod table;
#[cfg(test)]
mod testing;
mod wake;

pub use table::{Settings, all, definitions};
