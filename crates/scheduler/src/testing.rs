//! The one place where tests call the scheduler: a world in a line of text, the placements as a line of text.
//!
//! Items: `node/name` with `cpu=`, `pods=`, `zone=`, `taint=`, `cordoned`; `pod/name` with `cpu=`, `on=`, `app=`, `select=`
//! (zone), `tolerate=`, `port=`, `together=`, `apart=`, `spread=` (app, by host name), `priority=`, `polite`, `nominated=`, `deleting`, `claim=`, `gated`;
//! `pdb/name` with `app=`, `allowed=`; `sc/name` with `waits`, `provisioner=`; `pv/name` with `host=`, `class=`; `pvc/name` with
//! `class=`, `volume=`, `selected=`, `once`.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use mizzen_store::{Entry, Revision, Snapshot};
use serde_json::{Value, json};

use crate::{Outcome, Refusal, Step, schedule};

/// Schedules a world and compares the decisions; what is said about preemption only where `placed` speaks of it.
pub fn check(case: &str, world: &str, placed: &str) {
    let items = world.split(';').map(str::trim);
    let snapshot: Snapshot = items.enumerate().map(|(index, item)| entry(item, index as u64 + 1)).collect();
    let decisions: Vec<String> = schedule(&snapshot)
        .into_iter()
        .map(|d| {
            let name = d.pod.metadata.name.clone().unwrap_or_default();
            match d.outcome {
                Outcome::Node(node) => format!("{name}→{node}"),
                Outcome::Unschedulable(refusal) => format!("{name}: {}", refused(&refusal)),
                Outcome::Prepares(node, steps) => {
                    let steps: Vec<String> = steps.iter().map(step).collect();
                    format!("{name}: {node} first {}", steps.join(", "))
                }
                Outcome::Gated => format!("{name}: gated"),
            }
        })
        .collect();
    let told = decisions.into_iter().map(|d| match d.split_once(" preemption: ") {
        Some((before, _)) if !placed.contains("preemption: ") => before.to_string(),
        _ => d,
    });
    assert_eq!(told.collect::<Vec<_>>().join("; "), placed, "{case}");
}

fn step(step: &Step) -> String {
    let name = |metadata: &ObjectMeta| metadata.name.clone().unwrap_or_default();
    match step {
        Step::Bind(claim, volume) => format!("{}={}", name(&claim.metadata), name(&volume.metadata)),
        Step::Provision(claim) => name(&claim.metadata),
        Step::Wait => "wait".into(),
    }
}

fn refused(refusal: &Refusal) -> String {
    let victims: Vec<&str> = refusal.victims.iter().filter_map(|v| v.metadata.name.as_deref()).collect();
    match &refusal.promised {
        None => refusal.why.clone(),
        Some(node) if victims.is_empty() => format!("waits for {node}"),
        Some(node) => format!("{node} without {}", victims.join(", ")),
    }
}

fn entry(item: &str, revision: u64) -> Entry {
    let mut words = item.split_whitespace();
    let (kind, name) = words.next().unwrap().split_once('/').unwrap();
    let (mut object, key) = match kind {
        "node" => (
            json!({"apiVersion": "v1", "kind": "Node",
                "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
                "spec": {}, "status": {"allocatable": {"cpu": "8", "memory": "8Gi", "pods": "110"}}}),
            format!("core/nodes//{name}"),
        ),
        "sc" => (
            json!({"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": name},
                "provisioner": "kubernetes.io/no-provisioner"}),
            format!("storage.k8s.io/storageclasses//{name}"),
        ),
        "pv" => (
            json!({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name},
                "spec": {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}}}),
            format!("core/persistentvolumes//{name}"),
        ),
        "pvc" => (
            json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim",
                "metadata": {"name": name, "namespace": "d", "uid": name},
                "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}),
            format!("core/persistentvolumeclaims/d/{name}"),
        ),
        "pdb" => (
            json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": name, "namespace": "d"}}),
            format!("policy/poddisruptionbudgets/d/{name}"),
        ),
        _ => (
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "d", "uid": name},
                "spec": {"containers": [{"name": "c", "resources": {"requests": {}}}]}}),
            format!("core/pods/d/{name}"),
        ),
    };
    for word in words {
        let (attribute, value) = word.split_once('=').unwrap_or((word, ""));
        match kind {
            "node" => node(&mut object, attribute, value),
            "pdb" => budget(&mut object, attribute, value),
            "sc" | "pv" | "pvc" => storage(&mut object, attribute, value),
            _ => pod(&mut object, attribute, value),
        }
    }
    let bytes = serde_json::to_vec(&object).unwrap();
    Entry::new(key.into(), bytes.into(), Revision(revision), Revision(revision), 0..0)
}

