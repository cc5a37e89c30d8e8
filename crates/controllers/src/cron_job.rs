//! CronJob: starts Jobs at the times of its schedule (batch/v1 CronJob; api-facts §9.7).
//!
//! Reads CronJobs and Jobs. Creates and deletes Jobs, and writes the status.

use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::{CronJob, CronJobSpec, CronJobStatus, Job};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use mizzen_api::cron::Schedule;
use mizzen_api::key;
use mizzen_store::Snapshot;
use serde_json::{Value, json};

use crate::job::is_finished;
use crate::meta::{self, Meta};
use crate::plan::{ControllerError, Plan, Target, Write};

/// Annotation with the time that a Job was meant for.
const SCHEDULED: &str = "batch.kubernetes.io/cronjob-scheduled-timestamp";
/// More missed times than this are told: the clock or the schedule may be wrong.
const MISSED_MAX: usize = 100;

/// The writes that bring the Jobs of the CronJob at `cron_key` in line with its schedule.
///
/// # Errors
/// [`ControllerError::Unreadable`] for schedule or time zone.
pub fn reconcile(snapshot: &Snapshot, cron_key: &str, now: Timestamp) -> Result<Plan, ControllerError> {
    let mut plan = Plan::default();
    let Some(cron) = snapshot.get_as::<CronJob>(cron_key) else { return Ok(plan) };
    let spec = &cron.spec;
    let prefix = key::in_namespace::<Job>(cron.namespace());
    let jobs: Vec<Arc<Job>> = snapshot.list_as::<Job>(&prefix).filter(|j| j.is_controlled_by(cron.uid())).collect();
    let old = cron.status.clone().unwrap_or_default();
    let mut new = follow(&cron, &old, &jobs, &mut plan);
    if !cron.is_deleting() {
        clean_up(spec, &jobs, &cron, &mut plan);
        if spec.suspend != Some(true) {
            let zoned = zone(cron_key, spec)?;
            let schedule = spec.schedule.parse::<Schedule>().map_err(|e| unreadable(cron_key, "spec.schedule", &e))?;
            let turn = Turn { cron: &cron, spec, jobs: &jobs, schedule, zone: zoned, now };
            turn.take(&mut new, &mut plan);
        }
    }
    plan.status(&*cron, &old, &new);
    Ok(plan)
}

fn unreadable(object: &str, field: &'static str, why: &dyn std::fmt::Display) -> ControllerError {
    ControllerError::Unreadable { object: object.into(), field, message: why.to_string() }
}

fn zone(object: &str, spec: &CronJobSpec) -> Result<TimeZone, ControllerError> {
    match spec.time_zone.as_deref() {
        None | Some("") => Ok(TimeZone::UTC),
        Some(name) => TimeZone::get(name).map_err(|e| unreadable(object, "spec.timeZone", &e)),
    }
}

fn has_ended(job: &Job) -> bool {
    job.status.as_ref().is_some_and(is_finished)
}

fn started(job: &Job) -> Option<Timestamp> {
    job.status.as_ref()?.start_time.as_ref().map(|t| t.0)
}

/// The list of running Jobs and the last success.
fn follow(cron: &CronJob, old: &CronJobStatus, jobs: &[Arc<Job>], plan: &mut Plan) -> CronJobStatus {
    let running = jobs.iter().filter(|j| !has_ended(j));
    let active: Vec<_> = running.map(|j| meta::reference(&**j)).collect();
    for before in old.active.iter().flatten() {
        let job = jobs.iter().find(|j| before.uid.as_deref() == Some(j.uid()));
        let name = before.name.clone().unwrap_or_default();
        match job.filter(|j| has_ended(j)) {
            Some(job) => {
                let how = if ended_well(job).is_some() { "Complete" } else { "Failed" };
                let message = format!("Saw completed job: {name}, condition: {how}");
                plan.say(cron, "SawCompletedJob", message);
            }
            None if job.is_none() => {
                let message = format!("Active job went missing: {name}");
                plan.say(cron, "MissingJob", message);
            }
            None => {}
        }
    }
    let success = jobs.iter().filter_map(|j| ended_well(j)).max().map(Time);
    CronJobStatus {
        active: Some(active).filter(|a| !a.is_empty()),
        last_schedule_time: old.last_schedule_time.clone(),
        last_successful_time: success.max(old.last_successful_time.clone()),
    }
}

fn ended_well(job: &Job) -> Option<Timestamp> {
    let status = job.status.as_ref()?;
    let complete = status.conditions.iter().flatten().any(|c| c.type_ == "Complete" && c.status == "True");
    status.completion_time.as_ref().filter(|_| complete).map(|t| t.0)
}

