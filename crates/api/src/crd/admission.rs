//! Whether the schema of a definition's version can be served: the OpenAPI that is supported, list and map types that fit
//! their values, defaults that fulfil the schema they are in.

use serde_json::Value;

use super::prune::{self, BadMetadata};
use super::schema::Schema;
use super::structural::{self, ERRORS_MAX, fields};
use super::validate;
use crate::field::FieldError;
use crate::rules::cells::{flag, list, text};
use crate::rules::check::{At, Errors};

/// Fields of the root where status is a sub-resource, as Kubernetes names them in its refusal.
const AT_ROOT: &[(&str, &str)] = &[
    ("description", "Description"),
    ("type", "Type"),
    ("format", "Format"),
    ("title", "Title"),
    ("maximum", "Maximum"),
    ("exclusiveMaximum", "ExclusiveMaximum"),
    ("minimum", "Minimum"),
    ("exclusiveMinimum", "ExclusiveMinimum"),
    ("maxLength", "MaxLength"),
    ("minLength", "MinLength"),
    ("pattern", "Pattern"),
    ("maxItems", "MaxItems"),
    ("minItems", "MinItems"),
    ("uniqueItems", "UniqueItems"),
    ("multipleOf", "MultipleOf"),
    ("required", "Required"),
    ("items", "Items"),
    ("properties", "Properties"),
    ("externalDocs", "ExternalDocs"),
    ("example", "Example"),
    ("x-kubernetes-preserve-unknown-fields", "XPreserveUnknownFields"),
    ("x-kubernetes-validations", "XValidations"),
];

/// All errors of the schema at `openAPIV3Schema` of a version. What its rules (`x-kubernetes-validations`) are worth is
/// asked elsewhere, and only if this finds nothing.
pub fn check_schema(schema: &Value, has_status: bool, at: &At<'_>, errors: &mut Errors) {
    let before = errors.0.len();
    if has_status {
        check_root(schema, at, errors);
    }
    if flag(&schema["nullable"]) {
        errors.forbidden(&at.field("nullable"), "nullable cannot be true at the root");
    }
    let structure = errors.0.len();
    structural::check(schema, at, errors);
    if errors.0.len() == structure {
        check_defaults(schema, true, false, at, errors);
    }
    node(schema, &Context { is_root: true, ..Context::default() }, at, errors);
    errors.0.truncate(before + ERRORS_MAX);
}

fn check_root(schema: &Value, at: &At<'_>, errors: &mut Errors) {
    if text(&schema["type"]) != "object" {
        let detail =
            "only \"object\" is allowed as the type at the root of the schema if the status subresource is enabled";
        errors.invalid(&at.field("type"), text(&schema["type"]), detail);
        return;
    }
    let unknown = fields(schema).any(|(name, value)| {
        let empty = value.is_null() || *value == false || value.as_array().is_some_and(Vec::is_empty);
        !empty && !AT_ROOT.iter().any(|(known, _)| *known == name)
    });
    if unknown {
        let names: Vec<&str> = AT_ROOT.iter().map(|(_, name)| *name).collect();
        let detail = format!(
            "only [{}] fields are allowed at the root of the schema if the status subresource is enabled",
            names.join(" ")
        );
        errors.invalid(at, schema, detail);
    }
}

/// Where a node stands, as far as that restricts it.
#[derive(Clone, Copy, Default)]
struct Context<'a> {
    is_root: bool,
    in_metadata: bool,
    /// Why there may be no default.
    no_default: Option<&'a str>,
}

const TYPES: [&str; 6] = ["array", "boolean", "integer", "number", "object", "string"];

/// Keywords that nothing understands.
const UNSUPPORTED: &[(&str, &str)] = &[
    ("id", "id is not supported"),
    ("additionalItems", "additionalItems is not supported"),
    ("patternProperties", "patternProperties is not supported"),
    ("definitions", "definitions is not supported"),
    ("dependencies", "dependencies is not supported"),
    ("$ref", "$ref is not supported"),
];

