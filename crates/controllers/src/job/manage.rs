//! The pods of a running Job: how many, which, and how soon after failures.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use mizzen_api::pod::{is_terminal, is_terminating, phase};
use serde_json::{Value, json};

use super::tally::{self, FINALIZER, INDEX, INDEX_FAILURES};
use super::{World, again_at, policy};
use crate::meta::{self, Meta};
use crate::plan::{Plan, Write};
use crate::pods;

/// Most pods one plan creates or deletes; its commit wakes us again.
const BURST: i64 = 500;
/// The first wait after a failure; it doubles with each, up to the longest.
const BACKOFF_MIN_SECONDS: i64 = 10;
const BACKOFF_MAX_SECONDS: i64 = 600;

/// Creates and deletes pods of a Job that goes on; answers how many will be active.
pub(super) fn manage(world: &World<'_>, plan: &mut Plan) -> i64 {
    let active = count(world.tally.active.len());
    if world.job.is_deleting() {
        return active;
    }
    if world.is_suspended() {
        return stop(world, plan);
    }
    let wanted = wanted(world, active);
    if active > wanted {
        let mut pods: Vec<&Arc<Pod>> = world.tally.active.iter().collect();
        pods::sort_for_deletion(&mut pods, world.now);
        for pod in pods.into_iter().take(size((active - wanted).min(BURST))) {
            remove(world, pod, plan);
        }
        return wanted;
    }
    let held = if tally::replaces_only_failed(world.spec) { i64::from(world.tally.terminating) } else { 0 };
    let missing = (wanted - active - held).min(BURST);
    if missing <= 0 {
        return active;
    }
    active + create(world, missing, plan)
}

/// Deletes all active pods; answers how many will be left.
pub(super) fn stop(world: &World<'_>, plan: &mut Plan) -> i64 {
    for pod in world.tally.active.iter().take(size(BURST)) {
        remove(world, pod, plan);
    }
    (count(world.tally.active.len()) - BURST).max(0)
}

fn wanted(world: &World<'_>, active: i64) -> i64 {
    match tally::completions(world.spec) {
        // A work queue starts no more once one has found it empty.
        None if world.tally.succeeded > 0 => active,
        None => world.parallelism(),
        Some(total) => {
            let left = total - world.tally.succeeded - world.tally.failed_indexes.len();
            left.min(world.parallelism()).max(0)
        }
    }
}

fn remove(world: &World<'_>, pod: &Pod, plan: &mut Plan) {
    plan.write(Write::delete(pod));
    plan.say(&**world.job, "SuccessfulDelete", format!("Deleted pod: {}", pod.name()));
}

fn create(world: &World<'_>, missing: i64, plan: &mut Plan) -> i64 {
    if world.spec.backoff_limit_per_index.is_none()
        && let Some(due) = due(world, world.pods.iter())
        && due > world.now
    {
        again_at(plan, due, world.now);
        return 0;
    }
    let made = if tally::is_indexed(world.spec) {
        let indexes = pending(world, missing, plan);
        indexes.into_iter().map(|i| indexed_pod(world, i)).collect()
    } else {
        let one = |ordinal| tracked(pods::from_template(&**world.job, &world.spec.template, world.snapshot, ordinal));
        (0..size(missing)).map(one).collect::<Vec<Value>>()
    };
    let created = count(made.len());
    for pod in made {
        let name = pod["metadata"]["name"].as_str().unwrap_or_default();
        plan.say(&**world.job, "SuccessfulCreate", format!("Created pod: {name}"));
        plan.write(Write::Create { object: pod });
    }
    if created > 0 {
        plan.warn_if_refused(&**world.job, "Error creating");
    }
    created
}

/// When the next pod may be made, given pods that may have failed: later with each failure since the last success.
fn due<'a>(world: &World<'_>, pods: impl Iterator<Item = &'a Arc<Pod>>) -> Option<Timestamp> {
    let started = world.job.status.as_ref().and_then(|s| s.start_time.as_ref()).map(|t| t.0);
    let (mut failed, mut succeeded): (Vec<Timestamp>, Option<Timestamp>) = (Vec::new(), None);
    for pod in pods {
        let ended = ended(pod, world.now);
        if phase(pod) == "Succeeded" {
            succeeded = succeeded.max(Some(ended));
        } else if phase(pod) == "Failed" && started.is_none_or(|s| ended >= s) {
            failed.push(ended);
        }
    }
    failed.retain(|f| succeeded.is_none_or(|s| *f > s));
    let last = failed.iter().max()?;
    last.checked_add(SignedDuration::from_secs(backoff(failed.len()))).ok()
}

/// The wait after this many failures in a row.
fn backoff(failures: usize) -> i64 {
    let doublings = u32::try_from(failures.saturating_sub(1)).unwrap_or(u32::MAX).min(10);
    BACKOFF_MIN_SECONDS.saturating_mul(1 << doublings).min(BACKOFF_MAX_SECONDS)
}

