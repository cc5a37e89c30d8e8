//! core/v1 ServiceAccount, and the kinds of rbac.authorization.k8s.io/v1.

use serde_json::Value;

use crate::kind::{Column, Rules};
use crate::rules::cells::{self, list, text};
use crate::rules::fill;
use crate::rules::plain::PLAIN;

/// The API group of roles, users and groups.
pub const RBAC_GROUP: &str = "rbac.authorization.k8s.io";

/// Rules of ServiceAccounts.
pub static SERVICE_ACCOUNT: Rules = Rules {
    returns_deleted: true,
    ..PLAIN
};

/// Rules of Roles and ClusterRoles.
pub static ROLE: Rules = Rules {
    create_on_update: true,
    columns: ROLE_COLUMNS,
    row: cells::name_and_created,
    ..PLAIN
};

/// Rules of RoleBindings and ClusterRoleBindings.
pub static BINDING: Rules = Rules {
    default: default_binding,
    create_on_update: true,
    columns: BINDING_COLUMNS,
    row: binding_row,
    ..PLAIN
};

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

const ROLE_COLUMNS: &[Column] = &[Column::NAME, Column::CREATED_AT];

const BINDING_COLUMNS: &[Column] = &[
    Column::NAME,
    Column::text("Role", "The role that is granted."),
    Column::AGE,
    Column::text("Users", "Users it is granted to.").wide(),
    Column::text("Groups", "Groups it is granted to.").wide(),
    Column::text("ServiceAccounts", "Service accounts it is granted to.").wide(),
];

fn binding_row(object: &Value, now: i64) -> Vec<Value> {
    let role = format!(
        "{}/{}",
        text(&object["roleRef"]["kind"]),
        text(&object["roleRef"]["name"])
    );
    let mut row = vec![cells::name(object), role.into(), cells::age(object, now)];
    for kind in ["User", "Group", "ServiceAccount"] {
        let subjects = list(&object["subjects"])
            .iter()
            .filter(|subject| subject["kind"] == kind);
        let names: Vec<String> = subjects
            .map(|subject| match (kind, text(&subject["name"])) {
                ("ServiceAccount", name) => format!("{}/{name}", text(&subject["namespace"])),
                (_, name) => name.into(),
            })
            .collect();
        row.push(names.join(", ").into());
    }
    row
}
