//! Pods: one worker each, around a pure state machine.
//!
//! [`plan`] decides from the pod's spec and what is [`observed`]; [`status`] words it for the API; the [`worker`]
//! executes. [`build`] and its helpers turn a pod into what the runtime understands.

pub mod admit;
pub mod backoff;
pub mod build;
pub mod env;
pub mod execute;
pub mod expand;
pub mod fields;
pub mod files;
pub mod grant;
pub mod hooks;
pub mod id_ranges;
pub mod last_words;
pub mod mailbox;
pub mod observed;
pub mod patch;
pub mod plan;
pub mod pull;
pub mod reports;
pub mod resources;
pub mod roles;
pub mod security;
pub mod seed;
pub mod status;
pub mod uses;
pub mod worker;

/// Seconds before a failed pull is tried again; the wait doubles to [`MAX_PULL_WAIT`].
pub const FIRST_PULL_WAIT: i64 = 10;
/// Longest wait between pulls, seconds.
pub const MAX_PULL_WAIT: i64 = 300;
