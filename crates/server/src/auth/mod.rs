//! Who is asking, and whether they may.
//!
//! [`Authenticator`] turns credentials into an [`Identity`], [`Authorizer`] an identity and [`Attributes`] into a
//! [`Decision`]. Both read a snapshot and are told the time; they keep only caches that can be rebuilt from these.

use std::collections::BTreeMap;

mod authenticator;
mod authorizer;
pub mod reviews;
pub mod tokens;

pub use authenticator::Authenticator;
pub use authorizer::Authorizer;

/// Who a request comes from, once authenticated (`authentication.k8s.io/v1 UserInfo`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identity {
    /// User name: `system:admin`, `system:serviceaccount:ns:name`, `system:node:name`.
    pub user: String,
    /// UID, if the authenticator knows one.
    pub uid: String,
    /// Groups.
    pub groups: Vec<String>,
    /// Further attributes (`authentication.kubernetes.io/pod-name`, …).
    pub extra: BTreeMap<String, Vec<String>>,
}

/// What is asked for, as authorizers see it.
#[derive(Debug, Clone, Default)]
pub struct Attributes<'a> {
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`, …; lower-case HTTP method for non-resource paths.
    pub verb: &'a str,
    /// The request is for a resource; otherwise only `path` counts.
    pub resource_request: bool,
    /// API group.
    pub group: &'a str,
    /// API version.
    pub version: &'a str,
    /// Plural resource.
    pub resource: &'a str,
    /// Sub-resource, empty for none.
    pub subresource: &'a str,
    /// Namespace, empty for cluster scope.
    pub namespace: &'a str,
    /// Name, empty for none.
    pub name: &'a str,
    /// URL path.
    pub path: &'a str,
    /// Field selector of a list or watch, as sent.
    pub field_selector: &'a str,
}

/// An authorizer's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Yes, and why.
    Allow(String),
    /// Not by anyone; why not, for the message.
    NoOpinion(String),
}
