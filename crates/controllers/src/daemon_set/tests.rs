use crate::plan::Write;
use crate::testing::{check, snapshot};

const KEY: &str = "apps/daemonsets/d/web";
const SET: &str = r#"ds/d/web spec.selector.matchLabels={"app":"web"} spec.template={"metadata":{"labels":{"app":"web"}},"spec":{"containers":[{"name":"c"}]}}"#;
const OWNED: &str = "owner=DaemonSet/web metadata.ownerReferences.0.controller=true";

/// The hash and the item of the revision that a set makes of its template.
fn revision() -> (String, String) {
    let plan = super::reconcile(&snapshot(SET), KEY, jiff::Timestamp::UNIX_EPOCH).unwrap();
    let create = |w: &Write| match w {
        Write::Create { object } if object["kind"] == "ControllerRevision" => Some(object.clone()),
        _ => None,
    };
    let object = plan.writes.iter().find_map(create).unwrap();
    let (metadata, spec) = (&object["metadata"], &object["data"]["spec"]);
    let hash = metadata["labels"]["controller-revision-hash"].as_str().unwrap().to_string();
    let (name, labels) = (metadata["name"].as_str().unwrap(), &metadata["labels"]);
    (hash, format!("controllerrevision/d/{name} metadata.labels={labels} {OWNED} data.spec={spec}"))
}

fn run(case: &str, spec: &str, nodes: &str, pods: &str, writes: &str) {
    let (hash, revision) = revision();
    let items = pods.split(';').map(str::trim).filter(|p| !p.is_empty());
    let pods = items.map(|p| {
        let (pod, rest) = p.split_once(' ').unwrap_or((p, ""));
        let (old, rest) = (rest.contains("old"), rest.replace("old", ""));
        let hash = if old { "old" } else { hash.as_str() };
        format!(r#"pod/d/{pod} metadata.labels={{"app":"web","controller-revision-hash":"{hash}"}} {OWNED} {rest}"#)
    });
    let pods: Vec<String> = pods.collect();
    let world = format!("{SET} {spec}; {revision}; {nodes}; {}", pods.join("; "));
    let only_pods = |snapshot: &mizzen_store::Snapshot, key: &str, now| {
        let mut plan = super::reconcile(snapshot, key, now)?;
        plan.writes.retain(|w| !matches!(w, Write::Merge { .. }));
        Ok(plan)
    };
    check(case, &world, KEY, only_pods, writes);
}

#[test]
fn every_node_that_fits_has_one_pod() {
    let taint = |effect: &str| format!(r#"node/a spec.taints=[{{"key":"k","effect":"{effect}"}}]"#);
    let select = r#"spec.template.spec.nodeSelector={"disk":"ssd"}"#;
    for (case, spec, nodes, pods, writes) in [
        ("missing", "", "node/a; node/b".to_string(), "x node=a ready", "create Pod d/web-"),
        ("too many", "", "node/a".into(), "x node=a ready; y node=a", "delete pods d/y"),
        ("not selected", select, "node/a".into(), "x node=a ready", "delete pods d/x"),
        ("selected", select, r#"node/a metadata.labels={"disk":"ssd"}"#.into(), "x node=a ready", ""),
        ("tainted for new pods", "", taint("NoSchedule"), "", ""),
        ("those that are there stay", "", taint("NoSchedule"), "x node=a ready", ""),
        ("tainted for all", "", taint("NoExecute"), "x node=a ready", "delete pods d/x"),
        (
            "cordoned",
            "",
            r#"node/a spec.taints=[{"key":"node.kubernetes.io/unschedulable","effect":"NoSchedule"}]"#.into(),
            "",
            "create Pod d/web-",
        ),
        ("failed", "", "node/a".into(), "x node=a phase=Failed", "delete pods d/x"),
        ("going", "", "node/a".into(), "x node=a deleting", ""),
        ("the node is gone", "", "node/a".into(), "x node=a ready; y node=b", "delete pods d/y"),
    ] {
        // Revisions follow from the template, which some cases change.
        let spec_of_template = spec.contains("template");
        if spec_of_template {
            let world = snapshot(&format!("{SET} {spec}; {nodes}; pod/d/x label=web {OWNED} node=a ready"));
            let plan = super::reconcile(&world, KEY, jiff::Timestamp::from_second(1_000_000).unwrap()).unwrap();
            let deleted = plan.writes.iter().any(|w| matches!(w, Write::Delete { target, .. } if target.name == "x"));
            // A pod of the old template is replaced where it fits, and removed where it does not.
            let created = plan.writes.iter().any(|w| matches!(w, Write::Create { object } if object["kind"] == "Pod"));
            assert!(deleted && !created, "{case}: {plan:?}");
        } else {
            run(case, spec, &nodes, pods, writes);
        }
    }
}

#[test]
fn old_pods_are_replaced_within_limits() {
    let nodes = "node/a; node/b; node/c";
    let old = "x node=a ready old; y node=b ready old; z node=c ready old";
    let surge = r#"spec.updateStrategy.rollingUpdate={"maxSurge":1,"maxUnavailable":0}"#;
    for (case, spec, pods, writes) in [
        ("one at a time", "", old, "delete pods d/x"),
        ("two", "spec.updateStrategy.rollingUpdate.maxUnavailable=2", old, "delete pods d/x; delete pods d/y"),
        ("waits for the new one", "", "x node=a; y node=b ready old; z node=c ready old", ""),
        ("goes on", "", "x node=a ready; y node=b ready old; z node=c ready old", "delete pods d/y"),
        (
            "those that are unwell go at once",
            "",
            "x node=a ready old; y node=b old; z node=c ready old",
            "delete pods d/y",
        ),
        ("only when deleted", "spec.updateStrategy.type=OnDelete", old, ""),
        ("beside", surge, old, "create Pod d/web-"),
        ("the new one comes up", surge, "w node=a; x node=a ready old; y node=b ready old; z node=c ready old", ""),
        (
            "the old one goes",
            surge,
            "w node=a ready; x node=a ready old; y node=b ready; z node=c ready",
            "delete pods d/x",
        ),
    ] {
        run(case, spec, nodes, pods, writes);
    }
}
