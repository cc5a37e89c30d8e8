use crate::plan::Write;
use crate::testing::{check, snapshot};

const KEY: &str = "apps/statefulsets/d/web";
const SET: &str = r#"sts/d/web metadata.namespace=d spec.serviceName=web spec.selector.matchLabels={"app":"web"} spec.template={"metadata":{"labels":{"app":"web"}},"spec":{"containers":[{"name":"c"}]}}"#;
const OWNED: &str = "owner=StatefulSet/web metadata.ownerReferences.0.controller=true";

/// The revision that a set makes of its template, as an item of a world.
fn revision() -> (String, String) {
    let plan = super::reconcile(&snapshot(SET), KEY, jiff::Timestamp::UNIX_EPOCH).unwrap();
    let create = |w: &Write| match w {
        Write::Create { object } if object["kind"] == "ControllerRevision" => Some(object.clone()),
        _ => None,
    };
    let object = plan.writes.iter().find_map(create).unwrap();
    let (name, hash) = (object["metadata"]["name"].as_str().unwrap(), &object["metadata"]["labels"]);
    let labels = hash.to_string();
    (
        name.to_string(),
        format!("controllerrevision/d/{name} metadata.labels={labels} {OWNED} data.spec={}", object["data"]["spec"]),
    )
}

fn run(case: &str, spec: &str, pods: &str, writes: &str) {
    let (name, revision) = revision();
    let pods: Vec<String> = pods
        .split(';')
        .map(str::trim)
        .filter(|p| !p.is_empty())
        .map(|p| {
            let (pod, rest) = p.split_once(' ').unwrap_or((p, ""));
            let (old, rest) = (rest.contains("old"), rest.replace("old", ""));
            let hash = if old { "web-old" } else { name.as_str() };
            format!(r#"pod/d/{pod} metadata.labels={{"app":"web","controller-revision-hash":"{hash}"}} {OWNED} {rest}"#)
        })
        .collect();
    let world = format!("{SET} {spec}; {revision}; {}", pods.join("; "));
    let only_pods = |snapshot: &mizzen_store::Snapshot, key: &str, now| {
        let mut plan = super::reconcile(snapshot, key, now)?;
        plan.writes.retain(|w| !matches!(w, Write::Merge { target, .. } if target.plural == "statefulsets" || target.plural == "controllerrevisions"));
        Ok(plan)
    };
    check(case, &world, KEY, only_pods, writes);
}

#[test]
fn pods_come_and_go_in_order() {
    for (case, spec, pods, writes) in [
        ("the first", "spec.replicas=3", "", "create Pod d/web-0"),
        ("the next waits", "spec.replicas=3", "web-0", ""),
        ("the next", "spec.replicas=3", "web-0 ready", "create Pod d/web-1"),
        (
            "all at once",
            "spec.replicas=2 spec.podManagementPolicy=Parallel",
            "",
            "create Pod d/web-0; create Pod d/web-1",
        ),
        ("from another start", "spec.replicas=2 spec.ordinals.start=5", "", "create Pod d/web-5"),
        ("an ended pod makes room", "spec.replicas=1", "web-0 phase=Failed", "delete pods d/web-0"),
        ("the highest goes first", "spec.replicas=1", "web-0 ready; web-1 ready; web-2 ready", "delete pods d/web-2"),
        ("one at a time", "spec.replicas=1", "web-0 ready; web-1 ready; web-2 ready deleting", ""),
        ("not while one below is unwell", "spec.replicas=1", "web-0; web-1 ready", ""),
    ] {
        run(case, spec, pods, writes);
    }
}

#[test]
fn updates_go_from_the_top_down() {
    for (case, spec, pods, writes) in [
        ("the highest first", "spec.replicas=2", "web-0 ready old; web-1 ready old", "delete pods d/web-1"),
        ("then the next", "spec.replicas=2", "web-0 ready old; web-1 ready", "delete pods d/web-0"),
        (
            "below the partition they stay",
            "spec.replicas=2 spec.updateStrategy.rollingUpdate.partition=1",
            "web-0 ready old; web-1 ready",
            "",
        ),
        ("only when deleted", "spec.replicas=1 spec.updateStrategy.type=OnDelete", "web-0 ready old", ""),
    ] {
        run(case, spec, pods, writes);
    }
}

#[test]
fn storage_stays_unless_told_otherwise() {
    let claims = r#"spec.volumeClaimTemplates=[{"metadata":{"name":"data"},"spec":{}}] spec.replicas=1"#;
    run("a claim comes with its pod", claims, "", "create PersistentVolumeClaim d/data-web-0; create Pod d/web-0");
    let delete = r#"spec.persistentVolumeClaimRetentionPolicy={"whenScaled":"Delete","whenDeleted":"Retain"}"#;
    let (name, _) = revision();
    let pod = |n: u32| {
        format!(r#"pod/d/web-{n} metadata.labels={{"app":"web","controller-revision-hash":"{name}"}} {OWNED} ready"#)
    };
    let world =
        snapshot(&format!("{SET} {claims} {delete}; {}; {}; pvc/d/data-web-0; pvc/d/data-web-1", pod(0), pod(1)));
    let plan = super::reconcile(&world, KEY, jiff::Timestamp::from_second(1_000_000).unwrap()).unwrap();
    let owned = |w: &Write| matches!(w, Write::Merge { target, .. } if target.name == "data-web-1");
    assert!(plan.writes.iter().any(owned), "the claim of a surplus pod goes with it: {plan:?}");
    assert!(!plan.writes.iter().any(|w| matches!(w, Write::Merge { target, .. } if target.name == "data-web-0")));
}
