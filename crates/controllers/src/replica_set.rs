//! ReplicaSet: keeps `spec.replicas` pods of one template alive (apps/v1 ReplicaSet).
//!
//! Reads ReplicaSets and Pods. Writes Pods (create, adopt, release, delete) and ReplicaSet status.
//! Leaves to others: placing pods (scheduler), stopping them (agent), orphans (garbage collector).

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetSpec, ReplicaSetStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use mizzen_api::pod::{is_active, is_ready, is_terminal, is_terminating};
use mizzen_api::selector::LabelSelector;
use mizzen_store::Snapshot;

use crate::meta::{self, Meta};
use crate::plan::{ControllerError, Note, Plan, Write};
use crate::pods;

/// Most pods one plan creates or deletes. Its commit wakes us again, so a larger gap closes in steps,
/// and no single set can fill the store's commit queue.
const BURST: usize = 500;
/// The condition of a set whose pods are refused.
const REPLICA_FAILURE: &str = "ReplicaFailure";

/// The writes that bring the pods of `key` nearer to its spec as of `snapshot`; empty when all is well.
///
/// # Errors
/// [`ControllerError::Unreadable`], before anything is planned.
pub fn reconcile(snapshot: &Snapshot, key: &str, now: Timestamp) -> Result<Plan, ControllerError> {
    let mut plan = Plan::default();
    let Some(set) = snapshot.get_as::<ReplicaSet>(key) else {
        return Ok(plan); // Gone: its pods are the garbage collector's.
    };
    let Some(spec) = &set.spec else { return Ok(plan) };
    let selector = selector(key, spec)?;
    let owned: Vec<Arc<Pod>> = pods::claim(snapshot, &*set, &selector, &mut plan);
    let mut active = pods::active(&owned);
    let (have, want) = (active.len(), usize::try_from(spec.replicas.unwrap_or(1)).unwrap_or(0));
    if set.is_deleting() {
        // Pods of a set on its way out are counted, neither made nor removed.
    } else if have < want {
        create(snapshot, &set, spec, want - have, &mut plan);
    } else if have > want {
        pods::sort_for_deletion(&mut active, now);
        for pod in active.into_iter().take((have - want).min(BURST)) {
            plan.write(pods::delete(pod));
            plan.notes.push(note(
                &set,
                false,
                "SuccessfulDelete",
                format!("Deleted pod: {}", pod.name()),
            ));
        }
    }
    set_status(&set, spec, &owned, now, &mut plan);
    Ok(plan)
}

fn selector(key: &str, spec: &ReplicaSetSpec) -> Result<LabelSelector, ControllerError> {
    LabelSelector::from_typed(Some(&spec.selector)).map_err(|e| ControllerError::Unreadable {
        object: key.to_string(),
        field: "spec.selector",
        message: e.to_string(),
    })
}

fn create(snapshot: &Snapshot, set: &Arc<ReplicaSet>, spec: &ReplicaSetSpec, missing: usize, plan: &mut Plan) {
    let Some(template) = &spec.template else { return };
    // A set whose last pod was refused tries one at a time.
    let limit = if failing(set) { 1 } else { BURST };
    for ordinal in 0..missing.min(limit) {
        let pod = pods::from_template(&**set, template, snapshot, ordinal);
        let name = pod["metadata"]["name"].as_str().unwrap_or_default().to_string();
        plan.write(Write::Create { object: pod });
        plan.notes
            .push(note(set, false, "SuccessfulCreate", format!("Created pod: {name}")));
    }
    let refused = Arc::clone(set);
    plan.on_refusal = Some(Box::new(move |message, now| refusal(&refused, message, now)));
}

/// What a refused pod does to the set: a condition and an Event that say why.
fn refusal(set: &ReplicaSet, message: &str, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    plan.notes
        .push(note(set, true, "FailedCreate", format!("Error creating: {message}")));
    let old = set.status.clone().unwrap_or_default();
    let mut new = old.clone();
    let conditions = new.conditions.get_or_insert_default();
    conditions.retain(|c| c.type_ != REPLICA_FAILURE);
    conditions.push(ReplicaSetCondition {
        type_: REPLICA_FAILURE.into(),
        status: "True".into(),
        reason: Some("FailedCreate".into()),
        message: Some(message.into()),
        last_transition_time: Some(Time(now)),
    });
    if !failing(set) {
        plan.status(set, &old, &new);
    }
    plan
}

