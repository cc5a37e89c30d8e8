//! What new and changed Jobs and CronJobs may be.

use serde_json::Value;

use crate::cron;
use crate::field::FieldError;
use crate::names;
use crate::rules::cells::{self, flag, list, number, text};
use crate::rules::check::{At, Errors, IMMUTABLE, same};
use crate::rules::job::{CONTROLLER_UID_LABELS, JOB_NAME_LABELS};
use crate::rules::{metadata, pod, selector, workload};

/// Pods of one indexed job at once.
const INDEXED_PARALLELISM_MAX: i64 = 100_000;
/// Completions beyond which per-index back-off needs further bounds.
const COMPLETIONS_SOFT: i64 = 100_000;
/// Parallelism and failed indexes of jobs beyond [`COMPLETIONS_SOFT`].
const HIGH_COMPLETIONS_MAX: i64 = 10_000;
const POLICY_RULES_MAX: usize = 20;
const EXIT_CODES_MAX: usize = 255;
const MANAGED_BY_MAX: usize = 63;

/// Errors of a new Job.
pub fn job(object: &Value) -> Vec<FieldError> {
    let (spec, at, mut errors) = (&object["spec"], At::ROOT.field("spec"), Errors::default());
    generated_selector(object, &mut errors);
    if spec["selector"].is_null() {
        errors.required(&at.field("selector"), "");
    } else {
        selector::label_selector(&spec["selector"], &at.field("selector"), &mut errors);
    }
    job_spec(spec, &at, &mut errors);
    let picked = selector::matches(&spec["selector"], &spec["template"]["metadata"]["labels"]);
    workload::unpicked(spec, picked, &at.field("template"), &mut errors);
    let (completions, name) = (number(&spec["completions"]), text(&object["metadata"]["name"]));
    if spec["completionMode"] == "Indexed" && completions > 0 {
        let host = format!("{name}-{}", completions - 1);
        if !names::dns1123_label(&host).is_empty() {
            let detail = format!("will not able to create pod with invalid DNS label: {host}");
            errors.invalid(&At::ROOT.field("metadata").field("name"), name, detail);
        }
    }
    errors.0
}

/// Without `manualSelector` the labels that the server set must be there, and the selector must be its own.
fn generated_selector(object: &Value, errors: &mut Errors) {
    let spec = &object["spec"];
    if flag(&spec["manualSelector"]) || spec["selector"].is_null() {
        return;
    }
    let (uid, name) = (text(&object["metadata"]["uid"]), text(&object["metadata"]["name"]));
    let (labels, at) = (&spec["template"]["metadata"]["labels"], At::ROOT.field("spec"));
    let template = at.field("template");
    let at_labels = template.field("metadata");
    let at_labels = at_labels.field("labels");
    let mut expected = serde_json::Map::new();
    for (keys, value) in [(CONTROLLER_UID_LABELS, uid), (JOB_NAME_LABELS, name)] {
        for key in keys {
            match labels.get(key) {
                None => errors.required(&at_labels.key(key), &format!("must be '{value}'")),
                Some(label) if label != value => {
                    errors.invalid(&at_labels.key(key), label, format!("must be '{value}'"));
                }
                Some(_) => {}
            }
            expected.insert(key.into(), value.into());
        }
    }
    if !selector::matches(&spec["selector"], &Value::Object(expected)) {
        errors.invalid(&at.field("selector"), &spec["selector"], "`selector` not auto-generated");
    }
}

fn job_spec(spec: &Value, at: &At<'_>, errors: &mut Errors) {
    let counts = [
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
        "backoffLimitPerIndex",
        "maxFailedIndexes",
    ];
    workload::counts(spec, &counts, at, errors);
    errors.one_of(&at.field("completionMode"), &spec["completionMode"], &["NonIndexed", "Indexed"]);
    if spec["completionMode"] == "Indexed" {
        indexed(spec, at, errors)
    } else {
        not_indexed(spec, at, errors)
    }
    if !spec["maxFailedIndexes"].is_null() && spec["backoffLimitPerIndex"].is_null() {
        errors.required(&at.field("backoffLimitPerIndex"), "when maxFailedIndexes is specified");
    }
    if !spec["managedBy"].is_null() {
        managed_by(&spec["managedBy"], &at.field("managedBy"), errors);
    }
    failure_policy(spec, &at.field("podFailurePolicy"), errors);
    success_policy(spec, &at.field("successPolicy"), errors);
    let replacement: &[&str] =
        if spec["podFailurePolicy"].is_null() { &["Failed", "TerminatingOrFailed"] } else { &["Failed"] };
    errors.one_of(&at.field("podReplacementPolicy"), &spec["podReplacementPolicy"], replacement);
    let template = at.field("template");
    pod::spec::template(&spec["template"], &template, errors);
    restart_policy(spec, &template.field("spec").field("restartPolicy"), errors);
}

