//! Identity and attributes → decision: `system:masters`, the node authorizer, RBAC.

use mizzen_api::status::ApiError;
use mizzen_store::Snapshot;
use serde_json::Value;

use super::{Attributes, Decision, Identity};

/// Decides who may do what.
#[derive(Default)]
pub struct Authorizer {}

impl Authorizer {
    /// An authorizer without anything compiled yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// `Ok`, or the 403 that Kubernetes words: `pods is forbidden: User "x" cannot list resource "pods" …`.
    pub fn authorize(&self, snapshot: &Snapshot, who: &Identity, what: &Attributes<'_>) -> Result<(), ApiError> {
        let _ = (snapshot, who, what);
        Err(ApiError::plain(403, "Forbidden", "forbidden"))
    }

    /// The decision with its reason, as access reviews show it.
    pub fn decide(&self, snapshot: &Snapshot, who: &Identity, what: &Attributes<'_>) -> Decision {
        let _ = (snapshot, who, what);
        Decision::NoOpinion(String::new())
    }

    /// Refuses a role or binding that would grant more than `who` holds. `group`/`resource` name the kind written;
    /// anything but the RBAC kinds passes. Call on create and update, after authorization.
    pub fn check_escalation(
        &self,
        snapshot: &Snapshot,
        who: &Identity,
        resource: &str,
        object: &Value,
        old: Option<&Value>,
    ) -> Result<(), ApiError> {
        let _ = (snapshot, who, resource, object, old);
        Err(ApiError::plain(403, "Forbidden", "forbidden"))
    }
}
