//! The cluster's DNS: names of Services and pods (Kubernetes DNS-based service discovery, version 1.1.0), and everything
//! else from upstream servers.
//!
//! [`Zone`] says what names mean; `names` answers a question from it, a function of values; `reply` makes messages,
//! `forward` asks upstream, and `server` listens.

mod cache;
mod forward;
mod names;
mod reply;
mod resolv;
mod server;
mod zone;

pub use resolv::upstreams_of;
pub use server::{Config, DnsServer, Error};
pub use zone::{EndpointName, ServiceNames, Zone};