fn node(schema: &Value, context: &Context<'_>, at: &At<'_>, errors: &mut Errors) {
    if errors.0.len() >= ERRORS_MAX {
        return;
    }
    keywords(schema, context, at, errors);
    merge_types(schema, at, errors);
    rules(schema, at, errors);
    let below = Context { is_root: false, ..*context };
    if schema["additionalProperties"].is_object() {
        let no_default = below.in_metadata.then_some("inside additionalProperties applying to object metadata");
        let below = Context { no_default: no_default.or(below.no_default), ..below };
        node(&schema["additionalProperties"], &below, &at.field("additionalProperties"), errors);
    }
    let properties = at.field("properties");
    let is_resource = context.is_root || flag(&schema["x-kubernetes-embedded-resource"]);
    for (name, property) in fields(&schema["properties"]) {
        let is_head = is_resource && matches!(name, "metadata" | "kind" | "apiVersion");
        let reason = format!("in top-level {name}");
        let below = Context {
            in_metadata: below.in_metadata || is_head,
            no_default: if is_head && context.is_root { Some(&reason) } else { below.no_default },
            ..below
        };
        node(property, &below, &properties.key(name), errors);
    }
    if schema["not"].is_object() {
        node(&schema["not"], &below, &at.field("not"), errors);
    }
    for name in ["allOf", "oneOf", "anyOf"] {
        let here = at.field(name);
        for (index, part) in list(&schema[name]).iter().enumerate() {
            node(part, &below, &here.index(index), errors);
        }
    }
    if schema["items"].is_object() {
        node(&schema["items"], &below, &at.field("items"), errors);
    }
}

fn keywords(schema: &Value, context: &Context<'_>, at: &At<'_>, errors: &mut Errors) {
    let ty = text(&schema["type"]);
    if !ty.is_empty() && !TYPES.contains(&ty) {
        errors.0.push(FieldError::not_supported(at.field("type").to_string(), ty, &TYPES));
    }
    if let Some(reason) = context.no_default
        && !schema["default"].is_null()
    {
        errors.forbidden(&at.field("default"), &format!("must not be set {reason}"));
    }
    for (name, detail) in UNSUPPORTED {
        let value = &schema[*name];
        let is_empty = value.as_object().is_some_and(serde_json::Map::is_empty) && *name != "dependencies";
        if !value.is_null() && !is_empty && *value != "" {
            errors.forbidden(&at.field(name), detail);
        }
    }
    if ty == "null" {
        errors.forbidden(&at.field("type"), "type cannot be set to null, use nullable as an alternative");
    }
    if schema["items"].is_array() {
        errors.forbidden(&at.field("items"), "items must be a schema object and not an array");
    }
    if context.in_metadata && flag(&schema["x-kubernetes-embedded-resource"]) {
        errors.forbidden(&at.field("x-kubernetes-embedded-resource"), "must not be used inside of resource meta");
    }
    if flag(&schema["uniqueItems"]) {
        let detail = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
        errors.forbidden(&at.field("uniqueItems"), detail);
    }
    let additional = &schema["additionalProperties"];
    if fields(&schema["properties"]).next().is_some() && (*additional == false || additional.is_object()) {
        let detail = "additionalProperties and properties are mutual exclusive";
        errors.forbidden(&at.field("additionalProperties"), detail);
    }
    if schema["x-kubernetes-preserve-unknown-fields"] == false {
        errors.invalid(&at.field("x-kubernetes-preserve-unknown-fields"), false, "must be true or undefined");
    }
}

