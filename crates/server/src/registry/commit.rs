//! Commits one object together with what must change with it, and says in the API's words why it could not.

use std::sync::Arc;
use std::time::Instant;

use mizzen_api::status::ApiError;
use mizzen_store::{CommitError, Entry, Expect, Operation, Txn};
use serde_json::Value;

use super::encode::encode;
use crate::admission::SideWrite;
use crate::server::Core;

/// How often a write is tried again when others change the object, or what goes with it, in between.
pub(crate) const ATTEMPTS: usize = 16;

/// Writes and conditions beside the object itself.
#[derive(Debug, Default)]
pub(crate) struct Sides {
    /// Conditions.
    pub expect: Vec<(String, Expect)>,
    /// Writes.
    pub operations: Vec<Operation>,
}

impl Sides {
    /// Adds what admission wants written in the same transaction.
    pub fn add(&mut self, writes: Vec<SideWrite>) {
        for SideWrite { key, expect, object } in writes {
            self.expect.push((key.clone(), Expect::At(expect)));
            self.operations.push(Operation::Put { key, value: encode(&object) });
        }
    }

    /// Adds an object that must not exist yet.
    pub fn create(&mut self, key: String, object: &Value) {
        self.expect.push((key.clone(), Expect::Absent));
        self.operations.push(Operation::Put { key, value: encode(object) });
    }

    /// Adds the removal of a key, there or not.
    pub fn delete(&mut self, key: String) {
        self.operations.push(Operation::Delete { key });
    }
}

/// Why nothing was committed.
pub(crate) enum Failed {
    /// The object itself is not as expected.
    Changed,
    /// Something that goes with it is not as expected: decide again.
    SideChanged,
    /// It will not work.
    Error(ApiError),
}

/// Puts `object` (or deletes, if there is none) at `key` if it is as expected there; answers the entry written or deleted.
pub(crate) async fn commit(
    core: &Core,
    key: &str,
    expect: Expect,
    object: Option<&Value>,
    sides: Sides,
) -> Result<Arc<Entry>, Failed> {
    let operation = match object {
        Some(object) => Operation::Put { key: key.to_string(), value: encode(object) },
        None => Operation::Delete { key: key.to_string() },
    };
    let mut txn = Txn { expect: sides.expect, operations: sides.operations };
    txn.expect.insert(0, (key.to_string(), expect));
    txn.operations.insert(0, operation);
    let began = Instant::now();
    let outcome = core.store.commit(txn).await;
    core.metrics.committed(began.elapsed());
    core.health.store.set(!matches!(outcome, Err(CommitError::Unavailable { .. })));
    match outcome {
        Ok(committed) => {
            let entry = committed.entries.into_iter().next().flatten();
            entry.ok_or_else(|| Failed::Error(ApiError::internal("the store committed another transaction")))
        }
        Err(CommitError::Conflict { key: failed, .. }) if failed == key => Err(Failed::Changed),
        Err(CommitError::Conflict { .. }) => Err(Failed::SideChanged),
        Err(error) => Err(Failed::Error(refusal(&error))),
    }
}

/// The store's refusal as clients read it.
pub(crate) fn refusal(error: &CommitError) -> ApiError {
    match error {
        CommitError::TooLarge { .. } => {
            ApiError::plain(413, "RequestEntityTooLarge", format!("Request entity too large: {error}"))
        }
        CommitError::NoSpace { .. } => ApiError::plain(507, "InsufficientStorage", error.to_string()),
        CommitError::Unavailable { .. } => ApiError::unavailable(error.to_string()),
        CommitError::Conflict { .. } => ApiError::plain(409, "Conflict", error.to_string()),
    }
}