/// Deletes the oldest finished Jobs beyond what is to be kept.
fn clean_up(spec: &CronJobSpec, jobs: &[Arc<Job>], cron: &CronJob, plan: &mut Plan) {
    for (well, limit) in
        [(true, spec.successful_jobs_history_limit.unwrap_or(3)), (false, spec.failed_jobs_history_limit.unwrap_or(1))]
    {
        let kept = usize::try_from(limit).unwrap_or(0);
        let ended = |j: &&Arc<Job>| !j.is_deleting() && has_ended(j) && ended_well(j).is_some() == well;
        let mut ended: Vec<&Arc<Job>> = jobs.iter().filter(ended).collect();
        ended.sort_by_cached_key(|j| (started(j), j.name().to_string()));
        for job in ended.iter().take(ended.len().saturating_sub(kept)) {
            delete(cron, job, plan);
        }
    }
}

fn delete(cron: &CronJob, job: &Job, plan: &mut Plan) {
    plan.say(cron, "SuccessfulDelete", format!("Deleted job {}", job.name()));
    plan.write(Write::Delete {
        target: Target::of::<Job>(job.namespace(), job.name()),
        uid: job.uid().to_string(),
        resource_version: None,
        propagation: Some("Background"),
        grace_seconds: None,
    });
}

/// One look at a schedule.
struct Turn<'a> {
    cron: &'a Arc<CronJob>,
    spec: &'a CronJobSpec,
    jobs: &'a [Arc<Job>],
    schedule: Schedule,
    zone: TimeZone,
    now: Timestamp,
}

