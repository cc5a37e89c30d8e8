//! Finished Jobs go after `spec.ttlSecondsAfterFinished` (batch/v1 Job).

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::Job;
use mizzen_store::Snapshot;

use crate::meta::Meta;
use crate::plan::{ControllerError, Plan, Target, Write};

/// Deletes the Job at `job_key` when its time is over.
///
/// # Errors
/// None: a Job that cannot be read stays.
pub fn reconcile(snapshot: &Snapshot, job_key: &str, now: Timestamp) -> Result<Plan, ControllerError> {
    let mut plan = Plan::default();
    let Some(job) = snapshot.get_as::<Job>(job_key).filter(|j| !j.is_deleting()) else {
        return Ok(plan);
    };
    let Some(due) = due(&job) else { return Ok(plan) };
    if due > now {
        super::again_at(&mut plan, due, now);
        return Ok(plan);
    }
    plan.write(Write::Delete {
        target: Target::of::<Job>(job.namespace(), job.name()),
        uid: job.uid().to_string(),
        resource_version: Some(job.version().to_string()),
        propagation: Some("Foreground"),
        grace_seconds: None,
    });
    Ok(plan)
}

fn due(job: &Job) -> Option<Timestamp> {
    let ttl = job.spec.as_ref()?.ttl_seconds_after_finished?;
    let status = job.status.as_ref()?;
    let end = super::condition(status, "Complete").or_else(|| super::condition(status, "Failed"))?;
    let since = end.last_transition_time.as_ref()?.0;
    since.checked_add(SignedDuration::from_secs(i64::from(ttl))).ok()
}

#[cfg(test)]
mod tests {
    use crate::testing::check;

    #[test]
    fn finished_jobs_go_when_their_time_is_over() {
        let done = |at: &str, ttl: u32| {
            format!(
                r#"job/d/a spec.ttlSecondsAfterFinished={ttl} status.conditions=[{{"type":"Complete","status":"True","lastTransitionTime":"{at}"}}]"#
            )
        };
        for (case, world, writes) in [
            ("over", done("1970-01-12T13:00:00Z", 60), "delete jobs d/a"),
            ("not yet", done("1970-01-12T13:46:00Z", 60), ""),
            ("not finished", "job/d/a spec.ttlSecondsAfterFinished=0".into(), ""),
        ] {
            check(case, &world, "batch/jobs/d/a", super::reconcile, writes);
        }
    }
}
