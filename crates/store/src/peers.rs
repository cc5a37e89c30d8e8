//! The other voters, as the store sees them: who they are, and how they are spoken to. What carries the bytes, and how
//! both sides prove who they are, is the business of whoever opens the store.

use std::fmt::Debug;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;

/// Carries a request to another voter and brings its answer: [`crate::Store::answer`] is the other side.
///
/// A request may be lost, late or answered twice; the store copes. It is at most [`REQUEST_BYTES_MAX`] long. The store
/// sets the time limits, by dropping the future.
pub trait Peers: Debug + Send + Sync + 'static {
    /// Sends `request` to the voter at `address`.
    fn call(&self, address: &str, request: Bytes) -> BoxFuture<'static, Result<Bytes, PeerError>>;
}

/// No request from a voter is longer: the largest transaction, or several smaller ones, with room to spare.
pub const REQUEST_BYTES_MAX: usize = 32 << 20;

/// Why a voter gave no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    /// It cannot be reached, or the connection broke.
    #[error("the server at {address} cannot be reached: {reason}")]
    Unreachable {
        /// Where it should be.
        address: String,
        /// What happened.
        reason: String,
    },
    /// What it said cannot be understood; it may be of another version.
    #[error("the server at {address} does not speak this protocol: {reason}")]
    Protocol {
        /// Where it is.
        address: String,
        /// What is wrong with the answer.
        reason: String,
    },
}

/// Who this voter is.
#[derive(Debug, Clone)]
pub struct Identity {
    /// Its number, which nobody else in the cluster has and which never changes.
    pub id: u64,
    /// Where others reach it.
    pub address: String,
    /// Whether an empty directory founds a cluster of one. Otherwise it waits to be added to an existing one.
    pub founds: bool,
    /// How others are reached.
    pub peers: Arc<dyn Peers>,
}

impl Identity {
    /// The only voter, as long as nobody is added; it reaches no one.
    pub(crate) fn alone() -> Self {
        Self { id: 1, address: String::new(), founds: true, peers: Arc::new(NoPeers) }
    }
}

#[derive(Debug)]
struct NoPeers;

impl Peers for NoPeers {
    fn call(&self, address: &str, _request: Bytes) -> BoxFuture<'static, Result<Bytes, PeerError>> {
        let error = PeerError::Unreachable { address: address.to_owned(), reason: "this store is alone".to_owned() };
        Box::pin(std::future::ready(Err(error)))
    }
}

/// One of the servers that hold the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its number.
    pub id: u64,
    /// Where it is reached.
    pub address: String,
    /// Whether it has a vote; one without is being brought up to date.
    pub votes: bool,
}

/// Why the members could not be changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MemberError {
    /// Only the leader can; ask there.
    #[error("this server does not lead{}", leader.as_ref().map_or_else(String::new, |at| format!("; {at} does")))]
    NotLeader {
        /// Where the leader is, if it is known.
        leader: Option<String>,
    },
    /// The last voter cannot go.
    #[error("server {id} is the only one with a vote: it cannot be removed")]
    Last {
        /// The voter.
        id: u64,
    },
    /// It did not come to pass, or it is not known whether it did.
    #[error("the members could not be changed: {reason}")]
    Failed {
        /// What happened.
        reason: String,
    },
}