impl Turn<'_> {
    /// Starts the Job of the latest time that has come, and looks again at the next.
    fn take(&self, status: &mut CronJobStatus, plan: &mut Plan) {
        let (due, missed, next) = self.times(status);
        if let Some(next) = next {
            let wait = Duration::try_from(next.duration_since(self.now)).unwrap_or_default();
            plan.again(wait + Duration::from_millis(20));
        }
        if missed > MISSED_MAX {
            let message = format!(
                "too many missed start times: {missed}. Set or decrease .spec.startingDeadlineSeconds or check clock skew"
            );
            plan.warn(&**self.cron, "TooManyMissedTimes", message);
        }
        let Some(due) = due else { return };
        if self.spec.starting_deadline_seconds.is_some_and(|s| self.now.duration_since(due).as_secs() > s) {
            let message = format!("Missed scheduled time to start a job: {due}");
            plan.warn(&**self.cron, "MissSchedule", message);
            return;
        }
        let name = format!("{}-{}", self.cron.name(), due.as_second() / 60);
        if self.jobs.iter().any(|j| j.name() == name) {
            status.last_schedule_time = Some(Time(due));
            return;
        }
        let running: Vec<&Arc<Job>> = self.jobs.iter().filter(|j| !has_ended(j)).collect();
        match self.spec.concurrency_policy.as_deref() {
            Some("Forbid") if !running.is_empty() => {
                let message = "Not starting job because prior execution is running and concurrency policy is Forbid";
                plan.say(&**self.cron, "JobAlreadyActive", message.into());
                return;
            }
            Some("Replace") => {
                for job in running.iter().filter(|j| !j.is_deleting()) {
                    delete(self.cron, job, plan);
                }
            }
            _ => {}
        }
        plan.say(&**self.cron, "SuccessfulCreate", format!("Created job {name}"));
        // That it was started is written when it is there, so that a refused Job is tried again.
        plan.write(Write::Create { object: self.job(&name, due) });
    }

    /// The latest time that has come since the last start, how many have, and the next.
    fn times(&self, status: &CronJobStatus) -> (Option<Timestamp>, usize, Option<Timestamp>) {
        let created = self.cron.created().unwrap_or(self.now);
        let mut earliest = status.last_schedule_time.as_ref().map_or(created, |t| t.0);
        if let Some(seconds) = self.spec.starting_deadline_seconds
            && let Ok(limit) = self.now.checked_sub(SignedDuration::from_secs(seconds))
        {
            earliest = earliest.max(limit);
        }
        let start = earliest.to_zoned(self.zone.clone());
        let (mut missed, mut at) = (0, start.clone());
        while missed <= MISSED_MAX
            && let Some(next) = self.schedule.next_after(&at)
            && next.timestamp() <= self.now
        {
            missed += 1;
            at = next;
        }
        let latest = if missed > MISSED_MAX { self.latest(earliest) } else { Some(at.timestamp()) };
        let latest = latest.filter(|_| missed > 0);
        let from = match (&self.schedule, latest) {
            // Counted from the last start.
            (Schedule::Every(_), Some(latest)) => latest.to_zoned(self.zone.clone()),
            (Schedule::Every(_), None) => start,
            (Schedule::Fields(_), _) => self.now.to_zoned(self.zone.clone()),
        };
        (latest, missed, self.schedule.next_after(&from).map(|t| t.timestamp()))
    }

    /// The latest time that has come, when there are too many since `earliest` to go through: the first window before now
    /// that holds any, from short to long, holds few.
    fn latest(&self, earliest: Timestamp) -> Option<Timestamp> {
        if let Schedule::Every(span) = &self.schedule {
            let (span, passed) = (span.as_secs().max(1), self.now.duration_since(earliest).as_secs());
            return earliest.checked_add(SignedDuration::from_secs(passed / span * span)).ok();
        }
        for hours in [1, 24, 24 * 32, 24 * 366, 24 * 366 * 5] {
            let start = self.now.checked_sub(SignedDuration::from_hours(hours)).unwrap_or(earliest).max(earliest);
            let (mut at, mut found) = (start.to_zoned(self.zone.clone()), None);
            while let Some(next) = self.schedule.next_after(&at)
                && next.timestamp() <= self.now
            {
                found = Some(next.timestamp());
                at = next;
            }
            if found.is_some() {
                return found;
            }
        }
        None
    }

    fn job(&self, name: &str, due: Timestamp) -> Value {
        let template = &self.spec.job_template;
        let meta = template.metadata.clone().unwrap_or_default();
        let mut annotations = meta.annotations.unwrap_or_default();
        let zoned = due.to_zoned(self.zone.clone());
        annotations.insert(SCHEDULED.into(), zoned.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string().replace("+00:00", "Z"));
        json!({
            "apiVersion": "batch/v1", "kind": "Job",
            "metadata": {"name": name, "namespace": self.cron.namespace(), "labels": meta.labels.unwrap_or_default(),
                "annotations": annotations, "ownerReferences": [meta::owner_of(&**self.cron)]},
            "spec": template.spec,
        })
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::check;

    /// It is 13:46:40 on 12 January 1970.
    #[test]
    fn jobs_start_when_their_time_has_come() {
        let owned = "owner=CronJob/c metadata.ownerReferences.0.controller=true";
        let done = |at: &str| {
            let status = format!(
                r#"{{"startTime":"{at}","completionTime":"{at}","conditions":[{{"type":"Complete","status":"True"}}]}}"#
            );
            format!("{owned} .status={status}")
        };
        let (running, status) = (format!("job/d/old {owned}"), "patch cronjobs/status d/c");
        let minutely = r#"spec.schedule="*/1\u0020*\u0020*\u0020*\u0020*""#;
        let last = |at: &str| format!(r#"status.lastScheduleTime="1970-01-12T{at}Z""#);
        let replaced = format!("delete jobs d/old; create Job d/c-16620; {status}");
        let history = format!("job/d/a {}; job/d/b {}", done("1970-01-12T12:00:00Z"), done("1970-01-12T13:00:00Z"));
        let deleted = format!("delete jobs d/a; {status}");
        for (case, spec, at, jobs, writes) in [
            ("its time has come", "spec.schedule=@hourly", "12:00:00", "", "create Job d/c-16620"),
            ("every minute", minutely, "13:45:00", "", "create Job d/c-16666"),
            ("only the latest of many", minutely, "01:00:00", "", "create Job d/c-16666"),
            ("done for now", minutely, "13:46:00", "", ""),
            ("suspended", "spec.schedule=@hourly spec.suspend=true", "12:00:00", "", ""),
            ("too late", "spec.schedule=@hourly spec.startingDeadlineSeconds=60", "12:00:00", "", ""),
            ("in its time zone", "spec.schedule=@daily spec.timeZone=Asia/Kolkata", "12:00:00", "", ""),
            ("one is running", "spec.schedule=@hourly spec.concurrencyPolicy=Forbid", "12:00:00", &running, status),
            (
                "one is replaced",
                "spec.schedule=@hourly spec.concurrencyPolicy=Replace",
                "12:00:00",
                &running,
                &replaced,
            ),
            (
                "history is short",
                "spec.schedule=@hourly spec.successfulJobsHistoryLimit=1",
                "13:00:00",
                &history,
                &deleted,
            ),
        ] {
            let world = format!("cronjob/d/c {spec} {}; {jobs}", last(at));
            check(case, &world, "batch/cronjobs/d/c", super::reconcile, writes);
        }
    }
}
