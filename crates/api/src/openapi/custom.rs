//! Custom resources as OpenAPI writes them: the schema of their definition, with what every object has.
//!
//! Version 3 says all of it. Version 2 has no `nullable` and no alternatives, and kubectl cannot cope with types beside
//! unknown fields there, so it says less.

use serde_json::{Map, Value, json};

use super::schemas::{Dialect, reference};
use crate::kind::Kind;

const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";
const LIST_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta";
/// Built-in types that definitions of custom resources refer to.
pub(super) const COMMON_TYPES: &[&str] = &[OBJECT_META, LIST_META];

/// The name of a definition: the group with its parts reversed, the version, and the kind.
pub(super) fn name(kind: &Kind, of: &str) -> String {
    let group: Vec<&str> = kind.group.rsplit('.').collect();
    format!("{}.{}.{of}", group.join("."), kind.version)
}

/// The definitions of a kind and of its list; none for built-in kinds.
pub(super) fn definitions(dialect: Dialect, kind: &Kind) -> Vec<(String, Value)> {
    let Some(custom) = &kind.custom else { return Vec::new() };
    let schema = &custom.source["schema"]["openAPIV3Schema"];
    let selectable: Vec<Value> = custom.source["selectableFields"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|field| field["jsonPath"].as_str())
        .map(|path| json!({"fieldPath": path.trim_start_matches('.')}))
        .collect();
    let mark = |mut definition: Value, of: &str| {
        definition["x-kubernetes-group-version-kind"] =
            json!([{"group": kind.group, "kind": of, "version": kind.version}]);
        if !selectable.is_empty() {
            definition["x-kubernetes-selectable-fields"] = json!(selectable);
        }
        (name(kind, of), definition)
    };
    vec![mark(object(dialect, schema), &kind.kind), mark(list(dialect, kind), &kind.list_kind)]
}

fn object(dialect: Dialect, schema: &Value) -> Value {
    let unknown = schema["x-kubernetes-preserve-unknown-fields"] == true;
    if !schema.is_object() || dialect == Dialect::V2 && unknown {
        // Any property named here would make kubectl refuse all others.
        return json!({"type": "object"});
    }
    let mut out = published(dialect, schema);
    add_head(dialect, &mut out);
    out
}

fn list(dialect: Dialect, kind: &Kind) -> Value {
    let mut out = json!({
        "description": format!("{} is a list of {}", kind.list_kind, kind.kind),
        "type": "object",
        "required": ["items"],
        "properties": {"items": {
            "description": format!("List of {}.", kind.plural),
            "type": "array",
            "items": inner(dialect, &name(kind, &kind.kind)),
        }},
    });
    add_head(dialect, &mut out);
    out["properties"]["metadata"] = described(dialect, LIST_META, "Standard list metadata.");
    out
}

/// A reference where only a schema may stand.
fn inner(dialect: Dialect, name: &str) -> Value {
    match dialect {
        Dialect::V2 => reference(dialect, name),
        Dialect::V3 => json!({"allOf": [reference(dialect, name)]}),
    }
}

fn described(dialect: Dialect, name: &str, words: &str) -> Value {
    let mut out = inner(dialect, name);
    out["description"] = words.into();
    out
}

/// Adds what every object has.
fn add_head(dialect: Dialect, schema: &mut Value) {
    let text = |words: &str| json!({"description": words, "type": "string"});
    let Some(properties) = schema.as_object_mut().map(|s| s.entry("properties").or_insert_with(|| json!({}))) else {
        return;
    };
    properties["apiVersion"] =
        text("APIVersion defines the version of the schema that this object follows, with its group.");
    properties["kind"] = text("Kind names the kind of this object, in CamelCase.");
    properties["metadata"] = described(dialect, OBJECT_META, "Standard object's metadata.");
}

/// Keywords that say nothing about values.
const SILENT: [&str; 4] = ["example", "externalDocs", "$schema", "id"];
/// Keywords that version 2 lacks.
const NOT_IN_V2: [&str; 4] = ["allOf", "anyOf", "oneOf", "not"];

