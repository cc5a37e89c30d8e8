//! ClusterRoles that are made of others: `admin`, `edit`, `view` and those of users.

use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule};
use mizzen_api::key;
use mizzen_api::selector::LabelSelector;
use mizzen_store::Snapshot;

/// The rules an aggregated ClusterRole should have: those of every other role that one of its selectors selects, in the
/// order of `all` (by name), each rule once. `None` if the role is not aggregated.
pub fn aggregated_rules<'a>(
    role: &ClusterRole,
    all: impl Iterator<Item = &'a ClusterRole> + Clone,
) -> Option<Vec<PolicyRule>> {
    let selectors = role.aggregation_rule.as_ref()?.cluster_role_selectors.as_deref().unwrap_or_default();
    let mut rules: Vec<PolicyRule> = Vec::new();
    for selector in selectors {
        // A selector that cannot be read selects nothing.
        let Ok(selector) = LabelSelector::from_typed(Some(selector)) else {
            continue;
        };
        for other in all.clone() {
            if !selector.matches_labels(other.metadata.labels.as_ref()) || other.metadata.name == role.metadata.name {
                continue;
            }
            for rule in other.rules.iter().flatten() {
                if !rules.contains(rule) {
                    rules.push(rule.clone());
                }
            }
        }
    }
    Some(rules)
}

/// Chains of aggregated roles are short; a cycle ends here.
const DEPTH_MAX: usize = 8;

/// Gives every aggregated role in `roles` the rules it should have, those made of aggregated roles included.
pub fn resolve_aggregation(roles: &mut [ClusterRole]) {
    for _ in 0..DEPTH_MAX {
        let mut changed = false;
        for at in 0..roles.len() {
            let rules = aggregated_rules(&roles[at], roles.iter());
            if let Some(rules) = rules.filter(|rules| roles[at].rules.as_ref() != Some(rules)) {
                roles[at].rules = Some(rules);
                changed = true;
            }
        }
        if !changed {
            return;
        }
    }
}

/// All ClusterRoles of a snapshot with their aggregated rules: what is stored may be older than the roles it is made of.
pub fn cluster_roles(snapshot: &Snapshot) -> Vec<ClusterRole> {
    let mut roles: Vec<ClusterRole> =
        snapshot.list_as::<ClusterRole>(&key::all::<ClusterRole>()).map(|role| (*role).clone()).collect();
    resolve_aggregation(&mut roles);
    roles
}
