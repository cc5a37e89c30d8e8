//! The three ways to change an object by telling the change: JSON patch, JSON merge patch, strategic merge patch.
//!
//! Each works on the JSON of the version that was asked for. Server-side apply, the fourth, is in `apply`.

mod json;
mod merge;
mod strategic;

use serde_json::{Map, Value};

use crate::field::FieldError;
use crate::kind::Kind;
use crate::schema::TypeError;
use crate::status::ApiError;

pub use json::{JsonPatch, Operation};
pub use merge::merge;
pub use strategic::strategic;

/// Removes a member of a map. Small maps keep the order of the others, which people read; in large ones it would cost
/// the square of their size to remove many.
pub(crate) fn remove_member(map: &mut Map<String, Value>, name: &str) -> Option<Value> {
    const SMALL: usize = 1000;
    if map.len() <= SMALL { map.shift_remove(name) } else { map.swap_remove(name) }
}

/// Most operations in a JSON patch.
pub const OPERATIONS_MAX: usize = 10_000;

/// A patch that cannot be applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatchError {
    /// The patch is no patch.
    #[error("error decoding patch: {message}")]
    Malformed {
        /// What is wrong with it.
        message: String,
    },
    /// A strategic merge patch uses a directive wrongly.
    #[error("{message}")]
    Directive {
        /// What is wrong with it.
        message: String,
    },
    /// Too many operations.
    #[error("The allowed maximum operations in a JSON patch is {OPERATIONS_MAX}, got {count}")]
    TooManyOperations {
        /// How many there are.
        count: usize,
    },
    /// The copies that a JSON patch makes are too large.
    #[error("unable to complete copy: the copies of a JSON patch may not exceed {max} bytes")]
    CopiesTooLarge {
        /// The limit.
        max: usize,
    },
    /// An operation of a JSON patch does not fit the object: a missing path, or a test that failed.
    #[error("operation {index} does not apply: {why}")]
    DoesNotApply {
        /// Which operation.
        index: usize,
        /// Why.
        why: &'static str,
    },
}

impl PatchError {
    /// The answer to the client.
    pub fn to_status(&self) -> ApiError {
        match self {
            Self::Malformed { .. } | Self::Directive { .. } => ApiError::bad_request(self.to_string()),
            Self::TooManyOperations { .. } | Self::CopiesTooLarge { .. } => {
                ApiError::plain(413, "RequestEntityTooLarge", format!("Request entity too large: {self}"))
            }
            // Kubernetes tells no more than this.
            Self::DoesNotApply { .. } => {
                ApiError::plain(422, "Invalid", "the server rejected our request due to an error in our request")
            }
        }
    }
}

/// The answer when the patched object is not one of the kind: 422 on the field `patch`.
pub fn result_error(kind: &Kind, name: &str, patch: &[u8], error: &TypeError) -> ApiError {
    let errors = [FieldError::invalid("patch", String::from_utf8_lossy(patch), error.to_string())];
    ApiError::invalid(&kind.group, &kind.kind, name, &errors)
}

/// The answer when the patched object has unknown or duplicate fields and the client wants none.
pub fn strict_error(kind: &Kind, name: &str, patch: &[u8], problems: &[String]) -> ApiError {
    let detail = format!("strict decoding error: {}", problems.join(", "));
    let errors = [FieldError::invalid("patch", String::from_utf8_lossy(patch), detail)];
    ApiError::invalid(&kind.group, &kind.kind, name, &errors)
}
