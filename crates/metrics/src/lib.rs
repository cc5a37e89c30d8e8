//! Counters that a hot path can afford, and the text format in which Prometheus reads them.
//!
//! Floor 0: it reads no clock and no files, and knows none of the names that others count under.
//!
//! * [`Count`], [`Gauge`], [`Histogram`]: one or two relaxed atomic additions an observation.
//! * [`Table`]: series by labels that are not known beforehand, found without a lock.
//! * [`Text`]: the exposition format.
//! * [`Source`]: what a part of the process hands to whoever serves `/metrics`.
#![forbid(unsafe_code)]

mod histogram;
mod table;
mod text;
mod value;

pub use histogram::Histogram;
pub use table::Table;
pub use text::{Kind, Text};
pub use value::{Count, Gauge};

/// A part of the process that counts something.
pub trait Source: Send + Sync {
    /// Writes all that it counts.
    fn write(&self, out: &mut Text);
}
