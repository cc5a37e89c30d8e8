//! The kubelet endpoint: logs, stats and streams of this node's pods, for the API server.
//!
//! [`server`] accepts connections and knows who asks, [`routes`] leads a request to its answer, [`logs`] reads log
//! files, [`stats`] words usage.

pub mod files;
pub mod identity;
pub mod lines;
pub mod logs;
pub mod rotate;
pub mod routes;
mod server;
pub mod stats;
pub mod tail;

pub use server::{KubeletError, serve};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};

/// The body of an answer.
pub type Body = UnsyncBoxBody<Bytes, std::io::Error>;

/// An answer that ends a request early.
pub type Refusal = Box<http::Response<Body>>;

/// A body that is all there.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}
