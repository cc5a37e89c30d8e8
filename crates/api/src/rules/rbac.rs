//! rbac.authorization.k8s.io/v1: Role, ClusterRole, RoleBinding, ClusterRoleBinding.

use serde_json::Value;

use crate::field::FieldError;
use crate::kind::{Column, Rules};
use crate::names;
use crate::rules::cells::{self, list, text};
use crate::rules::check::{At, Errors, same};
use crate::rules::fill;
use crate::rules::plain::PLAIN;
use crate::rules::selector;

/// The API group of roles, users and groups.
pub const RBAC_GROUP: &str = "rbac.authorization.k8s.io";

const BASE_ROLE: Rules = Rules { create_on_update: true, columns: ROLE_COLUMNS, row: cells::name_and_created, ..PLAIN };

/// Rules of Roles.
pub static ROLE: Rules = Rules {
    validate: |role| validate_role(role, true),
    validate_update: |role, _| validate_role(role, true),
    ..BASE_ROLE
};

/// Rules of ClusterRoles.
pub static CLUSTER_ROLE: Rules = Rules {
    validate: |role| validate_role(role, false),
    validate_update: |role, _| validate_role(role, false),
    ..BASE_ROLE
};

const BASE_BINDING: Rules =
    Rules { default: default_binding, create_on_update: true, columns: BINDING_COLUMNS, row: binding_row, ..PLAIN };

/// Rules of RoleBindings.
pub static BINDING: Rules = Rules {
    validate: |binding| validate_binding(binding, true),
    validate_update: |new, old| update_binding(new, old, true),
    ..BASE_BINDING
};

