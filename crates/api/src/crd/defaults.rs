//! Fills in defaults, and drops nulls that a schema does not allow.

use serde_json::Value;

use super::schema::Schema;

/// Fills in the defaults of a schema; they may be nested in each other. Idempotent.
pub(super) fn fill(x: &mut Value, schema: &Schema) {
    if !schema.has_defaults {
        return;
    }
    match x {
        Value::Object(map) => {
            for (name, property) in &schema.properties {
                let Some(default) = &property.default else { continue };
                let missing = map.get(name).is_none_or(|found| found.is_null() && !property.nullable);
                if missing {
                    map.insert(name.clone(), default.clone());
                }
            }
            for (name, x) in map.iter_mut() {
                let (Some(below), named) = schema.property(name) else { continue };
                if !named {
                    replace_null(x, below);
                }
                fill(x, below);
            }
        }
        Value::Array(items) => {
            let Some(below) = schema.items.as_deref() else { return };
            for item in items {
                replace_null(item, below);
                fill(item, below);
            }
        }
        _ => {}
    }
}

fn replace_null(x: &mut Value, schema: &Schema) {
    if x.is_null()
        && !schema.nullable
        && let Some(default) = &schema.default
    {
        *x = default.clone();
    }
}

/// Drops the entries that are null where neither null is allowed nor a default waits to replace it.
pub(super) fn drop_nulls(x: &mut Value, schema: &Schema) {
    match x {
        Value::Object(map) => {
            map.retain(|name, x| match schema.property(name).0 {
                Some(below) if x.is_null() => below.nullable || below.default.is_some(),
                _ => true,
            });
            for (name, x) in map.iter_mut() {
                if let Some(below) = schema.property(name).0 {
                    drop_nulls(x, below);
                }
            }
        }
        Value::Array(items) => {
            let Some(below) = schema.items.as_deref() else { return };
            for item in items {
                drop_nulls(item, below);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Schema, drop_nulls, fill};

    fn check(case: &str, schema: Value, mut object: Value, expected: Value) {
        let schema = Schema::root(&schema);
        drop_nulls(&mut object, &schema);
        fill(&mut object, &schema);
        assert_eq!(object, expected, "{case}");
        let before = object.clone();
        fill(&mut object, &schema);
        assert_eq!(object, before, "{case}: idempotent");
    }

    #[test]
    fn defaults_fill_what_is_missing_or_may_not_be_null() {
        let schema = json!({"type": "object", "properties": {
            "a": {"type": "string", "default": "A"},
            "b": {"type": "object", "default": {}, "properties": {"c": {"type": "integer", "default": 1}}},
            "n": {"type": "string", "nullable": true, "default": "N"},
            "p": {"type": "string"},
            "l": {"type": "array", "items": {"type": "object", "properties": {"x": {"type": "string", "default": "X"}}}},
            "m": {"type": "object", "additionalProperties": {"type": "string", "default": "M"}},
        }});
        check("all missing", schema.clone(), json!({}), json!({"a": "A", "b": {"c": 1}, "n": "N"}));
        check(
            "nulls",
            schema.clone(),
            json!({"a": null, "n": null, "p": null, "b": {"c": null}}),
            json!({"a": "A", "n": null, "b": {"c": 1}}),
        );
        check(
            "in lists and maps",
            schema,
            json!({"a": "1", "b": {"c": 2}, "n": "2", "l": [{}, {"x": "y"}], "m": {"k": null, "o": "v"}}),
            json!({"a": "1", "b": {"c": 2}, "n": "2", "l": [{"x": "X"}, {"x": "y"}], "m": {"k": "M", "o": "v"}}),
        );
    }
}
