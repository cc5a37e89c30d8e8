//! The one place where tests call a controller: a world in a line of text, the writes as a line of text.
//!
//! A world is items separated by `;`: `kind/namespace/name attribute…`. Attributes: `of=` (controlled by), `label=` (app),
//! `ready`, `deleting`, `phase=`, `ip=`, `node=`, `replicas=`, `image=`, `revision=`, `available=`, `selector=`, `port=`,
//! `cidr=`, `nodetaint=`, `renewed=`, `owner=Kind/name` (or `blocked-by=`, if the owner waits for it), `finalizer=`; and any
//! field by its path, as JSON or text: `spec.suspend=true`, `.rules=[]`.
//! Writes read `create Kind namespace/name`, where a generated name is cut to its prefix, with `xN` for N alike.

use jiff::Timestamp;
use mizzen_api::key;
use mizzen_api::kinds::kinds;
use mizzen_store::{Entry, Revision, Snapshot};
use serde_json::{Value, json};

use crate::plan::{ControllerError, Plan, Write};

/// Runs a controller on a world and compares its writes.
pub fn check(
    case: &str,
    world: &str,
    key: &str,
    reconcile: impl Fn(&Snapshot, &str, Timestamp) -> Result<Plan, ControllerError>,
    writes: &str,
) {
    let snapshot = snapshot(world);
    let plan = reconcile(&snapshot, key, Timestamp::from_second(1_000_000).unwrap()).unwrap();
    assert_eq!(render(&plan.writes), writes, "{case}");
}

/// The world as a snapshot.
pub fn snapshot(world: &str) -> Snapshot {
    let items = world.split(';').map(str::trim).filter(|i| !i.is_empty());
    items.enumerate().map(|(index, item)| entry(item, index as u64 + 1)).collect()
}

fn entry(item: &str, revision: u64) -> Entry {
    let mut words = item.split_whitespace();
    let (object_key, mut object) = skeleton(words.next().unwrap());
    let uid = format!("uid-{}", object["metadata"]["name"].as_str().unwrap());
    object["metadata"]["uid"] = uid.into();
    object["metadata"]["resourceVersion"] = revision.to_string().into();
    object["metadata"]["creationTimestamp"] =
        Timestamp::from_second(900_000 + revision as i64).unwrap().to_string().into();
    for word in words {
        let (name, value) = word.split_once('=').unwrap_or((word, ""));
        attribute(&mut object, name, value);
    }
    let bytes = serde_json::to_vec(&object).unwrap();
    Entry::new(object_key.into(), bytes.into(), Revision(revision), Revision(revision), 0..0)
}

fn skeleton(path: &str) -> (String, Value) {
    let parts: Vec<&str> = path.split('/').collect();
    let (kind, namespace, name) = match parts.as_slice() {
        [kind, name] => (*kind, "", *name),
        [kind, namespace, name] => (*kind, *namespace, *name),
        _ => panic!("{path}: not kind/namespace/name"),
    };
    let known =
        |k: &&mizzen_api::kind::Kind| k.singular == kind || k.plural == kind || k.short_names.iter().any(|n| n == kind);
    let kind = kinds().iter().find(known).unwrap_or_else(|| panic!("{kind}: unknown kind"));
    let api_version =
        if kind.group.is_empty() { kind.version.to_string() } else { format!("{}/{}", kind.group, kind.version) };
    let mut object = json!({"apiVersion": api_version, "kind": kind.kind, "metadata": {"name": name}});
    if !namespace.is_empty() {
        object["metadata"]["namespace"] = namespace.into();
    }
    match kind.kind.as_ref() {
        "Pod" => {
            object["spec"] = json!({"containers": [{"name": "c", "image": "v1"}]});
            object["status"] = json!({"phase": "Running"});
        }
        "ReplicaSet" | "Deployment" | "Job" => {
            let labels = json!({"app": "web"});
            let spec = json!({"containers": [{"name": "c", "image": "v1"}]});
            object["spec"] = json!({"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": spec}});
            object["metadata"]["labels"] = labels;
        }
        _ => {}
    }
    (key::object(&kind.group, &kind.plural, namespace, name), object)
}

