//! Whether a schema is structural: every field has a type of its own, and what is inside `allOf`, `anyOf`, `oneOf` and `not`
//! only restricts values that are specified outside of them.

use serde_json::{Map, Value, json};

use super::pattern;
use crate::rules::cells::{list, text};
use crate::rules::check::{At, Errors};

/// Most errors that are told about one schema.
pub(super) const ERRORS_MAX: usize = 100;
/// Most patterns in one schema: each takes its time to compile.
const PATTERNS_MAX: usize = 2000;

/// Where a node stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    Root,
    Item,
    Field,
}

/// What is wrong with the structure of a whole schema, sorted by its text.
pub(super) fn check(schema: &Value, at: &At<'_>, errors: &mut Errors) {
    let mut found = Found { errors: Errors::default(), patterns: 0 };
    found.node(schema, Level::Root, at);
    found.complete(schema, at);
    let mut found = found.errors.0;
    found.sort_by_key(ToString::to_string);
    found.truncate(ERRORS_MAX);
    errors.0.extend(found);
}

struct Found {
    errors: Errors,
    patterns: usize,
}

impl Found {
    fn is_full(&self) -> bool {
        self.errors.0.len() >= ERRORS_MAX
    }

    fn node(&mut self, schema: &Value, level: Level, at: &At<'_>) {
        if self.is_full() {
            return;
        }
        let ty = text(&schema["type"]);
        let items = &schema["items"];
        if ty == "array" && !items.is_object() && !items.is_array() {
            self.errors.required(&at.field("items"), "must be specified");
        }
        if items.is_object() {
            self.node(items, Level::Item, &at.field("items"));
        }
        for (name, property) in fields(&schema["properties"]) {
            let properties = at.field("properties");
            self.node(property, Level::Field, &properties.key(name));
        }
        if !schema["additionalProperties"].is_null() && schema["additionalProperties"] != false {
            let here = at.field("additionalProperties");
            if level == Level::Root {
                self.errors.forbidden(&here, "must not be used at the root");
            }
            if schema["x-kubernetes-embedded-resource"] == true {
                self.errors.forbidden(&here, "must not be used if x-kubernetes-embedded-resource is set");
            }
            if schema["additionalProperties"].is_object() {
                self.node(&schema["additionalProperties"], Level::Field, &here);
            }
        }
        self.extensions(schema, at);
        let first_all_of = &schema["allOf"][0]["anyOf"];
        self.values(schema, is_int_or_string(&schema["anyOf"]), is_int_or_string(first_all_of), at);
        self.types(schema, ty, level, at);
        self.metadata(schema, level, at);
    }

    fn extensions(&mut self, schema: &Value, at: &At<'_>) {
        let set = |name: &str| schema[name] == true;
        for name in ["x-kubernetes-preserve-unknown-fields", "x-kubernetes-embedded-resource"] {
            if set("x-kubernetes-int-or-string") && set(name) {
                self.errors.invalid(&at.field(name), true, "must be false if x-kubernetes-int-or-string is true");
            }
        }
        let bare = fields(&schema["properties"]).next().is_none();
        if set("x-kubernetes-embedded-resource") && !set("x-kubernetes-preserve-unknown-fields") && bare {
            let detail = "must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields";
            self.errors.required(&at.field("properties"), detail);
        }
    }

    fn types(&mut self, schema: &Value, ty: &str, level: Level, at: &At<'_>) {
        let set = |name: &str| schema[name] == true;
        let here = at.field("type");
        if set("x-kubernetes-embedded-resource") && ty != "object" {
            let detail = "must be object if x-kubernetes-embedded-resource is true";
            match ty {
                "" => self.errors.required(&here, detail),
                _ => self.errors.invalid(&here, ty, detail),
            }
        } else if ty.is_empty() && !set("x-kubernetes-int-or-string") && !set("x-kubernetes-preserve-unknown-fields") {
            let detail = match level {
                Level::Root => "must not be empty at the root",
                Level::Item => "must not be empty for specified array items",
                Level::Field => "must not be empty for specified object fields",
            };
            self.errors.required(&here, detail);
        }
        if level == Level::Root && !ty.is_empty() && ty != "object" {
            self.errors.invalid(&here, ty, "must be object at the root");
        }
    }

