//! What controllers ask of any object's metadata, and how owners are written.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use k8s_openapi::{Metadata, Resource};

/// Metadata of a typed object, with what is absent read as empty.
pub trait Meta {
    /// `metadata.name`.
    fn name(&self) -> &str;
    /// `metadata.namespace`.
    fn namespace(&self) -> &str;
    /// `metadata.uid`.
    fn uid(&self) -> &str;
    /// `metadata.resourceVersion`.
    fn version(&self) -> &str;
    /// A label's value.
    fn label(&self, name: &str) -> Option<&str>;
    /// An annotation's value.
    fn annotation(&self, name: &str) -> Option<&str>;
    /// It has a deletion timestamp.
    fn is_deleting(&self) -> bool;
    /// The owner with `controller: true`.
    fn controller(&self) -> Option<&OwnerReference>;
    /// It is controlled by the object with this UID.
    fn is_controlled_by(&self, uid: &str) -> bool {
        self.controller().is_some_and(|o| o.uid == uid)
    }
    /// `metadata.creationTimestamp`.
    fn created(&self) -> Option<Timestamp>;
}

impl<K: Metadata<Ty = ObjectMeta>> Meta for K {
    fn name(&self) -> &str {
        self.metadata().name.as_deref().unwrap_or_default()
    }
    fn namespace(&self) -> &str {
        self.metadata().namespace.as_deref().unwrap_or_default()
    }
    fn uid(&self) -> &str {
        self.metadata().uid.as_deref().unwrap_or_default()
    }
    fn version(&self) -> &str {
        self.metadata().resource_version.as_deref().unwrap_or_default()
    }
    fn label(&self, name: &str) -> Option<&str> {
        self.metadata().labels.as_ref()?.get(name).map(String::as_str)
    }
    fn annotation(&self, name: &str) -> Option<&str> {
        self.metadata().annotations.as_ref()?.get(name).map(String::as_str)
    }
    fn is_deleting(&self) -> bool {
        self.metadata().deletion_timestamp.is_some()
    }
    fn controller(&self) -> Option<&OwnerReference> {
        self.metadata().owner_references.as_ref()?.iter().find(|o| o.controller == Some(true))
    }
    fn created(&self) -> Option<Timestamp> {
        self.metadata().creation_timestamp.as_ref().map(|t| t.0)
    }
}

/// The reference of a controlling owner.
pub fn owner_of<K: Resource + Metadata<Ty = ObjectMeta>>(owner: &K) -> OwnerReference {
    OwnerReference {
        api_version: K::API_VERSION.into(),
        kind: K::KIND.into(),
        name: owner.name().into(),
        uid: owner.uid().into(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// What an Event about an object refers to.
pub fn reference<K: Resource + Metadata<Ty = ObjectMeta>>(object: &K) -> ObjectReference {
    let text = |s: &str| (!s.is_empty()).then(|| s.to_string());
    ObjectReference {
        api_version: Some(K::API_VERSION.into()),
        kind: Some(K::KIND.into()),
        name: text(object.name()),
        namespace: text(object.namespace()),
        uid: text(object.uid()),
        resource_version: text(object.version()),
        field_path: None,
    }
}

/// The letters of generated names: no vowels, no look-alikes (apimachinery `rand`).
const SAFE: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// Five letters that follow from `parts` alone: the same plan made twice names the same objects.
pub fn suffix(parts: &[&[u8]]) -> String {
    encode(hash(parts), 5)
}

/// Up to ten letters for a template's hash.
pub fn template_hash(bytes: &[u8], collisions: i64) -> String {
    encode(hash(&[bytes, &collisions.to_le_bytes()]), 10)
}

fn encode(mut hash: u64, length: usize) -> String {
    let base = SAFE.len() as u64;
    let mut out = String::with_capacity(length);
    for _ in 0..length {
        // The remainder is below 27.
        out.push(SAFE[(hash % base) as usize] as char);
        hash /= base;
    }
    out
}

/// FNV-1a, 64 bits, with a final mix so that short inputs spread over all letters.
fn hash(parts: &[&[u8]]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for part in parts {
        for byte in part.iter().chain(&[0xff]) {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^ (hash >> 33)
}

#[cfg(test)]
mod tests {
    #[test]
    fn suffixes_follow_from_their_parts_alone() {
        assert_eq!(super::suffix(&[b"a", b"b"]), super::suffix(&[b"a", b"b"]));
        assert_ne!(super::suffix(&[b"a", b"b"]), super::suffix(&[b"ab", b""]));
        assert_eq!(super::suffix(&[b"x"]).len(), 5);
    }
}
