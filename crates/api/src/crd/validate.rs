//! Checks objects against a schema, in the words of kube-openapi's validator.
//!
//! An update is ratcheted: what is wrong in a part that stays as it was is let pass, for it was let in before the schema
//! became stricter.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value};

use super::schema::{Additional, Bound, JsonType, ListType, Schema};
use crate::field::{FieldError, Problem};
use crate::kind::Name;
use crate::names;
use crate::rules::check::At;
use crate::rules::metadata;
use crate::schema;

/// Most errors that are told.
const ERRORS_MAX: usize = 200;
/// Most values that are looked at for one object, each as often as schemas speak of it: alternatives over long lists multiply.
const STEPS_MAX: u64 = 5_000_000;

/// All errors of an object, or of a part of it at `at`; `old` is what it replaces.
pub(super) fn check(value: &Value, old: Option<&Value>, schema: &Schema, at: &At<'_>) -> Vec<FieldError> {
    let mut steps = 0;
    let mut found = Found { steps: &mut steps, errors: Vec::new(), fulfilled: 0 };
    node(value, old, schema, at, &mut found);
    let errors = found.errors;
    if steps >= STEPS_MAX {
        let detail = "the object is too large for the alternatives that its schema allows".to_string();
        return vec![FieldError { problem: Problem::Internal, path: at.to_string(), value: None, detail }];
    }
    errors
}

/// What a walk has found.
struct Found<'s> {
    steps: &'s mut u64,
    errors: Vec<FieldError>,
    /// How much was as it should be; of several alternatives the errors of the nearest are told.
    fulfilled: usize,
}

impl Found<'_> {
    fn add(&mut self, error: FieldError) {
        if self.errors.len() < ERRORS_MAX {
            self.errors.push(error);
        }
    }

    fn invalid(&mut self, at: &At<'_>, value: &Value, detail: impl FnOnce(&str) -> String) {
        if self.errors.len() < ERRORS_MAX {
            let path = at.to_string();
            let detail = detail(&path);
            self.errors.push(FieldError::invalid(path, value, detail));
        }
    }

    /// A walk of its own over the same budget; `None` if it finds nothing wrong.
    fn apart(&mut self, walk: impl FnOnce(&mut Found<'_>)) -> (Vec<FieldError>, usize) {
        let mut apart = Found { steps: self.steps, errors: Vec::new(), fulfilled: 0 };
        walk(&mut apart);
        (apart.errors, apart.fulfilled)
    }
}

