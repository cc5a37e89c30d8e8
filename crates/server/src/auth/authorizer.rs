//! Identity and attributes → decision: `system:masters`, the node authorizer, RBAC.

use std::fmt::Write;

use mizzen_api::status::{ApiError, Subject};
use mizzen_store::Snapshot;
use serde_json::Value;

use super::chain::Chain;
use super::rbac::{self, Index};
use super::{Attributes, Decision, Identity, MASTERS, node};
use crate::derived::Cache;

/// Decides who may do what. Answers are those of the snapshot asked about; what is compiled from its RBAC objects is
/// kept until one of them changes.
#[derive(Debug)]
pub struct Authorizer {
    rbac: Cache<Index>,
    chain: Option<Chain>,
}

/// The resources that say what RBAC grants.
const RESOURCES: &[&str] = &[
    "rbac.authorization.k8s.io/clusterroles/",
    "rbac.authorization.k8s.io/clusterrolebindings/",
    "rbac.authorization.k8s.io/roles/",
    "rbac.authorization.k8s.io/rolebindings/",
];

impl Default for Authorizer {
    fn default() -> Self {
        Self { rbac: Cache::new(RESOURCES, Index::new), chain: None }
    }
}

impl Authorizer {
    /// An authorizer without anything compiled yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// One that others decide with: requests and reviews ask the whole chain.
    #[must_use]
    pub fn with_chain(self, chain: Chain) -> Self {
        Self { chain: Some(chain), ..self }
    }

    /// Who decides beside this one; `None` if nobody does, as mostly.
    pub(crate) fn chain(&self) -> Option<&Chain> {
        self.chain.as_ref()
    }

    /// `Ok`, or the 403 that Kubernetes words: `pods is forbidden: User "x" cannot list resource "pods" …`.
    pub fn authorize(&self, snapshot: &Snapshot, who: &Identity, what: &Attributes<'_>) -> Result<(), ApiError> {
        if self.allows(snapshot, who, what) {
            return Ok(());
        }
        match self.decide(snapshot, who, what) {
            Decision::Allow(_) => Ok(()),
            Decision::NoOpinion(reason) => Err(forbidden(who, what, &reason)),
        }
    }

    /// Yes or no, without words.
    pub fn allows(&self, snapshot: &Snapshot, who: &Identity, what: &Attributes<'_>) -> bool {
        if who.is_in(MASTERS) {
            return true;
        }
        let by_node =
            || who.as_node().is_some_and(|name| matches!(node::decide(snapshot, name, what), Decision::Allow(_)));
        self.rbac.get(snapshot).allows(who, what) || by_node()
    }

    /// The decision with its reason, as access reviews show it.
    pub fn decide(&self, snapshot: &Snapshot, who: &Identity, what: &Attributes<'_>) -> Decision {
        if who.is_in(MASTERS) {
            return Decision::Allow(String::new());
        }
        let by_node = who.as_node().map(|name| node::decide(snapshot, name, what));
        if let Some(Decision::Allow(reason)) = by_node {
            return Decision::Allow(reason);
        }
        match (self.rbac.get(snapshot).decide(who, what), by_node) {
            (Decision::NoOpinion(rbac), Some(Decision::NoOpinion(node))) if !node.is_empty() => {
                Decision::NoOpinion(if rbac.is_empty() { node } else { format!("{node}, {rbac}") })
            }
            (decision, _) => decision,
        }
    }

    /// Refuses a role or binding that would grant more than `who` holds: 403. `resource` is the plural of the RBAC kind
    /// written, anything else passes. Call on create and update, after authorization, with the object as it will be stored.
    pub fn check_escalation(
        &self,
        snapshot: &Snapshot,
        who: &Identity,
        resource: &str,
        object: &Value,
        old: Option<&Value>,
    ) -> Result<(), ApiError> {
        if who.is_in(MASTERS) {
            return Ok(());
        }
        let may = |what: &Attributes<'_>| self.allows(snapshot, who, what);
        rbac::check(snapshot, &self.rbac.get(snapshot), who, resource, object, old, &may)
    }

    /// The compiled grants of a snapshot.
    pub(super) fn index(&self, snapshot: &Snapshot) -> std::sync::Arc<rbac::Index> {
        self.rbac.get(snapshot)
    }
}

/// The 403 in Kubernetes' words.
pub(super) fn forbidden(who: &Identity, what: &Attributes<'_>, reason: &str) -> ApiError {
    let Attributes { verb, group, resource, subresource, namespace, name, path, .. } = *what;
    let user = &who.user;
    let mut text = if what.resource_request {
        let slash = if subresource.is_empty() { "" } else { "/" };
        let full = format!("{resource}{slash}{subresource}");
        let place = match namespace {
            "" => "at the cluster scope".to_string(),
            _ => format!("in the namespace {namespace:?}"),
        };
        format!("User {user:?} cannot {verb} resource {full:?} in API group {group:?} {place}")
    } else {
        format!("User {user:?} cannot {verb} path {path:?}")
    };
    if !reason.is_empty() {
        // Writing to a String cannot fail.
        let _ = write!(text, ": {reason}");
    }
    let subject = if what.resource_request { Subject { group, resource } } else { Subject { group: "", resource: "" } };
    ApiError::forbidden(subject, if what.resource_request { name } else { "" }, &text)
}
