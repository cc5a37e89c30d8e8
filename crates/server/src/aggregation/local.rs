//! The APIServices of what this server answers itself: one for each version of its own groups, and one for each version of
//! custom resources that is served. Pure: a snapshot in, the writes that are missing out.

use std::collections::BTreeSet;

use mizzen_api::kinds::kinds;
use mizzen_store::{Revision, Snapshot};
use serde_json::{Value, json};

use super::PREFIX;
use super::availability::{Verdict, with_condition};

/// Says how an APIService is kept: `onstart` those of built-in groups, `true` those of custom resources.
const MANAGED: &str = "kube-aggregator.kubernetes.io/automanaged";

/// The place of a group among the others, and of its first version among the versions; as Kubernetes has them.
const PRIORITIES: &[(&str, i64)] = &[
    ("", 18000),
    ("apps", 17800),
    ("events.k8s.io", 17750),
    ("authentication.k8s.io", 17700),
    ("authorization.k8s.io", 17600),
    ("autoscaling", 17500),
    ("batch", 17400),
    ("certificates.k8s.io", 17300),
    ("networking.k8s.io", 17200),
    ("policy", 17100),
    ("rbac.authorization.k8s.io", 17000),
    ("storage.k8s.io", 16800),
    ("apiextensions.k8s.io", 16700),
    ("admissionregistration.k8s.io", 16700),
    ("scheduling.k8s.io", 16600),
    ("coordination.k8s.io", 16500),
    ("node.k8s.io", 16300),
    ("discovery.k8s.io", 16200),
    ("flowcontrol.apiserver.k8s.io", 16100),
    ("resource.k8s.io", 15900),
    ("metrics.k8s.io", 100),
];

/// A write that is missing.
#[derive(Debug, PartialEq)]
pub(super) enum Write {
    /// An object to create.
    Create(Value),
    /// A status to write.
    Status(Value),
    /// An object to delete, by name, as it was looked at.
    Delete(String, Revision),
}

/// What has to be written so that every local group has its APIService. `starting`: those of built-in groups are made,
/// which happens once, so that an administrator can do without one.
pub(super) fn plan(snapshot: &Snapshot, starting: bool, now: &str) -> Vec<Write> {
    let mut writes = Vec::new();
    let custom = custom_versions(snapshot);
    let stored = |name: &str| snapshot.get(&format!("{PREFIX}/{name}")).is_some();
    if starting {
        let built_in = built_in().into_iter().filter(|(service, _)| !stored(&service.0));
        writes.extend(built_in.map(|(service, priorities)| create(&service, priorities, "onstart", now)));
    }
    for (group, version) in &custom {
        let service = (format!("{version}.{group}"), group.clone(), version.clone());
        if !stored(&service.0) {
            writes.push(create(&service, (1000, 100), "true", now));
        }
    }
    for entry in snapshot.prefix(PREFIX) {
        let Ok(object) = serde_json::from_slice::<Value>(&entry.value) else { continue };
        let spec = &object["spec"];
        if spec["service"].is_object() {
            continue;
        }
        let text = |value: &Value| value.as_str().unwrap_or_default().to_string();
        let gone = object["metadata"]["labels"][MANAGED] == "true"
            && !custom.contains(&(text(&spec["group"]), text(&spec["version"])));
        if gone {
            writes.push(Write::Delete(text(&object["metadata"]["name"]), entry.revision));
        } else if let Some(changed) = with_condition(&object, &Verdict::LOCAL, now) {
            writes.push(Write::Status(changed));
        }
    }
    writes
}

/// Name, group and version of an APIService.
type Service = (String, String, String);

fn create((name, group, version): &Service, priorities: (i64, i64), managed: &str, now: &str) -> Write {
    let object = json!({
        "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
        "metadata": {"name": name, "labels": {MANAGED: managed}},
        "spec": {"group": group, "version": version, "groupPriorityMinimum": priorities.0, "versionPriority": priorities.1},
    });
    let object = with_condition(&object, &Verdict::LOCAL, now).unwrap_or(object);
    Write::Create(object)
}