fn node(object: &mut Value, attribute: &str, value: &str) {
    match attribute {
        "cpu" | "pods" => object["status"]["allocatable"][attribute] = value.into(),
        "zone" => object["metadata"]["labels"]["zone"] = value.into(),
        "taint" => object["spec"]["taints"] = json!([{"key": value, "effect": "NoSchedule"}]),
        "cordoned" => object["spec"]["unschedulable"] = true.into(),
        _ => panic!("{attribute}: unknown attribute"),
    }
}

fn storage(object: &mut Value, attribute: &str, value: &str) {
    match attribute {
        "waits" => object["volumeBindingMode"] = "WaitForFirstConsumer".into(),
        "provisioner" => object["provisioner"] = value.into(),
        "class" => object["spec"]["storageClassName"] = value.into(),
        "host" => {
            let host = json!({"key": "kubernetes.io/hostname", "operator": "In", "values": [value]});
            object["spec"]["nodeAffinity"] = json!({"required": {"nodeSelectorTerms": [{"matchExpressions": [host]}]}});
        }
        "volume" => {
            object["spec"]["volumeName"] = value.into();
            object["metadata"]["annotations"] = json!({"pv.kubernetes.io/bind-completed": "yes"});
        }
        "selected" => object["metadata"]["annotations"] = json!({"volume.kubernetes.io/selected-node": value}),
        "once" => object["spec"]["accessModes"] = json!(["ReadWriteOncePod"]),
        _ => panic!("{attribute}: unknown attribute"),
    }
}

fn budget(object: &mut Value, attribute: &str, value: &str) {
    match attribute {
        "app" => object["spec"]["selector"] = json!({"matchLabels": {"app": value}}),
        "allowed" => {
            let allowed: i32 = value.parse().unwrap();
            object["status"] =
                json!({"disruptionsAllowed": allowed, "currentHealthy": 0, "desiredHealthy": 0, "expectedPods": 0});
        }
        _ => panic!("{attribute}: unknown attribute"),
    }
}

fn pod(object: &mut Value, attribute: &str, value: &str) {
    let labels = json!({"matchLabels": {"app": value}});
    let term = json!({"requiredDuringSchedulingIgnoredDuringExecution":
        [{"labelSelector": labels, "topologyKey": "kubernetes.io/hostname"}]});
    match attribute {
        "cpu" => object["spec"]["containers"][0]["resources"]["requests"]["cpu"] = value.into(),
        "on" => object["spec"]["nodeName"] = value.into(),
        "app" => object["metadata"]["labels"] = json!({"app": value}),
        "select" => object["spec"]["nodeSelector"] = json!({"zone": value}),
        "tolerate" => object["spec"]["tolerations"] = json!([{"key": value, "operator": "Exists"}]),
        "port" => {
            let number: i32 = value.parse().unwrap();
            object["spec"]["containers"][0]["ports"] = json!([{"containerPort": number, "hostPort": number}]);
        }
        "together" => object["spec"]["affinity"]["podAffinity"] = term,
        "apart" => object["spec"]["affinity"]["podAntiAffinity"] = term,
        "spread" => {
            object["spec"]["topologySpreadConstraints"] = json!([{"maxSkew": 1, "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "DoNotSchedule", "labelSelector": labels}]);
        }
        "priority" => object["spec"]["priority"] = value.parse::<i32>().unwrap().into(),
        "polite" => object["spec"]["preemptionPolicy"] = "Never".into(),
        "claim" => {
            object["spec"]["volumes"] = json!([{"name": "v", "persistentVolumeClaim": {"claimName": value}}]);
        }
        "nominated" => object["status"]["nominatedNodeName"] = value.into(),
        "deleting" => object["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into(),
        "gated" => object["spec"]["schedulingGates"] = json!([{"name": "wait"}]),
        _ => panic!("{attribute}: unknown attribute"),
    }
}
