//! The audit log: who did what, as a policy of audit.k8s.io/v1 wants it told, one JSON event a line.
//!
//! [`Policy`] decides, purely; [`Record`] is what one request adds up to; [`Sink`] takes events to a file or a webhook
//! behind a bounded queue. Requests over HTTP are recorded; parts of this process are not, as nobody outside asked.
//! Without a policy none of this exists, and a request costs one look at a pointer.

mod event;
mod file;
mod policy;
mod sink;
#[cfg(test)]
mod tests;
mod webhook;

pub(crate) use event::{Record, Subject};
pub use file::FileOptions;
pub use policy::{Level, Policy, PolicyError};
pub use sink::{AuditError, Mode, Output};

use sink::Sink;

/// Where events go, and what makes them.
#[derive(Debug, Clone)]
pub struct Options {
    /// What is told of whom.
    pub policy: Policy,
    /// Where to.
    pub output: Output,
    /// What happens when events come faster than they are taken.
    pub mode: Mode,
}

/// The audit log of a server.
#[derive(Debug)]
pub struct Audit {
    policy: Policy,
    sink: Sink,
}

impl Audit {
    /// Opens the log.
    pub fn open(options: Options) -> Result<Self, AuditError> {
        let Options { policy, output, mode } = options;
        Ok(Self { policy, sink: Sink::open(output, mode)? })
    }
}