fn node(value: &Value, old: Option<&Value>, schema: &Schema, at: &At<'_>, found: &mut Found<'_>) {
    *found.steps += 1;
    if *found.steps >= STEPS_MAX {
        return;
    }
    let before = found.errors.len();
    if type_fits(value, schema, at, found) && !value.is_null() {
        junctors(value, schema, at, found);
        match value {
            Value::String(text) => string(value, text, schema, at, found),
            Value::Number(number) => numeric(value, number, schema, at, found),
            Value::Array(items) => array(value, items, old.and_then(Value::as_array), schema, at, found),
            Value::Object(map) => object(value, map, old.and_then(Value::as_object), schema, at, found),
            Value::Bool(_) | Value::Null => {}
        }
    }
    choices(value, schema, at, found);
    found.fulfilled += usize::from(found.errors.len() == before);
    if found.errors.len() > before && old == Some(value) {
        found.errors.truncate(before);
    }
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(n) if n.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn type_fits(value: &Value, schema: &Schema, at: &At<'_>, found: &mut Found<'_>) -> bool {
    let wanted = match (schema.int_or_string, schema.ty) {
        (true, _) => "integer,string",
        (false, Some(ty)) => ty.name(),
        (false, None) => return true,
    };
    let is_whole = |v: &Value| v.as_f64().is_some_and(|n| n.fract() == 0.0);
    let fits = match (value, schema.ty) {
        (Value::Null, _) => schema.nullable,
        (value, _) if schema.int_or_string => value.is_string() || value.is_number() && is_whole(value),
        (Value::Object(_), Some(JsonType::Object))
        | (Value::Array(_), Some(JsonType::Array))
        | (Value::String(_), Some(JsonType::String))
        | (Value::Bool(_), Some(JsonType::Boolean))
        | (Value::Number(_), Some(JsonType::Number)) => true,
        (Value::Number(_), Some(JsonType::Integer)) => is_whole(value),
        _ => false,
    };
    if !fits {
        let (path, name) = (at.to_string(), type_name(value));
        let detail = format!("{path} in body must be of type {wanted}: {name:?}");
        found.add(FieldError { problem: Problem::TypeInvalid, path, value: Some(format!("{name:?}")), detail });
    }
    fits
}

fn junctors(value: &Value, schema: &Schema, at: &At<'_>, found: &mut Found<'_>) {
    let limits = &schema.limits;
    if !limits.any_of.is_empty() {
        let mut best: Option<(Vec<FieldError>, usize)> = None;
        let mut fits = false;
        for alternative in &limits.any_of {
            let outcome = found.apart(|f| node(value, None, alternative, at, f));
            if outcome.0.is_empty() {
                fits = true;
                break;
            }
            if best.as_ref().is_none_or(|b| outcome.1 > b.1) {
                best = Some(outcome);
            }
        }
        if !fits {
            tell_quantor(at, found, "must validate at least one schema (anyOf)".into());
            best.into_iter().flat_map(|(errors, _)| errors).for_each(|e| found.add(e));
        }
    }
    if !limits.one_of.is_empty() {
        let mut best: Option<(Vec<FieldError>, usize)> = None;
        let mut valid = 0;
        for alternative in &limits.one_of {
            let outcome = found.apart(|f| node(value, None, alternative, at, f));
            if outcome.0.is_empty() {
                valid += 1;
            } else if best.as_ref().is_none_or(|b| outcome.1 > b.1) {
                best = Some(outcome);
            }
        }
        if valid != 1 {
            let how = if valid == 0 { "Found none valid".into() } else { format!("Found {valid} valid alternatives") };
            tell_quantor(at, found, format!("must validate one and only one schema (oneOf). {how}"));
            if valid == 0 {
                best.into_iter().flat_map(|(errors, _)| errors).for_each(|e| found.add(e));
            }
        }
    }
    if !limits.all_of.is_empty() {
        let mut valid = 0;
        for part in &limits.all_of {
            let (errors, fulfilled) = found.apart(|f| node(value, None, part, at, f));
            valid += usize::from(errors.is_empty());
            found.fulfilled += fulfilled;
            errors.into_iter().for_each(|e| found.add(e));
        }
        if valid != limits.all_of.len() {
            let none = if valid == 0 { ". None validated" } else { "" };
            tell_quantor(at, found, format!("must validate all the schemas (allOf){none}"));
        }
    }
    if let Some(not) = &limits.not
        && found.apart(|f| node(value, None, not, at, f)).0.is_empty()
    {
        tell_quantor(at, found, "must not validate the schema (not)".into());
    }
}

/// These errors carry no place of their own but in their text.
fn tell_quantor(at: &At<'_>, found: &mut Found<'_>, what: String) {
    found.add(FieldError::invalid("<nil>", "", format!("{:?} {what}", at.to_string())));
}

fn choices(value: &Value, schema: &Schema, at: &At<'_>, found: &mut Found<'_>) {
    let Some(choices) = &schema.limits.choices else { return };
    let same = |a: &Value| a == value || a.is_number() && value.is_number() && a.as_f64() == value.as_f64();
    if choices.iter().any(same) || value.is_null() && schema.nullable {
        return;
    }
    let supported: Vec<String> =
        choices.iter().map(|c| c.as_str().map_or_else(|| c.to_string(), str::to_string)).collect();
    let detail = supported.iter().map(|s| format!("{s:?}")).collect::<Vec<_>>().join(", ");
    found.add(FieldError {
        problem: Problem::NotSupported,
        path: at.to_string(),
        value: Some(value.to_string()),
        detail: format!("supported values: {detail}"),
    });
}

fn string(value: &Value, text: &str, schema: &Schema, at: &At<'_>, found: &mut Found<'_>) {
    let limits = &schema.limits;
    if limits.max_length.is_some() || limits.min_length.is_some() {
        let length = text.chars().count() as u64;
        if let Some(max) = limits.max_length.filter(|max| length > *max) {
            found.add(FieldError::too_long(at.to_string(), usize::try_from(max).unwrap_or(usize::MAX)));
        }
        if let Some(min) = limits.min_length.filter(|min| length < *min) {
            found.invalid(at, value, |path| format!("{path} in body should be at least {min} chars long"));
        }
    }
    if let Some(pattern) = &limits.pattern
        && !pattern.matches(text)
    {
        found.invalid(at, value, |path| format!("{path} in body should match '{}'", pattern.text));
    }
    if let Some(format) = &limits.format
        && !format.fits(text)
    {
        let path = at.to_string();
        let detail = format!("{path} in body must be of type {}: {text:?}", format.name);
        found.add(FieldError { problem: Problem::TypeInvalid, path, value: Some(value.to_string()), detail });
    }
}

fn numeric(value: &Value, number: &serde_json::Number, schema: &Schema, at: &At<'_>, found: &mut Found<'_>) {
    let limits = &schema.limits;
    let Some(n) = number.as_f64() else { return };
    if let Some(format) = limits.number.filter(|format| !format.fits(number)) {
        let detail = format!("Checked value must be of type {} in {at}", format.words());
        found.add(FieldError::invalid("<nil>", "", detail));
    }
    let whole = !number.is_f64();
    let shown = |bound: f64| if whole { format!("{}", bound.trunc()) } else { go_float(bound) };
    if let Some(Bound { value: max, exclusive }) = limits.maximum
        && (n > max || exclusive && n >= max)
    {
        let words = if exclusive { "less than" } else { "less than or equal to" };
        found.invalid(at, value, |path| format!("{path} in body should be {words} {}", shown(max)));
    }
    if let Some(Bound { value: min, exclusive }) = limits.minimum
        && (n < min || exclusive && n <= min)
    {
        let words = if exclusive { "greater than" } else { "greater than or equal to" };
        found.invalid(at, value, |path| format!("{path} in body should be {words} {}", shown(min)));
    }
    if let Some(factor) = limits.multiple_of {
        let quotient = if factor < 1.0 { 1.0 / factor * n } else { n / factor };
        if factor <= 0.0 {
            found.invalid(at, value, |path| {
                format!("factor MultipleOf declared for {path} must be positive: {}", go_float(factor))
            });
        } else if (quotient - quotient.round()).abs() > 1e-9 * quotient.abs().max(1.0) {
            found.invalid(at, value, |path| format!("{path} in body should be a multiple of {}", go_float(factor)));
        }
    }
}

/// A number as Go's `%v` prints it.
fn go_float(n: f64) -> String {
    let exponent = if n == 0.0 { 0 } else { n.abs().log10().floor() as i32 };
    if (-4..6).contains(&exponent) {
        return format!("{n}");
    }
    let text = format!("{n:e}");
    match text.split_once('e') {
        Some((digits, exponent)) => {
            let exponent: i32 = exponent.parse().unwrap_or_default();
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{digits}e{sign}{:02}", exponent.abs())
        }
        None => text,
    }
}

fn array(
    value: &Value,
    items: &[Value],
    old: Option<&Vec<Value>>,
    schema: &Schema,
    at: &At<'_>,
    found: &mut Found<'_>,
) {
    let limits = &schema.limits;
    if let Some(below) = schema.items.as_deref() {
        // Items of lists that are no maps have no identity, so nothing tells which of the old ones an item was.
        let by_key = match (&schema.list_type, old) {
            (ListType::Map(keys), Some(old)) => Some((keys, old.iter().map(|o| (identity(o, keys), o)).collect())),
            _ => None,
        };
        let by_key: Option<(&Vec<Name>, HashMap<String, &Value>)> = by_key;
        for (index, item) in items.iter().enumerate() {
            let before = by_key.as_ref().and_then(|(keys, old)| old.get(&identity(item, keys)).copied());
            node(item, before, below, &at.index(index), found);
        }
    }
    let count = items.len() as u64;
    if let Some(min) = limits.min_items.filter(|min| count < *min) {
        found.invalid(at, value, |path| format!("{path} in body should have at least {min} items"));
    }
    if let Some(max) = limits.max_items.filter(|max| count > *max) {
        found.add(FieldError::too_many(at.to_string(), items.len(), usize::try_from(max).unwrap_or(usize::MAX)));
    }
    if limits.unique_items {
        let mut seen = HashSet::new();
        if !items.iter().all(|item| seen.insert(item.to_string())) {
            found.invalid(at, value, |path| format!("{path} in body shouldn't contain duplicates"));
        }
    }
}

/// What identifies an item of a list of type map.
fn identity(item: &Value, keys: &[Name]) -> String {
    let mut out = String::new();
    for key in keys {
        out.push_str(&item.get(&**key).map_or_else(String::new, Value::to_string));
        out.push('\0');
    }
    out
}

fn object(
    value: &Value,
    map: &Map<String, Value>,
    old: Option<&Map<String, Value>>,
    schema: &Schema,
    at: &At<'_>,
    found: &mut Found<'_>,
) {
    let (limits, count) = (&schema.limits, map.len() as u64);
    if let Some(min) = limits.min_properties.filter(|min| count < *min) {
        found.invalid(at, value, |path| format!("{path} in body should have at least {min} properties"));
    }
    if let Some(max) = limits.max_properties.filter(|max| count > *max) {
        found.add(FieldError::too_many(at.to_string(), map.len(), usize::try_from(max).unwrap_or(usize::MAX)));
    }
    for (name, value) in map {
        let before = old.and_then(|old| old.get(name));
        match (schema.properties.get(name), &schema.additional) {
            (Some(property), _) => node(value, before, property, &at.field(name), found),
            (None, Additional::Of(each)) => node(value, before, each, &at.field(name), found),
            (None, _) => {}
        }
    }
    for name in limits.required.iter().filter(|name| !map.contains_key(*name)) {
        found.add(FieldError::required(at.field(name).to_string(), ""));
    }
}

/// What must be unique in lists of type set and map.
pub(super) fn unique_items(value: &Value, schema: &Schema, at: &At<'_>, errors: &mut Vec<FieldError>) {
    if errors.len() >= ERRORS_MAX {
        return;
    }
    match value {
        Value::Object(map) => {
            for (name, value) in map {
                match schema.property(name) {
                    (Some(below), true) => unique_items(value, below, &at.field(name), errors),
                    (Some(below), false) => unique_items(value, below, &at.key(name), errors),
                    (None, _) => {}
                }
            }
        }
        Value::Array(items) => {
            match &schema.list_type {
                ListType::Atomic => {}
                ListType::Set => duplicates(items.iter().map(|i| (i.to_string(), i.clone())), at, errors),
                ListType::Map(keys) => {
                    if let Some(wrong) = items.iter().position(|i| !i.is_object() && !i.is_null()) {
                        let detail = "must be an object for an array of list-type map";
                        errors.push(FieldError::invalid(at.index(wrong).to_string(), &items[wrong], detail));
                        return;
                    }
                    let key = |item: &Value| {
                        let of = |key: &Name| Some((key.to_string(), item.get(&**key)?.clone()));
                        Value::Object(keys.iter().filter_map(of).collect())
                    };
                    duplicates(items.iter().map(|i| (identity(i, keys), key(i))), at, errors);
                }
            }
            if let Some(below) = schema.items.as_deref() {
                for (index, item) in items.iter().enumerate() {
                    unique_items(item, below, &at.index(index), errors);
                }
            }
        }
        _ => {}
    }
}

/// Tells the second of each that occurs more than once.
fn duplicates(items: impl Iterator<Item = (String, Value)>, at: &At<'_>, errors: &mut Vec<FieldError>) {
    let mut seen: HashMap<String, usize> = HashMap::new();
    for (index, (identity, shown)) in items.enumerate() {
        let times = seen.entry(identity).or_default();
        *times += 1;
        if *times == 2 && errors.len() < ERRORS_MAX {
            errors.push(FieldError::duplicate(at.index(index).to_string(), shown));
        }
    }
}

/// Checks the head of each resource embedded below the root.
pub(super) fn embedded(value: &Value, schema: &Schema, at: &At<'_>, errors: &mut Vec<FieldError>) {
    match value {
        Value::Object(map) => {
            for (name, value) in map {
                let here = match schema.property(name) {
                    (Some(_), true) => at.field(name),
                    (Some(_), false) => at.key(name),
                    (None, _) => continue,
                };
                let Some(below) = schema.property(name).0 else { continue };
                if below.embedded_resource && value.is_object() {
                    embedded_head(value, &here, errors);
                }
                embedded(value, below, &here, errors);
            }
        }
        Value::Array(items) => {
            let Some(below) = schema.items.as_deref() else { return };
            for (index, item) in items.iter().enumerate() {
                if below.embedded_resource && item.is_object() {
                    embedded_head(item, &at.index(index), errors);
                }
                embedded(item, below, &at.index(index), errors);
            }
        }
        _ => {}
    }
}

fn embedded_head(value: &Value, at: &At<'_>, errors: &mut Vec<FieldError>) {
    let mut text = |field: &str, form: &dyn Fn(&str) -> Option<String>| {
        let path = at.field(field).to_string();
        match value.get(field) {
            None => errors.push(FieldError::required(path, "")),
            Some(Value::String(text)) if text.is_empty() => {
                errors.push(FieldError::invalid(path, "", "must not be empty"));
            }
            Some(Value::String(text)) => errors.extend(form(text).map(|why| FieldError::invalid(path, text, why))),
            Some(other) => errors.push(FieldError::invalid(path, other, "must be a string")),
        }
    };
    text("apiVersion", &|t| (t.matches('/').count() > 1).then(|| format!("unexpected GroupVersion string: {t}")));
    text("kind", &|t| {
        let wrong = names::dns1035_label(&t.to_lowercase());
        let detail = || format!("may have mixed case, but should otherwise match: {}", wrong.join(","));
        (!wrong.is_empty()).then(detail)
    });
    let Some(meta) = value.get("metadata") else { return };
    let (here, Some(ty)) = (at.field("metadata"), super::prune::object_meta()) else { return };
    let mut meta = meta.clone();
    if let Err(error) = schema::admit(&mut meta, ty) {
        errors.push(FieldError::invalid(here.to_string(), &meta, error.to_string()));
        return;
    }
    errors.extend(metadata::embedded(&meta, &here));
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{At, Schema, check, embedded, unique_items};

    fn errors(schema: &Value, value: &Value, old: Option<&Value>) -> Vec<String> {
        let schema = Schema::root(schema);
        let mut errors = check(value, old, &schema, &At::ROOT);
        unique_items(value, &schema, &At::ROOT, &mut errors);
        embedded(value, &schema, &At::ROOT, &mut errors);
        errors.iter().map(ToString::to_string).collect()
    }

    fn spec(property: Value) -> Value {
        json!({"type": "object", "properties": {"spec": property}})
    }

    #[test]
    fn values_are_held_to_their_schema() {
        let cases: &[(Value, Value, &[&str])] = &[
            (
                json!({"type": "integer"}),
                json!("a"),
                &["spec: Invalid value: \"string\": spec in body must be of type integer: \"string\""],
            ),
            (json!({"type": "integer"}), json!(1.0), &[]),
            (
                json!({"type": "integer", "minimum": 2, "maximum": 3}),
                json!(4),
                &["spec: Invalid value: 4: spec in body should be less than or equal to 3"],
            ),
            (
                json!({"type": "integer", "minimum": 2, "exclusiveMinimum": true}),
                json!(2),
                &["spec: Invalid value: 2: spec in body should be greater than 2"],
            ),
            (
                json!({"type": "integer", "format": "int32"}),
                json!(3_000_000_000_i64),
                &["<nil>: Invalid value: \"\": Checked value must be of type integer with format int32 in spec"],
            ),
            (json!({"type": "integer", "format": "int32"}), json!(-2_147_483_648_i64), &[]),
            (
                json!({"type": "integer"}),
                json!(1e20),
                &["<nil>: Invalid value: \"\": Checked value must be of type integer (default format) in spec"],
            ),
            (
                json!({"type": "number", "multipleOf": 0.5}),
                json!(0.75),
                &["spec: Invalid value: 0.75: spec in body should be a multiple of 0.5"],
            ),
            (
                json!({"type": "string", "pattern": "^a+$"}),
                json!("b"),
                &["spec: Invalid value: \"b\": spec in body should match '^a+$'"],
            ),
            (
                json!({"type": "string", "maxLength": 2}),
                json!("äöü"),
                &["spec: Too long: may not be more than 2 bytes"],
            ),
            (
                json!({"type": "string", "minLength": 2}),
                json!("a"),
                &["spec: Invalid value: \"a\": spec in body should be at least 2 chars long"],
            ),
            (
                json!({"type": "string", "enum": ["a", "b"]}),
                json!("c"),
                &["spec: Unsupported value: \"c\": supported values: \"a\", \"b\""],
            ),
            (
                json!({"type": "string", "format": "ipv4"}),
                json!("x"),
                &["spec: Invalid value: \"x\": spec in body must be of type ipv4: \"x\""],
            ),
            (
                json!({"type": "array", "items": {"type": "string"}, "maxItems": 1, "minItems": 1}),
                json!(["a", 2]),
                &[
                    "spec[1]: Invalid value: \"integer\": spec[1] in body must be of type string: \"integer\"",
                    "spec: Too many: 2: must have at most 1 items",
                ],
            ),
            (
                json!({"type": "object", "required": ["a", "b"], "properties": {"a": {"type": "string"}}, "minProperties": 2}),
                json!({"a": null}),
                &[
                    "spec: Invalid value: {\"a\":null}: spec in body should have at least 2 properties",
                    "spec.a: Invalid value: \"null\": spec.a in body must be of type string: \"null\"",
                    "spec.b: Required value",
                ],
            ),
            (json!({"x-kubernetes-int-or-string": true}), json!("5%"), &[]),
            (
                json!({"x-kubernetes-int-or-string": true}),
                json!(true),
                &["spec: Invalid value: \"boolean\": spec in body must be of type integer,string: \"boolean\""],
            ),
            (
                json!({"type": "object", "additionalProperties": {"type": "integer"}}),
                json!({"k": "v"}),
                &["spec.k: Invalid value: \"string\": spec.k in body must be of type integer: \"string\""],
            ),
            (
                json!({"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "string"}},
                    "oneOf": [{"required": ["a"]}, {"required": ["b"]}]}),
                json!({"a": "1", "b": "2"}),
                &[
                    "<nil>: Invalid value: \"\": \"spec\" must validate one and only one schema (oneOf). Found 2 valid alternatives",
                ],
            ),
            (
                json!({"type": "integer", "anyOf": [{"minimum": 10}, {"enum": [1]}]}),
                json!(5),
                &[
                    "<nil>: Invalid value: \"\": \"spec\" must validate at least one schema (anyOf)",
                    "spec: Invalid value: 5: spec in body should be greater than or equal to 10",
                ],
            ),
            (
                json!({"type": "integer", "not": {"minimum": 3}}),
                json!(5),
                &["<nil>: Invalid value: \"\": \"spec\" must not validate the schema (not)"],
            ),
            (
                json!({"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set"}),
                json!(["a", "b", "a", "a"]),
                &["spec[2]: Duplicate value: \"a\""],
            ),
            (
                json!({"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["n"],
                    "items": {"type": "object", "properties": {"n": {"type": "string"}}}}),
                json!([{"n": "a"}, {"n": "a"}]),
                &["spec[1]: Duplicate value: {\"n\":\"a\"}"],
            ),
            (
                json!({"type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true}),
                json!({"kind": "a b", "metadata": {"name": "A"}}),
                &["spec.apiVersion: Required value", "spec.kind: Invalid value: \"a b\": may have mixed case"],
            ),
        ];
        for (schema, value, expected) in cases {
            let found = errors(&spec(schema.clone()), &json!({"spec": value}), None);
            assert_eq!(found.len(), expected.len(), "{schema} {value}: {found:?}");
            for (found, expected) in found.iter().zip(*expected) {
                assert!(found.starts_with(expected), "{schema} {value}: {found}");
            }
        }
    }

    #[test]
    fn what_stays_as_it_was_is_let_pass() {
        let list = json!({"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["n"],
            "items": {"type": "object", "properties": {"n": {"type": "string"}, "v": {"type": "string", "maxLength": 1}}}});
        let schema = json!({"type": "object", "properties": {"list": list, "a": {"type": "integer", "maximum": 1},
            "plain": {"type": "array", "items": {"type": "string", "maxLength": 1}}}});
        let old = json!({"a": 5, "list": [{"n": "x", "v": "long"}], "plain": ["long"]});
        assert!(errors(&schema, &old, Some(&old)).is_empty(), "nothing changed");
        let mut other = old.clone();
        other["more"] = json!(1);
        other["list"] = json!([{"n": "y", "v": "a"}, {"n": "x", "v": "long"}]);
        assert!(errors(&schema, &other, Some(&old)).is_empty(), "bad parts moved");
        other["a"] = json!(6);
        other["plain"] = json!(["long", "b"]);
        let found = errors(&schema, &other, Some(&old));
        assert_eq!(found.len(), 2, "{found:?}");
    }

    #[test]
    fn alternatives_over_long_lists_are_bounded() {
        let alternatives: Vec<Value> = (0..3000).map(|n| json!({"items": {"minimum": n + 10}})).collect();
        let schema = spec(json!({"type": "array", "items": {"type": "integer"}, "anyOf": alternatives}));
        let found = errors(&schema, &json!({"spec": vec![1; 20_000]}), None);
        assert!(found[0].contains("Internal error"), "{found:?}");
    }
}
