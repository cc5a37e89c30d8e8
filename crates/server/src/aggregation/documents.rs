//! What aggregated servers serve, in the documents of discovery: read from them, and told with our own.

use std::cmp::Reverse;

use mizzen_api::crd::compare_versions;
use mizzen_store::Snapshot;
use serde_json::{Value, json};

use super::proxy::fetch;
use super::services::{Remote, Services};
use super::{Aggregation, Known};
use crate::server::Core;

const ACCEPT: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,\
    application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json";
const JSON: &str = "application/json";

/// Asks a server what it serves; `None` if it does not tell.
pub(super) async fn read(core: &Core, snapshot: &Snapshot, remote: &Remote, before: Option<&Known>) -> Option<Known> {
    let get = async |path: &str, accept| {
        let asked = tokio::time::timeout(super::availability::PATIENCE, fetch(core, snapshot, remote, path, accept));
        asked.await.ok().and_then(Result::ok).filter(|answer| answer.code == 200)
    };
    let (group, version) = (&remote.group, &remote.version);
    let whole = get("/apis", ACCEPT).await.filter(|answer| answer.content_type.contains("as=APIGroupDiscoveryList"));
    let whole: Option<Value> = whole.and_then(|answer| serde_json::from_slice(&answer.bytes).ok());
    let discovery = match whole {
        Some(list) => of_version(&list, group, version)?,
        None => {
            let answer = get(&format!("/apis/{group}/{version}"), JSON).await?;
            from_resources(&serde_json::from_slice(&answer.bytes).ok()?, version)
        }
    };
    let index: Option<Value> = get("/openapi/v3", JSON).await.and_then(|a| serde_json::from_slice(&a.bytes).ok());
    let url = index.as_ref().map(|index| &index["paths"][format!("apis/{group}/{version}")]["serverRelativeURL"]);
    let hash = url.and_then(Value::as_str).and_then(|url| url.split_once("hash=")).map(|(_, hash)| hash.to_string());
    let unchanged = |before: &&Known| !before.stale && before.v3_hash == hash && before.discovery == discovery;
    let v2 = match before.filter(unchanged) {
        Some(before) => before.v2.clone(),
        None => get("/openapi/v2", JSON).await.and_then(|a| serde_json::from_slice(&a.bytes).ok()).unwrap_or_default(),
    };
    Some(Known { discovery, v3_hash: hash, v2, stale: false })
}

/// One version out of an `APIGroupDiscoveryList`.
fn of_version(list: &Value, group: &str, version: &str) -> Option<Value> {
    let groups = list["items"].as_array().into_iter().flatten().filter(|item| item["metadata"]["name"] == group);
    let mut versions = groups.flat_map(|item| item["versions"].as_array().into_iter().flatten());
    let mut found = versions.find(|item| item["version"] == version)?.clone();
    found.as_object_mut()?.shift_remove("freshness");
    Some(found)
}

/// The version as an older `APIResourceList` tells it.
fn from_resources(list: &Value, version: &str) -> Value {
    let mut resources: Vec<Value> = Vec::new();
    for resource in list["resources"].as_array().into_iter().flatten() {
        let text = |field: &str| resource[field].as_str().unwrap_or_default();
        let kind = json!({"group": text("group"), "version": text("version"), "kind": text("kind")});
        if let Some((parent, name)) = text("name").split_once('/') {
            let sub = json!({"subresource": name, "responseKind": kind, "verbs": resource["verbs"]});
            if let Some(parent) = resources.iter_mut().find(|r| r["resource"] == parent) {
                match parent["subresources"].as_array_mut() {
                    Some(list) => list.push(sub),
                    None => parent["subresources"] = json!([sub]),
                }
            }
            continue;
        }
        let scope = if resource["namespaced"] == true { "Namespaced" } else { "Cluster" };
        let mut out = json!({"resource": text("name"), "responseKind": kind, "scope": scope,
            "singularResource": text("singularName"), "verbs": resource["verbs"]});
        for field in ["shortNames", "categories"] {
            if resource[field].is_array() {
                out[field] = resource[field].clone();
            }
        }
        resources.push(out);
    }
    json!({"version": version, "resources": resources})
}

/// Adds what others serve to the aggregated document of `/apis`, and puts groups into the order of their priorities.
pub(crate) fn merge_aggregated(aggregation: &Aggregation, snapshot: &Snapshot, mut document: Value) -> Value {
    let services = aggregation.services(snapshot);
    if !services.has_remote() {
        return document;
    }
    let told = aggregation.told.load();
    let Some(groups) = document["items"].as_array_mut() else { return document };
    for remote in services.all_remote() {
        let known = told.by_service.get(&remote.name);
        let mut version = match known.map(|known| &known.discovery) {
            Some(discovery) if discovery.is_object() => discovery.clone(),
            _ => json!({"version": remote.version}),
        };
        let current = known.is_some_and(|known| !known.stale);
        version["freshness"] = if current { "Current" } else { "Stale" }.into();
        match groups.iter_mut().find(|group| group["metadata"]["name"] == remote.group.as_str()) {
            Some(group) => add_version(&services, &mut group["versions"], "version", remote, version),
            None => groups.push(json!({"metadata": {"name": remote.group}, "versions": [version]})),
        }
    }
    order(&services, groups, |group| group["metadata"]["name"].as_str());
    document
}

