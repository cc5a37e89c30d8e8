//! The network of a node: pod addresses, Services, DNS.
//!
//! Floor 1: it knows Linux and the DNS, not the API server. The agent hands it plain values:
//! [`service::ServiceTable`] for what Services lead where, [`dns::Zone`] for what names mean.

pub mod cidr;
pub mod dns;
mod features;
pub mod netlink;
pub mod pod;
pub mod proxy;
pub mod service;

pub use features::{Feature, required_features};
