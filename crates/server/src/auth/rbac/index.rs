//! Everything that RBAC grants, by subject.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use k8s_openapi::api::rbac::v1::{ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef, Subject};
use mizzen_api::key;
use mizzen_store::Snapshot;

use super::{aggregation::cluster_roles, matches};
use crate::auth::{Attributes, Decision, Identity, SERVICE_ACCOUNT_USER};

/// What one binding gives to one subject.
#[derive(Debug)]
pub struct Grant {
    binding: Arc<Binding>,
    subject: Subject,
}

#[derive(Debug)]
struct Binding {
    /// `ClusterRoleBinding "x"` or `RoleBinding "x/ns"`.
    label: String,
    /// `ClusterRole "x"` or `Role "x/ns"`.
    role: String,
    /// Missing if the role does not exist.
    rules: Option<Arc<[PolicyRule]>>,
    missing: String,
}

/// Grants by user name and by group.
#[derive(Debug, Default)]
struct Subjects {
    users: HashMap<Box<str>, Vec<Grant>>,
    groups: HashMap<Box<str>, Vec<Grant>>,
}

/// Everything that RBAC grants.
#[derive(Debug, Default)]
pub struct Index {
    cluster: Subjects,
    namespaces: HashMap<Box<str>, Subjects>,
}

impl Grant {
    /// The rules; none if the role does not exist.
    pub fn rules(&self) -> &[PolicyRule] {
        self.binding.rules.as_deref().unwrap_or_default()
    }

    fn reason(&self) -> String {
        let Subject { kind, name, namespace, .. } = &self.subject;
        let name = match namespace.as_deref() {
            Some(namespace) if kind == "ServiceAccount" => format!("{name}/{namespace}"),
            _ => name.clone(),
        };
        let Binding { label, role, .. } = &*self.binding;
        format!("RBAC: allowed by {label} of {role} to {kind} {name:?}")
    }
}

impl Index {
    /// Reads all RBAC objects.
    pub fn new(snapshot: &Snapshot) -> Self {
        let roles = Roles::read(snapshot);
        let mut index = Self::default();
        for binding in snapshot.list_as::<ClusterRoleBinding>(&key::all::<ClusterRoleBinding>()) {
            let label = format!("ClusterRoleBinding {:?}", binding.metadata.name.as_deref().unwrap_or_default());
            index.cluster.add(roles.bind("", &binding.role_ref, label), binding.subjects.as_deref(), "");
        }
        for binding in snapshot.list_as::<RoleBinding>(&key::all::<RoleBinding>()) {
            let namespace = binding.metadata.namespace.as_deref().unwrap_or_default();
            let name = binding.metadata.name.as_deref().unwrap_or_default();
            let label = format!("RoleBinding {:?}", format!("{name}/{namespace}"));
            let subjects = index.namespaces.entry(namespace.into()).or_default();
            subjects.add(roles.bind(namespace, &binding.role_ref, label), binding.subjects.as_deref(), namespace);
        }
        index
    }

    /// The first grant, in a stable order, for which `visit` breaks.
    pub fn visit<'a, B>(
        &'a self,
        who: &Identity,
        namespace: &str,
        mut visit: impl FnMut(&'a Grant) -> ControlFlow<B>,
    ) -> Option<B> {
        let scopes = [Some(&self.cluster), self.namespaces.get(namespace).filter(|_| !namespace.is_empty())];
        for subjects in scopes.into_iter().flatten() {
            let of_groups = who.groups.iter().filter_map(|group| subjects.groups.get(group.as_str()));
            for grant in subjects.users.get(who.user.as_str()).into_iter().chain(of_groups).flatten() {
                if let ControlFlow::Break(found) = visit(grant) {
                    return Some(found);
                }
            }
        }
        None
    }

    /// Whether RBAC allows it; the quick answer without a reason.
    pub fn allows(&self, who: &Identity, what: &Attributes<'_>) -> bool {
        self.granting(who, what).is_some()
    }

    fn granting<'a>(&'a self, who: &Identity, what: &Attributes<'_>) -> Option<&'a Grant> {
        self.visit(who, what.namespace, |grant| {
            let granted = grant.rules().iter().any(|rule| matches(rule, what));
            if granted { ControlFlow::Break(grant) } else { ControlFlow::Continue(()) }
        })
    }

    /// Whether RBAC allows it and why; why not, if a role that is bound does not exist.
    pub fn decide(&self, who: &Identity, what: &Attributes<'_>) -> Decision {
        if let Some(grant) = self.granting(who, what) {
            return Decision::Allow(grant.reason());
        }
        let mut missing = Vec::new();
        self.visit(who, what.namespace, |grant| {
            if grant.binding.rules.is_none() {
                missing.push(grant.binding.missing.as_str());
            }
            ControlFlow::<()>::Continue(())
        });
        missing.sort_unstable();
        missing.dedup();
        let reason = match missing.as_slice() {
            [] => String::new(),
            [one] => format!("RBAC: {one}"),
            many => format!("RBAC: [{}]", many.join(", ")),
        };
        Decision::NoOpinion(reason)
    }
}

impl Subjects {
    fn add(&mut self, binding: Binding, subjects: Option<&[Subject]>, namespace: &str) {
        let binding = Arc::new(binding);
        for subject in subjects.unwrap_or_default() {
            let mut subject = subject.clone();
            let grants = match subject.kind.as_str() {
                "User" => self.users.entry(subject.name.as_str().into()),
                "Group" => self.groups.entry(subject.name.as_str().into()),
                "ServiceAccount" => {
                    let own = subject.namespace.take().filter(|own| !own.is_empty());
                    let account = own.unwrap_or_else(|| namespace.into());
                    if account.is_empty() {
                        continue;
                    }
                    let user = format!("{SERVICE_ACCOUNT_USER}{account}:{}", subject.name);
                    subject.namespace = Some(account);
                    self.users.entry(user.into())
                }
                _ => continue,
            };
            grants.or_default().push(Grant { binding: Arc::clone(&binding), subject });
        }
    }
}

/// The rules of all roles.
#[derive(Default)]
struct Roles {
    cluster: HashMap<String, Arc<[PolicyRule]>>,
    namespaced: HashMap<(String, String), Arc<[PolicyRule]>>,
}

impl Roles {
    fn read(snapshot: &Snapshot) -> Self {
        let mut roles = Self::default();
        for role in cluster_roles(snapshot) {
            let name = role.metadata.name.unwrap_or_default();
            roles.cluster.insert(name, role.rules.unwrap_or_default().into());
        }
        for role in snapshot.list_as::<Role>(&key::all::<Role>()) {
            let at =
                (role.metadata.namespace.clone().unwrap_or_default(), role.metadata.name.clone().unwrap_or_default());
            roles.namespaced.insert(at, role.rules.clone().unwrap_or_default().into());
        }
        roles
    }

    fn bind(&self, namespace: &str, role: &RoleRef, label: String) -> Binding {
        let RoleRef { kind, name, .. } = role;
        let (rules, role, resource) = if kind == "ClusterRole" {
            (self.cluster.get(name), format!("ClusterRole {name:?}"), "clusterroles")
        } else {
            let at = (namespace.to_string(), name.clone());
            (self.namespaced.get(&at), format!("Role {:?}", format!("{name}/{namespace}")), "roles")
        };
        let missing = format!("{resource}.rbac.authorization.k8s.io {name:?} not found");
        Binding { label, role, rules: rules.cloned(), missing }
    }
}
