//! The scheduler: pods → nodes.
//!
//! Floor 2. [`cycle`] is a pure function of a snapshot: it places all pending pods of one batch and says why the others
//! fit nowhere. [`rules`] is the one list of what makes a node possible and what makes it good. Only [`shell`] waits and writes.
#![forbid(unsafe_code)]

pub mod cycle;
pub mod rules;
pub mod shell;
pub mod stats;

mod cluster;
mod explain;
mod preempt;
#[cfg(test)]
mod testing;

pub use cycle::{Decision, Outcome, Refusal, schedule};
pub use rules::Step;
