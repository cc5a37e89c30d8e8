//! `string.format(list)`.

use super::convert::text;
use super::strings::quoted;
use super::{Call, Cost, Declarations, Opaque, Result};
use crate::error::EvalError;
use crate::value::Value;
use crate::value::text::{format_double, format_duration};

/// Decimals that a clause may ask for; a double has no more.
const PRECISION_MAX: usize = 1074;

pub(super) fn declare(table: &mut Declarations) {
    table.add(".format(string, list<dyn>) -> string", Cost::Scan { times: 1.0, keeps: false }, format);
}

fn format<'a>(call: &mut Call<'_>, args: &[Value<'a>]) -> Result<Value<'a>> {
    let [Value::String(template), Value::List(list)] = args else { return Err(EvalError::NoSuchOverload) };
    let mut out = Out { text: String::new(), call };
    let mut next = 0;
    let mut rest = &**template;
    while let Some(at) = rest.find('%') {
        out.push(&rest[..at])?;
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('%') {
            out.push("%")?;
            rest = after;
            continue;
        }
        let (precision, after) = precision(rest)?;
        let verb = after.chars().next().ok_or(EvalError::function("unexpected end of string"))?;
        rest = &after[verb.len_utf8()..];
        let Some(value) = list.get(next) else {
            return Err(EvalError::Function(format!("index {next} out of range")));
        };
        next += 1;
        clause(&mut out, verb, precision, &value?)?;
    }
    out.push(rest)?;
    if next < list.len() {
        return Err(EvalError::Function(format!("too many arguments: got {}, used {next}", list.len())));
    }
    Ok(Value::text(out.text))
}

struct Out<'o, 'm> {
    text: String,
    call: &'o mut Call<'m>,
}

impl Out<'_, '_> {
    fn push(&mut self, text: &str) -> Result<()> {
        self.call.meter.allocate(text.len())?;
        self.text.push_str(text);
        Ok(())
    }
}

/// `.3` before the letter of a clause.
fn precision(text: &str) -> Result<(Option<usize>, &str)> {
    let Some(rest) = text.strip_prefix('.') else { return Ok((None, text)) };
    let digits = rest.find(|char: char| !char.is_ascii_digit()).unwrap_or(rest.len());
    let wrong = || EvalError::function("error while parsing precision");
    let value: usize = rest[..digits].parse().map_err(|_| wrong())?;
    if value > PRECISION_MAX { Err(wrong()) } else { Ok((Some(value), &rest[digits..])) }
}

fn clause(out: &mut Out<'_, '_>, verb: char, precision: Option<usize>, value: &Value<'_>) -> Result<()> {
    let formatted = match (verb, value) {
        ('s', value) => return show(out, value, false),
        ('d', Value::Int(value)) => value.to_string(),
        ('d', Value::Uint(value)) => value.to_string(),
        ('f', value) => match number(value) {
            Some(value) if value.is_finite() => format!("{value:.*}", precision.unwrap_or(6)),
            Some(value) => special(value),
            None => return Err(refused(verb, "doubles", value)),
        },
        ('e', value) => match number(value) {
            Some(value) if value.is_finite() => scientific(value, precision.unwrap_or(6)),
            Some(value) => special(value),
            None => return Err(refused(verb, "doubles", value)),
        },
        ('b', Value::Bool(value)) => u8::from(*value).to_string(),
        ('b', Value::Int(value)) => signed(*value, |magnitude| format!("{magnitude:b}")),
        ('b', Value::Uint(value)) => format!("{value:b}"),
        ('o', Value::Int(value)) => signed(*value, |magnitude| format!("{magnitude:o}")),
        ('o', Value::Uint(value)) => format!("{value:o}"),
        ('x', value) => hex(value).ok_or_else(|| refused(verb, "integers, bytes and strings", value))?,
        ('X', value) => hex(value).ok_or_else(|| refused(verb, "integers, bytes and strings", value))?.to_uppercase(),
        ('d' | 'o', value) => return Err(refused(verb, "integers", value)),
        ('b', value) => return Err(refused(verb, "integers and bools", value)),
        _ => {
            return Err(EvalError::Function(format!(
                "could not parse formatting clause: unrecognized formatting clause \"{verb}\""
            )));
        }
    };
    out.push(&formatted)
}

fn refused(verb: char, takes: &str, value: &Value<'_>) -> EvalError {
    EvalError::Function(format!("error during formatting: %{verb} takes {takes}, was given {}", value.type_of()))
}

fn number(value: &Value<'_>) -> Option<f64> {
    match value {
        Value::Double(value) => Some(*value),
        Value::Int(value) => Some(*value as f64),
        Value::Uint(value) => Some(*value as f64),
        _ => None,
    }
}

fn special(value: f64) -> String {
    if value.is_nan() {
        "NaN"
    } else if value > 0.0 {
        "Infinity"
    } else {
        "-Infinity"
    }
    .to_owned()
}

fn scientific(value: f64, precision: usize) -> String {
    let text = format!("{value:.precision$e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    format!("{digits}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.unsigned_abs())
}

fn signed(value: i64, magnitude: impl Fn(u64) -> String) -> String {
    format!("{}{}", if value < 0 { "-" } else { "" }, magnitude(value.unsigned_abs()))
}

fn hex(value: &Value<'_>) -> Option<String> {
    let bytes = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    match value {
        Value::Int(value) => Some(signed(*value, |magnitude| format!("{magnitude:x}"))),
        Value::Uint(value) => Some(format!("{value:x}")),
        Value::String(text) => Some(bytes(text.as_bytes())),
        Value::Bytes(value) => Some(bytes(value)),
        _ => None,
    }
}

/// `%s`: any value; within lists and maps strings are quoted.
fn show(out: &mut Out<'_, '_>, value: &Value<'_>, inner: bool) -> Result<()> {
    out.call.meter.step(1)?;
    match value {
        Value::Null => out.push("null"),
        Value::String(text) if inner => out.push(&quoted(text)),
        Value::Double(value) if value.is_infinite() => out.push(&special(*value)),
        Value::Double(value) => out.push(&format_double(*value)),
        Value::Bytes(bytes) => out.push(&String::from_utf8_lossy(bytes)),
        Value::Duration(nanos) if inner => out.push(&format!("duration(\"{}\")", format_duration(*nanos))),
        Value::Timestamp(time) if inner => out.push(&format!("timestamp(\"{time}\")")),
        Value::List(list) => {
            out.push("[")?;
            for (index, item) in list.iter().enumerate() {
                if index > 0 {
                    out.push(", ")?;
                }
                show(out, &item?, true)?;
            }
            out.push("]")
        }
        Value::Map(map) => {
            let mut keys = map.keys();
            keys.sort_by_key(|key| text(key).unwrap_or_default());
            out.push("{")?;
            for (index, key) in keys.iter().enumerate() {
                if index > 0 {
                    out.push(", ")?;
                }
                show(out, key, true)?;
                out.push(":")?;
                if let Some(value) = map.get(key) {
                    show(out, &value?, true)?;
                }
            }
            out.push("}")
        }
        Value::Type(ty) => out.push(&crate::check::type_name(ty)),
        Value::Opaque(Opaque::Quantity(quantity)) => out.push(&quantity.to_string()),
        value => match text(value) {
            Some(text) => out.push(&text),
            None => Err(refused('s', "strings, numbers, times, lists and maps", value)),
        },
    }
}