/// `x-kubernetes-map-type`, `-list-type` and `-list-map-keys`.
fn merge_types(schema: &Value, at: &At<'_>, errors: &mut Errors) {
    let (map_type, list_type) = (&schema["x-kubernetes-map-type"], &schema["x-kubernetes-list-type"]);
    for (name, value, wanted, known) in [
        ("x-kubernetes-map-type", map_type, "object", &["atomic", "granular"][..]),
        ("x-kubernetes-list-type", list_type, "array", &["atomic", "set", "map"][..]),
    ] {
        if value.is_null() {
            continue;
        }
        let (ty, detail) = (text(&schema["type"]), format!("must be {wanted} if {name} is specified"));
        match ty {
            "" => errors.required(&at.field("type"), &detail),
            ty if ty != wanted => errors.invalid(&at.field("type"), ty, detail),
            _ => {}
        }
        if !known.contains(&text(value)) {
            errors.0.push(FieldError::not_supported(at.field(name).to_string(), text(value), known));
        }
    }
    let items = &schema["items"];
    if *list_type == "set" && schema["type"] == "array" {
        let detail = "must be atomic as item of a list with x-kubernetes-list-type=set";
        let here = at.field("items");
        let item_list = &items["x-kubernetes-list-type"];
        if items["type"] == "array" && !item_list.is_null() && item_list != "atomic" {
            errors.invalid(&here.field("x-kubernetes-list-type"), item_list, detail);
        }
        if items["type"] == "object" && items["x-kubernetes-map-type"] != "atomic" {
            errors.invalid(&here.field("x-kubernetes-map-type"), item_list, detail);
        }
    }
    let keys = &schema["x-kubernetes-list-map-keys"];
    if !list(keys).is_empty() && *list_type != "map" {
        let (here, detail) =
            (at.field("x-kubernetes-list-type"), "must be map if x-kubernetes-list-map-keys is non-empty");
        match list_type {
            Value::Null => errors.required(&here, detail),
            other => errors.invalid(&here, other, detail),
        }
    }
    if *list_type == "map" {
        map_keys(items, keys, at, errors);
    }
    if (*list_type == "map" || *list_type == "set") && flag(&items["nullable"]) {
        let detail = format!("cannot be nullable when x-kubernetes-list-type is {}", text(list_type));
        errors.forbidden(&at.field("items").field("nullable"), &detail);
    }
}

fn map_keys(items: &Value, keys: &Value, at: &At<'_>, errors: &mut Errors) {
    let keys_at = at.field("x-kubernetes-list-map-keys");
    if list(keys).is_empty() {
        errors.required(&keys_at, "must not be empty if x-kubernetes-list-type is map");
    }
    let items_at = at.field("items");
    match items {
        Value::Null => return errors.required(&items_at, "must have a schema if x-kubernetes-list-type is map"),
        Value::Array(_) => {
            return errors.invalid(&items_at, items, "must only have a single schema if x-kubernetes-list-type is map");
        }
        _ => {}
    }
    if items["type"] != "object" {
        let detail = "must be object if parent array's x-kubernetes-list-type is map";
        return errors.invalid(&items_at.field("type"), text(&items["type"]), detail);
    }
    let properties_at = items_at.field("properties");
    for (index, key) in list(keys).iter().enumerate() {
        let name = text(key);
        if list(keys)[..index].contains(key) {
            errors.invalid(&keys_at, keys, "must not contain duplicate entries");
        }
        let Some(property) = items["properties"].get(name) else {
            errors.invalid(&keys_at, keys, "entries must all be names of item properties");
            continue;
        };
        let here = properties_at.key(name);
        if property["type"] == "array" || property["type"] == "object" {
            let detail = "must be a scalar type if parent array's x-kubernetes-list-type is map";
            errors.invalid(&here.field("type"), text(&items["type"]), detail);
        }
        if !list(&items["required"]).contains(key) && property["default"].is_null() {
            let detail =
                "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property";
            errors.required(&here.field("default"), detail);
        }
        if flag(&property["nullable"]) {
            let detail = "this property is in x-kubernetes-list-map-keys, so it cannot be nullable";
            errors.forbidden(&here.field("nullable"), detail);
        }
    }
}

const REASONS: [&str; 4] = ["FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired"];