/// The versions of this server's own groups with their priorities: the first version of a group comes first.
fn built_in() -> Vec<(Service, (i64, i64))> {
    let mut out = Vec::new();
    let mut groups: Vec<(&str, Vec<&str>)> = kinds().groups();
    groups.push(("metrics.k8s.io", vec!["v1beta1"]));
    for (group, versions) in groups {
        let Some((_, priority)) = PRIORITIES.iter().find(|(name, _)| *name == group) else { continue };
        let count = versions.len();
        for (at, version) in versions.into_iter().enumerate() {
            let version_priority = match group {
                "" => 1,
                _ => 15 * i64::try_from(count - at).unwrap_or(1),
            };
            let service = (format!("{version}.{group}"), group.to_string(), version.to_string());
            out.push((service, (*priority, version_priority)));
        }
    }
    out
}

/// Group and version of all custom resources that are served.
fn custom_versions(snapshot: &Snapshot) -> BTreeSet<(String, String)> {
    let mut out = BTreeSet::new();
    for entry in snapshot.prefix("apiextensions.k8s.io/customresourcedefinitions/") {
        let Ok(object) = serde_json::from_slice::<Value>(&entry.value) else { continue };
        let group = object["spec"]["group"].as_str().unwrap_or_default();
        let versions = object["spec"]["versions"].as_array().into_iter().flatten();
        let served = versions.filter(|v| v["served"] == true).filter_map(|v| v["name"].as_str());
        out.extend(served.map(|version| (group.to_string(), version.to_string())));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::fixture::{object, snapshot};

    fn brief(writes: Vec<Write>) -> Vec<String> {
        let name = |object: &Value| object["metadata"]["name"].as_str().unwrap().to_string();
        let brief = |write| match write {
            Write::Create(object) => format!(
                "create {} {}/{}",
                name(&object),
                object["spec"]["groupPriorityMinimum"],
                object["spec"]["versionPriority"]
            ),
            Write::Status(object) => {
                format!("status {} {}", name(&object), object["status"]["conditions"][0]["reason"])
            }
            Write::Delete(name, _) => format!("delete {name}"),
        };
        writes.into_iter().map(brief).collect()
    }

    #[test]
    fn every_local_version_has_its_service() {
        let fresh = brief(plan(&snapshot(vec![]), true, "T"));
        for expected in [
            "create v1. 18000/1",
            "create v1.apps 17800/15",
            "create v2.autoscaling 17500/30",
            "create v1.autoscaling 17500/15",
            "create v1beta1.metrics.k8s.io 100/15",
        ] {
            assert!(fresh.contains(&expected.to_string()), "{expected} in {fresh:?}");
        }
        assert!(!fresh.iter().any(|write| write.contains("apiregistration")));
        assert_eq!(brief(plan(&snapshot(vec![]), false, "T")), Vec::<String>::new());
        let definition = object(
            "apiextensions.k8s.io/v1",
            "CustomResourceDefinition",
            "things.example.com",
            json!({"spec": {"group": "example.com", "versions": [{"name": "v1", "served": true}, {"name": "v2", "served": false}]}}),
        );
        assert_eq!(brief(plan(&snapshot(vec![definition]), false, "T")), ["create v1.example.com 1000/100"]);
        let service = |name: &str, labels: Value, service: Value| {
            object(
                "apiregistration.k8s.io/v1",
                "APIService",
                name,
                json!({"metadata": {"labels": labels},
                "spec": {"group": "example.com", "version": "v3", "service": service}}),
            )
        };
        let left = service("v3.example.com", json!({MANAGED: "true"}), Value::Null);
        assert_eq!(brief(plan(&snapshot(vec![left]), false, "T")), ["delete v3.example.com"]);
        let own = service("v3.example.com", json!({}), Value::Null);
        assert_eq!(brief(plan(&snapshot(vec![own]), false, "T")), ["status v3.example.com \"Local\""]);
        let remote = service("v3.example.com", json!({MANAGED: "true"}), json!({"name": "s", "namespace": "n"}));
        assert_eq!(brief(plan(&snapshot(vec![remote]), false, "T")), Vec::<String>::new());
    }
}
