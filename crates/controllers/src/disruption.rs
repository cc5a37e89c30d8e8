//! PodDisruptionBudget: how many pods may be disrupted now (policy/v1 PodDisruptionBudget; api-facts §9.9).
//!
//! Reads budgets, Pods, and the workloads that say how many pods there should be. Writes the budget's status, from which
//! the eviction API takes.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1::{Pod, ReplicationController};
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, OwnerReference, Time};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use mizzen_api::int_or_string::{Round, scaled};
use mizzen_api::key;
use mizzen_api::pod::{is_ready, is_terminating};
use mizzen_api::selector::LabelSelector;
use mizzen_store::{Event, Snapshot};

use crate::meta::Meta;
use crate::plan::{ControllerError, Plan};
use crate::shell::Wake;
use crate::wake::{head, versions};

/// A pod whose eviction was allowed should be gone after this time; otherwise it stayed, and counts again.
const DISRUPTED_FOR: SignedDuration = SignedDuration::from_secs(120);
const ALLOWED: &str = "DisruptionAllowed";

/// The writes that bring the status of the budget at `budget_key` up to date.
///
/// # Errors
/// [`ControllerError::Unreadable`] for the selector, before anything is planned.
pub fn reconcile(snapshot: &Snapshot, budget_key: &str, now: Timestamp) -> Result<Plan, ControllerError> {
    let mut plan = Plan::default();
    let Some(budget) = snapshot.get_as::<PodDisruptionBudget>(budget_key).filter(|b| !b.is_deleting()) else {
        return Ok(plan);
    };
    let selector = selector(&budget).map_err(|message| ControllerError::Unreadable {
        object: budget_key.to_string(),
        field: "spec.selector",
        message,
    })?;
    let in_namespace = key::in_namespace::<Pod>(budget.namespace());
    let selected = |p: &Arc<Pod>| selector.matches_labels(p.metadata.labels.as_ref());
    let pods: Vec<Arc<Pod>> = snapshot.list_as::<Pod>(&in_namespace).filter(selected).collect();
    let old = budget.status.clone().unwrap_or_default();
    let mut new = old.clone();
    match expectation(snapshot, &budget, &pods) {
        Ok((expected, desired)) => {
            let disrupted = disrupted(&old, &pods, now, &mut plan);
            let counts = |p: &&Arc<Pod>| !is_terminating(p) && !disrupted.contains_key(p.name()) && is_ready(p);
            let healthy = i64::try_from(pods.iter().filter(counts).count()).unwrap_or(i64::MAX);
            let allowed = if expected > 0 { (healthy - desired).max(0) } else { 0 };
            let number = |n: i64| Some(i32::try_from(n).unwrap_or(i32::MAX));
            new.current_healthy = number(healthy);
            new.desired_healthy = number(desired);
            new.expected_pods = number(expected);
            new.disruptions_allowed = number(allowed);
            new.disrupted_pods = Some(disrupted).filter(|d| !d.is_empty());
            let (status, reason) = if allowed > 0 { ("True", "SufficientPods") } else { ("False", "InsufficientPods") };
            put(&mut new, &budget, status, reason, String::new(), now);
        }
        Err(message) => {
            new.disruptions_allowed = Some(0);
            put(&mut new, &budget, "False", "SyncFailed", message, now);
        }
    }
    new.observed_generation = budget.metadata.generation;
    plan.status(&*budget, &old, &new);
    Ok(plan)
}

fn selector(budget: &PodDisruptionBudget) -> Result<LabelSelector, String> {
    let selector = budget.spec.as_ref().and_then(|s| s.selector.as_ref());
    LabelSelector::from_typed(selector).map_err(|e| e.to_string())
}

