//! The store's side of openraft: the types it is made with, its log, its state machine, its network.

pub(crate) mod log;
pub(crate) mod machine;
pub(crate) mod network;
pub(crate) mod runs;
#[cfg(test)]
mod suite;
pub(crate) mod types;
pub(crate) mod wire;
