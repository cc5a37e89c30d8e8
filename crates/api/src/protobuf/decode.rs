//! From messages to JSON.

use base64::Engine as _;
use serde_json::{Map, Number, Value};

use super::wire::{Content, ProtobufError, Reader};
use crate::schema::{self, Field, Object, Type};
use crate::time;

/// Most messages within messages; as in JSON.
const DEPTH_MAX: usize = 120;
const SCHEMA: &str = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps";

/// Decodes a message of the type.
pub(super) fn object(bytes: &[u8], ty: &'static Object) -> Result<Map<String, Value>, ProtobufError> {
    let mut out = Map::new();
    fields(bytes, ty, &[], DEPTH_MAX, &mut out)?;
    out.retain(|name, value| ty.field(name).is_none_or(|f| schema::is_kept(value, f) && !is_empty_struct(value, f)));
    Ok(out)
}

/// Structures that are no pointers are sent even if empty; JSON leaves those out that nobody filled.
fn is_empty_struct(value: &Value, field: &Field) -> bool {
    field.always_there && !field.required && value.as_object().is_some_and(Map::is_empty)
}

fn message(bytes: &[u8], ty: &'static Object, depth: usize) -> Result<Value, ProtobufError> {
    let mut out = Map::new();
    fields(bytes, ty, &[], depth, &mut out)?;
    out.retain(|name, value| ty.field(name).is_none_or(|f| schema::is_kept(value, f) && !is_empty_struct(value, f)));
    Ok(Value::Object(out))
}

/// Reads the fields whose numbers continue `way`, the way through inlined messages.
fn fields(
    bytes: &[u8],
    ty: &'static Object,
    way: &[u32],
    depth: usize,
    out: &mut Map<String, Value>,
) -> Result<(), ProtobufError> {
    let depth = depth.checked_sub(1).ok_or(ProtobufError::TooDeep)?;
    let mut reader = Reader::new(bytes);
    while let Some((number, content)) = reader.next()? {
        let leads = |f: &&Field| f.numbers.strip_prefix(way).and_then(<[u32]>::first) == Some(&number);
        match ty.fields().iter().find(leads) {
            Some(field) if field.numbers.len() == way.len() + 1 => read(content, field, depth, out)?,
            Some(_) => {
                let mut further = way.to_vec();
                further.push(number);
                fields(content.bytes()?, ty, &further, depth, out)?;
            }
            None => {} // Of a newer version.
        }
    }
    Ok(())
}

fn read(
    content: Content<'_>,
    field: &'static Field,
    depth: usize,
    out: &mut Map<String, Value>,
) -> Result<(), ProtobufError> {
    match field.ty {
        Type::List(list) => {
            let there = out.entry(field.name).or_insert_with(|| Value::Array(Vec::new()));
            let Value::Array(items) = there else { return Ok(()) };
            match (content, list.item) {
                // Numbers may be packed into one field.
                (Content::Bytes(bytes), Type::Int32 | Type::Int64 | Type::Bool) => {
                    let mut packed = Reader::new(bytes);
                    while !packed.is_empty() {
                        items.push(scalar(Content::Varint(packed.varint()?), list.item, depth)?);
                    }
                }
                _ => items.push(scalar(content, list.item, depth)?),
            }
        }
        Type::Map(map) => {
            let there = out.entry(field.name).or_insert_with(|| Value::Object(Map::new()));
            if let Value::Object(entries) = there {
                let (key, value) = entry(content.bytes()?, map.value, depth)?;
                entries.insert(key, value);
            }
        }
        ty => {
            let value = scalar(content, ty, depth)?;
            if !value.is_null() {
                out.insert(field.name.into(), value);
            }
        }
    }
    Ok(())
}

fn entry(bytes: &[u8], ty: Type, depth: usize) -> Result<(String, Value), ProtobufError> {
    let (mut key, mut value) = (String::new(), None);
    let mut reader = Reader::new(bytes);
    while let Some((number, content)) = reader.next()? {
        match number {
            1 => content.text()?.clone_into(&mut key),
            2 => value = Some(scalar(content, ty, depth)?),
            _ => {}
        }
    }
    let value = match value {
        Some(value) => value,
        // A value left out is the zero of its type.
        None => match ty {
            Type::String | Type::Bytes => "".into(),
            Type::Bool => false.into(),
            Type::Int32 | Type::Int64 | Type::Double => 0.into(),
            _ => scalar(Content::Bytes(&[]), ty, depth)?,
        },
    };
    Ok((key, value))
}