    /// What resources must say, and may not say, of their head.
    fn metadata(&mut self, schema: &Value, level: Level, at: &At<'_>) {
        let is_resource = level == Level::Root || schema["x-kubernetes-embedded-resource"] == true;
        if !is_resource {
            return;
        }
        let (properties, at) = (&schema["properties"], at.field("properties"));
        for name in ["kind", "apiVersion"] {
            if let Some(property) = properties.get(name)
                && property["type"] != "string"
            {
                self.errors.invalid(&at.key(name).field("type"), text(&property["type"]), "must be string");
            }
        }
        let Some(metadata) = properties.get("metadata") else { return };
        let here = at.key("metadata");
        if metadata["type"] != "object" {
            self.errors.invalid(&here.field("type"), text(&metadata["type"]), "must be object");
        }
        let allowed =
            |name: &str| matches!(name, "type" | "properties" | "default" | "description" | "title" | "nullable");
        let named = fields(&metadata["properties"]).all(|(name, _)| matches!(name, "name" | "generateName"));
        let is_plain = fields(metadata).all(|(name, _)| allowed(name)) && named;
        if level == Level::Root && !is_plain {
            let detail =
                "must not specify anything other than name and generateName, but metadata is implicitly specified";
            self.errors.forbidden(&here, detail);
        }
    }

    /// The value validations of a node; `skip_any_of`: they say what `x-kubernetes-int-or-string` says.
    fn values(&mut self, schema: &Value, skip_any_of: bool, skip_first_all_of: bool, at: &At<'_>) {
        for (name, skip) in [("anyOf", skip_any_of), ("allOf", false), ("oneOf", false)] {
            if skip {
                continue;
            }
            let here = at.field(name);
            for (index, nested) in list(&schema[name]).iter().enumerate() {
                let skip = name == "allOf" && index == 0 && skip_first_all_of;
                self.nested(nested, skip, &here.index(index));
            }
        }
        if schema["not"].is_object() {
            self.nested(&schema["not"], false, &at.field("not"));
        }
        let pattern_text = text(&schema["pattern"]);
        if pattern_text.is_empty() {
            return;
        }
        self.patterns += 1;
        if self.patterns == PATTERNS_MAX + 1 {
            self.errors.forbidden(&at.field("pattern"), "too many patterns");
        }
        if self.patterns <= PATTERNS_MAX
            && let Err(why) = pattern::compile(pattern_text)
        {
            let detail = format!("must be a valid regular expression, but isn't: {why}");
            self.errors.invalid(&at.field("pattern"), pattern_text, detail);
        }
    }

    fn nested(&mut self, schema: &Value, skip_any_of: bool, at: &At<'_>) {
        if self.is_full() {
            return;
        }
        self.values(schema, skip_any_of, false, at);
        if schema["items"].is_object() {
            self.nested(&schema["items"], false, &at.field("items"));
        }
        for (name, property) in fields(&schema["properties"]) {
            let properties = at.field("properties");
            let here = properties.key(name);
            self.nested(property, false, &here);
            if name == "metadata" {
                self.errors.forbidden(&here, "must not be specified in a nested context");
            }
        }
        for (name, detail) in FORBIDDEN {
            let value = &schema[*name];
            let is_set = match value {
                Value::Null | Value::Bool(false) => false,
                Value::String(text) => !text.is_empty(),
                Value::Array(items) => !items.is_empty(),
                _ => true,
            };
            if is_set {
                self.errors.forbidden(&at.field(name), detail);
            }
        }
    }

    /// Everything that a value validation speaks of is specified outside of it.
    fn complete(&mut self, schema: &Value, at: &At<'_>) {
        if self.is_full() {
            return;
        }
        self.complete_values(schema, schema, at, at);
        if schema["items"].is_object() {
            self.complete(&schema["items"], &at.field("items"));
        }
        let properties = at.field("properties");
        for (name, property) in fields(&schema["properties"]) {
            self.complete(property, &properties.key(name));
        }
        if schema["additionalProperties"].is_object() {
            self.complete(&schema["additionalProperties"], &at.field("additionalProperties"));
        }
    }

    fn complete_values(&mut self, values: &Value, schema: &Value, at: &At<'_>, there: &At<'_>) {
        for name in ["allOf", "anyOf", "oneOf"] {
            let here = there.field(name);
            for (index, nested) in list(&values[name]).iter().enumerate() {
                self.complete_nested(nested, Some(schema), at, &here.index(index));
            }
        }
        if values["not"].is_object() {
            self.complete_nested(&values["not"], Some(schema), at, &there.field("not"));
        }
    }

    fn complete_nested(&mut self, values: &Value, schema: Option<&Value>, at: &At<'_>, there: &At<'_>) {
        if self.is_full() {
            return;
        }
        let Some(schema) = schema else {
            return self.errors.required(at, &format!("because it is defined in {there}"));
        };
        self.complete_values(values, schema, at, there);
        if values["items"].is_object() {
            let items = schema.get("items").filter(|i| i.is_object());
            self.complete_nested(&values["items"], items, &at.field("items"), &there.field("items"));
        }
        let (properties, there) = (at.field("properties"), there.field("properties"));
        for (name, nested) in fields(&values["properties"]) {
            let property = schema["properties"].get(name);
            self.complete_nested(nested, property, &properties.key(name), &there.key(name));
        }
    }
}