fn restart_policy(spec: &Value, at: &At<'_>, errors: &mut Errors) {
    match &spec["template"]["spec"]["restartPolicy"] {
        Value::Null => errors.required(at, "valid values: \"OnFailure\", \"Never\""),
        policy => match text(policy) {
            "Always" | "" => errors.required(at, "valid values: \"OnFailure\", \"Never\""),
            "Never" => {}
            "OnFailure" if spec["podFailurePolicy"].is_null() => {}
            "OnFailure" => errors.invalid(at, policy, "only \"Never\" is supported when podFailurePolicy is specified"),
            _ => errors.one_of(at, policy, &["OnFailure", "Never"]),
        },
    }
}

fn indexed(spec: &Value, at: &At<'_>, errors: &mut Errors) {
    let (completions, parallelism, failed) = (&spec["completions"], &spec["parallelism"], &spec["maxFailedIndexes"]);
    if completions.is_null() {
        errors.required(&at.field("completions"), "when completion mode is Indexed");
    }
    if number(parallelism) > INDEXED_PARALLELISM_MAX {
        let detail = format!("must be less than or equal to {INDEXED_PARALLELISM_MAX} when completion mode is Indexed");
        errors.invalid(&at.field("parallelism"), parallelism, detail);
    }
    let at_failed = at.field("maxFailedIndexes");
    if !completions.is_null() && number(failed) > number(completions) {
        errors.invalid(&at_failed, failed, "must be less than or equal to completions");
    }
    if number(completions) > COMPLETIONS_SOFT && !spec["backoffLimitPerIndex"].is_null() {
        let detail = format!(
            "must be less than or equal to {HIGH_COMPLETIONS_MAX} when completions are above \
            {COMPLETIONS_SOFT} and used with backoff limit per index"
        );
        if failed.is_null() {
            errors.required(&at_failed, &format!("must be specified when completions is above {COMPLETIONS_SOFT}"));
        }
        if number(parallelism) > HIGH_COMPLETIONS_MAX {
            errors.invalid(&at.field("parallelism"), parallelism, detail.as_str());
        }
        if number(failed) > HIGH_COMPLETIONS_MAX {
            errors.invalid(&at_failed, failed, detail);
        }
    }
}

fn not_indexed(spec: &Value, at: &At<'_>, errors: &mut Errors) {
    for field in ["backoffLimitPerIndex", "maxFailedIndexes", "successPolicy"] {
        if !spec[field].is_null() {
            errors.invalid(&at.field(field), &spec[field], "requires indexed completion mode");
        }
    }
}

fn managed_by(value: &Value, at: &At<'_>, errors: &mut Errors) {
    let name = text(value);
    if name.len() > MANAGED_BY_MAX {
        errors.too_long(at, MANAGED_BY_MAX);
    }
    match name.split_once('/') {
        Some((domain, path)) if !path.is_empty() => errors.all(at, value, names::dns1123_subdomain(domain)),
        _ => errors.invalid(at, value, "must be a domain-prefixed path (such as \"acme.io/foo\")"),
    }
}

fn failure_policy(spec: &Value, at: &At<'_>, errors: &mut Errors) {
    let (rules, at) = (list(&spec["podFailurePolicy"]["rules"]), at.field("rules"));
    if rules.len() > POLICY_RULES_MAX {
        errors.0.push(FieldError::too_many(at.to_string(), rules.len(), POLICY_RULES_MAX));
    }
    for (i, rule) in rules.iter().enumerate() {
        let at = at.index(i);
        let action = &rule["action"];
        match text(action) {
            "" => {
                errors.required(&at.field("action"), "valid values: [\"Count\" \"FailIndex\" \"FailJob\" \"Ignore\"]")
            }
            "FailIndex" if spec["backoffLimitPerIndex"].is_null() => {
                errors.invalid(&at.field("action"), action, "requires the backoffLimitPerIndex to be set");
            }
            _ => errors.one_of(&at.field("action"), action, &["Count", "FailIndex", "FailJob", "Ignore"]),
        }
        let (codes, conditions) = (&rule["onExitCodes"], list(&rule["onPodConditions"]));
        if !codes.is_null() {
            exit_codes(spec, codes, &at.field("onExitCodes"), errors);
        }
        conditions_of(conditions, &at.field("onPodConditions"), errors);
        match (codes.is_null(), conditions.is_empty()) {
            (false, false) => {
                errors.invalid(&at, rule, "specifying both OnExitCodes and OnPodConditions is not supported")
            }
            (true, true) => errors.invalid(&at, rule, "specifying one of OnExitCodes and OnPodConditions is required"),
            _ => {}
        }
    }
}

