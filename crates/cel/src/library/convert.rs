//! Conversions between types.

use super::{Call, Cost, Declarations, Opaque, Result};
use crate::error::EvalError;
use crate::value::Value;
use crate::value::text::{format_double, format_duration, in_range, parse_duration, parse_timestamp};

pub(super) fn declare(table: &mut Declarations) {
    table.add("dyn(A) -> dyn", Cost::One, same);
    table.add("type(A) -> type<A>", Cost::One, type_of);
    for from in ["bool", "string"] {
        table.add(&format!("bool({from}) -> bool"), Cost::One, to_bool);
    }
    table.add("bytes(bytes) -> bytes", Cost::One, same);
    table.add("bytes(string) -> bytes", Cost::Encode, to_bytes);
    for from in ["double", "int", "string", "uint"] {
        table.add(&format!("double({from}) -> double"), Cost::One, to_double);
        table.add(&format!("uint({from}) -> uint"), Cost::One, to_uint);
    }
    for from in ["int", "double", "duration", "string", "timestamp", "uint"] {
        table.add(&format!("int({from}) -> int"), Cost::One, to_int);
    }
    for from in ["duration", "int", "string"] {
        table.add(&format!("duration({from}) -> duration"), Cost::One, to_duration);
    }
    for from in ["timestamp", "int", "string"] {
        table.add(&format!("timestamp({from}) -> timestamp"), Cost::One, to_timestamp);
    }
    for from in ["string", "bool", "double", "duration", "int", "timestamp", "uint", "IP", "CIDR"] {
        table.add(&format!("string({from}) -> string"), Cost::One, to_string);
    }
    table.add("string(bytes) -> string", Cost::Decode, to_string);
}

