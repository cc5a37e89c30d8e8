//! ClusterRole aggregation: a role that is the sum of other roles (rbac.authorization.k8s.io/v1 ClusterRole).
//!
//! Reads ClusterRoles. Writes the rules of those with an `aggregationRule`.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule};
use mizzen_api::key;
use mizzen_api::selector::LabelSelector;
use mizzen_store::{Event, Snapshot};
use serde_json::json;

use crate::meta::Meta;
use crate::plan::{ControllerError, Plan, Target, Write};
use crate::shell::Wake;
use crate::wake::{head, versions};

/// The writes that make the ClusterRole at `role_key` the sum of those it selects, in the order of their names.
///
/// # Errors
/// [`ControllerError::Unreadable`] for a selector, before anything is planned.
pub fn reconcile(snapshot: &Snapshot, role_key: &str, _now: Timestamp) -> Result<Plan, ControllerError> {
    let mut plan = Plan::default();
    let Some(role) = snapshot.get_as::<ClusterRole>(role_key) else { return Ok(plan) };
    let Some(selectors) = role.aggregation_rule.as_ref().map(|_| selectors(&role)) else { return Ok(plan) };
    let selectors = selectors.map_err(|message| ControllerError::Unreadable {
        object: role_key.to_string(),
        field: "aggregationRule.clusterRoleSelectors",
        message,
    })?;
    let mut rules: Vec<PolicyRule> = Vec::new();
    for other in snapshot.list_as::<ClusterRole>(&key::all::<ClusterRole>()) {
        let labels = other.metadata.labels.as_ref();
        if other.name() == role.name() || !selectors.iter().any(|s| s.matches_labels(labels)) {
            continue;
        }
        for rule in other.rules.iter().flatten() {
            if !rules.contains(rule) {
                rules.push(rule.clone());
            }
        }
    }
    if rules != role.rules.clone().unwrap_or_default() {
        plan.write(Write::Merge {
            target: Target::of::<ClusterRole>("", role.name()),
            subresource: "",
            patch: json!({"metadata": {"uid": role.uid(), "resourceVersion": role.version()}, "rules": rules}),
        });
    }
    Ok(plan)
}

fn selectors(role: &ClusterRole) -> Result<Vec<LabelSelector>, String> {
    let all = role.aggregation_rule.iter().flat_map(|a| a.cluster_role_selectors.iter().flatten());
    all.map(|s| LabelSelector::from_typed(Some(s)).map_err(|e| e.to_string())).collect()
}

/// A role wakes itself and the sums that it is part of, or was.
pub(crate) fn woken_by_roles() -> (String, Wake) {
    let wake = |snapshot: &Snapshot, event: &Event| {
        let labels: Vec<_> = versions(event).into_iter().map(|e| head(e).metadata.labels).collect();
        let part_of = |role: &ClusterRole| {
            let selectors = selectors(role).unwrap_or_default();
            selectors.iter().any(|s| labels.iter().any(|l| s.matches_labels(l.as_ref())))
        };
        let all = key::all::<ClusterRole>();
        let roles = snapshot.list_as::<ClusterRole>(&all);
        let sums: Vec<String> = roles.filter(|r| part_of(r)).map(|r| key::of::<ClusterRole>("", r.name())).collect();
        sums.into_iter().chain([event.key().to_string()]).collect()
    };
    (key::all::<ClusterRole>(), Arc::new(wake))
}

#[cfg(test)]
mod tests {
    use crate::testing::check;

    #[test]
    fn a_sum_follows_its_parts() {
        let sum = r#"clusterrole/sum aggregationRule.clusterRoleSelectors=[{"matchLabels":{"app":"web"}}]"#;
        let rule = r#"[{"verbs":["get"],"apiGroups":[""],"resources":["pods"]}]"#;
        for (case, world, writes) in [
            ("a part is missing", format!("{sum}; clusterrole/a label=web .rules={rule}"), "patch clusterroles sum"),
            (
                "all is well",
                format!(
                    "{sum} .rules={rule}; clusterrole/a label=web .rules={rule}; clusterrole/b label=web .rules={rule}"
                ),
                "",
            ),
            (
                "too much",
                format!("{sum} .rules={rule}; clusterrole/a label=db .rules={rule}"),
                "patch clusterroles sum",
            ),
            ("no parts", sum.to_string(), ""),
            ("not a sum", "clusterrole/sum; clusterrole/a label=web".into(), ""),
        ] {
            check(case, &world, "rbac.authorization.k8s.io/clusterroles//sum", super::reconcile, writes);
        }
    }
}
