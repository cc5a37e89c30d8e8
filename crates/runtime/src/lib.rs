//! Images and containers.
//!
//! Floor 1: it knows OCI and Linux, not the API server. The agent says what to run in the words of [`spec`] through the
//! [`driver::Driver`] trait; a per-pod shim (the same binary, re-executed) owns namespaces, processes, logs and exit codes
//! and outlives everyone else.

pub mod cgroup;
mod container;
pub mod driver;
mod features;
pub mod image;
pub mod images;
pub mod oci;
mod protocol;
mod seccomp;
pub mod shim;
pub mod spec;
mod sys;

pub use features::required_features;
