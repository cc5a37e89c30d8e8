//! The node itself: its object, its Lease, what it has.

pub mod capacity;
pub mod garbage;
pub mod lease;
pub mod object;
pub mod registration;
