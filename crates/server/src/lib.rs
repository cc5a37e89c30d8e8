//! The API server: request → authenticate → authorize → admit → validate → commit.
//!
//! Floor 2. It owns the public API and everything a client can observe of it; it schedules and reconciles nothing.
//!
//! * [`auth`]: who is asking ([`auth::Identity`]) and whether they may.
//! * [`admission`]: what is changed and refused between authorization and validation.
//! * [`at_rest`]: how Secrets are encrypted in the store's files.
//! * [`audit`]: who did what.
//! * [`peers`]: how the stores of several servers speak.
//! * [`pki`]: the cluster's CA, certificates and token keys; [`bootstrap`]: the objects every cluster starts with.
//! * [`Server`]: serves over HTTP ([`Server::serve`]) and in process ([`Server::api_as`]).
#![forbid(unsafe_code)]

pub mod admission;
pub mod aggregation;
pub mod at_rest;
pub mod audit;
pub mod auth;
pub mod bootstrap;
pub mod config;
pub mod health;
pub mod metrics;
pub mod peers;
pub mod pki;

mod answer;
mod callout;
mod core_objects;
mod crd;
mod deadline;
mod deprecations;
mod derived;
mod device_selectors;
mod dispatch;
mod documents;
mod expiry;
mod expressions;
mod flow;
mod listener;
mod local;
mod negotiate;
mod node_metrics;
mod nonresource;
mod options;
mod proxy;
mod query;
mod registry;
mod render;
mod request;
mod server;
mod shapes;
mod watch;
mod yaml;

pub use config::{Config, Security};
pub use server::Server;
