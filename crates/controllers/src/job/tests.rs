use crate::testing::check;

const KEY: &str = "batch/jobs/d/web";
const STARTED: &str = r#"status.startTime="1970-01-12T13:00:00Z""#;
const TRACKED: &str =
    "owner=Job/web label=web metadata.ownerReferences.0.controller=true finalizer=batch.kubernetes.io/job-tracking";
const ENDED: &str = r#"status.containerStatuses=[{"name":"c","image":"i","imageID":"i","ready":false,"restartCount":0,"state":{"terminated":{"exitCode":3,"finishedAt":"1970-01-12T13:10:00Z"}}}]"#;

fn run(case: &str, spec: &str, pods: &[&str], writes: &str) {
    let pods: Vec<String> = pods.iter().map(|p| format!("pod/d/{p} {TRACKED}")).collect();
    let world = format!("job/d/web {STARTED} {spec}; {}", pods.join("; "));
    check(case, &world, KEY, super::reconcile, writes);
}

#[test]
fn pods_are_made_until_enough_have_succeeded() {
    let status = "patch jobs/status d/web";
    for (case, spec, pods, writes) in [
        (
            "first pods",
            "spec.completions=3 spec.parallelism=2",
            &[][..],
            "create Pod d/web- x2; patch jobs/status d/web",
        ),
        (
            "no more than are left",
            "spec.completions=3 spec.parallelism=2 status.succeeded=2",
            &[],
            "create Pod d/web-; patch jobs/status d/web",
        ),
        ("first its uid is noted", "spec.completions=1", &["a phase=Succeeded"], status),
        (
            "then the finalizer goes",
            r#"spec.completions=1 status.uncountedTerminatedPods={"succeeded":["uid-a"]}"#,
            &["a phase=Succeeded"],
            "patch pods d/a; patch jobs/status d/web",
        ),
        (
            "too many",
            "spec.completions=3 spec.parallelism=1",
            &["a ready", "b"],
            "delete pods d/b; patch jobs/status d/web",
        ),
        ("suspended", "spec.suspend=true", &["a"], "delete pods d/a; patch jobs/status d/web"),
        ("managed by another", "spec.managedBy=x.y/z", &["a phase=Failed"], ""),
        ("a work queue that is empty", "spec.parallelism=2", &["a phase=Succeeded", "b"], status),
    ] {
        run(case, spec, pods, writes);
    }
    check("a pod of a Job that is gone", &format!("pod/d/a {TRACKED}"), KEY, super::reconcile, "patch pods d/a");
}

#[test]
fn failures_are_retried_later_and_not_forever() {
    let failed = format!("a phase=Failed {ENDED}");
    let status = "patch jobs/status d/web";
    for (case, spec, writes) in [
        ("after a wait", "spec.completions=1 spec.backoffLimit=6", "create Pod d/web-; patch jobs/status d/web"),
        ("the limit", "spec.completions=1 spec.backoffLimit=0", status),
        (
            "a code that counts for nothing",
            r#"spec.completions=1 spec.backoffLimit=0 spec.podFailurePolicy.rules=[{"action":"Ignore","onExitCodes":{"operator":"In","values":[3]}}]"#,
            "patch pods d/a; create Pod d/web-; patch jobs/status d/web",
        ),
        (
            "a code that fails the Job",
            r#"spec.completions=1 spec.backoffLimit=6 spec.podFailurePolicy.rules=[{"action":"FailJob","onExitCodes":{"operator":"In","values":[3]}}]"#,
            status,
        ),
        ("out of time", "spec.completions=1 spec.activeDeadlineSeconds=10", status),
    ] {
        run(case, spec, &[&failed], writes);
    }
    let recent = failed.replace("13:10:00", "13:46:38");
    run("not at once", "spec.completions=1 spec.backoffLimit=6", &[&recent], status);
}

#[test]
fn every_index_succeeds_once() {
    let indexed = "spec.completionMode=Indexed spec.parallelism=2";
    let pod = |name: &str, index: u32, rest: &str| {
        format!(r#"{name} metadata.annotations={{"batch.kubernetes.io/job-completion-index":"{index}"}} {rest}"#)
    };
    let (one, failed) = (pod("b", 1, ""), pod("a", 0, &format!("phase=Failed {ENDED}")));
    for (case, spec, pods, writes) in [
        (
            "the lowest first",
            "spec.completions=3",
            vec![],
            "create Pod d/web-0-; create Pod d/web-1-; patch jobs/status d/web",
        ),
        (
            "the missing one",
            "spec.completions=3 status.completedIndexes=\"0\"",
            vec![one.as_str()],
            "create Pod d/web-2-; patch jobs/status d/web",
        ),
        (
            "an index fails for good",
            "spec.completions=2 spec.backoffLimitPerIndex=0 spec.backoffLimit=99",
            vec![&failed],
            "create Pod d/web-1-; patch jobs/status d/web",
        ),
        (
            "an index is tried again",
            "spec.completions=1 spec.backoffLimitPerIndex=1 spec.backoffLimit=99",
            vec![&failed],
            "create Pod d/web-0-; patch jobs/status d/web",
        ),
    ] {
        run(case, &format!("{indexed} {spec}"), &pods, writes);
    }
}

#[test]
fn the_end_is_told_when_nothing_is_left() {
    use crate::testing::snapshot;
    let end = |world: &str| {
        let plan = super::reconcile(&snapshot(world), KEY, jiff::Timestamp::from_second(1_000_000).unwrap()).unwrap();
        let writes = format!("{:?}", plan.writes);
        ["SuccessCriteriaMet", "FailureTarget", "\"Complete\"", "\"Failed\""].map(|c| writes.contains(c))
    };
    let base = format!("job/d/web {STARTED} spec.completions=1");
    let met = r#"status.conditions=[{"type":"SuccessCriteriaMet","status":"True"}]"#;
    let doomed = r#"status.conditions=[{"type":"FailureTarget","status":"True"}]"#;
    assert_eq!(end(&format!("{base} status.succeeded=1")), [true, false, false, false]);
    assert_eq!(end(&format!("{base} status.succeeded=1 {met}")), [true, false, true, false]);
    assert_eq!(end(&format!("{base} status.failed=7")), [false, true, false, false]);
    assert_eq!(end(&format!("{base} status.failed=7 {doomed}")), [false, true, false, true]);
    let running = format!("{base} status.failed=7 {doomed}; pod/d/a {TRACKED}");
    assert_eq!(end(&running), [false, false, false, false], "its pods are still there");
}