fn ended(pod: &Pod, now: Timestamp) -> Timestamp {
    let status = pod.status.as_ref();
    let containers = status.and_then(|s| s.container_statuses.as_ref()).into_iter().flatten();
    let finished = containers.filter_map(|c| c.state.as_ref()?.terminated.as_ref()?.finished_at.as_ref()).map(|t| t.0);
    let conditions = || status.and_then(|s| s.conditions.as_ref()).into_iter().flatten();
    let unready =
        || conditions().find(|c| c.type_ == "Ready").and_then(|c| c.last_transition_time.as_ref()).map(|t| t.0);
    let deleted = || pod.metadata.deletion_timestamp.as_ref().map(|t| t.0);
    finished.max().or_else(deleted).or_else(unready).unwrap_or(now).min(now)
}

/// The lowest indexes that have no pod and need one now.
fn pending(world: &World<'_>, missing: i64, plan: &mut Plan) -> Vec<i64> {
    let (spec, tally) = (world.spec, world.tally);
    let total = tally::completions(spec).unwrap_or(0);
    let holds = |p: &&Arc<Pod>| !is_terminal(p) && (!is_terminating(p) || tally::replaces_only_failed(spec));
    let taken: BTreeSet<i64> = world.pods.iter().filter(holds).filter_map(|p| tally::index(p, spec)).collect();
    let mut failed: BTreeMap<i64, Vec<&Arc<Pod>>> = BTreeMap::new();
    if spec.backoff_limit_per_index.is_some() {
        for (index, pod) in &tally.index_failures {
            failed.entry(*index).or_default().push(pod);
        }
    }
    let mut found = Vec::new();
    for index in 0..total {
        if count(found.len()) >= missing {
            break;
        }
        if taken.contains(&index) || tally.done.has(index) || tally.failed_indexes.has(index) {
            continue;
        }
        let last = failed.get(&index).and_then(|pods| pods.first()).filter(|p| phase(p) == "Failed");
        if let Some(pod) = last {
            let wait = backoff(usize::try_from(tally::failures(pod)).unwrap_or(0) + 1);
            let due = ended(pod, world.now).checked_add(SignedDuration::from_secs(wait)).unwrap_or(world.now);
            if due > world.now {
                again_at(plan, due, world.now);
                continue;
            }
        }
        found.push(index);
    }
    found
}

fn tracked(mut pod: Value) -> Value {
    if let Some(finalizers) = pod["metadata"]["finalizers"].as_array_mut() {
        finalizers.push(FINALIZER.into());
    }
    pod
}

fn indexed_pod(world: &World<'_>, index: i64) -> Value {
    let (job, spec) = (&**world.job, world.spec);
    let mut pod = tracked(pods::skeleton(job, &spec.template));
    let (revision, text) = (world.snapshot.revision().0.to_le_bytes(), index.to_string());
    let suffix = meta::suffix(&[job.uid().as_bytes(), &revision, text.as_bytes()]);
    let base = job.name();
    // The name is one label of 63 letters: index, suffix and two dashes stay.
    let base = base.get(..base.len().min(63 - 7 - text.len())).unwrap_or(base);
    let metadata = &mut pod["metadata"];
    metadata["name"] = format!("{base}-{text}-{suffix}").into();
    metadata["generateName"] = format!("{base}-{text}-").into();
    metadata["labels"][INDEX] = text.clone().into();
    metadata["annotations"][INDEX] = text.clone().into();
    if spec.backoff_limit_per_index.is_some() {
        let before = world.tally.index_failures.get(&index);
        let ignored = |p: &Pod| policy::action(spec, p) == policy::Action::Ignore;
        let failures = before.map_or(0, |p| tally::failures(p) + i32::from(!ignored(p)));
        metadata["annotations"][INDEX_FAILURES] = failures.to_string().into();
    }
    pod["spec"]["hostname"] = format!("{}-{text}", job.name()).into();
    for list in ["initContainers", "containers"] {
        for container in pod["spec"][list].as_array_mut().into_iter().flatten() {
            add_index_variable(container);
        }
    }
    pod
}

fn add_index_variable(container: &mut Value) {
    const NAME: &str = "JOB_COMPLETION_INDEX";
    let variable = json!({"name": NAME, "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": format!("metadata.labels['{INDEX}']")}}});
    match container["env"].as_array_mut() {
        Some(env) if env.iter().any(|v| v["name"] == NAME) => {}
        Some(env) => env.push(variable),
        None => container["env"] = json!([variable]),
    }
}

fn count(length: usize) -> i64 {
    i64::try_from(length).unwrap_or(i64::MAX)
}

fn size(count: i64) -> usize {
    usize::try_from(count).unwrap_or(0)
}
