//! What is changed and refused between authorization and validation (api-facts §7).

use jiff::Timestamp;
use mizzen_api::kind::Kind;
use mizzen_api::status::ApiError;
use mizzen_store::{Revision, Snapshot};
use serde_json::Value;

use crate::auth::{Authorizer, Identity};

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
    /// What they may do: some plugins ask.
    pub authorizer: &'a Authorizer,
    /// Nothing will be stored.
    pub dry_run: bool,
    /// The time of the request.
    pub now: Timestamp,
    /// Five random characters of `bcdfghjklmnpqrstvwxz2456789`, for the names of generated volumes.
    pub suffix: &'a dyn Fn() -> String,
}

/// What admission wants beside the object itself.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Admitted {
    /// `Warning` headers.
    pub warnings: Vec<String>,
    /// Writes to put into the same transaction as the object (usage of quotas); left out of dry runs.
    pub writes: Vec<SideWrite>,
}

/// A write to another object that must commit together with the admitted one.
#[derive(Debug, Clone, PartialEq)]
pub struct SideWrite {
    /// Key in the store.
    pub key: String,
    /// The revision of the object that `object` was computed from: the transaction's condition.
    pub expect: Revision,
    /// The new object; its `metadata.resourceVersion` is to be replaced at commit.
    pub object: Value,
}

/// The mutating phase of all plugins, before the object is validated. `object` is `Null` on delete.
pub fn mutate(request: &Request<'_>, object: &mut Value, old: Option<&Value>) -> Result<Admitted, ApiError> {
    let _ = (request, object, old);
    Ok(Admitted::default())
}

/// The validating phase of all plugins, after the object was found valid. `object` is `Null` on delete.
pub fn validate(request: &Request<'_>, object: &Value, old: Option<&Value>) -> Result<Admitted, ApiError> {
    let _ = (request, object, old);
    Ok(Admitted::default())
}
