//! The road to the API: requests as values, sent in process or over TLS.
//!
//! Floor 1. Agent, controllers, scheduler and command line speak to the API only through [`Api`]; whether the server is
//! in the same process or on another machine is the implementation's business. Typed access and informers are built on it.
#![forbid(unsafe_code)]

mod api;

pub use api::{Api, ClientError, Request, Response, WatchStream};
