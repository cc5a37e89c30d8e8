//! What the garbage collector reads of any object.

use mizzen_store::Entry;
use serde::Deserialize;

/// The finalizer of an owner that waits until its dependents are gone.
pub(super) const FOREGROUND: &str = "foregroundDeletion";
/// The finalizer of an owner that waits until its dependents are released.
pub(super) const ORPHAN: &str = "orphan";

/// Events own nothing and are owned by nothing; they go when their time is over.
pub(super) fn is_watched(key: &str) -> bool {
    !key.starts_with("core/events/") && !key.starts_with("events.k8s.io/")
}

/// Whether an object can have owners or wait for the collector: most cannot, as a look at their bytes tells, and need not be
/// parsed for each of their changes.
pub(super) fn may_matter(entry: &Entry) -> bool {
    let holds = |word: &str| memchr::memmem::find(&entry.value, word.as_bytes()).is_some();
    holds("\"ownerReferences\"") || holds("\"deletionTimestamp\"")
}

/// Metadata of any object.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Head {
    #[serde(default, rename = "apiVersion")]
    pub api_version: String,
    #[serde(default)]
    pub kind: String,
    #[serde(default)]
    pub metadata: Metadata,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Metadata {
    #[serde(default)]
    pub uid: String,
    #[serde(default)]
    pub resource_version: String,
    #[serde(default)]
    owner_references: Option<Vec<Owner>>,
    #[serde(default)]
    finalizers: Option<Vec<String>>,
    #[serde(default)]
    deletion_timestamp: Option<String>,
}

/// One owner reference.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Owner {
    pub api_version: String,
    pub kind: String,
    pub name: String,
    pub uid: String,
    #[serde(default)]
    pub block_owner_deletion: Option<bool>,
}

impl Head {
    /// The head of an entry; empty if it cannot be read, which then has no owners and is left alone.
    pub fn of(entry: &Entry) -> Self {
        serde_json::from_slice(&entry.value).unwrap_or_default()
    }

    pub fn uid(&self) -> &str {
        &self.metadata.uid
    }

    pub fn owners(&self) -> &[Owner] {
        self.metadata.owner_references.as_deref().unwrap_or_default()
    }

    pub fn finalizers(&self) -> &[String] {
        self.metadata.finalizers.as_deref().unwrap_or_default()
    }

    pub fn has_finalizer(&self, name: &str) -> bool {
        self.finalizers().iter().any(|f| f == name)
    }

    pub fn is_deleting(&self) -> bool {
        self.metadata.deletion_timestamp.is_some()
    }

    /// On its way out, and waiting until its dependents are gone.
    pub fn waits_for_dependents(&self) -> bool {
        self.is_deleting() && self.has_finalizer(FOREGROUND)
    }

    /// On its way out, and waiting until its dependents are released.
    pub fn waits_for_release(&self) -> bool {
        self.is_deleting() && self.has_finalizer(ORPHAN)
    }

    /// On its way out, with a finalizer that only the garbage collector removes.
    pub fn waits_for_us(&self) -> bool {
        self.waits_for_dependents() || self.waits_for_release()
    }

    /// It names `uid` as an owner that must not go before it.
    pub fn blocks(&self, uid: &str) -> bool {
        self.owners().iter().any(|o| o.uid == uid && o.block_owner_deletion == Some(true))
    }
}
