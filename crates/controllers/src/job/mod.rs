//! Job: runs pods until enough of them have succeeded (batch/v1 Job; api-facts §9.6).
//!
//! Reads Jobs and Pods. Writes Pods (create, adopt, release, delete, finalizers) and Job status.
//! Leaves to others: deleting finished Jobs ([`ttl`]), Jobs that name another manager.

mod indexes;
mod manage;
mod policy;
mod tally;
pub mod ttl;
mod verdict;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{Job, JobCondition, JobSpec, JobStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use mizzen_api::key;
use mizzen_api::selector::LabelSelector;
use mizzen_store::{Change, Event, Snapshot};
use serde_json::{Value, json};

use crate::meta::Meta;
use crate::plan::{ControllerError, Plan, Target, Write};
use crate::pods;
use crate::shell::{Start, Wake};
use crate::wake::{every, head};
use tally::{FINALIZER, Tally};
use verdict::Verdict;

/// `spec.managedBy` of Jobs that are ours; so are those without.
const US: &str = "kubernetes.io/job-controller";
/// Label with the name of a pod's Job.
pub(crate) const JOB_NAME: &str = "batch.kubernetes.io/job-name";

/// The writes that bring the pods and the status of the Job at `job_key` nearer to its spec.
///
/// # Errors
/// [`ControllerError::Unreadable`], before anything is planned.
pub fn reconcile(snapshot: &Snapshot, job_key: &str, now: Timestamp) -> Result<Plan, ControllerError> {
    let mut plan = Plan::default();
    let job = snapshot.get_as::<Job>(job_key);
    release_orphans(snapshot, job_key, job.as_deref(), &mut plan);
    let Some(job) = job else { return Ok(plan) };
    let Some(spec) = job.spec.as_ref().filter(|s| s.managed_by.as_deref().is_none_or(|m| m == US)) else {
        return Ok(plan);
    };
    let old = job.status.clone().unwrap_or_default();
    let selector = LabelSelector::from_typed(spec.selector.as_ref()).map_err(|e| ControllerError::Unreadable {
        object: job_key.to_string(),
        field: "spec.selector",
        message: e.to_string(),
    })?;
    let owned: Vec<Arc<Pod>> = pods::claim(snapshot, &*job, &selector, &mut plan);
    let finishing = has_condition(&old, "FailureTarget") || has_condition(&old, "SuccessCriteriaMet");
    let tally = tally::tally(&job, spec, &old, &owned, finishing);
    for pod in &tally.release {
        drop_finalizer(pod, &mut plan);
    }
    if is_finished(&old) {
        return Ok(plan);
    }
    let mut new = JobStatus { conditions: old.conditions.clone(), ..old.clone() };
    let world = World { snapshot, job: &job, spec, pods: &owned, tally: &tally, now };
    start(&world, &mut new, &mut plan);
    let verdict = verdict::verdict(&world, &new, &mut plan);
    let active = match &verdict {
        Verdict::Open => manage::manage(&world, &mut plan),
        _ => manage::stop(&world, &mut plan),
    };
    conclude(&world, verdict, &mut new, &mut plan);
    count(&world, active, &mut new);
    plan.status(&*job, &old, &new);
    Ok(plan)
}

/// A Job with its pods.
struct World<'a> {
    snapshot: &'a Snapshot,
    job: &'a Arc<Job>,
    spec: &'a JobSpec,
    pods: &'a [Arc<Pod>],
    tally: &'a Tally,
    now: Timestamp,
}

impl World<'_> {
    fn is_suspended(&self) -> bool {
        self.spec.suspend == Some(true)
    }

    fn parallelism(&self) -> i64 {
        i64::from(self.spec.parallelism.unwrap_or(1))
    }
}

/// Pods that are held for a Job that is gone, or that let go of them, are let go.
fn release_orphans(snapshot: &Snapshot, job_key: &str, job: Option<&Job>, plan: &mut Plan) {
    let Some((_, _, namespace, name)) = key::parse(job_key) else { return };
    if job.is_some_and(|j| !j.is_deleting()) {
        return;
    }
    for pod in snapshot.list_as::<Pod>(&key::in_namespace::<Pod>(namespace)) {
        let held = pod.metadata.finalizers.iter().flatten().any(|f| f == FINALIZER);
        let orphaned = match pod.controller() {
            Some(owner) => owner.kind == "Job" && owner.name == name && job.is_none_or(|j| j.uid() != owner.uid),
            None => pod.label(JOB_NAME) == Some(name),
        };
        if held && orphaned {
            drop_finalizer(&pod, plan);
        }
    }
}

fn drop_finalizer(pod: &Pod, plan: &mut Plan) {
    let left: Vec<&String> = pod.metadata.finalizers.iter().flatten().filter(|f| *f != FINALIZER).collect();
    let left = if left.is_empty() { Value::Null } else { json!(left) };
    plan.write(Write::Merge {
        target: Target::of::<Pod>(pod.namespace(), pod.name()),
        subresource: "",
        patch: json!({"metadata": {"uid": pod.uid(), "resourceVersion": pod.version(), "finalizers": left}}),
    });
}

