use serde_json::{Value, json};

use super::*;
use crate::plan::Plan;
use crate::testing::{render, snapshot};

const NOW: i64 = 1_000_000;

fn now() -> Timestamp {
    Timestamp::from_second(NOW).unwrap()
}

/// Runs the autoscaler `h`, giving each step of reading the next of `answers`; the paths read and the last plan.
fn run(world: &str, answers: Vec<Vec<Answer>>) -> (Vec<String>, Plan) {
    let snapshot = snapshot(world);
    let mut plan = reconcile(&snapshot, "autoscaling/horizontalpodautoscalers/d/h", now()).unwrap();
    let mut paths = Vec::new();
    for answers in answers {
        let Some(reads) = plan.reads.take() else { break };
        paths.extend(reads.of.iter().map(|read| read.path.clone()));
        plan = (reads.then)(&snapshot, answers, now());
    }
    assert!(plan.reads.is_none(), "it wants to read more than {paths:?}");
    (paths, plan)
}

fn scale(wanted: i64, current: i64) -> Answer {
    Ok(json!({"spec": {"replicas": wanted}, "status": {"replicas": current, "selector": "app=web"}}))
}

/// What pods use, in thousandths of a core.
fn usage(pods: &[(&str, i64)]) -> Answer {
    let item = |(name, cpu): &(&str, i64)| {
        json!({"metadata": {"name": name}, "timestamp": "1970-01-12T13:46:00Z", "window": "30s",
            "containers": [{"name": "c", "usage": {"cpu": format!("{cpu}m")}}]})
    };
    Ok(json!({"items": pods.iter().map(item).collect::<Vec<_>>()}))
}

fn world(pods: usize, metrics: &str) -> String {
    let target = r#"{"apiVersion":"apps/v1","kind":"Deployment","name":"web"}"#;
    let mut world =
        format!("hpa/d/h spec.scaleTargetRef={target} spec.minReplicas=1 spec.maxReplicas=10 spec.metrics={metrics}");
    for i in 0..pods {
        let requests = r#"spec.containers.0.resources.requests={"cpu":"100m"}"#;
        world += &format!("; pod/d/p{i} label=web ready status.startTime=1970-01-11T00:00:00Z {requests}");
    }
    world
}

fn condition(plan: &Plan, kind: &str) -> String {
    let status = plan.writes.iter().find_map(|write| match write {
        Write::Merge { subresource: "status", patch, .. } => Some(&patch["status"]),
        _ => None,
    });
    let conditions = status.map(|s| s["conditions"].as_array().unwrap().as_slice()).unwrap_or_default();
    let found = conditions.iter().find(|c| c["type"] == kind);
    found.map_or_else(String::new, |c| format!("{} {}", c["status"].as_str().unwrap(), c["reason"].as_str().unwrap()))
}

const CPU: &str =
    r#"[{"type":"Resource","resource":{"name":"cpu","target":{"type":"Utilization","averageUtilization":50}}}]"#;

#[test]
fn load_scales() {
    for (case, pods, used, wanted, active) in [
        ("as wanted", 2, &[("p0", 50), ("p1", 52)][..], None, "True ValidMetricFound"),
        ("more", 2, &[("p0", 100), ("p1", 100)], Some(4), "True ValidMetricFound"),
        (
            "no further than the most",
            5,
            &[("p0", 900), ("p1", 900), ("p2", 900), ("p3", 900), ("p4", 900)],
            Some(10),
            "True ValidMetricFound",
        ),
        ("not down at once", 2, &[("p0", 1), ("p1", 1)], None, "True ValidMetricFound"),
        ("nothing measured", 2, &[], None, "False FailedGetResourceMetric"),
    ] {
        let count = pods as i64;
        let (paths, plan) = run(&world(pods, CPU), vec![vec![scale(count, count)], vec![usage(used)]]);
        assert_eq!(
            paths,
            ["/apis/apps/v1/namespaces/d/deployments/web/scale", "/apis/metrics.k8s.io/v1beta1/namespaces/d/pods"],
            "{case}"
        );
        let scaled = plan.writes.iter().find_map(|write| match write {
            Write::Merge { subresource: "scale", patch, .. } => patch["spec"]["replicas"].as_i64(),
            _ => None,
        });
        assert_eq!(scaled, wanted, "{case}");
        assert_eq!(condition(&plan, "ScalingActive"), active, "{case}");
        assert_eq!(plan.again_after, Some(PERIOD), "{case}");
    }
}

#[test]
fn what_cannot_be_done_is_said() {
    let gone = || Err("deployments.apps \"web\" not found".to_string());
    let (_, plan) = run(&world(1, CPU), vec![vec![gone()]]);
    assert_eq!(condition(&plan, "AbleToScale"), "False FailedGetScale");

    let (_, plan) = run(&world(0, CPU), vec![vec![scale(0, 0)]]);
    assert_eq!(condition(&plan, "ScalingActive"), "False ScalingDisabled");

    let (_, plan) = run(&world(1, CPU), vec![vec![scale(20, 20)]]);
    assert!(render(&plan.writes).contains("deployments/scale d/web"), "too many pods, whatever they do");

    let unrequested = world(1, CPU).replace("spec.containers.0.resources.requests={\"cpu\":\"100m\"}", "");
    let (_, plan) = run(&unrequested, vec![vec![scale(1, 1)], vec![usage(&[("p0", 90)])]]);
    assert!(
        plan.notes.iter().any(|n| n.message == "missing request for cpu in container c of Pod p0"),
        "{:?}",
        plan.notes
    );
}

#[test]
fn the_greediest_metric_wins_and_a_missing_one_keeps_what_is_there() {
    let queue = r#"{"type":"External","external":{"metric":{"name":"queue"},"target":{"type":"AverageValue","averageValue":"10"}}}"#;
    let both = format!("[{},{queue}]", CPU.trim_matches(['[', ']']));
    let depth = |n: i64| -> Answer { Ok(json!({"items": [{"value": n.to_string()}]})) };
    let replicas = |answers: Vec<Answer>| {
        let (_, plan) = run(&world(2, &both), vec![vec![scale(2, 2)], answers]);
        plan.writes.iter().find_map(|write| match write {
            Write::Merge { subresource: "scale", patch, .. } => patch["spec"]["replicas"].as_i64(),
            _ => None,
        })
    };
    let calm = || usage(&[("p0", 50), ("p1", 50)]);
    assert_eq!(replicas(vec![calm(), depth(55)]), Some(6));
    assert_eq!(
        replicas(vec![usage(&[("p0", 200), ("p1", 200)]), Err("no".into())]),
        Some(6),
        "eight, but four at a time"
    );
    assert_eq!(replicas(vec![usage(&[("p0", 1), ("p1", 1)]), Err("no".into())]), None);
}

#[test]
fn its_own_writes_do_not_wake_it() {
    use mizzen_store::{Entry, Revision};
    let entry = |generation: i64, replicas: i64| {
        let object: Value =
            json!({"metadata": {"name": "h", "generation": generation}, "status": {"currentReplicas": replicas}});
        let bytes = serde_json::to_vec(&object).unwrap();
        std::sync::Arc::new(Entry::new("k".into(), bytes.into(), Revision(1), Revision(1), 0..0))
    };
    let (_, wake) = woken_by_spec();
    for (before, after, wakes) in [(1, 1, 0), (1, 2, 1)] {
        let change = Change::Put { entry: entry(after, 2), previous: Some(entry(before, 1)) };
        let event = Event { revision: Revision(1), change };
        assert_eq!(wake(&snapshot(""), &event).len(), wakes);
    }
}
