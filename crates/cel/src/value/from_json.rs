//! What JSON means under a schema.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use jiff::civil::Date;
use serde_json::{Number, Value as Json};

use super::{List, Map, Value, text};
use crate::error::EvalError;
use crate::schema::{Decl, Shape};

impl<'a> Value<'a> {
    /// The value that `json` is under a declared type, or as it stands.
    pub fn from_json(json: &'a Json, decl: Option<&'a Decl>) -> Result<Self, EvalError> {
        match (json, decl) {
            (json, None) => Ok(Self::untyped(json)),
            (Json::Null, Some(decl)) if !decl.nullable => {
                Err(EvalError::function("invalid data, got null for schema with nullable=false"))
            }
            (json, Some(decl)) => Self::typed(json, decl),
        }
    }

    /// The value that `json` is without any schema.
    pub fn untyped(json: &'a Json) -> Self {
        match json {
            Json::Null => Self::Null,
            Json::Bool(value) => Self::Bool(*value),
            Json::Number(number) => Self::number(number),
            Json::String(text) => Self::str(text),
            Json::Array(items) => Self::List(List::json(items, None)),
            Json::Object(entries) => Self::Map(Map::json(entries, None)),
        }
    }

    fn number(number: &Number) -> Self {
        match (number.as_i64(), number.as_u64()) {
            (Some(int), _) => Self::Int(int),
            (None, Some(uint)) => Self::Uint(uint),
            (None, None) => Self::Double(number.as_f64().unwrap_or(f64::NAN)),
        }
    }

    fn typed(json: &'a Json, decl: &'a Decl) -> Result<Self, EvalError> {
        match (&decl.shape, json) {
            (_, Json::Null) => Ok(Self::Null),
            (Shape::Dyn, json) => Ok(Self::untyped(json)),
            (Shape::Double, Json::Number(number)) => Ok(Self::Double(number.as_f64().unwrap_or(f64::NAN))),
            (Shape::List(..), Json::Array(items)) => Ok(Self::List(List::json(items, Some(decl)))),
            (Shape::Map(_) | Shape::Object(_), Json::Object(entries)) => Ok(Self::Map(Map::json(entries, Some(decl)))),
            (Shape::Bytes, Json::String(text)) => match STANDARD.decode(text) {
                Ok(bytes) => Ok(Self::Bytes(bytes.into())),
                Err(why) => Err(EvalError::Function(format!("Invalid byte formatted string {text}: {why}"))),
            },
            (Shape::Duration, Json::String(text)) => match text::parse_duration(text) {
                Some(nanos) => Ok(Self::Duration(nanos)),
                None => Err(EvalError::Function(format!("Invalid duration {text}: time: invalid duration {text:?}"))),
            },
            (Shape::Date, Json::String(text)) => match text.parse::<Date>() {
                Ok(date) => Ok(Self::Timestamp(midnight(date))),
                Err(why) => Err(EvalError::Function(format!("Invalid date formatted string {text}: {why}"))),
            },
            (Shape::DateTime, Json::String(text)) => match text::parse_timestamp(text) {
                Some(time) => Ok(Self::Timestamp(time)),
                None => Err(EvalError::Function(format!("Invalid date-time formatted string {text}"))),
            },
            (Shape::Scalar, Json::Bool(_) | Json::Number(_) | Json::String(_)) => Ok(Self::untyped(json)),
            (shape, _) => Err(EvalError::Function(format!("invalid data, expected {}", describe(shape, decl)))),
        }
    }
}

fn midnight(date: Date) -> Timestamp {
    date.to_zoned(jiff::tz::TimeZone::UTC).map(|zoned| zoned.timestamp()).unwrap_or_default()
}

fn describe(shape: &Shape, decl: &Decl) -> String {
    match shape {
        Shape::List(..) => "an array for the provided schema with type=array".to_owned(),
        Shape::Map(_) | Shape::Object(_) => "a map for the provided schema with type=object".to_owned(),
        _ => decl.ty.to_string(),
    }
}
