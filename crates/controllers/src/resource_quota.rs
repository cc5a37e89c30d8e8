//! ResourceQuota: counts what a namespace uses (core/v1 ResourceQuota; api-facts §9.9).
//!
//! Reads quotas and whatever they limit. Writes the quota's status. Holding the limits is admission's, which counts by the
//! same rules.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, ResourceQuota, ResourceQuotaSpec, ResourceQuotaStatus};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use mizzen_api::key;
use mizzen_api::quantity::Quantity;
use mizzen_api::quota::{self, Counted, Usage};
use mizzen_store::{Change, Event, Snapshot};
use serde_json::Value;

use crate::meta::Meta;
use crate::plan::{ControllerError, Plan};
use crate::served::{self, Resource};
use crate::shell::Wake;

/// The writes that bring the status of the quota at `quota_key` up to date.
///
/// # Errors
/// None: what cannot be read counts as one object.
pub fn reconcile(snapshot: &Snapshot, quota_key: &str, now: Timestamp) -> Result<Plan, ControllerError> {
    let mut plan = Plan::default();
    let Some(quota) = snapshot.get_as::<ResourceQuota>(quota_key).filter(|q| !q.is_deleting()) else {
        return Ok(plan);
    };
    let Some(spec) = &quota.spec else { return Ok(plan) };
    let hard = spec.hard.clone().unwrap_or_default();
    let mut used: BTreeMap<String, Text> = BTreeMap::new();
    for resource in served::namespaced(snapshot) {
        let limited: Vec<&str> =
            hard.keys().map(String::as_str).filter(|n| quota::counts(&resource.group, &resource.plural, n)).collect();
        if limited.is_empty() {
            continue;
        }
        let usage = usage(snapshot, quota.namespace(), spec, &resource, now, &mut plan);
        for name in limited {
            let amount = usage.get(name).copied().unwrap_or(Quantity::ZERO);
            used.insert(name.to_string(), Text(amount.to_string()));
        }
    }
    let old = quota.status.clone().unwrap_or_default();
    let new = ResourceQuotaStatus { hard: Some(hard), used: Some(used) };
    if !same(&old, &new) {
        plan.status(&*quota, &old, &new);
    }
    Ok(plan)
}

/// The same amounts, however they are written: admission and we need not agree on `1000m` and `1`.
fn same(old: &ResourceQuotaStatus, new: &ResourceQuotaStatus) -> bool {
    let read = |amounts: &Option<BTreeMap<String, Text>>| -> BTreeMap<String, Option<Quantity>> {
        amounts.iter().flatten().map(|(name, text)| (name.clone(), text.0.parse().ok())).collect()
    };
    old.hard == new.hard && read(&old.used) == read(&new.used) && old.used.is_some()
}

/// What the objects of one resource use together.
fn usage(
    snapshot: &Snapshot,
    namespace: &str,
    spec: &ResourceQuotaSpec,
    resource: &Resource,
    now: Timestamp,
    plan: &mut Plan,
) -> Usage {
    let mut total = Usage::new();
    let mut add = |object: &Counted| {
        if quota::match_object(spec, object) {
            for (name, amount) in object.usage(&resource.group, &resource.plural, now.as_second()) {
                let sum = total.entry(name).or_insert(Quantity::ZERO);
                *sum = *sum + amount;
            }
        }
    };
    let prefix = resource.in_namespace(namespace);
    if resource.group.is_empty() && resource.plural == "pods" {
        for pod in snapshot.list_as::<Pod>(&prefix) {
            expire(&pod, now, plan);
            add(&Counted::Pod(pod));
        }
        return total;
    }
    let read = quota::reads(&resource.group, &resource.plural);
    for entry in snapshot.prefix(&prefix) {
        let object = if read { serde_json::from_slice(&entry.value).unwrap_or_default() } else { Value::Null };
        add(&Counted::Other(object));
    }
    total
}

/// A pod that should have ended uses nothing any more: looks again at that time.
fn expire(pod: &Pod, now: Timestamp, plan: &mut Plan) {
    if let Some(end) = pod.metadata.deletion_timestamp.as_ref().map(|t| t.0).filter(|end| *end >= now) {
        plan.again(Duration::try_from(end.duration_since(now)).unwrap_or_default() + Duration::from_secs(1));
    }
}

/// What comes, goes, or changes its size wakes the quotas of its namespace.
pub(crate) fn woken_by_content() -> (String, Wake) {
    let all = key::all::<ResourceQuota>();
    let wake = move |snapshot: &Snapshot, event: &Event| {
        if snapshot.resource(&all).objects == 0 {
            return Vec::new();
        }
        let Some((group, plural, namespace, _)) = key::parse(event.key()) else { return Vec::new() };
        let counts = !namespace.is_empty() && plural != "events";
        let changes = match &event.change {
            Change::Put { previous: Some(_), .. } => quota::reads(group, plural),
            Change::Put { previous: None, .. } | Change::Delete { .. } => true,
        };
        if !counts || !changes {
            return Vec::new();
        }
        let prefix = key::in_namespace::<ResourceQuota>(namespace);
        snapshot.prefix(&prefix).map(|e| e.key.to_string()).collect()
    };
    (String::new(), Arc::new(wake))
}

#[cfg(test)]
mod tests {
    use crate::plan::Write;
    use crate::testing::snapshot;
    use serde_json::json;

    #[test]
    fn what_is_there_is_counted() {
        let pod = |cpu: &str| format!(r#"spec.containers.0.resources.requests={{"cpu":"{cpu}"}}"#);
        let used = |hard: &str, content: &str| {
            let world = snapshot(&format!("quota/d/q spec.hard={hard}; {content}"));
            let now = jiff::Timestamp::from_second(1_000_000).unwrap();
            let plan = super::reconcile(&world, "core/resourcequotas/d/q", now).unwrap();
            match plan.writes.as_slice() {
                [Write::Merge { patch, .. }] => patch["status"]["used"].clone(),
                _ => json!(null),
            }
        };
        let pods =
            format!("pod/d/a {}; pod/d/b {}; pod/d/c {} phase=Succeeded; pod/e/a", pod("1"), pod("500m"), pod("4"));
        for (case, hard, content, expected) in [
            (
                "pods",
                r#"{"pods":"5","requests.cpu":"4"}"#,
                pods.as_str(),
                json!({"pods": "2", "requests.cpu": "1500m"}),
            ),
            ("objects", r#"{"count/configmaps":"5"}"#, "cm/d/a; cm/d/b; cm/e/a", json!({"count/configmaps": "2"})),
            ("none", r#"{"secrets":"5"}"#, "", json!({"secrets": "0"})),
            ("nothing that is known", r#"{"count/x.y":"5"}"#, "", json!({})),
            (
                "ports",
                r#"{"services.nodeports":"5"}"#,
                r#"svc/d/s spec.type=NodePort spec.ports=[{},{}]"#,
                json!({"services.nodeports": "2"}),
            ),
        ] {
            assert_eq!(used(hard, content), expected, "{case}");
        }
        let told = r#"quota/d/q spec.hard={"pods":"5"} .status={"hard":{"pods":"5"},"used":{"pods":"0"}}"#;
        let plan = super::reconcile(&snapshot(told), "core/resourcequotas/d/q", jiff::Timestamp::UNIX_EPOCH).unwrap();
        assert!(plan.writes.is_empty(), "all is well");
    }
}