/// What may not be set inside a value validation.
const FORBIDDEN: &[(&str, &str)] = &[
    ("type", "must be empty to be structural"),
    ("additionalProperties", "must be undefined to be structural"),
    ("default", "must be undefined to be structural"),
    ("title", "must be empty to be structural"),
    ("description", "must be empty to be structural"),
    ("nullable", "must be false to be structural"),
    ("x-kubernetes-preserve-unknown-fields", "must be false to be structural"),
    ("x-kubernetes-embedded-resource", "must be false to be structural"),
    ("x-kubernetes-int-or-string", "must be false to be structural"),
    ("x-kubernetes-list-map-keys", "must be empty to be structural"),
    ("x-kubernetes-list-type", "must be undefined to be structural"),
    ("x-kubernetes-map-type", "must be undefined to be structural"),
    ("x-kubernetes-validations", "must be empty to be structural"),
];

fn is_int_or_string(any_of: &Value) -> bool {
    *any_of == json!([{"type": "integer"}, {"type": "string"}])
}

/// The entries of an object, none if it is none.
pub(super) fn fields(value: &Value) -> impl Iterator<Item = (&str, &Value)> {
    static NONE: std::sync::LazyLock<Map<String, Value>> = std::sync::LazyLock::new(Map::new);
    value.as_object().unwrap_or(&NONE).iter().map(|(name, value)| (name.as_str(), value))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{At, Errors, check};

    #[test]
    fn schemas_are_structural() {
        let int_or_string = json!([{"type": "integer"}, {"type": "string"}]);
        let cases: &[(Value, &[&str])] = &[
            (
                json!({"type": "object", "properties": {"a": {"x-kubernetes-int-or-string": true, "anyOf": int_or_string}}}),
                &[],
            ),
            (
                json!({"type": "object", "properties": {"a": {"x-kubernetes-int-or-string": true,
                    "allOf": [{"anyOf": int_or_string}, {"anyOf": [{"minimum": 1}]}]}}}),
                &[],
            ),
            (json!({}), &["type: Required value: must not be empty at the root"]),
            (json!({"type": "string"}), &["type: Invalid value: \"string\": must be object at the root"]),
            (
                json!({"type": "object", "properties": {"a": {}, "b": {"type": "array"}, "c": {"type": "array", "items": {}}}}),
                &[
                    "properties[a].type: Required value: must not be empty for specified object fields",
                    "properties[b].items: Required value: must be specified",
                    "properties[c].items.type: Required value: must not be empty for specified array items",
                ],
            ),
            (
                json!({"type": "object", "additionalProperties": {"type": "string"}}),
                &["additionalProperties: Forbidden: must not be used at the root"],
            ),
            (
                json!({"type": "object", "properties": {"a": {"type": "string"}}, "anyOf": [
                    {"properties": {"a": {"type": "string"}, "b": {"minLength": 1}}}, {"description": "x"}]}),
                &[
                    "anyOf[0].properties[a].type: Forbidden: must be empty to be structural",
                    "anyOf[1].description: Forbidden: must be empty to be structural",
                    "properties[b]: Required value: because it is defined in anyOf[0].properties[b]",
                ],
            ),
            (
                json!({"type": "object", "properties": {"metadata": {"type": "object", "properties": {"labels": {"type": "object"}}}}}),
                &[
                    "properties[metadata]: Forbidden: must not specify anything other than name and generateName, but metadata is implicitly specified",
                ],
            ),
            (
                json!({"type": "object", "properties": {"metadata": {"type": "object", "properties": {"name": {"type": "string", "maxLength": 3}}}}}),
                &[],
            ),
            (
                json!({"type": "object", "properties": {"e": {"type": "object", "x-kubernetes-embedded-resource": true}}}),
                &[
                    "properties[e].properties: Required value: must not be empty if x-kubernetes-embedded-resource is true",
                ],
            ),
            (
                json!({"type": "object", "properties": {"a": {"type": "string", "pattern": "("}}}),
                &["properties[a].pattern: Invalid value: \"(\": must be a valid regular expression, but isn't: "],
            ),
        ];
        for (schema, expected) in cases {
            let mut errors = Errors::default();
            check(schema, &At::ROOT, &mut errors);
            let found: Vec<String> = errors.0.iter().map(ToString::to_string).collect();
            assert_eq!(found.len(), expected.len(), "{schema}: {found:?}");
            for (found, expected) in found.iter().zip(*expected) {
                assert!(found.starts_with(expected), "{schema}: {found}");
            }
        }
    }
}
