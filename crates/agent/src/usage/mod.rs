//! What pods and the machine use.

pub mod machine;