fn failing(set: &ReplicaSet) -> bool {
    let conditions = set.status.as_ref().and_then(|s| s.conditions.as_ref());
    conditions
        .into_iter()
        .flatten()
        .any(|c| c.type_ == REPLICA_FAILURE && c.status == "True")
}

fn set_status(set: &ReplicaSet, spec: &ReplicaSetSpec, owned: &[Arc<Pod>], now: Timestamp, plan: &mut Plan) {
    let count =
        |test: &dyn Fn(&Pod) -> bool| i32::try_from(owned.iter().filter(|p| test(p)).count()).unwrap_or(i32::MAX);
    let min_ready = spec.min_ready_seconds.unwrap_or(0);
    let template_labels = spec
        .template
        .as_ref()
        .and_then(|t| t.metadata.as_ref())
        .and_then(|m| m.labels.clone())
        .unwrap_or_default();
    let labeled = |p: &Pod| template_labels.iter().all(|(name, value)| p.label(name) == Some(value));
    let mut available = 0;
    for pod in owned.iter().filter(|p| is_active(p)) {
        match pods::available(pod, min_ready, now) {
            Ok(()) => available += 1,
            Err(Some(seconds)) => plan.again(Duration::from_secs(seconds)),
            Err(None) => {}
        }
    }
    let old = set.status.clone().unwrap_or_default();
    let replicas = count(&is_active);
    let mut conditions = old.conditions.clone();
    if let Some(list) = &mut conditions
        && replicas >= spec.replicas.unwrap_or(1)
    {
        list.retain(|c| c.type_ != REPLICA_FAILURE);
    }
    let new = ReplicaSetStatus {
        replicas,
        fully_labeled_replicas: Some(count(&|p| is_active(p) && labeled(p))),
        ready_replicas: Some(count(&|p| is_active(p) && is_ready(p))),
        available_replicas: Some(available),
        terminating_replicas: Some(count(&|p| is_terminating(p) && !is_terminal(p))),
        observed_generation: set.metadata.generation,
        conditions: conditions.filter(|c| !c.is_empty()),
    };
    plan.status(set, &old, &new);
}

fn note(set: &ReplicaSet, warning: bool, reason: &'static str, message: String) -> Note {
    Note {
        about: meta::reference(set),
        warning,
        reason,
        message,
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::check;

    #[test]
    fn closes_the_gap_between_spec_and_pods() {
        for (case, before, writes) in [
            (
                "missing pods",
                "rs/d/web replicas=3; pod/d/a of=web ready",
                "create Pod d/web- x2; patch replicasets/status d/web",
            ),
            (
                "unready goes first",
                "rs/d/web replicas=1; pod/d/a of=web ready; pod/d/b of=web",
                "delete pods d/b; patch replicasets/status d/web",
            ),
            (
                "not its pods",
                "rs/d/web replicas=1; pod/d/a of=db label=web ready",
                "create Pod d/web-; patch replicasets/status d/web",
            ),
            (
                "an orphan is adopted",
                "rs/d/web replicas=1; pod/d/a label=web ready",
                "patch pods d/a; patch replicasets/status d/web",
            ),
            (
                "a stranger is released",
                "rs/d/web replicas=0; pod/d/a of=web label=db",
                "patch pods d/a; patch replicasets/status d/web",
            ),
            (
                "a finished pod does not count",
                "rs/d/web replicas=1; pod/d/a of=web phase=Failed",
                "create Pod d/web-; patch replicasets/status d/web",
            ),
            (
                "being deleted",
                "rs/d/web replicas=3 deleting; pod/d/a of=web ready",
                "patch replicasets/status d/web",
            ),
            ("gone", "pod/d/a of=web ready", ""),
        ] {
            check(case, before, "apps/replicasets/d/web", super::reconcile, writes);
        }
    }
}
