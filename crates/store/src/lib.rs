//! The replicated, durable, versioned object log.
//!
//! Floor 1: keys and bytes, revisions, snapshots, transactions, watches, compaction. It does not know what a Pod is.
//!
//! * [`Store`]: the one interface; every engine passes the same conformance suite.
//! * [`Embedded`]: the engine on a local disk.
//! * [`Peers`]: how several of them, each on a machine of its own, hold the same.
//! * [`Memory`]: an engine without a disk, for tests.
//! * [`Snapshot`]: the state at one revision, for the price of a pointer.
//! * [`Seal`]: encrypts what some keys hold on its way to the files.
//! * [`Watch`]: the changes after a revision, in order, without gaps.
#![forbid(unsafe_code)]

mod codec;
mod dump;
mod embedded;
mod entry;
mod event;
mod history;
mod lanes;
mod memory;
mod peers;
mod raft;
mod seal;
mod shared;
mod snapshot;
mod state;
mod store;
pub mod testing;
mod txn;
mod wal;
mod watch;

pub use embedded::{Embedded, OpenError, Options};
pub use entry::{Entry, Revision};
pub use event::{Change, Event, WatchError};
pub use history::Retention;
pub use lanes::Lane;
pub use memory::Memory;
pub use peers::{Identity, Member, MemberError, PeerError, Peers, REQUEST_BYTES_MAX};
pub use seal::{SEAL_OVERHEAD_MAX, Seal, SealError};
pub use snapshot::Snapshot;
pub use store::{CommitError, Committed, Compacted, Store};
pub use txn::{Expect, Operation, Txn, Value};
pub use watch::Watch;
