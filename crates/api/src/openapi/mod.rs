//! OpenAPI documents: v3, one for each group and version, and v2, one for everything (api-facts §1.2).
//!
//! Good for `kubectl explain`, for the validation that kubectl leaves to the server, and for its computing of patches:
//! types with their merge keys, and operations with their group, version, kind, parameters and content types.
//! Documents are made when asked for; whoever serves them keeps them.

mod custom;
mod docs;
mod paths;
mod schemas;
mod v2_protobuf;

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha512};

use crate::kind::Kind;
use crate::schema::{self, Object};
use docs::Docs;
use schemas::Dialect;
pub use v2_protobuf::{V2_PROTOBUF, V2_PROTOBUF_ASKED, v2_protobuf};

/// The path of a group version's document below `/openapi/v3/`: `api/v1`, `apis/apps/v1`.
pub fn v3_path(group: &str, version: &str) -> String {
    if group.is_empty() { format!("api/{version}") } else { format!("apis/{group}/{version}") }
}

/// What changes when a document does: for the `hash` parameter and the ETag. Does not make the document.
pub fn hash<'a>(kinds: impl IntoIterator<Item = &'a Kind>, group: &str, version: &str) -> String {
    let mut hasher = Sha512::new();
    hasher.update(env!("CARGO_PKG_VERSION"));
    for kind in kinds.into_iter().filter(|k| k.group == group && k.version == version) {
        hasher.update(kind.plural.as_bytes());
        for sub in &kind.subresources {
            hasher.update(sub.name);
        }
        if let Some(custom) = &kind.custom {
            hasher.update([&*kind.kind, &kind.list_kind, &custom.source.to_string()].join("\0"));
        }
    }
    hasher.update(v3_path(group, version));
    hasher.finalize().iter().map(|b| format!("{b:02X}")).collect()
}

/// `/openapi/v3`: where the documents are. `entries`: paths as of [`v3_path`], each with its hash.
pub fn v3_index<'a>(entries: impl IntoIterator<Item = (&'a str, &'a str)>) -> Value {
    let paths: Map<String, Value> = entries
        .into_iter()
        .map(|(path, hash)| (path.to_string(), json!({"serverRelativeURL": format!("/openapi/v3/{path}?hash={hash}")})))
        .collect();
    json!({"paths": paths})
}

/// The v3 document of a group and version. `None` if no kind is served there.
pub fn v3<'a>(kinds: impl IntoIterator<Item = &'a Kind>, group: &str, version: &str) -> Option<Value> {
    let kinds: Vec<&Kind> = kinds.into_iter().filter(|k| k.group == group && k.version == version).collect();
    let first = kinds.first()?;
    let base = paths::base(first);
    let mut all = Map::new();
    all.insert(format!("{base}/"), paths::discovery(Dialect::V3, first));
    for kind in &kinds {
        paths::of_kind(Dialect::V3, kind, &mut all);
    }
    let docs = Docs::load();
    let schemas = definitions(Dialect::V3, &kinds, &docs);
    Some(json!({
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": "unversioned"},
        "paths": all,
        "components": {"schemas": schemas, "securitySchemes": {
            "BearerToken": {"type": "apiKey", "description": "Bearer Token authentication", "name": "authorization", "in": "header"}
        }},
    }))
}

/// The v2 document of everything.
pub fn v2<'a>(kinds: impl IntoIterator<Item = &'a Kind>) -> Value {
    let kinds: Vec<&Kind> = kinds.into_iter().collect();
    let mut all = Map::new();
    for kind in &kinds {
        let path = format!("{}/", paths::base(kind));
        if !all.contains_key(&path) {
            all.insert(path, paths::discovery(Dialect::V2, kind));
        }
        paths::of_kind(Dialect::V2, kind, &mut all);
    }
    let docs = Docs::load();
    let definitions = definitions(Dialect::V2, &kinds, &docs);
    json!({
        "swagger": "2.0",
        "info": {"title": "Kubernetes", "version": "unversioned"},
        "paths": all,
        "definitions": definitions,
        "securityDefinitions": {
            "BearerToken": {"type": "apiKey", "description": "Bearer Token authentication", "name": "authorization", "in": "header"}
        },
        "security": [{"BearerToken": []}],
    })
}

