//! Functions on strings: the standard ones and the `strings` extension. Positions count characters.

use super::{Call, Cost, Declarations, Result};
use crate::error::EvalError;
use crate::value::Value;

pub(super) fn declare(table: &mut Declarations) {
    const SCAN: Cost = Cost::Scan { times: 1.0, keeps: true };
    table.add(".contains(string, string) -> bool", Cost::Contains, contains);
    table.add(".startsWith(string, string) -> bool", Cost::Affix, starts_with);
    table.add(".endsWith(string, string) -> bool", Cost::Affix, ends_with);
    table.add(".charAt(string, int) -> string", Cost::One, char_at);
    table.add(".indexOf(string, string) -> int", Cost::Traverse, index_of);
    table.add(".indexOf(string, string, int) -> int", Cost::Traverse, index_of);
    table.add(".lastIndexOf(string, string) -> int", Cost::Traverse, last_index_of);
    table.add(".lastIndexOf(string, string, int) -> int", Cost::Traverse, last_index_of);
    table.add(".lowerAscii(string) -> string", SCAN, lower);
    table.add(".upperAscii(string) -> string", SCAN, upper);
    table.add(".replace(string, string, string) -> string", Cost::Replace, replace);
    table.add(".replace(string, string, string, int) -> string", Cost::Replace, replace);
    table.add(".split(string, string) -> list<string>", Cost::Split, split);
    table.add(".split(string, string, int) -> list<string>", Cost::Split, split);
    table.add(".substring(string, int) -> string", SCAN, substring);
    table.add(".substring(string, int, int) -> string", SCAN, substring);
    table.add(".trim(string) -> string", SCAN, trim);
    table.add(".join(list<string>) -> string", Cost::Join, join);
    table.add(".join(list<string>, string) -> string", Cost::Join, join);
    table.add("strings.quote(string) -> string", Cost::Quote, quote);
}

