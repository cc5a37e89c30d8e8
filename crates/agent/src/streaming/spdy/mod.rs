//! SPDY/3.1, the server's side, as far as streams of Kubernetes need it.
//!
//! [`frame`] and [`headers`] are the wire format, [`flow`] what a client lets us send, [`connection`] serves streams.

mod connection;
mod flow;
mod frame;
mod headers;
pub(super) mod program;
mod stream;
#[cfg(test)]
pub(super) mod test_client;

pub(super) use connection::{Accepted, serve};
pub(super) use frame::ResetStatus;
pub(super) use stream::{Opened, StreamWriter};