fn exit_codes(spec: &Value, codes: &Value, at: &At<'_>, errors: &mut Errors) {
    errors.required_one_of(&at.field("operator"), &codes["operator"], &["In", "NotIn"]);
    let pod = &spec["template"]["spec"];
    let container = &codes["containerName"];
    let mut all = list(&pod["containers"]).iter().chain(list(&pod["initContainers"]));
    if !container.is_null() && !all.any(|one| one["name"] == *container) {
        let detail = "must be one of the container or initContainer names in the pod template";
        errors.invalid(&at.field("containerName"), container, detail);
    }
    let (values, at) = (list(&codes["values"]), at.field("values"));
    match values.len() {
        0 => errors.invalid(&at, values, "at least one value is required"),
        n if n > EXIT_CODES_MAX => errors.0.push(FieldError::too_many(at.to_string(), n, EXIT_CODES_MAX)),
        _ => {}
    }
    for (i, value) in values.iter().enumerate() {
        if codes["operator"] == "In" && number(value) == 0 {
            errors.invalid(&at.index(i), value, "must not be 0 for the In operator");
        }
        if values[..i].contains(value) {
            errors.duplicate(&at.index(i), value);
        }
    }
    if values.windows(2).any(|pair| number(&pair[0]) > number(&pair[1])) {
        errors.invalid(&at, values, "must be ordered");
    }
}

fn conditions_of(conditions: &[Value], at: &At<'_>, errors: &mut Errors) {
    if conditions.len() > POLICY_RULES_MAX {
        errors.0.push(FieldError::too_many(at.to_string(), conditions.len(), POLICY_RULES_MAX));
    }
    for (i, condition) in conditions.iter().enumerate() {
        let (at, kind) = (at.index(i), text(&condition["type"]));
        errors.all(&at.field("type"), kind, names::qualified_name(kind));
        errors.required_one_of(&at.field("status"), &condition["status"], &["False", "True", "Unknown"]);
    }
}

fn success_policy(spec: &Value, at: &At<'_>, errors: &mut Errors) {
    if spec["successPolicy"].is_null() || spec["completionMode"] != "Indexed" {
        return;
    }
    let (rules, at) = (list(&spec["successPolicy"]["rules"]), at.field("rules"));
    if rules.is_empty() {
        errors.required(&at, "at least one rules must be specified when the successPolicy is specified");
    }
    if rules.len() > POLICY_RULES_MAX {
        errors.0.push(FieldError::too_many(at.to_string(), rules.len(), POLICY_RULES_MAX));
    }
    for (i, rule) in rules.iter().enumerate() {
        let (at, count) = (at.index(i), &rule["succeededCount"]);
        if count.is_null() && rule["succeededIndexes"].is_null() {
            errors.required(&at, "at least one of succeededCount or succeededIndexes must be specified");
        }
        errors.positive(&at.field("succeededCount"), count);
        let completions = number(&spec["completions"]);
        if number(count) > completions {
            let detail = format!("must be less than or equal to {completions} (the number of specified completions)");
            errors.invalid(&at.field("succeededCount"), count, detail);
        }
    }
}

/// Errors of a changed Job: most of its spec stays as it is.
pub fn job_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let (spec, stored, at) = (&new["spec"], &old["spec"], At::ROOT.field("spec"));
    if same(spec, stored) {
        return Vec::new();
    }
    let mut errors = Errors::default();
    job_spec(spec, &at, &mut errors);
    if !same(&spec["completions"], &stored["completions"]) {
        let in_tandem = spec["completionMode"] == "Indexed" && !spec["completions"].is_null();
        if !in_tandem {
            errors.invalid(&at.field("completions"), &spec["completions"], IMMUTABLE);
        } else if spec["completions"] != spec["parallelism"] {
            let detail = "can only be modified in tandem with spec.parallelism";
            errors.invalid(&at.field("completions"), &spec["completions"], detail);
        }
    }
    let fixed =
        ["selector", "completionMode", "podFailurePolicy", "backoffLimitPerIndex", "managedBy", "successPolicy"];
    for field in fixed {
        errors.immutable(&at.field(field), &spec[field], &stored[field]);
    }
    template_update(new, old, &at.field("template"), &mut errors);
    errors.0
}

