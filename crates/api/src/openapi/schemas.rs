//! Types as OpenAPI writes them, in version 2 or 3.

use serde_json::{Map, Value, json};

use super::docs::Docs;
use crate::schema::{Field, ListKind, Object, Type};

/// Which version of OpenAPI.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    V2,
    V3,
}

const TIME: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Time";
const MICRO_TIME: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime";
const QUANTITY: &str = "io.k8s.apimachinery.pkg.api.resource.Quantity";
const INT_OR_STRING: &str = "io.k8s.apimachinery.pkg.util.intstr.IntOrString";
const RAW: &str = "io.k8s.apimachinery.pkg.runtime.RawExtension";
const FIELDS_V1: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1";
/// The body of a patch.
pub(super) const PATCH: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Patch";
const JSON: &str = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSON";

/// The structure that a type contains, if any.
pub(super) fn object_in(ty: Type) -> Option<&'static Object> {
    match ty {
        Type::Object(object) => Some(object),
        Type::List(list) => object_in(list.item),
        Type::Map(map) => object_in(map.value),
        _ => None,
    }
}

/// A reference to a definition.
pub(super) fn reference(dialect: Dialect, name: &str) -> Value {
    match dialect {
        Dialect::V2 => json!({"$ref": format!("#/definitions/{name}")}),
        Dialect::V3 => json!({"$ref": format!("#/components/schemas/{name}")}),
    }
}

/// The definitions of types that are written as scalars.
pub(super) fn scalars(dialect: Dialect, docs: &Docs) -> Vec<(String, Value)> {
    let one_of = |a: &str, b: &str| json!([{"type": a}, {"type": b}]);
    let quantity =
        if dialect == Dialect::V2 { json!({"type": "string"}) } else { json!({"oneOf": one_of("string", "number")}) };
    let int_or_string = match dialect {
        Dialect::V2 => json!({"type": "string", "format": "int-or-string"}),
        Dialect::V3 => json!({"format": "int-or-string", "oneOf": one_of("integer", "string")}),
    };
    [
        (TIME, json!({"type": "string", "format": "date-time"})),
        (MICRO_TIME, json!({"type": "string", "format": "date-time"})),
        (QUANTITY, quantity),
        (INT_OR_STRING, int_or_string),
        (RAW, json!({"type": "object"})),
        (FIELDS_V1, json!({"type": "object"})),
        (PATCH, json!({"type": "object"})),
        (JSON, json!({})),
    ]
    .into_iter()
    .map(|(name, mut schema)| {
        if let Some(text) = docs.of_type(name) {
            schema["description"] = text.into();
        }
        (name.to_string(), schema)
    })
    .collect()
}

/// The definition of a structure.
pub(super) fn definition(dialect: Dialect, object: &'static Object, docs: &Docs) -> Value {
    let mut out = Map::new();
    if let Some(text) = docs.of_type(object.name) {
        out.insert("description".into(), text.into());
    }
    out.insert("type".into(), "object".into());
    let required: Vec<&str> = object.fields().iter().filter(|f| f.required).map(|f| f.name).collect();
    if !required.is_empty() {
        out.insert("required".into(), required.into());
    }
    let properties: Map<String, Value> =
        object.fields().iter().map(|f| (f.name.to_string(), property(dialect, object, f, docs))).collect();
    if !properties.is_empty() {
        out.insert("properties".into(), properties.into());
    }
    if let Some((group, version, kind)) = object.gvk {
        let gvk = json!([{"group": group, "kind": kind, "version": version}]);
        out.insert("x-kubernetes-group-version-kind".into(), gvk);
    } else if object.everywhere {
        let kind = object.name.rsplit('.').next().unwrap_or_default();
        let everywhere = |(group, versions): (&str, Vec<&str>)| {
            versions.into_iter().map(|v| json!({"group": group, "kind": kind, "version": v})).collect::<Vec<_>>()
        };
        let gvks: Vec<Value> = crate::kinds::kinds().groups().into_iter().flat_map(everywhere).collect();
        out.insert("x-kubernetes-group-version-kind".into(), gvks.into());
    }
    if object.atomic {
        out.insert("x-kubernetes-map-type".into(), "atomic".into());
    }
    Value::Object(out)
}

fn property(dialect: Dialect, object: &Object, field: &Field, docs: &Docs) -> Value {
    let mut schema = of_type(dialect, field.ty);
    // Beside a bare reference nothing else may stand.
    if dialect == Dialect::V3 && schema.get("$ref").is_some() {
        schema = json!({"allOf": [schema]});
    }
    let Value::Object(map) = &mut schema else { return schema };
    if let Some(text) = docs.of_field(object.name, field.name) {
        map.insert("description".into(), text.into());
    }
    if field.granular {
        map.insert("x-kubernetes-map-type".into(), "granular".into());
    }
    let patch = field.patch;
    let words = [(patch.merge, "merge"), (patch.replace, "replace"), (patch.retain_keys, "retainKeys")];
    let strategy: Vec<&str> = words.iter().filter(|(set, _)| *set).map(|(_, word)| *word).collect();
    if !strategy.is_empty() {
        map.insert("x-kubernetes-patch-strategy".into(), strategy.join(",").into());
    }
    if let Some(key) = patch.merge_key {
        map.insert("x-kubernetes-patch-merge-key".into(), key.into());
    }
    schema
}

fn of_type(dialect: Dialect, ty: Type) -> Value {
    let named = |name| reference(dialect, name);
    match ty {
        Type::String => json!({"type": "string"}),
        Type::Bytes => json!({"type": "string", "format": "byte"}),
        Type::Int32 => json!({"type": "integer", "format": "int32"}),
        Type::Int64 => json!({"type": "integer", "format": "int64"}),
        Type::Double => json!({"type": "number", "format": "double"}),
        Type::Bool => json!({"type": "boolean"}),
        Type::Time => named(TIME),
        Type::MicroTime => named(MICRO_TIME),
        Type::Quantity => named(QUANTITY),
        Type::IntOrString => named(INT_OR_STRING),
        Type::Raw => named(RAW),
        Type::FieldsV1 => named(FIELDS_V1),
        Type::Json | Type::SchemaOrArray | Type::SchemaOrBool | Type::SchemaOrStrings => named(JSON),
        Type::Object(object) => named(object.name),
        Type::Map(map) => {
            let mut out = json!({"type": "object", "additionalProperties": inner(dialect, map.value)});
            if map.atomic {
                out["x-kubernetes-map-type"] = "atomic".into();
            }
            out
        }
        Type::List(list) => {
            let mut out = json!({"type": "array", "items": inner(dialect, list.item)});
            match list.kind {
                ListKind::Map(keys) => {
                    out["x-kubernetes-list-map-keys"] = json!(keys);
                    out["x-kubernetes-list-type"] = "map".into();
                }
                ListKind::Set => out["x-kubernetes-list-type"] = "set".into(),
                ListKind::Atomic if list.declared => out["x-kubernetes-list-type"] = "atomic".into(),
                ListKind::Atomic => {}
            }
            out
        }
    }
}

/// The type of items and entries: Kubernetes wraps references here as well.
fn inner(dialect: Dialect, ty: Type) -> Value {
    let schema = of_type(dialect, ty);
    if dialect == Dialect::V3 && schema.get("$ref").is_some() { json!({"allOf": [schema]}) } else { schema }
}
