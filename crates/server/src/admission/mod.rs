//! What is changed and refused between authorization and validation (api-facts §7).

use mizzen_api::kind::Kind;
use mizzen_store::Snapshot;

use crate::auth::Identity;

/// What is being done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// POST, or PUT/apply of a missing object.
    Create,
    /// PUT or PATCH.
    Update,
    /// DELETE.
    Delete,
    /// A connecting sub-resource: exec, attach, port-forward, proxy.
    Connect,
}

/// The circumstances of a write.
#[derive(Debug)]
pub struct Request<'a> {
    /// What is stored at the moment; what the plugins look up.
    pub snapshot: &'a Snapshot,
    /// The resource.
    pub kind: &'a Kind,
    /// Sub-resource, empty for none.
    pub subresource: &'a str,
    /// What is being done.
    pub operation: Operation,
    /// Namespace, empty for cluster scope.
    pub namespace: &'a str,
    /// Name; empty on create with generateName.
    pub name: &'a str,
    /// Who is asking.
    pub identity: &'a Identity,
    /// Nothing will be stored.
    pub dry_run: bool,
}
