//! Drops what a schema does not know, and gives metadata its canonical form.

use serde_json::{Map, Value};

use super::schema::{Additional, Schema};
use crate::rules::check::At;
use crate::schema::{self, Object, TypeError};

/// Fields that every object has, whatever its schema says.
const META_FIELDS: [&str; 3] = ["apiVersion", "kind", "metadata"];

/// At most so many unknown fields are told; nobody reads more, and the texts go into headers.
const TOLD_MAX: usize = 100;

/// The type of `metadata`.
pub(crate) fn object_meta() -> Option<&'static Object> {
    schema::by_name("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta")
}

/// Removes the fields that the schema does not know; answers their paths, sorted.
pub(super) fn prune(object: &mut Value, schema: &Schema) -> Vec<String> {
    let mut unknown = Vec::new();
    value(object, Some(schema), &At::ROOT, &mut unknown);
    unknown.sort_unstable();
    unknown
}

fn value(x: &mut Value, schema: Option<&Schema>, at: &At<'_>, unknown: &mut Vec<String>) {
    if let Some(schema) = schema.filter(|s| s.preserve_unknown) {
        return named_only(x, schema, at, unknown);
    }
    match x {
        Value::Object(map) => fields(map, schema, at, unknown),
        Value::Array(items) => {
            let schema = schema.and_then(|s| s.items.as_deref());
            for (index, item) in items.iter_mut().enumerate() {
                value(item, schema, &at.index(index), unknown);
            }
        }
        _ => {}
    }
}

fn fields(map: &mut Map<String, Value>, schema: Option<&Schema>, at: &At<'_>, unknown: &mut Vec<String>) {
    map.retain(|name, x| {
        let here = at.field(name);
        let Some(schema) = schema else {
            tell(&here, unknown);
            return false;
        };
        if schema.embedded_resource && META_FIELDS.contains(&name.as_str()) {
            return true;
        }
        match (schema.properties.get(name), &schema.additional) {
            (Some(property), _) => value(x, Some(property), &here, unknown),
            (None, Additional::Of(each)) => value(x, Some(each), &here, unknown),
            (None, Additional::Any) => value(x, None, &here, unknown),
            (None, Additional::Unknown) => {
                tell(&here, unknown);
                return false;
            }
        }
        true
    });
}

/// Below a node that keeps unknown fields, those that have a schema are pruned all the same.
fn named_only(x: &mut Value, schema: &Schema, at: &At<'_>, unknown: &mut Vec<String>) {
    match x {
        Value::Object(map) => {
            for (name, x) in map.iter_mut() {
                if schema.embedded_resource && META_FIELDS.contains(&name.as_str()) {
                    continue;
                }
                match (schema.properties.get(name), &schema.additional) {
                    (Some(property), _) => value(x, Some(property), &at.field(name), unknown),
                    (None, Additional::Of(each)) => value(x, Some(each), &at.field(name), unknown),
                    (None, _) => {}
                }
            }
        }
        Value::Array(items) => {
            let Some(schema) = schema.items.as_deref() else { return };
            for (index, item) in items.iter_mut().enumerate() {
                named_only(item, schema, &at.index(index), unknown);
            }
        }
        _ => {}
    }
}

fn tell(at: &At<'_>, unknown: &mut Vec<String>) {
    if unknown.len() < TOLD_MAX {
        unknown.push(at.to_string());
    }
}

/// What to do with metadata whose types are wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadMetadata {
    /// Refuse it.
    Refuse,
    /// Drop the fields in question: it was stored before it was checked.
    Drop,
}

/// Gives the metadata of an object and of the resources embedded in it its canonical form; answers unknown fields.
///
/// # Errors
/// The first field of the wrong type, unless those are dropped.
pub(super) fn coerce(object: &mut Value, schema: &Schema, bad: BadMetadata) -> Result<Vec<String>, TypeError> {
    let mut unknown = Vec::new();
    coerce_in(object, schema, &At::ROOT, bad, &mut unknown)?;
    unknown.sort_unstable();
    Ok(unknown)
}

fn coerce_in(
    x: &mut Value,
    schema: &Schema,
    at: &At<'_>,
    bad: BadMetadata,
    unknown: &mut Vec<String>,
) -> Result<(), TypeError> {
    match x {
        Value::Object(map) => {
            if schema.embedded_resource {
                coerce_metadata(map, &at.field("metadata"), bad, unknown)?;
            }
            for (name, x) in map.iter_mut() {
                if schema.embedded_resource && name == "metadata" {
                    continue;
                }
                if let Some(below) = schema.property(name).0 {
                    coerce_in(x, below, &at.field(name), bad, unknown)?;
                }
            }
        }
        Value::Array(items) => {
            let Some(schema) = schema.items.as_deref() else { return Ok(()) };
            for (index, item) in items.iter_mut().enumerate() {
                coerce_in(item, schema, &at.index(index), bad, unknown)?;
            }
        }
        _ => {}
    }
    Ok(())
}

