//! Regular expressions in Go's syntax, matched in linear time.

use mizzen_api::crd::pattern;
use regex::Regex;

use super::{Call, Cost, Declarations, Result};
use crate::error::EvalError;
use crate::value::{Str, Value};

pub(super) fn declare(table: &mut Declarations) {
    table.add("matches(string, string) -> bool", Cost::Matches { finds: false }, matches);
    table.add(".matches(string, string) -> bool", Cost::Matches { finds: false }, matches);
    table.add(".find(string, string) -> string", Cost::Matches { finds: true }, find);
    table.add(".findAll(string, string) -> list<string>", Cost::Matches { finds: true }, find_all);
    table.add(".findAll(string, string, int) -> list<string>", Cost::Matches { finds: true }, find_all);
}

/// The functions whose second argument is a pattern.
pub(crate) fn takes_pattern(function: &str) -> bool {
    matches!(function, "matches" | "find" | "findAll")
}

/// The pattern compiled, or why it cannot be.
fn compile_pattern(pattern: &str) -> std::result::Result<Regex, String> {
    pattern::compile(pattern).map_err(|why| format!("error parsing regexp: {why}: `{pattern}`"))
}

/// The pattern of an expression, compiled with it.
pub(crate) fn precompile(text: &str) -> Option<Regex> {
    compile_pattern(text).ok()
}

fn with_pattern<T>(call: &Call<'_>, pattern: &str, wrong: &str, apply: impl FnOnce(&Regex) -> T) -> Result<T> {
    match call.regex {
        Some(regex) => Ok(apply(regex)),
        None => match compile_pattern(pattern) {
            Ok(regex) => Ok(apply(&regex)),
            Err(why) => Err(EvalError::Function(format!("{wrong}{why}"))),
        },
    }
}

fn matches<'a>(call: &mut Call<'_>, args: &[Value<'a>]) -> Result<Value<'a>> {
    match args {
        [Value::String(text), Value::String(pattern)] => {
            with_pattern(call, pattern, "", |regex| Value::Bool(regex.is_match(text)))
        }
        _ => Err(EvalError::NoSuchOverload),
    }
}

fn find<'a>(call: &mut Call<'_>, args: &[Value<'a>]) -> Result<Value<'a>> {
    match args {
        [Value::String(text), Value::String(pattern)] => with_pattern(call, pattern, "Illegal regex: ", |regex| {
            part(text, regex.find(text).map(|found| found.range()).unwrap_or_default())
        }),
        _ => Err(EvalError::NoSuchOverload),
    }
}

fn part<'a>(text: &Str<'a>, range: std::ops::Range<usize>) -> Value<'a> {
    match text {
        Str::Borrowed(text) => Value::str(&text[range]),
        Str::Shared(text) => Value::text(&text[range]),
    }
}

fn find_all<'a>(call: &mut Call<'_>, args: &[Value<'a>]) -> Result<Value<'a>> {
    let (text, pattern, limit) = match args {
        [Value::String(text), Value::String(pattern)] => (text, pattern, -1),
        [Value::String(text), Value::String(pattern), Value::Int(limit)] => (text, pattern, *limit),
        _ => return Err(EvalError::NoSuchOverload),
    };
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let found = with_pattern(call, pattern, "Illegal regex: ", |regex| {
        regex.find_iter(text).take(limit).map(|found| part(text, found.range())).collect::<Vec<_>>()
    })?;
    call.meter.items(found.len() as u64)?;
    Ok(Value::list(found))
}
