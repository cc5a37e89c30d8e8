//! Discovery: what is served, in the documents that clients read before anything else (api-facts §1.1).
//!
//! `/api` and `/apis` in the aggregated form, and the older documents per group and version. All are made from kinds,
//! so that resources added at run time only need a [`Kind`].

use base64::Engine as _;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use crate::kind::{Kind, Name, Subresource};

/// The content type of aggregated discovery; clients tell the form by its parameters alone.
pub const AGGREGATED_CONTENT_TYPE: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// The aggregated document of `/api` (`core`) or `/apis`. `kinds` in discovery's order.
pub fn aggregated<'a>(kinds: impl IntoIterator<Item = &'a Kind>, core: bool) -> Value {
    let mut groups: Pairs<'_, Pairs<'_, Vec<Value>>> = Vec::new();
    for kind in kinds.into_iter().filter(|k| k.group.is_empty() == core) {
        let group = at_key(&mut groups, &kind.group);
        at_key(group, &kind.version).push(aggregated_resource(kind));
    }
    let items = groups.into_iter().map(|(group, versions)| {
        let versions: Vec<Value> = versions
            .into_iter()
            .map(|(version, resources)| json!({"version": version, "resources": resources, "freshness": "Current"}))
            .collect();
        let metadata = if group.is_empty() { json!({}) } else { json!({"name": group}) };
        json!({"metadata": metadata, "versions": versions})
    });
    json!({"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items.collect::<Value>()})
}

/// A map that keeps its order, as long as discovery's are.
type Pairs<'k, V> = Vec<(&'k str, V)>;

/// The value at a key of an ordered list of pairs, added if it is not there.
fn at_key<'a, 'k, V: Default>(pairs: &'a mut Pairs<'k, V>, key: &'k str) -> &'a mut V {
    let at = pairs.iter().position(|(k, _)| *k == key).unwrap_or_else(|| {
        pairs.push((key, V::default()));
        pairs.len() - 1
    });
    &mut pairs[at].1
}

fn aggregated_resource(kind: &Kind) -> Value {
    let mut out = json!({
        "resource": kind.plural,
        "responseKind": {"group": "", "version": "", "kind": kind.kind},
        "scope": if kind.namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": kind.singular,
        "verbs": kind.verbs,
    });
    put_list(&mut out, "shortNames", &kind.short_names);
    put_list(&mut out, "categories", &kind.categories);
    if !kind.subresources.is_empty() {
        out["subresources"] = kind.subresources.iter().map(|s| aggregated_subresource(kind, s)).collect();
    }
    out
}

fn aggregated_subresource(kind: &Kind, sub: &Subresource) -> Value {
    let (group, version) = foreign(kind, sub).unwrap_or_default();
    json!({"subresource": sub.name, "responseKind": {"group": group, "version": version, "kind": sub.kind}, "verbs": sub.verbs})
}

/// Group and version of a sub-resource's body, where they are not the kind's own.
fn foreign<'s>(kind: &Kind, sub: &'s Subresource) -> Option<(&'s str, &'s str)> {
    (sub.group != kind.group || sub.version != kind.version).then_some((&sub.group, &sub.version))
}

fn put_list(out: &mut Value, field: &str, list: &[Name]) {
    if !list.is_empty() {
        out[field] = json!(list);
    }
}

/// `/api` in the older form. `server_address` is `host:port`.
pub fn api_versions(server_address: &str) -> Value {
    json!({
        "kind": "APIVersions",
        "versions": ["v1"],
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": server_address}],
    })
}

/// `/apis` in the older form.
pub fn group_list<'a>(kinds: impl IntoIterator<Item = &'a Kind>) -> Value {
    let mut groups: Pairs<'_, Pairs<'_, ()>> = Vec::new();
    for kind in kinds.into_iter().filter(|k| !k.group.is_empty()) {
        at_key(at_key(&mut groups, &kind.group), &kind.version);
    }
    let groups: Value = groups.iter().map(|(group, versions)| group_of(group, versions)).collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
}