/// The start time and the condition `Suspended` follow `spec.suspend`.
fn start(world: &World<'_>, status: &mut JobStatus, plan: &mut Plan) {
    let suspended = has_condition(status, "Suspended");
    if world.is_suspended() && !suspended {
        status.start_time = None;
        put(status, "Suspended", "True", "JobSuspended", "Job suspended", world.now);
        plan.say(&**world.job, "Suspended", "Job suspended".into());
    } else if !world.is_suspended() && suspended {
        status.start_time = Some(Time(world.now));
        put(status, "Suspended", "False", "JobResumed", "Job resumed", world.now);
        plan.say(&**world.job, "Resumed", "Job resumed".into());
    } else if !world.is_suspended() && status.start_time.is_none() {
        status.start_time = Some(Time(world.now));
    }
}

/// Writes down how the Job ends: first that it will, and when nothing of it is left to count, that it has.
fn conclude(world: &World<'_>, verdict: Verdict, status: &mut JobStatus, plan: &mut Plan) {
    let (interim, terminal, reason, message) = match verdict {
        Verdict::Open => return,
        Verdict::Success { reason, message } => ("SuccessCriteriaMet", "Complete", reason, message),
        Verdict::Failure { reason, message } => ("FailureTarget", "Failed", reason, message),
    };
    if !has_condition(status, interim) {
        put(status, interim, "True", &reason, &message, world.now);
        return; // The commit wakes us again.
    }
    let uncounted = &world.tally.uncounted;
    let counted = uncounted.succeeded.is_none() && uncounted.failed.is_none() && world.tally.tracked == 0;
    if !counted || world.tally.terminating > 0 || !world.tally.active.is_empty() {
        return;
    }
    put(status, terminal, "True", &reason, &message, world.now);
    if terminal == "Complete" {
        status.completion_time = Some(Time(world.now));
        plan.say(&**world.job, "Completed", "Job completed".into());
    } else {
        let reason = match reason.as_str() {
            "BackoffLimitExceeded" => "BackoffLimitExceeded",
            "DeadlineExceeded" => "DeadlineExceeded",
            "PodFailurePolicy" => "PodFailurePolicy",
            "MaxFailedIndexesExceeded" => "MaxFailedIndexesExceeded",
            _ => "FailedIndexes",
        };
        plan.warn(&**world.job, reason, message);
    }
}

fn count(world: &World<'_>, active: i64, status: &mut JobStatus) {
    let tally = world.tally;
    let shown = |n: i32| Some(n).filter(|n| *n > 0);
    status.active = shown(i32::try_from(active).unwrap_or(i32::MAX));
    status.succeeded = shown(tally.counted.0);
    status.failed = shown(tally.counted.1);
    status.ready = Some(tally.ready);
    status.terminating = Some(tally.terminating);
    status.uncounted_terminated_pods = Some(tally.uncounted.clone());
    if tally::is_indexed(world.spec) {
        status.completed_indexes = Some(tally.done.text()).filter(|t| !t.is_empty());
        status.failed_indexes = world.spec.backoff_limit_per_index.map(|_| tally.failed_indexes.text());
    }
}

fn condition<'a>(status: &'a JobStatus, kind: &str) -> Option<&'a JobCondition> {
    status.conditions.iter().flatten().find(|c| c.type_ == kind && c.status == "True")
}

fn has_condition(status: &JobStatus, kind: &str) -> bool {
    condition(status, kind).is_some()
}

/// The Job has come to its end, for better or worse.
pub(crate) fn is_finished(status: &JobStatus) -> bool {
    has_condition(status, "Complete") || has_condition(status, "Failed")
}

fn put(status: &mut JobStatus, kind: &str, value: &str, reason: &str, message: &str, now: Timestamp) {
    let conditions = status.conditions.get_or_insert_default();
    conditions.retain(|c| c.type_ != kind);
    conditions.push(JobCondition {
        type_: kind.into(),
        status: value.into(),
        reason: Some(reason.into()),
        message: Some(message.into()),
        last_probe_time: Some(Time(now)),
        last_transition_time: Some(Time(now)),
    });
}

/// Looks again when `at` has come.
fn again_at(plan: &mut Plan, at: Timestamp, now: Timestamp) {
    let wait = Duration::try_from(at.duration_since(now)).unwrap_or_default();
    plan.again(wait + Duration::from_millis(10));
}

/// All Jobs are looked at first, and those that pods are labelled with: such a Job may be gone and still hold them.
pub(crate) fn all_and_orphaned() -> Start {
    Arc::new(|snapshot| {
        let mut keys = every::<Job>()(snapshot);
        for pod in snapshot.list_as::<Pod>(&key::all::<Pod>()) {
            keys.extend(pod.label(JOB_NAME).map(|name| key::of::<Job>(pod.namespace(), name)));
        }
        keys
    })
}

/// A pod without an owner wakes the Job that it is labelled with, which may hold it by a finalizer.
pub(crate) fn woken_by_orphans() -> (String, Wake) {
    let wake = |_: &Snapshot, event: &Event| {
        let Change::Put { entry, .. } = &event.change else { return Vec::new() };
        let meta = head(entry).metadata;
        if meta.finalizers.is_none() || meta.owner_references.is_some_and(|o| !o.is_empty()) {
            return Vec::new();
        }
        let name = meta.labels.and_then(|mut l| l.remove(JOB_NAME));
        Vec::from_iter(name.map(|n| key::of::<Job>(meta.namespace.as_deref().unwrap_or_default(), &n)))
    };
    (key::all::<Pod>(), Arc::new(wake))
}

#[cfg(test)]
mod tests;