/// One value of a type; `null` for a zero time and for raw JSON that is empty.
fn scalar(content: Content<'_>, ty: Type, depth: usize) -> Result<Value, ProtobufError> {
    Ok(match ty {
        Type::String => content.text()?.into(),
        Type::Bytes => base64::engine::general_purpose::STANDARD.encode(content.bytes()?).into(),
        Type::Int64 => content.varint()?.cast_signed().into(),
        // The high bits of a 32-bit number are only its sign.
        Type::Int32 => (content.varint()?.cast_signed() as i32).into(),
        Type::Bool => (content.varint()? != 0).into(),
        Type::Double => Number::from_f64(content.double()?).map_or(Value::Null, whole),
        Type::Time | Type::MicroTime => timestamp(content.bytes()?, matches!(ty, Type::MicroTime))?,
        Type::Quantity => text_in(content.bytes()?, 1)?.into(),
        Type::IntOrString => int_or_string(content.bytes()?)?,
        Type::Raw | Type::FieldsV1 | Type::Json => raw(bytes_in(content.bytes()?, 1)?)?,
        Type::SchemaOrArray | Type::SchemaOrBool | Type::SchemaOrStrings => schema_or(content.bytes()?, ty, depth)?,
        Type::Object(object) => message(content.bytes()?, object, depth)?,
        // A list within a map is a message with the field `items`.
        Type::List(list) => {
            let mut items = Vec::new();
            let mut reader = Reader::new(content.bytes()?);
            while let Some((number, content)) = reader.next()? {
                if number == 1 {
                    items.push(scalar(content, list.item, depth)?);
                }
            }
            Value::Array(items)
        }
        Type::Map(_) => return Err(ProtobufError::WireType { wire_type: 2 }), // No such type in the schema.
    })
}

/// JSON writes `3.0` as `3`.
fn whole(number: Number) -> Value {
    match number.as_f64() {
        Some(float) if float.fract() == 0.0 && float.abs() < 1e15 => (float as i64).into(),
        _ => Value::Number(number),
    }
}

fn bytes_in(bytes: &[u8], wanted: u32) -> Result<&[u8], ProtobufError> {
    let mut found: &[u8] = &[];
    let mut reader = Reader::new(bytes);
    while let Some((number, content)) = reader.next()? {
        if number == wanted {
            found = content.bytes()?;
        }
    }
    Ok(found)
}

fn text_in(bytes: &[u8], wanted: u32) -> Result<&str, ProtobufError> {
    std::str::from_utf8(bytes_in(bytes, wanted)?).map_err(|_| ProtobufError::Utf8)
}

fn raw(bytes: &[u8]) -> Result<Value, ProtobufError> {
    if bytes.is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_slice(bytes).map_err(|_| ProtobufError::Json)
}

fn timestamp(bytes: &[u8], micro: bool) -> Result<Value, ProtobufError> {
    let (mut seconds, mut nanos) = (0i64, 0i32);
    let mut reader = Reader::new(bytes);
    while let Some((number, content)) = reader.next()? {
        match number {
            1 => seconds = content.varint()?.cast_signed(),
            2 => nanos = content.varint()?.cast_signed() as i32,
            _ => {}
        }
    }
    if (seconds, nanos) == (0, 0) {
        return Ok(Value::Null);
    }
    let time = jiff::Timestamp::new(seconds, nanos).map_err(|_| ProtobufError::Time)?;
    Ok(if micro { time::format_micros(time) } else { time::format_seconds(time) }.into())
}

fn int_or_string(bytes: &[u8]) -> Result<Value, ProtobufError> {
    let (mut is_text, mut number_value, mut text) = (false, 0i32, "");
    let mut reader = Reader::new(bytes);
    while let Some((number, content)) = reader.next()? {
        match number {
            1 => is_text = content.varint()? == 1,
            2 => number_value = content.varint()?.cast_signed() as i32,
            3 => text = content.text()?,
            _ => {}
        }
    }
    Ok(if is_text { text.into() } else { number_value.into() })
}

fn schema_or(bytes: &[u8], ty: Type, depth: usize) -> Result<Value, ProtobufError> {
    let Some(schema_type) = schema::by_name(SCHEMA) else { return Ok(Value::Null) };
    let (mut schema, mut items, mut allows) = (None, Vec::new(), false);
    let mut reader = Reader::new(bytes);
    while let Some((number, content)) = reader.next()? {
        match (number, ty) {
            (1, Type::SchemaOrBool) => allows = content.varint()? != 0,
            (2, Type::SchemaOrBool) | (1, _) => schema = Some(message(content.bytes()?, schema_type, depth)?),
            (2, Type::SchemaOrArray) => items.push(message(content.bytes()?, schema_type, depth)?),
            (2, Type::SchemaOrStrings) => items.push(content.text()?.into()),
            _ => {}
        }
    }
    Ok(match (schema, ty) {
        (Some(schema), _) => schema,
        (None, Type::SchemaOrBool) => allows.into(),
        (None, _) => Value::Array(items),
    })
}