/// How many pods there should be, and how many of them healthy.
fn expectation(snapshot: &Snapshot, budget: &PodDisruptionBudget, pods: &[Arc<Pod>]) -> Result<(i64, i64), String> {
    let Some(spec) = &budget.spec else { return Ok((0, 0)) };
    let part = |value: &IntOrString, total| {
        scaled(value, total, Round::Up).ok_or_else(|| format!("{value:?} is neither a number nor a percentage"))
    };
    if let Some(most) = &spec.max_unavailable {
        let expected = scale(snapshot, pods)?;
        return Ok((expected, (expected - part(most, expected)?).max(0)));
    }
    match &spec.min_available {
        Some(IntOrString::Int(least)) => Ok((i64::try_from(pods.len()).unwrap_or(i64::MAX), i64::from(*least))),
        Some(least) => {
            let expected = scale(snapshot, pods)?;
            Ok((expected, part(least, expected)?))
        }
        None => Ok((0, 0)),
    }
}

/// The sum of what the controllers of the pods want.
fn scale(snapshot: &Snapshot, pods: &[Arc<Pod>]) -> Result<i64, String> {
    let mut scales: BTreeMap<String, i64> = BTreeMap::new();
    for pod in pods {
        let Some(owner) = pod.controller() else { continue };
        let (uid, replicas) = workload(snapshot, pod.namespace(), owner)
            .ok_or_else(|| format!("found no controllers for pod {:?}", pod.name()))?;
        scales.insert(uid, replicas);
    }
    Ok(scales.values().sum())
}

/// The workload behind an owner: a Deployment stands behind its ReplicaSets.
fn workload(snapshot: &Snapshot, namespace: &str, owner: &OwnerReference) -> Option<(String, i64)> {
    let count = |replicas: Option<i32>| i64::from(replicas.unwrap_or(1));
    let found = match owner.kind.as_str() {
        "ReplicaSet" => {
            let set = snapshot.get_as::<ReplicaSet>(&key::of::<ReplicaSet>(namespace, &owner.name))?;
            if let Some(above) = set.controller().filter(|o| o.kind == "Deployment") {
                return workload(snapshot, namespace, above);
            }
            (set.uid().to_string(), count(set.spec.as_ref()?.replicas))
        }
        "Deployment" => {
            let set = snapshot.get_as::<Deployment>(&key::of::<Deployment>(namespace, &owner.name))?;
            (set.uid().to_string(), count(set.spec.as_ref()?.replicas))
        }
        "StatefulSet" => {
            let set = snapshot.get_as::<StatefulSet>(&key::of::<StatefulSet>(namespace, &owner.name))?;
            (set.uid().to_string(), count(set.spec.as_ref()?.replicas))
        }
        "ReplicationController" => {
            let at = key::of::<ReplicationController>(namespace, &owner.name);
            let set = snapshot.get_as::<ReplicationController>(&at)?;
            (set.uid().to_string(), count(set.spec.as_ref()?.replicas))
        }
        _ => return None,
    };
    (found.0 == owner.uid).then_some(found)
}

/// Pods whose eviction was allowed and that are not gone yet.
fn disrupted(
    old: &PodDisruptionBudgetStatus,
    pods: &[Arc<Pod>],
    now: Timestamp,
    plan: &mut Plan,
) -> BTreeMap<String, Time> {
    let mut left = BTreeMap::new();
    for (name, time) in old.disrupted_pods.iter().flatten() {
        let staying = pods.iter().any(|p| p.name() == name && !is_terminating(p));
        let end = time.0.checked_add(DISRUPTED_FOR).unwrap_or(now);
        if staying && end > now {
            plan.again(std::time::Duration::try_from(end.duration_since(now)).unwrap_or_default());
            left.insert(name.clone(), time.clone());
        }
    }
    left
}

fn put(
    status: &mut PodDisruptionBudgetStatus,
    budget: &PodDisruptionBudget,
    value: &str,
    reason: &str,
    message: String,
    now: Timestamp,
) {
    let conditions = status.conditions.get_or_insert_default();
    let since = conditions.iter().find(|c| c.type_ == ALLOWED && c.status == value);
    let since = since.map_or(Time(now), |c| c.last_transition_time.clone());
    let new = Condition {
        type_: ALLOWED.into(),
        status: value.into(),
        reason: reason.into(),
        message,
        last_transition_time: since,
        observed_generation: budget.metadata.generation,
    };
    match conditions.iter_mut().find(|c| c.type_ == ALLOWED) {
        Some(known) => *known = new,
        None => conditions.push(new),
    }
}

