//! Custom resources: what a CustomResourceDefinition makes of the API (api-facts §8).
//!
//! [`Definition::read`] compiles a definition into one [`Kind`](crate::kind::Kind) for each of its versions, whose
//! [`Custom`] part does for objects what the static rules do for built-in kinds: prune, fill defaults, validate, print.
//!
//! * [`schema`]: structural schemas. * [`prune`], [`defaults`], [`validate`]: what they do to objects.
//! * [`path`]: the JSON paths of printer columns, selectable fields and scales.

mod admission;
mod approval;
mod conversion;
mod custom;
mod defaults;
mod definition;
mod format;
mod path;
pub mod pattern;
mod prune;
mod schema;
mod structural;
mod validate;
mod versions;

/// Keeps a definition until its objects are gone.
pub const CLEANUP_FINALIZER: &str = "customresourcecleanup.apiextensions.k8s.io";

pub use admission::check_schema;
pub(crate) use admission::field_at;
pub use approval::{APPROVED, Approval};
pub use conversion::{ConversionError, Review};
pub use custom::{Custom, ScalePaths};
pub use definition::{Compile, Conversion, Definition, Rules};
pub use path::Path;
pub(crate) use prune::object_meta;
pub use schema::{JsonType, ListType, Schema};
pub use versions::compare as compare_versions;