fn contains<'a>(_: &mut Call<'_>, args: &[Value<'a>]) -> Result<Value<'a>> {
    match args {
        [Value::String(text), Value::String(part)] => Ok(Value::Bool(text.contains(&**part))),
        _ => Err(EvalError::NoSuchOverload),
    }
}

fn starts_with<'a>(_: &mut Call<'_>, args: &[Value<'a>]) -> Result<Value<'a>> {
    match args {
        [Value::String(text), Value::String(part)] => Ok(Value::Bool(text.starts_with(&**part))),
        _ => Err(EvalError::NoSuchOverload),
    }
}

fn ends_with<'a>(_: &mut Call<'_>, args: &[Value<'a>]) -> Result<Value<'a>> {
    match args {
        [Value::String(text), Value::String(part)] => Ok(Value::Bool(text.ends_with(&**part))),
        _ => Err(EvalError::NoSuchOverload),
    }
}

fn out_of_range(index: i64) -> EvalError {
    EvalError::Function(format!("index out of range: {index}"))
}

/// Where the character `index` starts; the end is one of them.
fn offset(text: &str, index: i64) -> Result<usize> {
    let wanted = usize::try_from(index).map_err(|_| out_of_range(index))?;
    let mut starts = text.char_indices().map(|(at, _)| at).chain([text.len()]);
    starts.nth(wanted).ok_or_else(|| out_of_range(index))
}

fn char_at<'a>(_: &mut Call<'_>, args: &[Value<'a>]) -> Result<Value<'a>> {
    match args {
        [Value::String(text), Value::Int(index)] => {
            let rest = &text[offset(text, *index)?..];
            Ok(Value::text(rest.chars().next().map(String::from).unwrap_or_default()))
        }
        _ => Err(EvalError::NoSuchOverload),
    }
}

fn chars_before(text: &str, at: usize) -> i64 {
    text[..at].chars().count() as i64
}

fn index_of<'a>(_: &mut Call<'_>, args: &[Value<'a>]) -> Result<Value<'a>> {
    let (text, part, from) = match args {
        [Value::String(text), Value::String(part)] => (text, part, 0),
        [Value::String(text), Value::String(part), Value::Int(from)] => (text, part, *from),
        _ => return Err(EvalError::NoSuchOverload),
    };
    if part.is_empty() {
        return Ok(Value::Int(from));
    }
    let start = offset(text, from)?;
    let found = text[start..].find(&**part).map(|at| chars_before(text, start + at));
    Ok(Value::Int(found.unwrap_or(-1)))
}

fn last_index_of<'a>(_: &mut Call<'_>, args: &[Value<'a>]) -> Result<Value<'a>> {
    let (text, part, until) = match args {
        [Value::String(text), Value::String(part)] => (text, part, None),
        [Value::String(text), Value::String(part), Value::Int(until)] => (text, part, Some(*until)),
        _ => return Err(EvalError::NoSuchOverload),
    };
    if part.is_empty() {
        return Ok(Value::Int(until.unwrap_or_else(|| text.chars().count() as i64)));
    }
    // The match may start at this place at the latest.
    let end = match until {
        None => text.len(),
        Some(until) => (offset(text, until)? + part.len()).min(text.len()),
    };
    let end = (end..=text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len());
    let found = text[..end].rfind(&**part).map(|at| chars_before(text, at));
    Ok(Value::Int(found.unwrap_or(-1)))
}

fn lower<'a>(call: &mut Call<'_>, args: &[Value<'a>]) -> Result<Value<'a>> {
    match args {
        [Value::String(text)] => {
            call.meter.allocate(text.len())?;
            Ok(Value::text(text.to_ascii_lowercase()))
        }
        _ => Err(EvalError::NoSuchOverload),
    }
}

fn upper<'a>(call: &mut Call<'_>, args: &[Value<'a>]) -> Result<Value<'a>> {
    match args {
        [Value::String(text)] => {
            call.meter.allocate(text.len())?;
            Ok(Value::text(text.to_ascii_uppercase()))
        }
        _ => Err(EvalError::NoSuchOverload),
    }
}

fn replace<'a>(call: &mut Call<'_>, args: &[Value<'a>]) -> Result<Value<'a>> {
    let (text, part, with, limit) = match args {
        [Value::String(text), Value::String(part), Value::String(with)] => (text, part, with, -1),
        [Value::String(text), Value::String(part), Value::String(with), Value::Int(limit)] => {
            (text, part, with, *limit)
        }
        _ => return Err(EvalError::NoSuchOverload),
    };
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let count = text.matches(&**part).take(limit).count();
    call.meter.allocate(text.len().saturating_add(count.saturating_mul(with.len())))?;
    Ok(Value::text(text.replacen(&**part, with, limit)))
}

fn split<'a>(call: &mut Call<'_>, args: &[Value<'a>]) -> Result<Value<'a>> {
    let (text, by, limit) = match args {
        [Value::String(text), Value::String(by)] => (text, by, -1),
        [Value::String(text), Value::String(by), Value::Int(limit)] => (text, by, *limit),
        _ => return Err(EvalError::NoSuchOverload),
    };
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    call.meter.allocate(text.len())?;
    let mut parts: Vec<&str> = match (limit, by.is_empty()) {
        (0, _) => Vec::new(),
        (_, false) => text.splitn(limit, &**by).collect(),
        // Between characters, and what the limit leaves in one piece.
        (_, true) => text.split("").filter(|part| !part.is_empty()).take(limit).collect(),
    };
    if by.is_empty() && limit != 0 && parts.len() == limit {
        let before: usize = parts[..limit - 1].iter().map(|part| part.len()).sum();
        parts[limit - 1] = &text[before..];
    }
    call.meter.items(parts.len() as u64)?;
    Ok(Value::list(parts.into_iter().map(Value::text).collect()))
}

fn substring<'a>(call: &mut Call<'_>, args: &[Value<'a>]) -> Result<Value<'a>> {
    let (text, start, end) = match args {
        [Value::String(text), Value::Int(start)] => (text, *start, None),
        [Value::String(text), Value::Int(start), Value::Int(end)] => (text, *start, Some(*end)),
        _ => return Err(EvalError::NoSuchOverload),
    };
    if let Some(end) = end.filter(|end| *end < start) {
        return Err(EvalError::Function(format!("invalid substring range. start: {start}, end: {end}")));
    }
    let from = offset(text, start)?;
    let to = end.map_or(Ok(text.len()), |end| offset(text, end))?;
    call.meter.allocate(to - from)?;
    Ok(Value::text(&text[from..to]))
}

fn trim<'a>(call: &mut Call<'_>, args: &[Value<'a>]) -> Result<Value<'a>> {
    match args {
        [Value::String(text)] => {
            call.meter.allocate(text.len())?;
            Ok(Value::text(text.trim()))
        }
        _ => Err(EvalError::NoSuchOverload),
    }
}

fn join<'a>(call: &mut Call<'_>, args: &[Value<'a>]) -> Result<Value<'a>> {
    let (list, by) = match args {
        [Value::List(list)] => (list, ""),
        [Value::List(list), Value::String(by)] => (list, &**by),
        _ => return Err(EvalError::NoSuchOverload),
    };
    let mut joined = String::new();
    for (index, part) in list.iter().enumerate() {
        let part = part?;
        let Value::String(part) = &part else {
            return Err(EvalError::Function(format!("join: invalid input: {}", part.type_of())));
        };
        call.meter.step(1)?;
        call.meter.allocate(part.len() + by.len())?;
        if index > 0 {
            joined.push_str(by);
        }
        joined.push_str(part);
    }
    Ok(Value::text(joined))
}

fn quote<'a>(call: &mut Call<'_>, args: &[Value<'a>]) -> Result<Value<'a>> {
    let [Value::String(text)] = args else { return Err(EvalError::NoSuchOverload) };
    call.meter.allocate(text.len().saturating_mul(2))?;
    Ok(Value::text(quoted(text)))
}

/// The text in quotation marks, what cannot be seen escaped.
pub(super) fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for char in text.chars() {
        match char {
            '\u{7}' => quoted.push_str("\\a"),
            '\u{8}' => quoted.push_str("\\b"),
            '\u{c}' => quoted.push_str("\\f"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\u{b}' => quoted.push_str("\\v"),
            '\\' => quoted.push_str("\\\\"),
            '"' => quoted.push_str("\\\""),
            char => quoted.push(char),
        }
    }
    quoted.push('"');
    quoted
}
