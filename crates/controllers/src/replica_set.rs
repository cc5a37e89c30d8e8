//! ReplicaSet: keeps `spec.replicas` pods of one template alive (apps/v1 ReplicaSet, and core/v1 ReplicationController).
//!
//! Reads the sets and Pods. Writes Pods (create, adopt, release, delete) and the sets' status.
//! Leaves to others: placing pods (scheduler), stopping them (agent), orphans (garbage collector).

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetStatus};
use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use k8s_openapi::{Metadata, Resource};
use mizzen_api::pod::{is_active, is_ready, is_terminal, is_terminating};
use mizzen_api::selector::{LabelSelector, SelectorError};
use mizzen_store::Snapshot;

use crate::meta::Meta;
use crate::plan::{ControllerError, Plan, Write};
use crate::pods;

/// Most pods one plan creates or deletes. Its commit wakes us again, so a larger gap closes in steps,
/// and no single set can fill the store's commit queue.
const BURST: usize = 500;
/// The condition of a set whose pods are refused.
const REPLICA_FAILURE: &str = "ReplicaFailure";

/// A set of equal pods.
pub trait Replicas:
    Resource + Metadata<Ty = ObjectMeta> + serde::de::DeserializeOwned + Send + Sync + Sized + 'static
{
    /// How many pods it wants.
    fn replicas(&self) -> i32;
    /// `spec.minReadySeconds`.
    fn min_ready_seconds(&self) -> Option<i32>;
    /// What its pods look like.
    fn template(&self) -> Option<&PodTemplateSpec>;
    /// Which pods are its own.
    ///
    /// # Errors
    /// The selector cannot be read.
    fn selector(&self) -> Result<LabelSelector, SelectorError>;
    /// Its status as stored.
    fn status(&self) -> ReplicaSetStatus;
    /// Plans the write of a new status, if it differs.
    fn write_status(&self, new: ReplicaSetStatus, plan: &mut Plan);
}

impl Replicas for ReplicaSet {
    fn replicas(&self) -> i32 {
        self.spec.as_ref().and_then(|s| s.replicas).unwrap_or(1)
    }
    fn min_ready_seconds(&self) -> Option<i32> {
        self.spec.as_ref().and_then(|s| s.min_ready_seconds)
    }
    fn template(&self) -> Option<&PodTemplateSpec> {
        self.spec.as_ref()?.template.as_ref()
    }
    fn selector(&self) -> Result<LabelSelector, SelectorError> {
        LabelSelector::from_typed(self.spec.as_ref().map(|s| &s.selector))
    }
    fn status(&self) -> ReplicaSetStatus {
        self.status.clone().unwrap_or_default()
    }
    fn write_status(&self, new: ReplicaSetStatus, plan: &mut Plan) {
        plan.status(self, &self.status.clone().unwrap_or_default(), &new);
    }
}

/// The writes that bring the pods of `key` nearer to its spec as of `snapshot`; empty when all is well.
///
/// # Errors
/// [`ControllerError::Unreadable`], before anything is planned.
pub fn reconcile<S: Replicas>(snapshot: &Snapshot, key: &str, now: Timestamp) -> Result<Plan, ControllerError> {
    let mut plan = Plan::default();
    let Some(set) = snapshot.get_as::<S>(key) else {
        return Ok(plan); // Gone: its pods are the garbage collector's.
    };
    let selector = set.selector().map_err(|e| ControllerError::Unreadable {
        object: key.to_string(),
        field: "spec.selector",
        message: e.to_string(),
    })?;
    let owned: Vec<Arc<Pod>> = pods::claim(snapshot, &*set, &selector, &mut plan);
    let mut active = pods::active(&owned);
    let (have, want) = (active.len(), usize::try_from(set.replicas()).unwrap_or(0));
    if set.is_deleting() {
        // Pods of a set on its way out are counted, neither made nor removed.
    } else if have < want {
        create(snapshot, &set, want - have, &mut plan);
    } else if have > want {
        pods::sort_for_deletion(&mut active, now);
        for pod in active.into_iter().take((have - want).min(BURST)) {
            plan.write(Write::delete(&**pod));
            plan.say(&*set, "SuccessfulDelete", format!("Deleted pod: {}", pod.name()));
        }
    }
    set_status(&*set, &owned, now, &mut plan);
    Ok(plan)
}

fn create<S: Replicas>(snapshot: &Snapshot, set: &Arc<S>, missing: usize, plan: &mut Plan) {
    let Some(template) = set.template() else { return };
    // A set whose last pod was refused tries one at a time.
    let limit = if failing(&**set) { 1 } else { BURST };
    for ordinal in 0..missing.min(limit) {
        let pod = pods::from_template(&**set, template, snapshot, ordinal);
        let name = pod["metadata"]["name"].as_str().unwrap_or_default().to_string();
        plan.write(Write::Create { object: pod });
        plan.say(&**set, "SuccessfulCreate", format!("Created pod: {name}"));
    }
    let refused = Arc::clone(set);
    plan.on_refusal = Some(Box::new(move |message, now| refusal(&*refused, message, now)));
}

/// What a refused pod does to the set: a condition and an Event that say why.
fn refusal<S: Replicas>(set: &S, message: &str, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    plan.warn(set, "FailedCreate", format!("Error creating: {message}"));
    let mut new = set.status();
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
        set.write_status(new, &mut plan);
    }
    plan
}

fn failing<S: Replicas>(set: &S) -> bool {
    let conditions = set.status().conditions.unwrap_or_default();
    conditions.iter().any(|c| c.type_ == REPLICA_FAILURE && c.status == "True")
}

fn set_status<S: Replicas>(set: &S, owned: &[Arc<Pod>], now: Timestamp, plan: &mut Plan) {
    let count =
        |test: &dyn Fn(&Pod) -> bool| i32::try_from(owned.iter().filter(|p| test(p)).count()).unwrap_or(i32::MAX);
    let template_labels =
        set.template().and_then(|t| t.metadata.as_ref()).and_then(|m| m.labels.clone()).unwrap_or_default();
    let labeled = |p: &Pod| template_labels.iter().all(|(name, value)| p.label(name) == Some(value));
    let mut available = 0;
    for pod in owned.iter().filter(|p| is_active(p)) {
        available += i32::from(pods::is_available(pod, set.min_ready_seconds(), now, plan));
    }
    let replicas = count(&is_active);
    let mut conditions = set.status().conditions;
    if let Some(list) = &mut conditions
        && replicas >= set.replicas()
    {
        list.retain(|c| c.type_ != REPLICA_FAILURE);
    }
    let new = ReplicaSetStatus {
        replicas,
        fully_labeled_replicas: Some(count(&|p| is_active(p) && labeled(p))),
        ready_replicas: Some(count(&|p| is_active(p) && is_ready(p))),
        available_replicas: Some(available),
        terminating_replicas: Some(count(&|p| is_terminating(p) && !is_terminal(p))),
        observed_generation: set.metadata().generation,
        conditions: conditions.filter(|c| !c.is_empty()),
    };
    set.write_status(new, plan);
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
            ("being deleted", "rs/d/web replicas=3 deleting; pod/d/a of=web ready", "patch replicasets/status d/web"),
            ("gone", "pod/d/a of=web ready", ""),
        ] {
            check(case, before, "apps/replicasets/d/web", super::reconcile::<super::ReplicaSet>, writes);
        }
    }
}
