//! batch/v1 Job and CronJob.

mod validate;

use serde_json::Value;

use crate::duration;
use crate::kind::{Column, Rules, SelectableField};
use crate::rules::cells::{self, NONE, flag, number, text, text_or};
use crate::rules::fill::{self, Fields};
use crate::rules::plain::{self, WITH_SPEC_AND_STATUS};
use crate::rules::pod;

/// The label that ties pods to their Job by its uid, and the older one with the same value.
pub const CONTROLLER_UID_LABELS: [&str; 2] = ["batch.kubernetes.io/controller-uid", "controller-uid"];
/// The label with the Job's name, and the older one with the same value.
pub const JOB_NAME_LABELS: [&str; 2] = ["batch.kubernetes.io/job-name", "job-name"];

/// Rules of Jobs.
pub static JOB: Rules = Rules {
    default: default_job,
    validate: validate::job,
    warnings: pod::warnings::workload,
    validate_update: validate::job_update,
    validate_status_update: validate::job_status_update,
    prepare_create: prepare_job,
    orphans_by_default: true,
    selectable: &[SelectableField { label: "status.successful", value: successful }],
    columns: JOB_COLUMNS,
    row: job_row,
    ..WITH_SPEC_AND_STATUS
};

/// Rules of CronJobs.
pub static CRON_JOB: Rules = Rules {
    default: default_cron_job,
    validate: validate::cron_job,
    validate_update: validate::cron_job_update,
    prepare_create: plain::empty_status,
    columns: CRON_JOB_COLUMNS,
    row: cron_job_row,
    ..WITH_SPEC_AND_STATUS
};

fn default_job(object: &mut Value) {
    let Some(object) = object.as_object_mut() else { return };
    let Some(spec) = fill::child(object, "spec") else {
        return;
    };
    job_template_spec(spec);
    let labels = spec["template"]["metadata"].get("labels").filter(|l| l.is_object()).cloned();
    job_spec(spec);
    if let (Some(labels), Some(metadata)) = (labels, fill::child(object, "metadata"))
        && fill::is_empty(metadata, "labels")
    {
        metadata.insert("labels".into(), labels);
    }
}

/// What the job template of a CronJob gets too.
fn job_template_spec(spec: &mut Fields) {
    pod::defaults::template(spec, "template");
    let Some(policy) = fill::existing(spec, "podFailurePolicy") else {
        return;
    };
    for rule in fill::items(policy, "rules") {
        for pattern in fill::items(rule, "onPodConditions") {
            fill::text(pattern, "status", "True");
        }
    }
}

fn job_spec(spec: &mut Fields) {
    if fill::is_unset(spec, "completions") && fill::is_unset(spec, "parallelism") {
        spec.insert("completions".into(), 1.into());
    }
    fill::optional(spec, "parallelism", 1);
    let per_index = !fill::is_unset(spec, "backoffLimitPerIndex");
    fill::optional(spec, "backoffLimit", if per_index { i32::MAX } else { 6 });
    fill::optional(spec, "completionMode", "NonIndexed");
    fill::optional(spec, "suspend", false);
    let failure_policy = !fill::is_unset(spec, "podFailurePolicy");
    fill::optional(spec, "podReplacementPolicy", if failure_policy { "Failed" } else { "TerminatingOrFailed" });
    fill::optional(spec, "manualSelector", false);
}

/// A new Job selects its pods by its own uid, unless the client takes care of selectors itself. The server has set
/// `metadata.uid` and `metadata.name` before.
fn prepare_job(object: &mut Value) {
    plain::empty_status(object);
    let (uid, name) = (object["metadata"]["uid"].clone(), object["metadata"]["name"].clone());
    let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) else {
        return;
    };
    if spec.get("manualSelector").and_then(Value::as_bool) == Some(true) {
        return;
    }
    label_template(spec, &uid, &name);
    let Some(selector) = fill::child(spec, "selector") else {
        return;
    };
    let Some(labels) = fill::child(selector, "matchLabels") else {
        return;
    };
    labels.entry(CONTROLLER_UID_LABELS[0]).or_insert(uid);
}

fn label_template(spec: &mut Fields, uid: &Value, name: &Value) {
    let Some(template) = fill::child(spec, "template") else {
        return;
    };
    let Some(metadata) = fill::child(template, "metadata") else {
        return;
    };
    let Some(labels) = fill::child(metadata, "labels") else {
        return;
    };
    for (keys, value) in [(CONTROLLER_UID_LABELS, uid), (JOB_NAME_LABELS, name)] {
        for key in keys {
            labels.entry(key).or_insert_with(|| value.clone());
        }
    }
}