/// The form of rules; what their expressions mean is not asked here.
fn rules(schema: &Value, at: &At<'_>, errors: &mut Errors) {
    let here = at.field("x-kubernetes-validations");
    let breaks = |text: &str| text.contains(['\n', '\r']);
    for (index, rule) in list(&schema["x-kubernetes-validations"]).iter().enumerate() {
        let at = here.index(index);
        let (expression, message) = (text(&rule["rule"]).trim(), text(&rule["message"]));
        if expression.is_empty() {
            errors.required(&at.field("rule"), "rule is not specified");
        } else if !message.is_empty() && message.trim().is_empty() {
            errors.invalid(&at.field("message"), message, "must be non-empty if specified");
        } else if breaks(message.trim()) {
            errors.invalid(&at.field("message"), message, "must not contain line breaks");
        } else if breaks(expression) && message.trim().is_empty() {
            errors.required(&at.field("message"), "message must be specified if rule contains line breaks");
        }
        let message_expression = text(&rule["messageExpression"]);
        if !message_expression.is_empty() && message_expression.trim().is_empty() {
            errors.required(&at.field("messageExpression"), "messageExpression must be non-empty if specified");
        }
        if let Some(reason) = rule["reason"].as_str().filter(|r| !REASONS.contains(r)) {
            errors.0.push(FieldError::not_supported(at.field("reason").to_string(), reason, &REASONS));
        }
        let path = text(&rule["fieldPath"]);
        if !path.is_empty() && path.trim().is_empty() {
            errors.invalid(&at.field("fieldPath"), path, "must be non-empty if specified");
        }
        if breaks(path) {
            errors.invalid(&at.field("fieldPath"), path, "must not contain line breaks");
        }
        if !path.is_empty() && field_at(schema, path, true).is_none() {
            errors.invalid(&at.field("fieldPath"), path, "must be a valid path");
        }
    }
}

/// The schema at a path such as `.spec['a.b'].c`, if there is one. `lists`: items may be named by a key in brackets.
pub(crate) fn field_at<'s>(schema: &'s Value, path: &str, lists: bool) -> Option<&'s Value> {
    let mut here = schema;
    let mut rest = path;
    while !rest.is_empty() {
        let (name, bracket) = if let Some(after) = rest.strip_prefix('.') {
            let end = after.find(['.', '[']).unwrap_or(after.len());
            rest = &after[end..];
            (after[..end].to_string(), false)
        } else {
            let inner = rest.strip_prefix("['")?;
            let end = inner.find("']")?;
            rest = &inner[end + 2..];
            (inner[..end].replace("\\'", "'"), true)
        };
        if name.is_empty() {
            return None;
        }
        here = match here["properties"].get(&name) {
            Some(property) => property,
            None if here["additionalProperties"].is_object() => &here["additionalProperties"],
            None if bracket && lists && here["x-kubernetes-list-type"] == "map" => here.get("items")?,
            None => return None,
        };
    }
    Some(here)
}