/// A node of a schema as a dialect can say it.
fn published(dialect: Dialect, schema: &Value) -> Value {
    let Some(fields) = schema.as_object() else { return schema.clone() };
    let v2 = dialect == Dialect::V2;
    let is = |name: &str| fields.get(name) == Some(&Value::Bool(true));
    // Untyped values break kubectl's version 2 if items or properties are set.
    let opaque = v2 && (is("nullable") || is("x-kubernetes-preserve-unknown-fields"));
    let mut out = Map::new();
    for (name, value) in fields {
        match name.as_str() {
            name if SILENT.contains(&name) || v2 && NOT_IN_V2.contains(&name) => {}
            "nullable" if v2 => {}
            "items" | "properties" if opaque => {}
            "type" if v2 && (opaque || value == "array" && !fields.contains_key("items")) => {
                let stays = !is("nullable") && value != "object" && value != "array";
                if stays {
                    out.insert(name.clone(), value.clone());
                }
            }
            "properties" => {
                let each = value.as_object().into_iter().flatten();
                let properties: Map<String, Value> = each.map(|(k, v)| (k.clone(), published(dialect, v))).collect();
                out.insert(name.clone(), properties.into());
            }
            "items" | "additionalProperties" => {
                out.insert(name.clone(), published(dialect, value));
            }
            _ => {
                out.insert(name.clone(), value.clone());
            }
        }
    }
    if v2 {
        not_required_if_nullable(fields, &mut out);
    } else if is("x-kubernetes-int-or-string") && !fields.contains_key("anyOf") && !fields.contains_key("allOf") {
        out.insert("anyOf".into(), json!([{"type": "integer"}, {"type": "string"}]));
    }
    let mut out = Value::Object(out);
    if is("x-kubernetes-embedded-resource") && !(v2 && is("x-kubernetes-preserve-unknown-fields")) {
        add_head(dialect, &mut out);
        let mut required = out["required"].as_array().cloned().unwrap_or_default();
        for name in ["kind", "apiVersion"] {
            if !required.iter().any(|r| r == name) {
                required.push(name.into());
            }
        }
        out["required"] = required.into();
    }
    out
}

/// What may be null in version 3 may be absent in version 2.
fn not_required_if_nullable(fields: &Map<String, Value>, out: &mut Map<String, Value>) {
    let nullable = |schema: &Value| schema["nullable"] == true;
    let Some(required) = out.get_mut("required").and_then(Value::as_array_mut) else { return };
    if fields.get("additionalProperties").is_some_and(nullable) {
        required.clear();
    }
    if let Some(properties) = fields.get("properties") {
        required.retain(|name| !name.as_str().is_some_and(|name| nullable(&properties[name])));
    }
    if required.is_empty() {
        out.shift_remove("required");
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::published;
    use crate::openapi::schemas::Dialect;

    #[test]
    fn version_2_says_what_it_can() {
        let cases: &[(Value, Value, Option<Value>)] = &[
            (json!({"type": "string", "nullable": true}), json!({}), None),
            (
                json!({"type": "object", "properties": {"a": {"type": "string"}}, "x-kubernetes-preserve-unknown-fields": true}),
                json!({"x-kubernetes-preserve-unknown-fields": true}),
                None,
            ),
            (
                json!({"type": "object", "required": ["a", "b"], "properties": {"a": {"type": "string", "nullable": true}, "b": {"type": "string"}}}),
                json!({"type": "object", "required": ["b"], "properties": {"a": {}, "b": {"type": "string"}}}),
                None,
            ),
            (
                json!({"type": "integer", "oneOf": [{"minimum": 1}], "example": 1}),
                json!({"type": "integer"}),
                Some(json!({"type": "integer", "oneOf": [{"minimum": 1}]})),
            ),
            (
                json!({"x-kubernetes-int-or-string": true}),
                json!({"x-kubernetes-int-or-string": true}),
                Some(json!({"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}]})),
            ),
        ];
        for (schema, v2, v3) in cases {
            assert_eq!(published(Dialect::V2, schema), *v2, "{schema}");
            assert_eq!(published(Dialect::V3, schema), *v3.as_ref().unwrap_or(schema), "{schema}");
        }
    }
}