fn attribute(object: &mut Value, name: &str, value: &str) {
    let kind = object["kind"].as_str().unwrap_or_default().to_string();
    let number = || value.parse::<i64>().unwrap();
    match name {
        "of" => {
            let owner = match kind.as_str() {
                "Pod" => ("apps/v1", "ReplicaSet"),
                _ => ("apps/v1", "Deployment"),
            };
            object["metadata"]["ownerReferences"] = json!([{"apiVersion": owner.0, "kind": owner.1, "name": value, "uid": format!("uid-{value}"), "controller": true}]);
            if object["metadata"]["labels"].is_null() {
                object["metadata"]["labels"] = json!({"app": "web"});
            }
        }
        "label" => object["metadata"]["labels"] = json!({"app": value}),
        "deleting" => object["metadata"]["deletionTimestamp"] = "1970-01-12T13:00:00Z".into(),
        "ready" => {
            object["status"]["conditions"] =
                json!([{"type": "Ready", "status": "True", "lastTransitionTime": "1970-01-12T00:00:00Z"}]);
        }
        "phase" => object["status"]["phase"] = value.into(),
        "ip" => object["status"]["podIP"] = value.into(),
        "node" => object["spec"]["nodeName"] = value.into(),
        "replicas" => {
            object["spec"]["replicas"] = number().into();
            if kind == "ReplicaSet" && object["metadata"]["ownerReferences"].is_array() {
                object["status"] = json!({"replicas": number()});
            }
        }
        "available" => {
            object["status"]["availableReplicas"] = number().into();
            object["status"]["readyReplicas"] = number().into();
        }
        "image" => object["spec"]["template"]["spec"]["containers"][0]["image"] = value.into(),
        "revision" => {
            let wanted = json!({"deployment.kubernetes.io/revision": value, "deployment.kubernetes.io/desired-replicas": "4",
                "deployment.kubernetes.io/max-replicas": "5"});
            object["metadata"]["annotations"] = wanted;
        }
        "selector" => object["spec"]["selector"] = json!({"app": value}),
        "cidr" => object["spec"]["podCIDR"] = value.into(),
        "nodetaint" => {
            object["spec"]["taints"] = json!([{"key": format!("node.kubernetes.io/{value}"), "effect": "NoSchedule"}]);
        }
        "renewed" => object["spec"]["renewTime"] = Timestamp::from_second(number()).unwrap().to_string().into(),
        "port" => object["spec"]["ports"] = json!([{"port": number()}]),
        "managed" => {
            object["metadata"]["labels"] = json!({"endpoints.kubernetes.io/managed-by": "endpoint-controller"})
        }
        "owner" | "blocked-by" => {
            let (kind, owner) = value.split_once('/').unwrap();
            let known = kinds().iter().find(|k| k.kind == kind).unwrap();
            let reference = json!({"apiVersion": known.api_version(), "kind": kind, "name": owner,
                "uid": format!("uid-{owner}"), "blockOwnerDeletion": name == "blocked-by"});
            push(&mut object["metadata"]["ownerReferences"], reference);
        }
        "finalizer" => push(&mut object["metadata"]["finalizers"], value.into()),
        path if path.contains('.') => {
            let field =
                path.split('.').filter(|part| !part.is_empty()).fold(object, |at, part| match part.parse::<usize>() {
                    Ok(index) => &mut at[index],
                    Err(_) => &mut at[part],
                });
            *field = serde_json::from_str(value).unwrap_or_else(|_| value.into());
        }
        _ => panic!("{name}: unknown attribute"),
    }
}

fn push(list: &mut Value, item: Value) {
    if list.is_null() {
        *list = json!([]);
    }
    list.as_array_mut().unwrap().push(item);
}

/// The writes as a line of text.
pub fn render(writes: &[Write]) -> String {
    let mut lines: Vec<(String, usize)> = Vec::new();
    for write in writes {
        let line = line(write);
        match lines.last_mut() {
            Some((last, count)) if *last == line => *count += 1,
            _ => lines.push((line, 1)),
        }
    }
    let text = |(line, count): &(String, usize)| {
        if *count > 1 { format!("{line} x{count}") } else { line.clone() }
    };
    lines.iter().map(text).collect::<Vec<_>>().join("; ")
}

fn line(write: &Write) -> String {
    let of = |object: &Value| {
        let meta = &object["metadata"];
        let name = meta["generateName"].as_str().or(meta["name"].as_str()).unwrap_or_default();
        let hashed = meta["labels"]["pod-template-hash"].as_str().unwrap_or_default();
        let name = name.strip_suffix(hashed).unwrap_or(name);
        let namespace = meta["namespace"].as_str().map(|n| format!("{n}/")).unwrap_or_default();
        format!("{} {namespace}{name}", object["kind"].as_str().unwrap_or_default())
    };
    let sub = |s: &str| if s.is_empty() { String::new() } else { format!("/{s}") };
    let target = |t: &crate::plan::Target, s: &str| {
        let namespace = if t.namespace.is_empty() { String::new() } else { format!("{}/", t.namespace) };
        format!("{}{} {namespace}{}", t.plural, sub(s), t.name)
    };
    match write {
        Write::Create { object } => format!("create {}", of(object)),
        Write::Replace { object, subresource } => format!("replace{} {}", sub(subresource), of(object)),
        Write::Merge { target: t, subresource, .. } => format!("patch {}", target(t, subresource)),
        Write::Delete { target: t, .. } => format!("delete {}", target(t, "")),
        Write::DeleteCollection { target: t } => format!("delete all {}", target(t, "")),
    }
}