fn same<'a>(_: &mut Call<'_>, args: &[Value<'a>]) -> Result<Value<'a>> {
    args.first().cloned().ok_or(EvalError::NoSuchOverload)
}

fn type_of<'a>(_: &mut Call<'_>, args: &[Value<'a>]) -> Result<Value<'a>> {
    args.first().map(|value| Value::Type(value.type_of())).ok_or(EvalError::NoSuchOverload)
}

fn wrong(from: &str, to: &str) -> EvalError {
    EvalError::Function(format!("type conversion error from '{from}' to '{to}'"))
}

fn to_bool<'a>(_: &mut Call<'_>, args: &[Value<'a>]) -> Result<Value<'a>> {
    match args {
        [Value::Bool(value)] => Ok(Value::Bool(*value)),
        [Value::String(text)] => match &**text {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(Value::Bool(true)),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(Value::Bool(false)),
            _ => Err(wrong("string", "bool")),
        },
        _ => Err(EvalError::NoSuchOverload),
    }
}

fn to_bytes<'a>(call: &mut Call<'_>, args: &[Value<'a>]) -> Result<Value<'a>> {
    match args {
        [Value::String(text)] => {
            call.meter.allocate(text.len())?;
            Ok(Value::Bytes(text.as_bytes().into()))
        }
        _ => Err(EvalError::NoSuchOverload),
    }
}

fn to_double<'a>(_: &mut Call<'_>, args: &[Value<'a>]) -> Result<Value<'a>> {
    match args {
        [Value::Double(value)] => Ok(Value::Double(*value)),
        [Value::Int(value)] => Ok(Value::Double(*value as f64)),
        [Value::Uint(value)] => Ok(Value::Double(*value as f64)),
        [Value::String(text)] => text.parse().map(Value::Double).map_err(|_| wrong("string", "double")),
        _ => Err(EvalError::NoSuchOverload),
    }
}

fn to_int<'a>(_: &mut Call<'_>, args: &[Value<'a>]) -> Result<Value<'a>> {
    match args {
        [Value::Int(value)] => Ok(Value::Int(*value)),
        [Value::Uint(value)] => i64::try_from(*value).map(Value::Int).map_err(|_| EvalError::Overflow("integer")),
        // The limits themselves are not told from what is beyond them.
        [Value::Double(value)] if *value > i64::MIN as f64 && *value < i64::MAX as f64 => Ok(Value::Int(*value as i64)),
        [Value::Double(_)] => Err(EvalError::Overflow("integer")),
        [Value::String(text)] => text.parse().map(Value::Int).map_err(|_| wrong("string", "int")),
        [Value::Timestamp(time)] => Ok(Value::Int(time.as_nanosecond().div_euclid(1_000_000_000) as i64)),
        [Value::Duration(nanos)] => Ok(Value::Int(*nanos)),
        _ => Err(EvalError::NoSuchOverload),
    }
}

fn to_uint<'a>(_: &mut Call<'_>, args: &[Value<'a>]) -> Result<Value<'a>> {
    match args {
        [Value::Uint(value)] => Ok(Value::Uint(*value)),
        [Value::Int(value)] => {
            u64::try_from(*value).map(Value::Uint).map_err(|_| EvalError::Overflow("unsigned integer"))
        }
        [Value::Double(value)] if *value >= 0.0 && *value < u64::MAX as f64 => Ok(Value::Uint(*value as u64)),
        [Value::Double(_)] => Err(EvalError::Overflow("unsigned integer")),
        [Value::String(text)] => text.parse().map(Value::Uint).map_err(|_| wrong("string", "uint")),
        _ => Err(EvalError::NoSuchOverload),
    }
}

fn to_duration<'a>(_: &mut Call<'_>, args: &[Value<'a>]) -> Result<Value<'a>> {
    match args {
        [Value::Duration(nanos)] | [Value::Int(nanos)] => Ok(Value::Duration(*nanos)),
        [Value::String(text)] => parse_duration(text).map(Value::Duration).ok_or(wrong("string", "duration")),
        _ => Err(EvalError::NoSuchOverload),
    }
}

fn to_timestamp<'a>(_: &mut Call<'_>, args: &[Value<'a>]) -> Result<Value<'a>> {
    match args {
        [Value::Timestamp(time)] => Ok(Value::Timestamp(*time)),
        [Value::Int(seconds)] => {
            let time = jiff::Timestamp::from_second(*seconds).ok().filter(in_range);
            time.map(Value::Timestamp).ok_or(EvalError::Overflow("timestamp"))
        }
        [Value::String(text)] => parse_timestamp(text).map(Value::Timestamp).ok_or(wrong("string", "timestamp")),
        _ => Err(EvalError::NoSuchOverload),
    }
}

/// The value as text, where `string()` has a form for it.
pub(super) fn text(value: &Value<'_>) -> Option<String> {
    Some(match value {
        Value::String(text) => text.to_string(),
        Value::Bool(value) => value.to_string(),
        Value::Int(value) => value.to_string(),
        Value::Uint(value) => value.to_string(),
        Value::Double(value) => format_double(*value),
        Value::Duration(nanos) => format_duration(*nanos),
        Value::Timestamp(time) => time.to_string(),
        Value::Opaque(Opaque::Ip(ip)) => ip.to_string(),
        Value::Opaque(Opaque::Cidr(cidr)) => cidr.to_string(),
        _ => return None,
    })
}

fn to_string<'a>(call: &mut Call<'_>, args: &[Value<'a>]) -> Result<Value<'a>> {
    match args {
        [value @ Value::String(_)] => Ok(value.clone()),
        [Value::Bytes(bytes)] => {
            call.meter.allocate(bytes.len())?;
            match std::str::from_utf8(bytes) {
                Ok(text) => Ok(Value::text(text)),
                Err(_) => Err(EvalError::function("invalid UTF-8 in bytes, cannot convert to string")),
            }
        }
        [value] => text(value).map(Value::text).ok_or(EvalError::NoSuchOverload),
        _ => Err(EvalError::NoSuchOverload),
    }
}
