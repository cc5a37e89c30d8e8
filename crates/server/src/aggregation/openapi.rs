//! OpenAPI of aggregated servers: v3 documents are named in the index and passed on, v2 documents become part of ours.

use mizzen_store::Snapshot;
use serde_json::{Map, Value};

use super::Aggregation;

/// Path and hash of the v3 documents that others have.
pub(crate) fn v3_entries(aggregation: &Aggregation, snapshot: &Snapshot) -> Vec<(String, String)> {
    let services = aggregation.services(snapshot);
    let told = aggregation.told.load();
    let remotes = services.all_remote().iter().filter(|remote| remote.available);
    let entry = |remote: &super::services::Remote| {
        let hash = told.by_service.get(&remote.name)?.v3_hash.clone()?;
        Some((format!("apis/{}/{}", remote.group, remote.version), hash))
    };
    remotes.filter_map(entry).collect()
}

/// Adds paths and definitions of others to the v2 document. Where a name is taken by another definition, theirs gets a
/// name of its own.
pub(crate) fn merge_v2(aggregation: &Aggregation, snapshot: &Snapshot, document: &mut Value) {
    let services = aggregation.services(snapshot);
    let told = aggregation.told.load();
    for remote in services.all_remote().iter().filter(|remote| remote.available) {
        if let Some(known) = told.by_service.get(&remote.name).filter(|known| known.v2.is_object()) {
            merge(document, &known.v2, &format!("/apis/{}/", remote.group));
        }
    }
}

fn merge(document: &mut Value, other: &Value, prefix: &str) {
    let list = |value: &Value, field: &str| value[field].as_object().cloned().unwrap_or_default();
    let (mut paths, mut definitions) = (list(other, "paths"), list(other, "definitions"));
    paths.retain(|path, _| path.starts_with(prefix));
    let mut needed = Vec::new();
    paths.values().for_each(|path| references(path, &mut needed));
    let mut at = 0;
    while at < needed.len() {
        if let Some(definition) = definitions.get(&needed[at]) {
            references(definition, &mut needed);
        }
        at += 1;
    }
    definitions.retain(|name, _| needed.contains(name));
    let taken = list(document, "definitions");
    let renamed: Map<String, Value> = definitions
        .iter()
        .filter(|(name, definition)| taken.get(*name).is_some_and(|own| own != *definition))
        .map(|(name, _)| (name.clone(), free_name(name, &taken).into()))
        .collect();
    paths.values_mut().chain(definitions.values_mut()).for_each(|value| rename(value, &renamed));
    let new_name = |name: String| renamed.get(&name).and_then(Value::as_str).map(str::to_string).unwrap_or(name);
    if let Some(own) = document["definitions"].as_object_mut() {
        own.extend(definitions.into_iter().map(|(name, definition)| (new_name(name), definition)));
    }
    if let Some(own) = document["paths"].as_object_mut() {
        for (path, value) in paths {
            own.entry(path).or_insert(value);
        }
    }
}

const REFERENCE: &str = "#/definitions/";

/// Collects the names of the definitions that a value refers to.
fn references(value: &Value, out: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            let name = fields.get("$ref").and_then(Value::as_str).and_then(|text| text.strip_prefix(REFERENCE));
            if let Some(name) = name.filter(|name| !out.iter().any(|known| known == name)) {
                out.push(name.to_string());
            }
            fields.values().for_each(|value| references(value, out));
        }
        Value::Array(items) => items.iter().for_each(|value| references(value, out)),
        _ => {}
    }
}

fn rename(value: &mut Value, renamed: &Map<String, Value>) {
    match value {
        Value::Object(fields) => {
            let name = fields.get("$ref").and_then(Value::as_str).and_then(|text| text.strip_prefix(REFERENCE));
            if let Some(new) = name.and_then(|name| renamed.get(name)).and_then(Value::as_str) {
                fields.insert("$ref".into(), format!("{REFERENCE}{new}").into());
            }
            fields.values_mut().for_each(|value| rename(value, renamed));
        }
        Value::Array(items) => items.iter_mut().for_each(|value| rename(value, renamed)),
        _ => {}
    }
}

fn free_name(name: &str, taken: &Map<String, Value>) -> String {
    (2..).map(|n| format!("{name}_v{n}")).find(|name| !taken.contains_key(name)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn definitions_of_others_do_not_replace_ours() {
        let mut own = json!({"paths": {"/api/": {}}, "definitions": {"Time": {"type": "string"}, "Meta": {"a": 1}}});
        let refer = |name: &str| json!({"$ref": format!("#/definitions/{name}")});
        let other = json!({
            "paths": {"/apis/g/v1/things": {"schema": refer("Thing")}, "/apis/other/v1": {"schema": refer("Other")}},
            "definitions": {"Thing": {"meta": refer("Meta"), "time": refer("Time")}, "Meta": {"a": 2}, "Time": {"type": "string"}, "Other": {}},
        });
        merge(&mut own, &other, "/apis/g/");
        assert_eq!(
            own,
            json!({"paths": {"/api/": {}, "/apis/g/v1/things": {"schema": refer("Thing")}},
                "definitions": {"Time": {"type": "string"}, "Meta": {"a": 1},
                    "Thing": {"meta": refer("Meta_v2"), "time": refer("Time")}, "Meta_v2": {"a": 2}}})
        );
    }
}
