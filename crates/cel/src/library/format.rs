//! Named formats of names and values.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use mizzen_api::names;

use super::{Cost, Declarations, Eval, Opaque, url};
use crate::error::EvalError;
use crate::value::Value;
use crate::value::text::parse_timestamp;

/// A format: how it is called, and what is wrong with a text.
#[derive(Debug)]
pub struct Format {
    /// How an expression calls it.
    pub name: &'static str,
    check: fn(&str) -> Vec<String>,
    /// Length of a pattern that would check it, for the cost.
    pub(crate) pattern_length: u64,
}

impl Format {
    const fn new(name: &'static str, pattern_length: u64, check: fn(&str) -> Vec<String>) -> Self {
        Self { name, check, pattern_length }
    }
}

static FORMATS: [Format; 13] = [
    Format::new("dns1123Label", 30, names::dns1123_label),
    Format::new("dns1123Subdomain", 60, names::dns1123_subdomain),
    Format::new("dns1035Label", 30, names::dns1035_label),
    Format::new("qualifiedName", 60, names::qualified_name),
    Format::new("dns1123LabelPrefix", 30, |text| names::dns1123_label(&prefix(text))),
    Format::new("dns1123SubdomainPrefix", 60, |text| names::dns1123_subdomain(&prefix(text))),
    Format::new("dns1035LabelPrefix", 30, |text| names::dns1035_label(&prefix(text))),
    Format::new("labelValue", 40, names::label_value),
    Format::new("uri", 1122, |text| url::parse(text).err().into_iter().collect()),
    Format::new("uuid", 91, |text| unless(is_uuid(text), "does not match the UUID format")),
    Format::new("byte", 103, |text| unless(!text.is_empty() && STANDARD.decode(text).is_ok(), "invalid base64")),
    Format::new("date", 170, |text| unless(is_date(text), "invalid date")),
    Format::new("datetime", 170, |text| unless(parse_timestamp(text).is_some(), "invalid datetime")),
];

/// What the format of a name's start allows at its end: a dash, which stands for what follows.
fn prefix(text: &str) -> String {
    match text.strip_suffix('-') {
        Some(before) if !before.is_empty() => format!("{before}a"),
        _ => text.to_owned(),
    }
}

fn unless(valid: bool, wrong: &str) -> Vec<String> {
    if valid { Vec::new() } else { vec![wrong.to_owned()] }
}

fn is_date(text: &str) -> bool {
    text.len() == 10 && text.parse::<jiff::civil::Date>().is_ok()
}

fn is_uuid(text: &str) -> bool {
    let hex: String = text.chars().filter(|char| *char != '-').collect();
    let dashed = [8, 13, 18, 23].iter().all(|at| text.as_bytes().get(*at) == Some(&b'-'));
    hex.len() == 32
        && hex.bytes().all(|byte| byte.is_ascii_hexdigit())
        && (text.len() == 32 || (text.len() == 36 && dashed))
}

fn constant<'a>(index: usize) -> Value<'a> {
    Value::Opaque(Opaque::Format(&FORMATS[index]))
}

pub(super) fn declare(table: &mut Declarations) {
    let constants: [Eval; 13] = [
        |_, _| Ok(constant(0)),
        |_, _| Ok(constant(1)),
        |_, _| Ok(constant(2)),
        |_, _| Ok(constant(3)),
        |_, _| Ok(constant(4)),
        |_, _| Ok(constant(5)),
        |_, _| Ok(constant(6)),
        |_, _| Ok(constant(7)),
        |_, _| Ok(constant(8)),
        |_, _| Ok(constant(9)),
        |_, _| Ok(constant(10)),
        |_, _| Ok(constant(11)),
        |_, _| Ok(constant(12)),
    ];
    for (format, eval) in FORMATS.iter().zip(constants) {
        table.add(&format!("format.{}() -> NamedFormat", format.name), Cost::One, eval);
    }
    table.add("format.named(string) -> optional<NamedFormat>", Cost::One, |_, args| match args {
        [Value::String(name)] => Ok(match FORMATS.iter().position(|format| format.name == &**name) {
            Some(index) => Value::some(constant(index)),
            None => Value::Optional(None),
        }),
        _ => Err(EvalError::NoSuchOverload),
    });
    table.add(".validate(NamedFormat, string) -> optional<list<string>>", Cost::Validate, |_, args| match args {
        [Value::Opaque(Opaque::Format(format)), Value::String(text)] => {
            let wrong = (format.check)(text);
            if wrong.is_empty() {
                return Ok(Value::Optional(None));
            }
            Ok(Value::some(Value::list(wrong.into_iter().map(Value::text).collect())))
        }
        _ => Err(EvalError::NoSuchOverload),
    });
}