/// A suspended job that never ran may still be placed elsewhere and sized otherwise.
fn template_update(new: &Value, old: &Value, at: &At<'_>, errors: &mut Errors) {
    let (template, stored) = (&new["spec"]["template"], &old["spec"]["template"]);
    if same(template, stored) {
        return;
    }
    let open = flag(&old["spec"]["suspend"]) && old["status"]["startTime"].is_null();
    let without = |template: &Value| {
        let mut fixed = template.clone();
        if let Some(spec) = fixed.get_mut("spec").and_then(Value::as_object_mut) {
            for field in ["nodeSelector", "tolerations", "affinity", "schedulingGates"] {
                spec.shift_remove(field);
            }
            for kind in ["containers", "initContainers"] {
                for container in crate::rules::fill::items(spec, kind) {
                    container.shift_remove("resources");
                }
            }
        }
        if let Some(metadata) = fixed.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.shift_remove("labels");
            metadata.shift_remove("annotations");
        }
        fixed
    };
    if !open || !same(&without(template), &without(stored)) {
        errors.invalid(at, template, IMMUTABLE);
    }
}

/// Errors of a changed Job status: what is over is over.
pub fn job_status_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let (status, at, mut errors) = (&new["status"], At::ROOT.field("status"), Errors::default());
    let counts = ["active", "succeeded", "failed", "ready", "terminating"];
    workload::counts(status, &counts, &at, &mut errors);
    let (complete, failed) = (cells::has_condition(new, "Complete"), cells::has_condition(new, "Failed"));
    let conditions = at.field("conditions");
    if complete && failed {
        errors.invalid(&conditions, &status["conditions"], "cannot set Complete=True and Failed=true conditions");
    }
    for kind in ["Failed", "Complete", "FailureTarget", "SuccessCriteriaMet"] {
        if cells::has_condition(old, kind) && !cells::has_condition(new, kind) {
            let detail = format!("cannot disable the terminal {kind}=True condition");
            errors.invalid(&conditions, &status["conditions"], detail);
        }
    }
    if (complete || failed) && number(&status["active"]) > 0 {
        errors.invalid(&at.field("active"), &status["active"], "active>0 is invalid for finished job");
    }
    if complete && status["completionTime"].is_null() {
        errors.required(&at.field("completionTime"), "completionTime is required for Complete jobs");
    }
    if !complete && !status["completionTime"].is_null() {
        let detail = "cannot set completionTime when there is no Complete=True condition";
        errors.invalid(&at.field("completionTime"), &status["completionTime"], detail);
    }
    errors.0
}

/// Errors of a new CronJob.
pub fn cron_job(object: &Value) -> Vec<FieldError> {
    let (spec, at, mut errors) = (&object["spec"], At::ROOT.field("spec"), Errors::default());
    match text(&spec["schedule"]) {
        "" => errors.required(&at.field("schedule"), ""),
        schedule => schedule_form(schedule, &at.field("schedule"), &mut errors),
    }
    time_zone(&spec["timeZone"], &at.field("timeZone"), &mut errors);
    cron_job_rest(spec, &at, &mut errors);
    errors.0
}

/// Errors of a changed CronJob.
pub fn cron_job_update(new: &Value, old: &Value) -> Vec<FieldError> {
    if same(&new["spec"], &old["spec"]) { Vec::new() } else { cron_job(new) }
}

fn cron_job_rest(spec: &Value, at: &At<'_>, errors: &mut Errors) {
    let counts = ["startingDeadlineSeconds", "successfulJobsHistoryLimit", "failedJobsHistoryLimit"];
    workload::counts(spec, &counts, at, errors);
    let policy = &spec["concurrencyPolicy"];
    errors.required_one_of(&at.field("concurrencyPolicy"), policy, &["Allow", "Forbid", "Replace"]);
    let (template, at) = (&spec["jobTemplate"], at.field("jobTemplate"));
    metadata::labels(&template["metadata"]["labels"], &at.field("metadata").field("labels"), errors);
    let (job, at) = (&template["spec"], at.field("spec"));
    if !job["selector"].is_null() {
        errors.invalid(&at.field("selector"), &job["selector"], "`selector` will be auto-generated");
    }
    if flag(&job["manualSelector"]) {
        errors.0.push(FieldError::not_supported(at.field("manualSelector").to_string(), true, &["nil", "false"]));
    }
    job_spec(job, &at, errors);
}

fn schedule_form(schedule: &str, at: &At<'_>, errors: &mut Errors) {
    if schedule.contains("TZ") {
        errors.invalid(at, schedule, "cannot use TZ or CRON_TZ in schedule, use timeZone field instead");
    } else if let Err(error) = schedule.parse::<cron::Schedule>() {
        errors.invalid(at, schedule, error.to_string());
    }
}