fn coerce_metadata(
    map: &mut Map<String, Value>,
    at: &At<'_>,
    bad: BadMetadata,
    unknown: &mut Vec<String>,
) -> Result<(), TypeError> {
    let (Some(ty), Some(metadata)) = (object_meta(), map.get_mut("metadata")) else { return Ok(()) };
    if metadata.is_null() {
        map.shift_remove("metadata");
        return Ok(());
    }
    let problems = match schema::admit(metadata, ty) {
        Ok(problems) => problems,
        Err(error) if bad == BadMetadata::Refuse => return Err(error),
        Err(_) => {
            let Value::Object(fields) = metadata else {
                map.shift_remove("metadata");
                return Ok(());
            };
            fields.retain(|name, value| {
                let mut alone = Value::Object(Map::from_iter([(name.clone(), value.take())]));
                let fits = schema::admit(&mut alone, ty).is_ok();
                match alone.get_mut(name) {
                    Some(kept) if fits => *value = kept.take(),
                    _ => return false,
                }
                true
            });
            Vec::new()
        }
    };
    for problem in problems {
        // `unknown field "foo"`, below this metadata.
        if let Some(field) = problem.split('"').nth(1)
            && unknown.len() < TOLD_MAX
        {
            unknown.push(format!("{at}.{field}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{BadMetadata, Schema, coerce, prune};

    fn check(case: &str, schema: Value, mut object: Value, expected: Value, unknown: &[&str]) {
        let found = prune(&mut object, &Schema::root(&schema));
        assert_eq!(object, expected, "{case}");
        assert_eq!(found, unknown, "{case}");
    }

    #[test]
    fn unknown_fields_go() {
        let typed = json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {"a": {"type": "string"},
            "list": {"type": "array", "items": {"type": "object", "properties": {"x": {"type": "integer"}}}}}}}});
        check(
            "typed",
            typed,
            json!({"apiVersion": "v", "kind": "K", "metadata": {"x": 1}, "z": 1,
                "spec": {"a": "1", "b": 2, "list": [{"x": 1, "y": 2}]}}),
            json!({"apiVersion": "v", "kind": "K", "metadata": {"x": 1}, "spec": {"a": "1", "list": [{"x": 1}]}}),
            &["spec.b", "spec.list[0].y", "z"],
        );
        check(
            "kept, and pruned again below",
            json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true,
                "properties": {"spec": {"type": "object", "properties": {"a": {"type": "string"}}}}}),
            json!({"any": {"thing": 1}, "spec": {"a": "1", "b": 2}}),
            json!({"any": {"thing": 1}, "spec": {"a": "1"}}),
            &["spec.b"],
        );
        check(
            "maps",
            json!({"type": "object", "properties": {"m": {"type": "object", "additionalProperties": {"type": "object",
                "properties": {"a": {"type": "string"}}}}, "any": {"type": "object", "additionalProperties": true}}}),
            json!({"m": {"k": {"a": "1", "b": 1}}, "any": {"x": "1", "y": {"z": 1}}}),
            json!({"m": {"k": {"a": "1"}}, "any": {"x": "1", "y": {}}}),
            &["any.y.z", "m.k.b"],
        );
        check(
            "embedded resources",
            json!({"type": "object", "properties": {"e": {"type": "object", "x-kubernetes-embedded-resource": true,
                "properties": {"spec": {"type": "object"}}}}}),
            json!({"e": {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": {"x": 1}, "status": {}}}),
            json!({"e": {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": {}}}),
            &["e.spec.x", "e.status"],
        );
    }

    #[test]
    fn metadata_is_typed() {
        let schema = Schema::root(&json!({"type": "object", "properties": {"e": {"type": "object",
            "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true}}}));
        let mut object =
            json!({"metadata": {"name": "a", "foo": 1, "labels": {}}, "e": {"metadata": {"bar": 1, "name": "b"}}});
        let unknown = coerce(&mut object, &schema, BadMetadata::Refuse).expect("typed");
        assert_eq!(unknown, ["e.metadata.bar", "metadata.foo"]);
        assert_eq!(object, json!({"metadata": {"name": "a"}, "e": {"metadata": {"name": "b"}}}));
        let wrong = json!({"metadata": {"name": "a", "labels": {"x": 1}, "finalizers": ["f"]}});
        assert!(coerce(&mut wrong.clone(), &schema, BadMetadata::Refuse).is_err());
        let mut dropped = wrong;
        coerce(&mut dropped, &schema, BadMetadata::Drop).expect("dropped");
        assert_eq!(dropped, json!({"metadata": {"name": "a", "finalizers": ["f"]}}));
    }
}
