//! The road to the API: requests as values, sent in process or over TLS.
//!
//! Floor 1. Agent, controllers, scheduler and command line speak to the API only through [`Api`]; whether the server is
//! in the same process or on another machine is the implementation's business. Typed access and informers are built on it.
//!
//! * [`Client`]: typed requests over any [`Api`].
//! * [`Reflector`]: a local map of the objects of one kind, kept current by a watch.
//! * [`HttpsApi`]: an [`Api`] over HTTPS, from a [`Kubeconfig`] or certificates.
#![forbid(unsafe_code)]

mod api;
mod https;
mod kubeconfig;
mod reflector;
mod typed;
mod unverified;

pub use api::{Api, ClientError, Request, Response, WatchStream};
pub use https::{HttpsApi, HttpsConfig, HttpsError};
pub use kubeconfig::{Access, Kubeconfig, KubeconfigError};
pub use reflector::{ObjectMap, Reflector, Selection};
pub use typed::{Client, DeleteOptions, Patch, path};
pub use unverified::{any_certificate, unverified_tls};
