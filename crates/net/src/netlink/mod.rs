//! The kernel's netlink, as much of it as a node's network needs.
//!
//! Everything that is sent is built here from values; nothing above this module knows a byte of the protocol.
//! The kernel answers a request while it is being sent, so calls are plain and take well under a millisecond.

pub mod conntrack;
pub mod message;
pub mod nft;
mod nft_encode;
pub mod route;
mod socket;

pub use socket::{Family, Socket};

/// A request that the kernel did not carry out.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The socket itself failed.
    #[error("netlink: cannot {operation}")]
    Socket {
        /// What was tried.
        operation: &'static str,
        /// Why not.
        source: std::io::Error,
    },
    /// The kernel refused.
    #[error("netlink: cannot {operation}{}", .detail.as_deref().map(|d| format!(" ({d})")).unwrap_or_default())]
    Refused {
        /// What was asked.
        operation: String,
        /// The kernel's explanation, if it gave one.
        detail: Option<String>,
        /// Its error number.
        source: std::io::Error,
    },
    /// The kernel's answer made no sense or did not come.
    #[error("netlink: {operation}: no usable answer from the kernel")]
    Answer {
        /// What was asked.
        operation: String,
    },
    /// A name or list does not fit into a message.
    #[error("netlink: {what} is too long")]
    TooLong {
        /// What does not fit.
        what: String,
    },
}

impl Error {
    /// The kernel's error number, if it is the kernel that refused.
    #[must_use]
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Refused { source, .. } => source.raw_os_error(),
            _ => None,
        }
    }

    /// The thing is there already.
    #[must_use]
    pub fn is_exists(&self) -> bool {
        self.errno() == Some(libc::EEXIST)
    }

    /// The thing (interface, table, address) is not there.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        matches!(self.errno(), Some(libc::ENOENT | libc::ENODEV | libc::ESRCH | libc::EADDRNOTAVAIL))
    }
}

/// Brings the loopback interface of the present network namespace up: in a new one it is down. Its index is always 1.
///
/// # Errors
/// The kernel refused.
pub fn loopback_up() -> Result<(), Error> {
    let mut batch = message::Batch::new();
    route::set_up(&mut batch, 1);
    Socket::open(Family::Route)?.send(&batch)
}