/// Rules of ClusterRoleBindings.
pub static CLUSTER_BINDING: Rules = Rules {
    validate: |binding| validate_binding(binding, false),
    validate_update: |new, old| update_binding(new, old, false),
    ..BASE_BINDING
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
    let role = format!("{}/{}", text(&object["roleRef"]["kind"]), text(&object["roleRef"]["name"]));
    let mut row = vec![cells::name(object), role.into(), cells::age(object, now)];
    for kind in ["User", "Group", "ServiceAccount"] {
        let subjects = list(&object["subjects"]).iter().filter(|subject| subject["kind"] == kind);
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

fn validate_role(role: &Value, namespaced: bool) -> Vec<FieldError> {
    let (rules_at, mut errors) = (At::ROOT.field("rules"), Errors::default());
    for (i, rule) in list(&role["rules"]).iter().enumerate() {
        policy_rule(rule, namespaced, &rules_at.index(i), &mut errors);
    }
    let at = At::ROOT.field("aggregationRule");
    let (selectors, at) = (list(&role["aggregationRule"]["clusterRoleSelectors"]), at.field("clusterRoleSelectors"));
    if !role["aggregationRule"].is_null() && selectors.is_empty() {
        errors.required(&at, "at least one clusterRoleSelector required if aggregationRule is non-nil");
    }
    for (i, selector) in selectors.iter().enumerate() {
        selector::label_selector(selector, &at.index(i), &mut errors);
    }
    errors.0
}

fn policy_rule(rule: &Value, namespaced: bool, at: &At<'_>, errors: &mut Errors) {
    let is_empty = |field: &str| list(&rule[field]).is_empty();
    if is_empty("verbs") {
        errors.required(&at.field("verbs"), "verbs must contain at least one value");
    }
    if is_empty("nonResourceURLs") {
        if is_empty("apiGroups") {
            errors.required(&at.field("apiGroups"), "resource rules must supply at least one api group");
        }
        if is_empty("resources") {
            errors.required(&at.field("resources"), "resource rules must supply at least one resource");
        }
        return;
    }
    let (urls, at) = (&rule["nonResourceURLs"], at.field("nonResourceURLs"));
    if namespaced {
        errors.invalid(&at, urls, "namespaced rules cannot apply to non-resource URLs");
    }
    if !(is_empty("apiGroups") && is_empty("resources") && is_empty("resourceNames")) {
        errors.invalid(&at, urls, "rules cannot apply to both regular resources and non-resource URLs");
    }
}

fn validate_binding(binding: &Value, namespaced: bool) -> Vec<FieldError> {
    let (role, at, mut errors) = (&binding["roleRef"], At::ROOT.field("roleRef"), Errors::default());
    let kinds: &[&str] = if namespaced { &["Role", "ClusterRole"] } else { &["ClusterRole"] };
    let mut one_of = |field: &str, supported: &[&str]| {
        if !supported.contains(&text(&role[field])) {
            let at = at.field(field).to_string();
            errors.0.push(FieldError::not_supported(at, text(&role[field]), supported));
        }
    };
    one_of("apiGroup", &[RBAC_GROUP]);
    one_of("kind", kinds);
    errors.required_form(&at.field("name"), &role["name"], names::path_segment);
    let subjects_at = At::ROOT.field("subjects");
    for (i, subject) in list(&binding["subjects"]).iter().enumerate() {
        validate_subject(subject, namespaced, &subjects_at.index(i), &mut errors);
    }
    errors.0
}

fn validate_subject(subject: &Value, namespaced: bool, at: &At<'_>, errors: &mut Errors) {
    errors.required_text(&at.field("name"), &subject["name"], "");
    let group = match text(&subject["kind"]) {
        "ServiceAccount" => {
            errors.form(&at.field("name"), &subject["name"], names::dns1123_subdomain);
            if !namespaced && text(&subject["namespace"]).is_empty() {
                errors.required(&at.field("namespace"), "");
            }
            ""
        }
        "User" | "Group" => RBAC_GROUP,
        other => {
            let at = at.field("kind").to_string();
            errors.0.push(FieldError::not_supported(at, other, &["ServiceAccount", "User", "Group"]));
            return;
        }
    };
    if text(&subject["apiGroup"]) != group {
        let at = at.field("apiGroup").to_string();
        errors.0.push(FieldError::not_supported(at, text(&subject["apiGroup"]), &[group]));
    }
}

fn update_binding(new: &Value, old: &Value, namespaced: bool) -> Vec<FieldError> {
    let mut errors = Errors(validate_binding(new, namespaced));
    if !same(&new["roleRef"], &old["roleRef"]) {
        errors.invalid(&At::ROOT.field("roleRef"), &new["roleRef"], "cannot change roleRef");
    }
    errors.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::check::testing::check;
    use serde_json::json;

    #[test]
    fn rules_are_of_resources_or_of_paths() {
        for (case, namespaced, rule, errors) in [
            ("resources", true, json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}), &[][..]),
            ("paths", false, json!({"verbs": ["get"], "nonResourceURLs": ["/metrics"]}), &[]),
            (
                "paths in a namespace",
                true,
                json!({"verbs": ["get"], "nonResourceURLs": ["/metrics"]}),
                &["rules[0].nonResourceURLs: Invalid value: [\"/metrics\"]: namespaced rules cannot apply"],
            ),
            (
                "nothing",
                true,
                json!({}),
                &[
                    "rules[0].verbs: Required value",
                    "rules[0].apiGroups: Required value",
                    "rules[0].resources: Required value",
                ],
            ),
        ] {
            check(case, &validate_role(&json!({"rules": [rule]}), namespaced), errors);
        }
    }

    #[test]
    fn a_binding_keeps_its_role() {
        let binding = |role: &str| {
            let mut binding =
                json!({"roleRef": {"kind": "ClusterRole", "name": role}, "subjects": [{"kind": "User", "name": "u"}]});
            default_binding(&mut binding);
            binding
        };
        check("same", &update_binding(&binding("a"), &binding("a"), true), &[]);
        check("other", &update_binding(&binding("b"), &binding("a"), true), &["roleRef: Invalid value: {"]);
        let account = json!({"roleRef": {"apiGroup": RBAC_GROUP, "kind": "Role", "name": "r"}, "subjects": [{"kind": "ServiceAccount", "name": "s"}]});
        check(
            "account without namespace",
            &validate_binding(&account, false),
            &[
                "roleRef.kind: Unsupported value: \"Role\": supported values: \"ClusterRole\"",
                "subjects[0].namespace: Required value",
            ],
        );
    }
}
