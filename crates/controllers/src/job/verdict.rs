//! Whether a Job has succeeded or failed, in the order in which Kubernetes asks (api-facts §9.6).

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::JobStatus;
use k8s_openapi::api::core::v1::Pod;
use mizzen_api::pod::is_active;

use super::tally::{completions, is_indexed};
use super::{World, again_at, condition, policy};
use crate::plan::Plan;

/// How a Job stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Not decided.
    Open,
    /// It succeeds.
    Success { reason: String, message: String },
    /// It fails.
    Failure { reason: String, message: String },
}

/// The verdict on a Job; what was once decided stays.
pub(super) fn verdict(world: &World<'_>, status: &JobStatus, plan: &mut Plan) -> Verdict {
    decided(status)
        .or_else(|| failed_pods(world))
        .or_else(|| out_of_time(world, status, plan))
        .or_else(|| indexes(world))
        .or_else(|| completed(world))
        .unwrap_or(Verdict::Open)
}

fn failure(reason: &str, message: &str) -> Option<Verdict> {
    Some(Verdict::Failure { reason: reason.into(), message: message.into() })
}

fn decided(status: &JobStatus) -> Option<Verdict> {
    let text = |t: &Option<String>| t.clone().unwrap_or_default();
    if let Some(met) = condition(status, "SuccessCriteriaMet") {
        return Some(Verdict::Success { reason: text(&met.reason), message: text(&met.message) });
    }
    let target = condition(status, "FailureTarget")?;
    Some(Verdict::Failure { reason: text(&target.reason), message: text(&target.message) })
}

fn failed_pods(world: &World<'_>) -> Option<Verdict> {
    if let Some(message) = &world.tally.fatal {
        return failure("PodFailurePolicy", message);
    }
    let limit = i64::from(world.spec.backoff_limit.unwrap_or(6));
    if world.tally.failed > limit || restarts_exceed(world, limit) {
        return failure("BackoffLimitExceeded", "Job has reached the specified backoff limit");
    }
    None
}

/// With `restartPolicy: OnFailure` containers fail without their pod failing.
fn restarts_exceed(world: &World<'_>, limit: i64) -> bool {
    let template = world.spec.template.spec.as_ref();
    if template.and_then(|s| s.restart_policy.as_deref()) != Some("OnFailure") {
        return false;
    }
    let restarts: i64 = world.pods.iter().filter(|p| is_active(p)).map(|p| restarts(p)).sum();
    if limit == 0 { restarts > 0 } else { restarts >= limit }
}

fn restarts(pod: &Pod) -> i64 {
    let Some(status) = &pod.status else { return 0 };
    let containers = status.init_container_statuses.iter().chain(&status.container_statuses);
    containers.flatten().map(|c| i64::from(c.restart_count)).sum()
}

fn out_of_time(world: &World<'_>, status: &JobStatus, plan: &mut Plan) -> Option<Verdict> {
    let seconds = world.spec.active_deadline_seconds.filter(|_| !world.is_suspended())?;
    let end: Timestamp = status.start_time.as_ref()?.0.checked_add(SignedDuration::from_secs(seconds)).ok()?;
    if world.now >= end {
        return failure("DeadlineExceeded", "Job was active longer than specified deadline");
    }
    again_at(plan, end, world.now);
    None
}

fn indexes(world: &World<'_>) -> Option<Verdict> {
    if !is_indexed(world.spec) {
        return None;
    }
    let (tally, total) = (world.tally, completions(world.spec)?);
    if world.spec.backoff_limit_per_index.is_some() {
        let failed = tally.failed_indexes.len();
        if world.spec.max_failed_indexes.is_some_and(|max| failed > i64::from(max)) {
            return failure(
                "MaxFailedIndexesExceeded",
                "Job has exceeded the specified maximal number of failed indexes",
            );
        }
        if failed > 0 && failed + tally.done.len() >= total {
            return failure("FailedIndexes", "Job has failed indexes");
        }
    }
    let rule = policy::succeeded_by(world.spec, &tally.done, total)?;
    Some(Verdict::Success { reason: "SuccessPolicy".into(), message: format!("Matched rules at index {rule}") })
}

fn completed(world: &World<'_>) -> Option<Verdict> {
    let tally = world.tally;
    let complete = match completions(world.spec) {
        Some(wanted) => tally.succeeded >= wanted,
        None => tally.succeeded > 0 && tally.active.is_empty(),
    };
    complete.then(|| Verdict::Success {
        reason: "CompletionsReached".into(),
        message: "Reached expected number of succeeded pods".into(),
    })
}