/// `/apis/<group>`. `None` if no kind has the group.
pub fn group<'a>(kinds: impl IntoIterator<Item = &'a Kind>, group: &str) -> Option<Value> {
    let mut versions: Vec<(&str, ())> = Vec::new();
    for kind in kinds.into_iter().filter(|k| !k.group.is_empty() && k.group == group) {
        at_key(&mut versions, &kind.version);
    }
    if versions.is_empty() {
        return None;
    }
    let mut out = json!({"kind": "APIGroup", "apiVersion": "v1"});
    if let (Value::Object(out), Value::Object(group)) = (&mut out, group_of(group, &versions)) {
        out.extend(group);
    }
    Some(out)
}

fn group_of(group: &str, versions: &[(&str, ())]) -> Value {
    let version = |v: &str| json!({"groupVersion": format!("{group}/{v}"), "version": v});
    let preferred = versions.first().map(|(v, ())| version(v));
    let all: Vec<Value> = versions.iter().map(|(v, ())| version(v)).collect();
    json!({"name": group, "versions": all, "preferredVersion": preferred})
}

/// `/api/v1` or `/apis/<group>/<version>`. `None` if no kind is served there.
pub fn resources<'a>(kinds: impl IntoIterator<Item = &'a Kind>, group: &str, version: &str) -> Option<Value> {
    let mut resources = Vec::new();
    let mut group_version = None;
    for kind in kinds.into_iter().filter(|k| k.group == group && k.version == version) {
        group_version.get_or_insert_with(|| kind.api_version());
        resources.push(resource(kind));
        resources.extend(kind.subresources.iter().map(|s| subresource(kind, s)));
    }
    let group_version = group_version?;
    let mut out = json!({"kind": "APIResourceList", "groupVersion": group_version, "resources": resources});
    if !group.is_empty() {
        out["apiVersion"] = "v1".into();
    }
    Some(out)
}

fn resource(kind: &Kind) -> Value {
    let mut out = json!({
        "name": kind.plural,
        "singularName": kind.singular,
        "namespaced": kind.namespaced,
        "kind": kind.kind,
        "verbs": kind.verbs,
    });
    put_list(&mut out, "shortNames", &kind.short_names);
    put_list(&mut out, "categories", &kind.categories);
    if kind.is_stored() {
        out["storageVersionHash"] = storage_version_hash(kind).into();
    }
    out
}

fn subresource(kind: &Kind, sub: &Subresource) -> Value {
    let mut out = Map::new();
    out.insert("name".into(), format!("{}/{}", kind.plural, sub.name).into());
    out.insert("singularName".into(), "".into());
    out.insert("namespaced".into(), kind.namespaced.into());
    if let Some((group, version)) = foreign(kind, sub) {
        out.insert("group".into(), group.into());
        out.insert("version".into(), version.into());
    }
    out.insert("kind".into(), sub.kind.as_ref().into());
    out.insert("verbs".into(), sub.verbs.into());
    Value::Object(out)
}