/// A pod wakes the budgets that select it, or did.
pub(crate) fn woken_by_pods() -> (String, Wake) {
    let wake = |snapshot: &Snapshot, event: &Event| {
        let heads: Vec<_> = versions(event).into_iter().map(|e| head(e).metadata).collect();
        let Some(namespace) = heads.first().and_then(|m| m.namespace.clone()) else { return Vec::new() };
        let prefix = key::in_namespace::<PodDisruptionBudget>(&namespace);
        let selects = |b: &Arc<PodDisruptionBudget>| {
            selector(b).is_ok_and(|s| heads.iter().any(|m| s.matches_labels(m.labels.as_ref())))
        };
        let budgets = snapshot.list_as::<PodDisruptionBudget>(&prefix).filter(selects);
        budgets.map(|b| key::of::<PodDisruptionBudget>(&namespace, b.name())).collect()
    };
    (key::all::<Pod>(), Arc::new(wake))
}

/// A workload wakes all budgets of its namespace: how many pods there should be may have changed.
pub(crate) fn woken_by_scale<K: k8s_openapi::Resource>() -> (String, Wake) {
    let wake = |snapshot: &Snapshot, event: &Event| {
        let Some((_, _, namespace, _)) = key::parse(event.key()) else { return Vec::new() };
        let prefix = key::in_namespace::<PodDisruptionBudget>(namespace);
        snapshot.prefix(&prefix).map(|e| e.key.to_string()).collect()
    };
    (key::all::<K>(), Arc::new(wake))
}

#[cfg(test)]
mod tests {
    use crate::testing::snapshot;

    /// The budget's allowed disruptions, desired and expected pods after a world was looked at.
    fn check(case: &str, budget: &str, pods: &str, expected: [i64; 3]) {
        let budget = format!(r#"pdb/d/b spec.selector.matchLabels={{"app":"web"}} {budget}"#);
        let world = snapshot(&format!("{budget}; {pods}"));
        let now = jiff::Timestamp::from_second(1_000_000).unwrap();
        let plan = super::reconcile(&world, "policy/poddisruptionbudgets/d/b", now).unwrap();
        let [crate::plan::Write::Merge { patch, .. }] = plan.writes.as_slice() else { panic!("{case}: {plan:?}") };
        let found =
            ["disruptionsAllowed", "desiredHealthy", "expectedPods"].map(|f| patch["status"][f].as_i64().unwrap_or(-1));
        assert_eq!(found, expected, "{case}");
    }

    #[test]
    fn budgets_allow_what_is_above_the_least() {
        let three = "rs/d/web replicas=3; pod/d/a of=web ready; pod/d/b of=web ready; pod/d/c of=web ready";
        let two = "rs/d/web replicas=3; pod/d/a of=web ready; pod/d/b of=web ready; pod/d/c of=web";
        for (case, budget, pods, found) in [
            ("a number", "spec.minAvailable=2", three, [1, 2, 3]),
            ("a percentage is rounded up", "spec.minAvailable=50%", three, [1, 2, 3]),
            ("at most one away", "spec.maxUnavailable=1", three, [1, 2, 3]),
            ("one is away", "spec.maxUnavailable=1", two, [0, 2, 3]),
            (
                "one is about to go",
                r#"spec.minAvailable=1 status.disruptedPods={"a":"1970-01-12T13:46:00Z"}"#,
                three,
                [1, 1, 3],
            ),
            ("no pods", "spec.minAvailable=0", "", [0, 0, 0]),
            ("the set is gone", "spec.maxUnavailable=1", "pod/d/a of=web ready", [0, -1, -1]),
        ] {
            check(case, budget, pods, found);
        }
    }
}
