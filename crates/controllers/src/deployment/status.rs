//! A Deployment's status: counts, and the conditions that `kubectl rollout status` waits for (api-facts §9.2).

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentCondition, DeploymentStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::World;
use crate::meta::Meta;
use crate::plan::Plan;

const AVAILABLE: &str = "Available";
const PROGRESSING: &str = "Progressing";
const REPLICA_FAILURE: &str = "ReplicaFailure";
/// A deadline of this many seconds means none.
const NO_DEADLINE: i32 = i32::MAX;

/// Plans the status write, if the status changed.
pub(super) fn set(world: &World<'_>, now: Timestamp, plan: &mut Plan) {
    let old = world.deployment.status.clone().unwrap_or_default();
    let mut new = counts(world, &old);
    let mut conditions = old.conditions.clone().unwrap_or_default();
    put(&mut conditions, availability(world, &new, now));
    if let Some(progress) = progress(world, &old, &new, now, plan) {
        put(&mut conditions, progress);
    }
    match failure(world) {
        Some(condition) => put(&mut conditions, condition),
        None => conditions.retain(|c| c.type_ != REPLICA_FAILURE),
    }
    new.conditions = Some(conditions);
    plan.status(world.deployment, &old, &new);
}

/// All pods are of the new template, available, and none is left of the old ones.
pub(super) fn is_complete(world: &World<'_>) -> bool {
    complete(world, &counts(world, &DeploymentStatus::default()))
}

/// The name of the new set is taken: another name next time.
pub(super) fn bump_collisions(deployment: &Deployment, collisions: i32, plan: &mut Plan) {
    let old = deployment.status.clone().unwrap_or_default();
    let new = DeploymentStatus { collision_count: Some(collisions + 1), ..old.clone() };
    plan.status(deployment, &old, &new);
    plan.again(Duration::from_millis(5));
}

fn complete(world: &World<'_>, status: &DeploymentStatus) -> bool {
    let wanted = Some(world.limits.replicas).filter(|r| *r > 0);
    status.updated_replicas == wanted
        && status.replicas == wanted
        && status.available_replicas == wanted
        && world.sets.new.is_some()
}

fn counts(world: &World<'_>, old: &DeploymentStatus) -> DeploymentStatus {
    let sum = |of: &dyn Fn(&k8s_openapi::api::apps::v1::ReplicaSetStatus) -> i32| {
        world.sets.all().filter_map(|s| s.status.as_ref()).map(of).sum::<i32>()
    };
    let shown = |n: i32| Some(n).filter(|n| *n > 0);
    let replicas = sum(&|s| s.replicas);
    let available = sum(&|s| s.available_replicas.unwrap_or(0));
    let asked: i32 = world.sets.all().map(|s| super::replicas(s)).sum();
    let updated = world.sets.new.as_ref().and_then(|s| s.status.as_ref()).map_or(0, |s| s.replicas);
    DeploymentStatus {
        replicas: shown(replicas),
        updated_replicas: shown(updated),
        ready_replicas: shown(sum(&|s| s.ready_replicas.unwrap_or(0))),
        available_replicas: shown(available),
        unavailable_replicas: shown(asked - available),
        terminating_replicas: Some(sum(&|s| s.terminating_replicas.unwrap_or(0))),
        observed_generation: world.deployment.metadata.generation,
        collision_count: old.collision_count,
        conditions: None,
    }
}

fn availability(world: &World<'_>, status: &DeploymentStatus, now: Timestamp) -> DeploymentCondition {
    let enough = status.available_replicas.unwrap_or(0) >= world.limits.replicas - world.limits.unavailable;
    let (status, reason, message) = match enough {
        true => ("True", "MinimumReplicasAvailable", "Deployment has minimum availability."),
        false => ("False", "MinimumReplicasUnavailable", "Deployment does not have minimum availability."),
    };
    condition(AVAILABLE, status, reason, message.into(), now)
}

