//! Who is asking, and whether they may.
//!
//! [`Authenticator`] turns credentials into an [`Identity`], [`Authorizer`] an identity and [`Attributes`] into a
//! [`Decision`]. Both read a snapshot and are told the time; they keep only caches that can be rebuilt from these.

use std::collections::BTreeMap;

use serde_json::{Value, json};

mod authenticator;
mod authorizer;
mod bootstrap_token;
pub mod chain;
#[cfg(test)]
pub(crate) mod fixture;
mod impersonation;
mod jwt;
mod node;
pub mod oidc;
mod outside;
mod rbac;
pub mod reviews;
#[cfg(test)]
mod tests;
mod token_webhook;
pub mod tokens;
mod x509;

pub use authenticator::Authenticator;
pub use authorizer::Authorizer;
pub use outside::Outside;
pub use rbac::{aggregated_rules, resolve_aggregation};
pub use token_webhook::TokenWebhook;
pub use x509::certificate_identity;

/// The group of everyone who is authenticated.
pub const AUTHENTICATED: &str = "system:authenticated";
/// The group of those who are not.
pub const UNAUTHENTICATED: &str = "system:unauthenticated";
/// The user who is not authenticated.
pub const ANONYMOUS: &str = "system:anonymous";
/// The group whose members may do anything, whatever RBAC says.
pub const MASTERS: &str = "system:masters";

pub(crate) const SERVICE_ACCOUNT_USER: &str = "system:serviceaccount:";
const NODE_USER: &str = "system:node:";
const NODES: &str = "system:nodes";

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

impl Identity {
    /// The identity of a part that runs in this process: `system:kube-scheduler`, …
    pub fn part(user: &str) -> Self {
        Self { user: user.into(), groups: vec![AUTHENTICATED.into()], ..Self::default() }
    }

    /// Nobody in particular.
    pub fn anonymous() -> Self {
        Self { user: ANONYMOUS.into(), groups: vec![UNAUTHENTICATED.into()], ..Self::default() }
    }

    /// A ServiceAccount, with the groups that come with it.
    pub fn service_account(namespace: &str, name: &str) -> Self {
        Self {
            user: format!("{SERVICE_ACCOUNT_USER}{namespace}:{name}"),
            groups: service_account_groups(namespace),
            ..Self::default()
        }
    }

    /// It is in this group.
    pub fn is_in(&self, group: &str) -> bool {
        self.groups.iter().any(|member| member == group)
    }

    /// Namespace and name, if the user is a ServiceAccount.
    pub fn as_service_account(&self) -> Option<(&str, &str)> {
        self.user
            .strip_prefix(SERVICE_ACCOUNT_USER)?
            .split_once(':')
            .filter(|(namespace, name)| !namespace.is_empty() && !name.is_empty() && !name.contains(':'))
    }

    /// The node's name, if this is a node: `system:node:<name>` in `system:nodes`.
    pub fn as_node(&self) -> Option<&str> {
        self.user.strip_prefix(NODE_USER).filter(|name| !name.is_empty() && self.is_in(NODES))
    }

    /// `UserInfo` of authentication.k8s.io.
    pub fn to_user_info(&self) -> Value {
        let mut info = json!({"username": self.user});
        if !self.uid.is_empty() {
            info["uid"] = self.uid.as_str().into();
        }
        if !self.groups.is_empty() {
            info["groups"] = json!(self.groups);
        }
        if !self.extra.is_empty() {
            info["extra"] = json!(self.extra);
        }
        info
    }
}

fn service_account_groups(namespace: &str) -> Vec<String> {
    vec!["system:serviceaccounts".into(), format!("system:serviceaccounts:{namespace}"), AUTHENTICATED.into()]
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
    /// Label selector of a list or watch, as sent.
    pub label_selector: &'a str,
}

/// An authorizer's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Yes, and why.
    Allow(String),
    /// Not by anyone; why not, for the message.
    NoOpinion(String),
}