/// Changes when objects come to be stored in another version; clients compare it and read nothing out of it.
fn storage_version_hash(kind: &Kind) -> String {
    let name = format!("{}/{}/{}", kind.storage_group, kind.storage_version, kind.kind);
    base64::engine::general_purpose::STANDARD.encode(&Sha256::digest(name.as_bytes())[..8])
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::{Value, json};

    use super::{aggregated, group, group_list, resources};
    use crate::kinds::kinds;

    fn all() -> impl Iterator<Item = &'static crate::kind::Kind> {
        kinds().iter()
    }

    #[test]
    fn resources_read_as_kubernetes_lists_them() {
        let list = resources(all(), "apps", "v1").expect("apps/v1");
        let find = |list: &Value, name: &str| {
            list["resources"].as_array().and_then(|r| r.iter().find(|r| r["name"] == name).cloned()).expect("resource")
        };
        let deployments = json!({"categories": ["all"], "kind": "Deployment", "name": "deployments", "namespaced": true,
            "shortNames": ["deploy"], "singularName": "deployment", "storageVersionHash": "8aSe+NMegvE=",
            "verbs": ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]});
        assert_eq!(find(&list, "deployments"), deployments);
        let scale = json!({"group": "autoscaling", "kind": "Scale", "name": "deployments/scale", "namespaced": true,
            "singularName": "", "verbs": ["get", "patch", "update"], "version": "v1"});
        assert_eq!(find(&list, "deployments/scale"), scale);
        let core = resources(all(), "", "v1").expect("v1");
        assert_eq!(find(&core, "pods")["storageVersionHash"], "xPOwRZ+Yhw8=");
        assert_eq!(core.get("apiVersion"), None);
        assert_eq!(resources(all(), "apps", "v2"), None);
    }

    #[test]
    fn groups_name_their_preferred_version() {
        let autoscaling = json!({"apiVersion": "v1", "kind": "APIGroup", "name": "autoscaling",
            "preferredVersion": {"groupVersion": "autoscaling/v2", "version": "v2"},
            "versions": [{"groupVersion": "autoscaling/v2", "version": "v2"}, {"groupVersion": "autoscaling/v1", "version": "v1"}]});
        assert_eq!(group(all(), "autoscaling"), Some(autoscaling));
        assert_eq!((group(all(), "nope"), group(all(), "")), (None, None));
        assert_eq!(group_list(all())["groups"][0]["name"], "apiregistration.k8s.io");
        let core = aggregated(all(), true);
        assert_eq!(core["items"].as_array().map(Vec::len), Some(1));
        assert_eq!(core["items"][0]["metadata"], json!({}));
    }

    /// The stable part of Kubernetes' own documents, where they lie beside the checkout.
    #[test]
    fn documents_equal_those_of_kubernetes() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/reference/discovery-v1.36.json");
        let Ok(text) = std::fs::read_to_string(path) else {
            eprintln!("skipped: {path} is not here");
            return;
        };
        let golden: Value = serde_json::from_str(&text).expect("JSON");
        let ours = aggregated(all(), false);
        let is_stable =
            |version: &Value| version["version"].as_str().is_some_and(|v| !v.contains("alpha") && !v.contains("beta"));
        let stable = |document: &Value| -> Vec<Value> {
            let groups = document["items"].as_array().cloned().unwrap_or_default().into_iter().map(|mut group| {
                if let Some(versions) = group["versions"].as_array_mut() {
                    versions.retain(is_stable);
                }
                group
            });
            groups.filter(|g| g["versions"].as_array().is_some_and(|v| !v.is_empty())).collect()
        };
        assert_eq!(ours["items"], Value::from(stable(&golden["aggregated_v2"])));
        for (name, document) in golden.as_object().into_iter().flatten().filter(|(_, d)| d["kind"] == "APIResourceList")
        {
            let group_version = document["groupVersion"].as_str().unwrap_or_default();
            let (group, version) = group_version.split_once('/').unwrap_or(("", group_version));
            let Some(ours) = resources(all(), group, version) else {
                assert!(group_version.contains("alpha") || group_version.contains("beta"), "{name}");
                continue;
            };
            // Hashes differ where Kubernetes still stores another version than it serves.
            let entries = |list: &Value| -> BTreeSet<String> {
                let entries = list["resources"].as_array().cloned().unwrap_or_default().into_iter().map(|mut r| {
                    if let Some(map) = r.as_object_mut() {
                        map.shift_remove("storageVersionHash");
                        map.sort_keys();
                    }
                    r.to_string()
                });
                entries.collect()
            };
            assert_eq!(entries(&ours), entries(document), "{name}");
        }
    }
}