/// The types of the bodies of these kinds, by name.
fn reachable(kinds: &[&Kind]) -> Vec<&'static Object> {
    let mut todo: Vec<&'static Object> = Vec::new();
    for kind in kinds {
        todo.extend(schema::of(kind));
        todo.extend(schema::by_gvk(&kind.group, &kind.version, &kind.list_kind));
        todo.extend(kind.subresources.iter().filter_map(|s| schema::by_gvk(&s.group, &s.version, &s.kind)));
    }
    let custom = if kinds.iter().any(|k| k.custom.is_some()) { custom::COMMON_TYPES } else { &[] };
    todo.extend(paths::COMMON_TYPES.iter().chain(custom).filter_map(|name| schema::by_name(name)));
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    while let Some(object) = todo.pop() {
        if seen.insert(object.name) {
            found.push(object);
            todo.extend(object.fields().iter().filter_map(|f| schemas::object_in(f.ty)));
        }
    }
    found.sort_by_key(|o| o.name);
    found
}

fn definitions(dialect: Dialect, kinds: &[&Kind], docs: &Docs) -> Map<String, Value> {
    let objects = reachable(kinds).into_iter();
    let mut out: Vec<(String, Value)> =
        objects.map(|o| (o.name.to_string(), schemas::definition(dialect, o, docs))).collect();
    out.extend(kinds.iter().flat_map(|kind| custom::definitions(dialect, kind)));
    out.extend(schemas::scalars(dialect, docs));
    out.sort_by(|a, b| a.0.cmp(&b.0));
    out.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::{Value, json};

    use super::{hash, v2, v3, v3_index};
    use crate::kinds::kinds;

    /// Every reference in a document leads somewhere.
    fn check_references(document: &Value, root: &Value) {
        match document {
            Value::Object(map) => {
                if let Some(Value::String(reference)) = map.get("$ref") {
                    let pointer = reference.trim_start_matches('#');
                    assert!(root.pointer(pointer).is_some(), "{reference}");
                }
                map.values().for_each(|v| check_references(v, root));
            }
            Value::Array(items) => items.iter().for_each(|v| check_references(v, root)),
            _ => {}
        }
    }

    #[test]
    fn v3_says_what_kubectl_asks() {
        let document = v3(kinds().iter(), "apps", "v1").expect("apps/v1");
        check_references(&document, &document);
        let deployment = &document["components"]["schemas"]["io.k8s.api.apps.v1.Deployment"];
        assert_eq!(
            deployment["x-kubernetes-group-version-kind"],
            json!([{"group": "apps", "kind": "Deployment", "version": "v1"}])
        );
        let containers = &document["components"]["schemas"]["io.k8s.api.core.v1.PodSpec"]["properties"]["containers"];
        assert_eq!(containers["x-kubernetes-patch-merge-key"], "name");
        assert_eq!(containers["x-kubernetes-list-map-keys"], json!(["name"]));
        let patch = &document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]["patch"];
        assert_eq!(
            patch["x-kubernetes-group-version-kind"],
            json!({"group": "apps", "kind": "Deployment", "version": "v1"})
        );
        let parameters = patch["parameters"].as_array().cloned().unwrap_or_default();
        assert!(parameters.iter().any(|p| p["name"] == "fieldValidation" && p["in"] == "query"));
        assert!(patch["requestBody"]["content"].get("application/strategic-merge-patch+json").is_some());
        assert!(v3(kinds().iter(), "apps", "v9").is_none());
    }

    #[test]
    fn descriptions_come_along() {
        let document = v3(kinds().iter(), "", "v1").expect("v1");
        check_references(&document, &document);
        let container = &document["components"]["schemas"]["io.k8s.api.core.v1.Container"];
        for text in [&container["description"], &container["properties"]["imagePullPolicy"]["description"]] {
            assert!(text.as_str().is_some_and(|t| t.len() > 20), "{text}");
        }
    }

    #[test]
    fn v2_covers_every_kind() {
        let document = v2(kinds().iter());
        check_references(&document, &document);
        let kinds_with_a_patch: BTreeSet<String> = document["paths"]
            .as_object()
            .into_iter()
            .flatten()
            .filter_map(|(_, path)| path.get("patch").map(|p| p["x-kubernetes-group-version-kind"]["kind"].to_string()))
            .collect();
        for kind in kinds().iter().filter(|k| k.allows("patch")) {
            assert!(kinds_with_a_patch.contains(&format!("{:?}", kind.kind)), "{}", kind.kind);
        }
    }

    #[test]
    fn the_index_tells_the_hash() {
        let hash = hash(kinds().iter(), "apps", "v1");
        assert_eq!(hash.len(), 128);
        let index = v3_index([("apis/apps/v1", hash.as_str())]);
        assert_eq!(
            index["paths"]["apis/apps/v1"]["serverRelativeURL"],
            format!("/openapi/v3/apis/apps/v1?hash={hash}")
        );
    }
}
