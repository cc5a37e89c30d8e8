//! Values as JSON, for messages that quote them and for patches.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map as JsonMap, Value as Json};

use super::collection::Entries;
use super::{Key, Value, text};
use crate::error::EvalError;
use crate::library::Opaque;
use crate::meter::Meter;

/// The value has no form in JSON.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotJson {
    /// Its type has none.
    #[error("a value of type {0} has no JSON form")]
    Type(String),
    /// Something in it could not be read, or it is too large.
    #[error(transparent)]
    Value(#[from] EvalError),
}

impl Value<'_> {
    /// The value as JSON. Optionals without a value are left out of the objects and lists they are in.
    pub fn to_json(&self) -> Result<Json, NotJson> {
        write(self, &mut Meter::unlimited())
    }
}

fn write(value: &Value<'_>, meter: &mut Meter) -> Result<Json, NotJson> {
    meter.step(1)?;
    Ok(match value {
        Value::Null | Value::Optional(None) => Json::Null,
        Value::Bool(value) => Json::Bool(*value),
        Value::Int(value) => Json::from(*value),
        Value::Uint(value) => Json::from(*value),
        Value::Double(value) => Json::from(*value),
        Value::String(text) => Json::from(&**text),
        Value::Bytes(bytes) => Json::from(STANDARD.encode(bytes)),
        Value::Duration(nanos) => Json::from(text::format_duration(*nanos)),
        Value::Timestamp(time) => Json::from(time.to_string()),
        Value::Optional(Some(value)) => write(value, meter)?,
        Value::List(list) => {
            let mut items = Vec::new();
            for item in list.iter() {
                match item? {
                    Value::Optional(None) => {}
                    item => items.push(write(&item, meter)?),
                }
            }
            Json::Array(items)
        }
        Value::Map(map) => {
            let mut object = JsonMap::new();
            if let Entries::Json { entries, .. } = &map.0 {
                meter.step(entries.len() as u64)?;
                return Ok(Json::Object((*entries).clone()));
            }
            for key in map.keys() {
                let name = match Key::of(&key) {
                    Some(Key::String(name)) => name.to_string(),
                    Some(Key::Int(number)) => number.to_string(),
                    Some(Key::Uint(number)) => number.to_string(),
                    Some(Key::Bool(value)) => value.to_string(),
                    None => continue,
                };
                match map.get(&key).transpose()? {
                    None | Some(Value::Optional(None)) => {}
                    Some(value) => {
                        let field = map.object_type().and_then(|ty| ty.fields.get(&name));
                        let name = field.map_or(name, |field| field.json_name.clone());
                        object.insert(name, write(&value, meter)?);
                    }
                }
            }
            Json::Object(object)
        }
        Value::Opaque(Opaque::Quantity(quantity)) => Json::from(quantity.to_string()),
        Value::Type(_) | Value::Opaque(_) => return Err(NotJson::Type(value.type_of().to_string())),
    })
}
