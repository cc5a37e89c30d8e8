//! Transactions: conditions on what is stored, and the changes to make if all of them hold.

use bytes::Bytes;

use crate::Revision;

/// All or nothing, at one revision.
#[derive(Debug, Clone, Default, serde::Serialize, serde::Deserialize)]
pub struct Txn {
    /// What must hold, checked when the transaction is applied.
    pub expect: Vec<(String, Expect)>,
    /// What then happens, in order. An empty list commits nothing and takes no revision.
    pub operations: Vec<Operation>,
}

/// A condition on one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Expect {
    /// The key is not there.
    Absent,
    /// The key is there, whatever its revision.
    Present,
    /// The key was last written at this revision.
    At(Revision),
}

/// A change to one key.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub enum Operation {
    /// Creates or replaces.
    Put {
        /// The key.
        key: String,
        /// The new value.
        value: Value,
    },
    /// Removes; no error if the key is not there.
    Delete {
        /// The key.
        key: String,
    },
}

/// Bytes, and where the revision of the commit is to be inserted into them.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct Value {
    /// The bytes without the revision.
    pub bytes: Bytes,
    /// Offset at which the decimal revision is spliced in when the transaction is applied.
    pub revision_at: Option<u32>,
}

impl Txn {
    /// A transaction that puts `value` at `key` if `expect` holds.
    pub fn put(key: impl Into<String>, expect: Option<Expect>, value: Value) -> Self {
        let key = key.into();
        let expect = expect.map(|e| (key.clone(), e)).into_iter().collect();
        Self { expect, operations: vec![Operation::Put { key, value }] }
    }

    /// A transaction that deletes `key` if `expect` holds.
    pub fn delete(key: impl Into<String>, expect: Option<Expect>) -> Self {
        let key = key.into();
        let expect = expect.map(|e| (key.clone(), e)).into_iter().collect();
        Self { expect, operations: vec![Operation::Delete { key }] }
    }
}
