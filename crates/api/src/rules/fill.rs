//! Filling fields of a JSON object where the client left them out.
//!
//! `null` counts as left out, and so do `""` and `0` where the Go type of the field has no other way to say "unset".
//! A field of an unexpected type is left alone: decoding or validation complains about it.

use serde_json::{Map, Value};

/// The fields of an object.
pub type Fields = Map<String, Value>;

/// The object in `name`, created when left out; `None` if something else is there.
pub fn child<'a>(fields: &'a mut Fields, name: &str) -> Option<&'a mut Fields> {
    if is_unset(fields, name) {
        fields.insert(name.into(), Value::Object(Map::new()));
    }
    existing(fields, name)
}

/// The object in `name`, if there is one.
pub fn existing<'a>(fields: &'a mut Fields, name: &str) -> Option<&'a mut Fields> {
    fields.get_mut(name)?.as_object_mut()
}

/// The objects in the list `name`.
pub fn items<'a>(fields: &'a mut Fields, name: &str) -> impl Iterator<Item = &'a mut Fields> {
    let list = fields.get_mut(name).and_then(Value::as_array_mut);
    list.into_iter().flatten().filter_map(Value::as_object_mut)
}

/// Whether the field is absent or null.
pub fn is_unset(fields: &Fields, name: &str) -> bool {
    fields.get(name).is_none_or(Value::is_null)
}

/// Whether the field is absent, null or an empty string, list or object.
pub fn is_empty(fields: &Fields, name: &str) -> bool {
    match fields.get(name) {
        None | Some(Value::Null) => true,
        Some(Value::String(text)) => text.is_empty(),
        Some(Value::Array(list)) => list.is_empty(),
        Some(Value::Object(map)) => map.is_empty(),
        Some(_) => false,
    }
}

/// Sets an optional field that was left out.
pub fn optional(fields: &mut Fields, name: &str, value: impl Into<Value>) {
    if is_unset(fields, name) {
        fields.insert(name.into(), value.into());
    }
}

/// Sets a string that was left out or is empty.
pub fn text(fields: &mut Fields, name: &str, value: &str) {
    if is_empty(fields, name) {
        fields.insert(name.into(), value.into());
    }
}

/// Sets a number that was left out or is zero.
pub fn number(fields: &mut Fields, name: &str, value: i64) {
    if is_unset(fields, name) || fields[name].as_i64() == Some(0) {
        fields.insert(name.into(), value.into());
    }
}

/// Removes a field, keeping the order of the others.
pub fn remove(fields: &mut Fields, name: &str) -> Option<Value> {
    fields.shift_remove(name)
}
