//! What pods and the machine use: samples of counters, and rates between two of them.

pub mod machine;
pub mod sample;

pub use sample::{ContainerUse, NodeUse, PodUse, Rates, Sample};
