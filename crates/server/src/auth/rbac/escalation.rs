//! Nobody grants more than they hold (api-facts §6.4).

use std::fmt::Write;
use std::ops::ControlFlow;

use k8s_openapi::api::rbac::v1::{PolicyRule, Role, RoleRef};
use mizzen_api::key;
use mizzen_api::status::{ApiError, Subject};
use mizzen_store::Snapshot;
use serde::Deserialize;
use serde_json::Value;

use super::Index;
use super::aggregation::cluster_roles;
use super::rule::{list, url_covers};
use crate::auth::{Attributes, Identity};

const GROUP: &str = "rbac.authorization.k8s.io";

/// Refuses a role or binding that would grant more than `who` holds. `may` asks the authorizer.
pub fn check(
    snapshot: &Snapshot,
    index: &Index,
    who: &Identity,
    resource: &str,
    object: &Value,
    old: Option<&Value>,
    may: &dyn Fn(&Attributes<'_>) -> bool,
) -> Result<(), ApiError> {
    let unchanged =
        |fields: &[&str]| old.is_some_and(|old| fields.iter().all(|field| old.get(field) == object.get(field)));
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let (namespace, name) = (text("/metadata/namespace"), text("/metadata/name"));
    let allowed = |verb, resource, name| {
        let resource_request = true;
        let version = "v1";
        may(&Attributes {
            verb,
            resource_request,
            group: GROUP,
            version,
            resource,
            namespace,
            name,
            ..Attributes::default()
        })
    };
    let rules = match resource {
        "roles" | "clusterroles" => {
            if unchanged(&["rules", "aggregationRule"]) || allowed("escalate", resource, name) {
                return Ok(());
            }
            let mut rules = rules_of(object.get("rules"))?;
            if object.get("aggregationRule").is_some_and(|rule| !rule.is_null()) {
                rules.extend(everything());
            }
            rules
        }
        "rolebindings" | "clusterrolebindings" => {
            if unchanged(&["roleRef", "subjects"]) {
                return Ok(());
            }
            let role = RoleRef::deserialize(&object["roleRef"]).map_err(unreadable)?;
            let kind = if role.kind == "ClusterRole" { "clusterroles" } else { "roles" };
            if allowed("bind", kind, &role.name) {
                return Ok(());
            }
            referenced(snapshot, namespace, &role)?
        }
        _ => return Ok(()),
    };
    let missing = missing(index, who, namespace, rules);
    if missing.is_empty() {
        return Ok(());
    }
    Err(ApiError::forbidden(Subject { group: GROUP, resource }, name, &explained(who, &missing)))
}

fn unreadable(error: serde_json::Error) -> ApiError {
    ApiError::bad_request(format!("the object cannot be read: {error}"))
}

fn rules_of(rules: Option<&Value>) -> Result<Vec<PolicyRule>, ApiError> {
    let rules = rules.filter(|rules| !rules.is_null()).map(Vec::<PolicyRule>::deserialize);
    rules.transpose().map(Option::unwrap_or_default).map_err(unreadable)
}

/// What a role that selects its rules by label may come to hold.
fn everything() -> [PolicyRule; 2] {
    let all = || vec!["*".to_string()];
    [
        PolicyRule { verbs: all(), api_groups: Some(all()), resources: Some(all()), ..PolicyRule::default() },
        PolicyRule { verbs: all(), non_resource_urls: Some(all()), ..PolicyRule::default() },
    ]
}

fn referenced(snapshot: &Snapshot, namespace: &str, role: &RoleRef) -> Result<Vec<PolicyRule>, ApiError> {
    let missing = |resource| ApiError::not_found(Subject { group: GROUP, resource }, &role.name);
    if role.kind == "ClusterRole" {
        let mut roles = cluster_roles(snapshot).into_iter();
        let found = roles.find(|found| found.metadata.name.as_ref() == Some(&role.name));
        return Ok(found.ok_or_else(|| missing("clusterroles"))?.rules.unwrap_or_default());
    }
    let found = snapshot.get_as::<Role>(&key::of::<Role>(namespace, &role.name)).ok_or_else(|| missing("roles"))?;
    Ok(found.rules.clone().unwrap_or_default())
}

/// The smallest rules that are wanted and not held.
fn missing(index: &Index, who: &Identity, namespace: &str, wanted: Vec<PolicyRule>) -> Vec<PolicyRule> {
    let mut held: Vec<&PolicyRule> = Vec::new();
    index.visit(who, namespace, |grant| {
        held.extend(grant.rules());
        ControlFlow::<()>::Continue(())
    });
    let covered = |wanted: &PolicyRule| held.iter().any(|held| covers(held, wanted));
    // A rule that one held rule covers as a whole need not be taken apart.
    let open = wanted.iter().filter(|wanted| !covered(wanted)).flat_map(apart);
    let mut missing: Vec<PolicyRule> = Vec::new();
    for rule in open.filter(|rule| !covered(rule)) {
        if !missing.contains(&rule) {
            missing.push(rule);
        }
    }
    missing
}

/// One rule for each combination of verb, group, resource and name.
fn apart(rule: &PolicyRule) -> Vec<PolicyRule> {
    let one = |text: &String| Some(vec![text.clone()]);
    let mut parts = Vec::new();
    for verb in &rule.verbs {
        let verbs = vec![verb.clone()];
        for group in list(&rule.api_groups) {
            for resource in list(&rule.resources) {
                let part = PolicyRule {
                    verbs: verbs.clone(),
                    api_groups: one(group),
                    resources: one(resource),
                    ..PolicyRule::default()
                };
                let names = list(&rule.resource_names);
                parts.extend(names.iter().map(|name| PolicyRule { resource_names: one(name), ..part.clone() }));
                if names.is_empty() {
                    parts.push(part);
                }
            }
        }
        let urls = list(&rule.non_resource_urls).iter();
        parts.extend(urls.map(|url| PolicyRule {
            verbs: verbs.clone(),
            non_resource_urls: one(url),
            ..PolicyRule::default()
        }));
    }
    parts
}

/// Whoever holds `held` holds all of `wanted`.
fn covers(held: &PolicyRule, wanted: &PolicyRule) -> bool {
    let contain = |held: &[String], wanted: &[String]| {
        held.iter().any(|item| item == "*") || wanted.iter().all(|item| held.contains(item))
    };
    let resource = |wanted: &String| {
        list(&held.resources).iter().any(|held| {
            held == "*"
                || held == wanted
                || matches!((held.strip_prefix("*/"), wanted.split_once('/')), (Some(held), Some((_, wanted))) if held == wanted)
        })
    };
    let names = list(&held.resource_names);
    let wanted_names = list(&wanted.resource_names);
    let named = names.is_empty() || (!wanted_names.is_empty() && wanted_names.iter().all(|name| names.contains(name)));
    let url = |wanted: &String| list(&held.non_resource_urls).iter().any(|held| url_covers(held, wanted));
    contain(&held.verbs, &wanted.verbs)
        && contain(list(&held.api_groups), list(&wanted.api_groups))
        && list(&wanted.resources).iter().all(resource)
        && (list(&wanted.resources).is_empty() || named)
        && list(&wanted.non_resource_urls).iter().all(url)
}

fn explained(who: &Identity, missing: &[PolicyRule]) -> String {
    let quoted = |list: &[String]| list.iter().map(|item| format!("{item:?}")).collect::<Vec<_>>();
    let groups = quoted(&who.groups).join(" ");
    let mut text =
        format!("user {:?} (groups=[{groups}]) is attempting to grant RBAC permissions not currently held:", who.user);
    for rule in missing {
        let fields = [
            ("APIGroups", list(&rule.api_groups)),
            ("Resources", list(&rule.resources)),
            ("ResourceNames", list(&rule.resource_names)),
            ("NonResourceURLs", list(&rule.non_resource_urls)),
            ("Verbs", &rule.verbs[..]),
        ];
        let shown = fields.iter().filter(|(_, list)| !list.is_empty());
        let shown: Vec<String> = shown.map(|(name, list)| format!("{name}:[{}]", quoted(list).join(" "))).collect();
        // Writing to a String cannot fail.
        let _ = write!(text, "\n{{{}}}", shown.join(", "));
    }
    text
}