fn time_zone(zone: &Value, at: &At<'_>, errors: &mut Errors) {
    if zone.is_null() {
        return;
    }
    let name = text(zone);
    let is_part = |part: &str| {
        !matches!(part, "" | "." | "..")
            && !part.starts_with('-')
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-+".contains(&byte))
    };
    if name.is_empty() {
        errors.invalid(at, zone, "timeZone must be nil or non-empty string");
    } else if name.eq_ignore_ascii_case("local") {
        let detail = "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones";
        errors.invalid(at, zone, detail);
    } else if !name.split('/').all(is_part) || jiff::tz::TimeZone::get(name).is_err() {
        errors.invalid(at, zone, format!("unknown time zone {name}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::check::testing::{Case, check};
    use crate::rules::job::{CRON_JOB, JOB};
    use serde_json::json;

    fn job_with(change: impl Fn(&mut Value)) -> Value {
        let mut object = json!({"metadata": {"name": "sum", "uid": "u"}, "spec": {"template": {"spec": {
            "restartPolicy": "Never", "containers": [{"name": "c", "image": "a:1"}]}}}});
        change(&mut object["spec"]);
        (JOB.default)(&mut object);
        (JOB.prepare_create)(&mut object);
        object
    }

    #[test]
    fn new_jobs() {
        let cases: &[Case] = &[
            ("good", |_| {}, &[]),
            (
                "restarts for ever",
                |s| s["template"]["spec"]["restartPolicy"] = json!("Always"),
                &["spec.template.spec.restartPolicy: Required value: valid values: \"OnFailure\", \"Never\""],
            ),
            (
                "own selector",
                |s| s["selector"] = json!({"matchLabels": {"a": "b"}}),
                &[
                    "spec.selector: Invalid value: {\"matchLabels\":{\"a\":\"b\",",
                    "spec.template.metadata.labels: Invalid value: ",
                ],
            ),
            (
                "indexed without number",
                |s| {
                    s["completionMode"] = json!("Indexed");
                    s["parallelism"] = json!(2)
                },
                &["spec.completions: Required value: when completion mode is Indexed"],
            ),
            (
                "back-off per index",
                |s| s["backoffLimitPerIndex"] = json!(1),
                &["spec.backoffLimitPerIndex: Invalid value: 1: requires indexed completion mode"],
            ),
            (
                "failure policy",
                |s| {
                    s["podFailurePolicy"] =
                        json!({"rules": [{"action": "FailJob", "onExitCodes": {"operator": "In", "values": [0]}}]})
                },
                &[
                    "spec.podFailurePolicy.rules[0].onExitCodes.values[0]: Invalid value: 0: must not be 0 for the In operator",
                ],
            ),
        ];
        for (case, change, errors) in cases {
            check(case, &job(&job_with(change)), errors);
        }
    }

    #[test]
    fn changed_jobs() {
        let cases: &[Case] = &[
            ("parallelism", |s| s["parallelism"] = json!(2), &[]),
            (
                "completions",
                |s| s["completions"] = json!(2),
                &["spec.completions: Invalid value: 2: field is immutable"],
            ),
            (
                "image",
                |s| s["template"]["spec"]["containers"][0]["image"] = json!("a:2"),
                &["spec.template: Invalid value: "],
            ),
        ];
        for (case, change, errors) in cases {
            let old = job_with(|_| {});
            let mut new = old.clone();
            change(&mut new["spec"]);
            check(case, &job_update(&new, &old), errors);
        }
    }

    #[test]
    fn schedules() {
        for (schedule, zone, errors) in [
            ("*/5 * * * *", json!(null), &[][..]),
            ("@hourly", json!("Europe/Berlin"), &[]),
            ("", json!(null), &["spec.schedule: Required value"]),
            ("* * * *", json!(null), &["spec.schedule: Invalid value: \"* * * *\": "]),
            ("TZ=UTC * * * * *", json!(null), &["spec.schedule: Invalid value: \"TZ=UTC * * * * *\": cannot use TZ"]),
            (
                "@daily",
                json!("Mars/Base"),
                &["spec.timeZone: Invalid value: \"Mars/Base\": unknown time zone Mars/Base"],
            ),
        ] {
            let mut object = json!({"metadata": {"name": "a"}, "spec": {"schedule": schedule, "timeZone": zone, "jobTemplate": {"spec":
                {"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "a:1"}]}}}}}});
            (CRON_JOB.default)(&mut object);
            check(schedule, &cron_job(&object), errors);
        }
    }
}