fn default_cron_job(object: &mut Value) {
    let Some(spec) = object.as_object_mut().and_then(|o| fill::child(o, "spec")) else {
        return;
    };
    fill::text(spec, "concurrencyPolicy", "Allow");
    fill::optional(spec, "suspend", false);
    fill::optional(spec, "successfulJobsHistoryLimit", 3);
    fill::optional(spec, "failedJobsHistoryLimit", 1);
    if let Some(job) = fill::child(spec, "jobTemplate")
        && let Some(spec) = fill::child(job, "spec")
    {
        job_template_spec(spec);
    }
}

fn successful(object: &Value) -> String {
    object["status"]["succeeded"].as_i64().unwrap_or_default().to_string()
}

const JOB_COLUMNS: &[Column] = &[
    Column::NAME,
    Column::text("Status", "Whether the job runs, is suspended or how it ended."),
    Column::text("Completions", "Pods that succeeded, of all that must."),
    Column::text("Duration", "How long the job took, or runs already."),
    Column::AGE,
    Column::CONTAINERS,
    Column::IMAGES,
    Column::SELECTOR,
];

fn job_row(object: &Value, now: i64) -> Vec<Value> {
    let (spec, status) = (&object["spec"], &object["status"]);
    let [names, images] = cells::containers(&spec["template"]["spec"]);
    let succeeded = number(&status["succeeded"]);
    let completions = match (spec["completions"].as_i64(), number(&spec["parallelism"])) {
        (Some(wanted), _) => format!("{succeeded}/{wanted}"),
        (None, parallelism) if parallelism > 1 => format!("{succeeded}/1 of {parallelism}"),
        (None, _) => format!("{succeeded}/1"),
    };
    let duration = duration::unix_seconds(&status["startTime"]).map(|start| {
        let end = duration::unix_seconds(&status["completionTime"]).unwrap_or(now);
        duration::human(end.saturating_sub(start))
    });
    vec![
        cells::name(object),
        job_status(object).into(),
        completions.into(),
        duration.unwrap_or_default().into(),
        cells::age(object, now),
        names,
        images,
        cells::selector(&spec["selector"]).into(),
    ]
}

fn job_status(object: &Value) -> &'static str {
    let has = |kind| cells::has_condition(object, kind);
    match () {
        () if has("Complete") => "Complete",
        () if has("Failed") => "Failed",
        () if cells::is_terminating(object) => "Terminating",
        () if has("Suspended") => "Suspended",
        () if has("FailureTarget") => "FailureTarget",
        () if has("SuccessCriteriaMet") => "SuccessCriteriaMet",
        () => "Running",
    }
}

const CRON_JOB_COLUMNS: &[Column] = &[
    Column::NAME,
    Column::text("Schedule", "When jobs start, in cron format."),
    Column::text("Timezone", "Time zone of the schedule."),
    Column::boolean("Suspend", "Whether no further jobs start."),
    Column::integer("Active", "Jobs that run now."),
    Column::text("Last Schedule", "Time since a job was last started."),
    Column::AGE,
    Column::CONTAINERS,
    Column::IMAGES,
    Column::SELECTOR,
];

fn cron_job_row(object: &Value, now: i64) -> Vec<Value> {
    let (spec, status) = (&object["spec"], &object["status"]);
    let job = &spec["jobTemplate"]["spec"];
    let [names, images] = cells::containers(&job["template"]["spec"]);
    let last = &status["lastScheduleTime"];
    vec![
        cells::name(object),
        text(&spec["schedule"]).into(),
        text_or(&spec["timeZone"], NONE).into(),
        (if flag(&spec["suspend"]) { "True" } else { "False" }).into(),
        cells::len(&status["active"]).into(),
        if last.is_null() { NONE.into() } else { duration::since(last, now).into() },
        cells::age(object, now),
        names,
        images,
        cells::selector(&job["selector"]).into(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_new_job_selects_by_its_uid() {
        let mut job = json!({"metadata": {"name": "sum", "uid": "u1"}, "spec": {"template": {"metadata": {"labels": {"a": "b"}}, "spec": {}}}});
        default_job(&mut job);
        assert_eq!(job["metadata"]["labels"], json!({"a": "b"}), "labels come from the template as it was sent");
        prepare_job(&mut job);
        assert_eq!(job["spec"]["selector"], json!({"matchLabels": {"batch.kubernetes.io/controller-uid": "u1"}}));
        let labels = json!({"a": "b", "batch.kubernetes.io/controller-uid": "u1", "controller-uid": "u1",
            "batch.kubernetes.io/job-name": "sum", "job-name": "sum"});
        assert_eq!(job["spec"]["template"]["metadata"]["labels"], labels);
    }

    #[test]
    fn a_work_queue_has_no_completions() {
        for (sent, completions, parallelism) in [
            (json!({}), json!(1), json!(1)),
            (json!({"parallelism": 3}), json!(null), json!(3)),
            (json!({"completions": 3}), json!(3), json!(1)),
        ] {
            let mut job = json!({"metadata": {}, "spec": sent});
            default_job(&mut job);
            assert_eq!((&job["spec"]["completions"], &job["spec"]["parallelism"]), (&completions, &parallelism));
        }
    }
}