/// The `Progressing` condition as it should now be, or `None` to leave it.
fn progress(
    world: &World<'_>,
    old: &DeploymentStatus,
    new: &DeploymentStatus,
    now: Timestamp,
    plan: &mut Plan,
) -> Option<DeploymentCondition> {
    let deadline = world.spec.progress_deadline_seconds.filter(|s| *s != NO_DEADLINE)?;
    let before = old.conditions.as_ref().and_then(|l| l.iter().find(|c| c.type_ == PROGRESSING));
    let reason = before.and_then(|c| c.reason.as_deref()).unwrap_or_default();
    if world.is_paused() {
        let paused = || condition(PROGRESSING, "Unknown", "DeploymentPaused", "Deployment is paused".into(), now);
        return (reason != "DeploymentPaused").then(paused);
    }
    if reason == "DeploymentPaused" {
        return Some(condition(PROGRESSING, "Unknown", "DeploymentResumed", "Deployment is resumed".into(), now));
    }
    let name = world.sets.new.as_ref().map(|s| s.name().to_string()).unwrap_or_default();
    if complete(world, new) || (world.limits.replicas == 0 && new.replicas.is_none() && world.sets.new.is_some()) {
        let message = format!("ReplicaSet {name:?} has successfully progressed.");
        return (reason != "NewReplicaSetAvailable")
            .then(|| condition(PROGRESSING, "True", "NewReplicaSetAvailable", message, now));
    }
    let Some(before) = before else {
        let message = match name.is_empty() {
            true => "Created new replica set".to_string(),
            false => format!("Found new replica set {name:?}"),
        };
        let reason = if name.is_empty() { "NewReplicaSetCreated" } else { "FoundNewReplicaSet" };
        plan.again(Duration::from_secs(deadline.max(0).unsigned_abs().into()));
        return Some(condition(PROGRESSING, "True", reason, message, now));
    };
    let moved = progressed(old, new) || (reason == "NewReplicaSetAvailable");
    if moved {
        plan.again(Duration::from_secs(deadline.max(0).unsigned_abs().into()));
        let message = format!("ReplicaSet {name:?} is progressing.");
        let mut next = condition(PROGRESSING, "True", "ReplicaSetUpdated", message, now);
        next.last_update_time = Some(Time(now));
        return Some(next);
    }
    overdue(before, deadline, &name, now, plan)
}

/// Something got better since the last status.
fn progressed(old: &DeploymentStatus, new: &DeploymentStatus) -> bool {
    let n = |v: Option<i32>| v.unwrap_or(0);
    let old_ones = |s: &DeploymentStatus| n(s.replicas) - n(s.updated_replicas);
    n(new.updated_replicas) > n(old.updated_replicas)
        || old_ones(new) < old_ones(old)
        || n(new.ready_replicas) > n(old.ready_replicas)
        || n(new.available_replicas) > n(old.available_replicas)
}

fn overdue(
    before: &DeploymentCondition,
    deadline: i32,
    name: &str,
    now: Timestamp,
    plan: &mut Plan,
) -> Option<DeploymentCondition> {
    if before.reason.as_deref() == Some("ProgressDeadlineExceeded") {
        return None;
    }
    let since = before.last_update_time.as_ref().map_or(now, |t| t.0);
    let left = i64::from(deadline) - now.duration_since(since).as_secs();
    if left > 0 {
        plan.again(Duration::from_secs(left.unsigned_abs()));
        return None;
    }
    let message = format!("ReplicaSet {name:?} has timed out progressing.");
    Some(condition(PROGRESSING, "False", "ProgressDeadlineExceeded", message, now))
}

/// The failure of any set, handed up.
fn failure(world: &World<'_>) -> Option<DeploymentCondition> {
    let conditions = world.sets.all().filter_map(|s| s.status.as_ref()?.conditions.as_ref()).flatten();
    let failed = conditions.into_iter().find(|c| c.type_ == REPLICA_FAILURE && c.status == "True")?;
    Some(DeploymentCondition {
        type_: REPLICA_FAILURE.into(),
        status: failed.status.clone(),
        reason: failed.reason.clone(),
        message: failed.message.clone(),
        last_transition_time: failed.last_transition_time.clone(),
        last_update_time: failed.last_transition_time.clone(),
    })
}

fn condition(kind: &str, status: &str, reason: &str, message: String, now: Timestamp) -> DeploymentCondition {
    DeploymentCondition {
        type_: kind.into(),
        status: status.into(),
        reason: Some(reason.into()),
        message: Some(message),
        last_transition_time: Some(Time(now)),
        last_update_time: Some(Time(now)),
    }
}

/// Puts a condition in; the transition time moves only when the status does, and nothing moves when nothing changed.
fn put(conditions: &mut Vec<DeploymentCondition>, mut next: DeploymentCondition) {
    let Some(at) = conditions.iter().position(|c| c.type_ == next.type_) else {
        conditions.push(next);
        return;
    };
    let before = &conditions[at];
    if before.status == next.status {
        next.last_transition_time.clone_from(&before.last_transition_time);
    }
    let same = before.status == next.status && before.reason == next.reason && before.message == next.message;
    if same && next.reason.as_deref() != Some("ReplicaSetUpdated") {
        return;
    }
    conditions[at] = next;
}
