//! core/v1 ServiceAccount, and the kinds of rbac.authorization.k8s.io/v1.

use serde_json::Value;

use crate::kind::Rules;
use crate::rules::fill;
use crate::rules::plain::PLAIN;

/// The API group of roles, users and groups.
pub const RBAC_GROUP: &str = "rbac.authorization.k8s.io";

/// Rules of ServiceAccounts.
pub static SERVICE_ACCOUNT: Rules = Rules { returns_deleted: true, ..PLAIN };

/// Rules of Roles and ClusterRoles.
pub static ROLE: Rules = Rules { create_on_update: true, ..PLAIN };

/// Rules of RoleBindings and ClusterRoleBindings.
pub static BINDING: Rules = Rules { default: default_binding, create_on_update: true, ..PLAIN };

fn default_binding(object: &mut Value) {
    let Some(object) = object.as_object_mut() else { return };
    for subject in fill::items(object, "subjects") {
        if matches!(subject.get("kind").and_then(Value::as_str), Some("User" | "Group")) {
            fill::text(subject, "apiGroup", RBAC_GROUP);
        }
    }
    if let Some(role) = fill::child(object, "roleRef") {
        fill::text(role, "apiGroup", RBAC_GROUP);
    }
}
