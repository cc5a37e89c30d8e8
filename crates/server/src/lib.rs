//! The API server: request → authenticate → authorize → admit → validate → commit.
//!
//! Floor 2. It owns the public API and everything a client can observe of it; it schedules and reconciles nothing.
//!
//! * [`auth`]: who is asking ([`auth::Identity`]) and whether they may.
//! * [`admission`]: what is changed and refused between authorization and validation.
//! * [`pki`]: the cluster's CA, certificates and token keys; [`bootstrap`]: the objects every cluster starts with.
#![forbid(unsafe_code)]

pub mod admission;
pub mod auth;
pub mod bootstrap;
pub mod pki;
