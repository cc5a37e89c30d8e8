//! From JSON to messages. A value that its type cannot hold is left out: objects are checked before they are stored.

use base64::Engine as _;
use serde_json::Value;

use super::wire::{put_bytes, put_double, put_number};
use crate::schema::{self, Field, Object, Type};

const SCHEMA: &str = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps";

/// Appends the message of an object.
pub(super) fn object(out: &mut Vec<u8>, value: &Value, ty: &'static Object) {
    let Some(map) = value.as_object() else { return };
    let mut present: Vec<(&'static Field, &Value)> = map
        .iter()
        .filter_map(|(name, value)| ty.field(name).map(|f| (f, value)))
        .filter(|(f, _)| !f.numbers.is_empty())
        .collect();
    present.sort_by_key(|(field, _)| field.numbers);
    level(out, &present, 0);
}

/// Writes fields that share their numbers up to `depth`; those that go further share an inlined message.
fn level(out: &mut Vec<u8>, fields: &[(&'static Field, &Value)], depth: usize) {
    let mut rest = fields;
    while let Some((first, value)) = rest.first() {
        let number = first.numbers[depth];
        if first.numbers.len() == depth + 1 {
            field(out, number, first.ty, value);
            rest = &rest[1..];
            continue;
        }
        let end = rest.iter().position(|(f, _)| f.numbers[depth] != number).unwrap_or(rest.len());
        let (inlined, others) = rest.split_at(end);
        nested(out, number, |inner| level(inner, inlined, depth + 1));
        rest = others;
    }
}

fn nested(out: &mut Vec<u8>, number: u32, write: impl FnOnce(&mut Vec<u8>)) {
    let mut inner = Vec::new();
    write(&mut inner);
    put_bytes(out, number, &inner);
}

fn field(out: &mut Vec<u8>, number: u32, ty: Type, value: &Value) {
    match (ty, value) {
        (Type::List(list), Value::Array(items)) => items.iter().for_each(|item| scalar(out, number, list.item, item)),
        (Type::Map(map), Value::Object(entries)) => {
            let mut sorted: Vec<_> = entries.iter().collect();
            sorted.sort_by_key(|(key, _)| *key);
            for (key, value) in sorted {
                nested(out, number, |entry| {
                    put_bytes(entry, 1, key.as_bytes());
                    scalar(entry, 2, map.value, value);
                });
            }
        }
        _ => scalar(out, number, ty, value),
    }
}

fn scalar(out: &mut Vec<u8>, number: u32, ty: Type, value: &Value) {
    match (ty, value) {
        (_, Value::Null) => {}
        (Type::String, Value::String(text)) => put_bytes(out, number, text.as_bytes()),
        (Type::Bytes, Value::String(text)) => {
            if let Ok(bytes) = base64::engine::general_purpose::STANDARD.decode(text) {
                put_bytes(out, number, &bytes);
            }
        }
        (Type::Int32 | Type::Int64, Value::Number(n)) => put_number(out, number, n.as_i64().unwrap_or_default()),
        (Type::Bool, Value::Bool(set)) => put_number(out, number, i64::from(*set)),
        (Type::Double, Value::Number(n)) => put_double(out, number, n.as_f64().unwrap_or_default()),
        (Type::Time | Type::MicroTime, Value::String(text)) => {
            if let Ok(time) = text.parse::<jiff::Timestamp>() {
                nested(out, number, |inner| {
                    put_number(inner, 1, time.as_second());
                    put_number(inner, 2, time.subsec_nanosecond().into());
                });
            }
        }
        (Type::Quantity, Value::String(text)) => nested(out, number, |inner| put_bytes(inner, 1, text.as_bytes())),
        (Type::IntOrString, value) => nested(out, number, |inner| {
            put_number(inner, 1, i64::from(value.is_string()));
            put_number(inner, 2, value.as_i64().unwrap_or_default());
            put_bytes(inner, 3, value.as_str().unwrap_or_default().as_bytes());
        }),
        (Type::Raw | Type::FieldsV1 | Type::Json, value) => {
            nested(out, number, |inner| put_bytes(inner, 1, value.to_string().as_bytes()));
        }
        (Type::SchemaOrArray | Type::SchemaOrBool | Type::SchemaOrStrings, value) => {
            nested(out, number, |inner| schema_or(inner, ty, value));
        }
        (Type::Object(ty), value @ Value::Object(_)) => nested(out, number, |inner| object(inner, value, ty)),
        // A list within a map is a message with the field `items`.
        (Type::List(list), Value::Array(items)) => {
            nested(out, number, |inner| items.iter().for_each(|item| scalar(inner, 1, list.item, item)));
        }
        _ => {}
    }
}

fn schema_or(out: &mut Vec<u8>, ty: Type, value: &Value) {
    let Some(schema) = schema::by_name(SCHEMA) else { return };
    match (ty, value) {
        (Type::SchemaOrBool, Value::Bool(allows)) => put_number(out, 1, i64::from(*allows)),
        (Type::SchemaOrBool, value) => {
            put_number(out, 1, 1);
            scalar(out, 2, Type::Object(schema), value);
        }
        (Type::SchemaOrArray, Value::Array(items)) => {
            items.iter().for_each(|i| scalar(out, 2, Type::Object(schema), i))
        }
        (Type::SchemaOrStrings, Value::Array(items)) => items.iter().for_each(|i| scalar(out, 2, Type::String, i)),
        (_, value) => scalar(out, 1, Type::Object(schema), value),
    }
}