/// Defaults are pruned, have valid heads of resources in them, and fulfil their schema.
fn check_defaults(schema: &Value, is_resource: bool, in_metadata: bool, at: &At<'_>, errors: &mut Errors) {
    if errors.0.len() >= ERRORS_MAX {
        return;
    }
    let is_resource = is_resource || flag(&schema["x-kubernetes-embedded-resource"]);
    let in_metadata = in_metadata && !flag(&schema["x-kubernetes-embedded-resource"]);
    let default = &schema["default"];
    if !default.is_null() && !in_metadata {
        let compiled = Schema::read(schema);
        let here = at.field("default");
        let mut pruned = default.clone();
        prune::prune(&mut pruned, &compiled);
        if pruned != *default {
            errors.invalid(&here, default, "must not have unknown fields");
        }
        let mut coerced = default.clone();
        match prune::coerce(&mut coerced, &compiled, BadMetadata::Refuse) {
            Err(error) => errors.invalid(&here, default, format!("must result in valid metadata: {error}")),
            Ok(_) => errors.0.extend(validate::check(default, None, &compiled, &here)),
        }
    }
    if schema["items"].is_object() {
        check_defaults(&schema["items"], false, in_metadata, &at.field("items"), errors);
    }
    let properties = at.field("properties");
    for (name, property) in fields(&schema["properties"]) {
        let is_head = is_resource && matches!(name, "metadata" | "apiVersion" | "kind");
        check_defaults(property, false, in_metadata || is_head, &properties.key(name), errors);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{At, Errors, check_schema};

    fn with(property: Value) -> Value {
        json!({"type": "object", "properties": {"a": property}})
    }

    #[test]
    fn schemas_say_what_can_be_served() {
        let cases: &[(Value, &[&str])] = &[
            (with(json!({"type": "string", "default": "x", "maxLength": 2})), &[]),
            (
                with(json!({"type": "string", "default": "xxx", "maxLength": 2})),
                &["properties[a].default: Too long: may not be more than 2 bytes"],
            ),
            (
                with(json!({"type": "object", "default": {"x": 1}, "properties": {"y": {"type": "string"}}})),
                &["properties[a].default: Invalid value: {\"x\":1}: must not have unknown fields"],
            ),
            (
                json!({"type": "object", "properties": {"metadata": {"type": "object", "default": {}}}}),
                &["properties[metadata].default: Forbidden: must not be set in top-level metadata"],
            ),
            (
                with(json!({"type": "array", "items": {"type": "string"}, "uniqueItems": true})),
                &["properties[a].uniqueItems: Forbidden: uniqueItems cannot be set to true"],
            ),
            (
                with(json!({"type": "text"})),
                &["properties[a].type: Unsupported value: \"text\": supported values: \"array\", \"boolean\""],
            ),
            (
                with(
                    json!({"type": "object", "properties": {"b": {"type": "string"}}, "additionalProperties": {"type": "string"}}),
                ),
                &[
                    "properties[a].additionalProperties: Forbidden: additionalProperties and properties are mutual exclusive",
                ],
            ),
            (with(json!({"type": "string", "$ref": "#/x"})), &["properties[a].$ref: Forbidden: $ref is not supported"]),
            (
                with(json!({"type": "array", "items": {"type": "object", "properties": {"k": {"type": "string"}}},
                    "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k", "z"]})),
                &[
                    "properties[a].items.properties[k].default: Required value: this property is in x-kubernetes-list-map-keys",
                    "properties[a].x-kubernetes-list-map-keys: Invalid value: [\"k\",\"z\"]: entries must all be names of item properties",
                ],
            ),
            (
                with(json!({"type": "array", "items": {"type": "object"}, "x-kubernetes-list-type": "set"})),
                &["properties[a].items.x-kubernetes-map-type: Invalid value: null: must be atomic as item of a list"],
            ),
            (
                with(json!({"type": "string", "x-kubernetes-list-type": "set"})),
                &[
                    "properties[a].type: Invalid value: \"string\": must be array if x-kubernetes-list-type is specified",
                ],
            ),
            (
                with(
                    json!({"type": "string", "x-kubernetes-validations": [{"rule": " "}, {"rule": "a", "reason": "X"}, {"rule": "a", "fieldPath": ".x"}]}),
                ),
                &[
                    "properties[a].x-kubernetes-validations[0].rule: Required value: rule is not specified",
                    "properties[a].x-kubernetes-validations[1].reason: Unsupported value: \"X\": supported values: \"FieldValueDuplicate\"",
                    "properties[a].x-kubernetes-validations[2].fieldPath: Invalid value: \".x\": must be a valid path",
                ],
            ),
        ];
        for (schema, expected) in cases {
            let mut errors = Errors::default();
            check_schema(schema, false, &At::ROOT, &mut errors);
            let found: Vec<String> = errors.0.iter().map(ToString::to_string).collect();
            assert_eq!(found.len(), expected.len(), "{schema}: {found:?}");
            for (found, expected) in found.iter().zip(*expected) {
                assert!(found.starts_with(expected), "{schema}: {found}");
            }
        }
        let mut errors = Errors::default();
        let root = json!({"type": "object", "anyOf": [{"required": ["a"]}], "properties": {"a": {"type": "string"}}});
        check_schema(&root, true, &At::ROOT, &mut errors);
        assert!(errors.0[0].detail.starts_with("only [Description Type Format"), "{:?}", errors.0);
    }
}