/// Adds the groups that others serve to an `APIGroupList`.
pub(crate) fn merge_group_list(aggregation: &Aggregation, snapshot: &Snapshot, mut document: Value) -> Value {
    let services = aggregation.services(snapshot);
    if !services.has_remote() {
        return document;
    }
    let Some(groups) = document["groups"].as_array_mut() else { return document };
    for remote in services.all_remote().iter().filter(|remote| remote.available) {
        let version = group_version(remote);
        match groups.iter_mut().find(|group| group["name"] == remote.group.as_str()) {
            Some(group) => {
                add_version(&services, &mut group["versions"], "version", remote, version);
                group["preferredVersion"] = group["versions"][0].clone();
            }
            None => groups.push(json!({"name": remote.group, "versions": [version], "preferredVersion": version})),
        }
    }
    order(&services, groups, |group| group["name"].as_str());
    document
}

/// The `APIGroup` of one group with what others serve of it.
pub(crate) fn merge_group(
    aggregation: &Aggregation,
    snapshot: &Snapshot,
    name: &str,
    own: Option<Value>,
) -> Option<Value> {
    if !aggregation.services(snapshot).all_remote().iter().any(|remote| remote.group == name) {
        return own;
    }
    let list = json!({"groups": own.into_iter().collect::<Vec<_>>()});
    let merged = merge_group_list(aggregation, snapshot, list);
    let found = merged["groups"].as_array()?.iter().find(|group| group["name"] == name)?;
    let mut out = json!({"kind": "APIGroup", "apiVersion": "v1"});
    out.as_object_mut()?.extend(found.as_object()?.clone());
    Some(out)
}

fn group_version(remote: &Remote) -> Value {
    json!({"groupVersion": format!("{}/{}", remote.group, remote.version), "version": remote.version})
}

/// Puts a version to its place: by priority, then as versions are compared. Ours stand in their order already.
fn add_version(services: &Services, versions: &mut Value, field: &str, remote: &Remote, version: Value) {
    let Some(list) = versions.as_array_mut() else { return };
    list.retain(|other| other[field] != remote.version.as_str());
    let priority = |name: &str| services.remote(&remote.group, name).map_or(0, |other| other.version_priority);
    let before = |other: &Value| {
        let name = other[field].as_str().unwrap_or_default();
        let ours = (Reverse(remote.version_priority), &remote.version);
        Reverse(priority(name)).cmp(&ours.0).then_with(|| compare_versions(name, ours.1)).is_lt()
    };
    let at = list.iter().position(|other| !before(other)).unwrap_or(list.len());
    list.insert(at, version);
}

/// Groups by priority, then by name.
fn order(services: &Services, groups: &mut [Value], name: fn(&Value) -> Option<&str>) {
    groups.sort_by_cached_key(|group| {
        let name = name(group).unwrap_or_default();
        // The group of APIServices itself has none, and comes first.
        let priority = if name == "apiregistration.k8s.io" { i64::MAX } else { services.group_priority(name) };
        (Reverse(priority), name.to_string())
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn older_lists_become_discovery() {
        let list = json!({"kind": "APIResourceList", "groupVersion": "g/v1", "resources": [
            {"name": "things", "singularName": "thing", "namespaced": true, "kind": "Thing", "verbs": ["get"], "shortNames": ["th"]},
            {"name": "things/scale", "singularName": "", "namespaced": true, "group": "autoscaling", "version": "v1", "kind": "Scale", "verbs": ["get"]},
        ]});
        let expected = json!({"version": "v1", "resources": [{"resource": "things",
            "responseKind": {"group": "", "version": "", "kind": "Thing"}, "scope": "Namespaced",
            "singularResource": "thing", "verbs": ["get"], "shortNames": ["th"],
            "subresources": [{"subresource": "scale", "responseKind": {"group": "autoscaling", "version": "v1", "kind": "Scale"}, "verbs": ["get"]}]}]});
        assert_eq!(from_resources(&list, "v1"), expected);
    }

    #[test]
    fn one_version_is_found_among_all() {
        let list = json!({"items": [{"metadata": {"name": "g"}, "versions": [{"version": "v1", "freshness": "Current"}, {"version": "v2"}]}]});
        assert_eq!(of_version(&list, "g", "v1"), Some(json!({"version": "v1"})));
        assert_eq!(of_version(&list, "g", "v3"), None);
    }
}
