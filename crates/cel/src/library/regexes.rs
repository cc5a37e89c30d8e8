//! Regular expressions in Go's syntax, matched in linear time.

use regex::{Regex, RegexBuilder};

use super::{Call, Cost, Declarations, Result};
use crate::error::EvalError;
use crate::value::{Str, Value};

/// Memory of a compiled pattern at most; Go's patterns of sane length stay far below.
const COMPILED_BYTES_MAX: usize = 1 << 20;

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

/// The pattern compiled as Go would, or why it cannot be.
pub fn compile(pattern: &str) -> std::result::Result<Regex, String> {
    let translated = translate(pattern);
    let mut builder = RegexBuilder::new(&translated);
    builder.size_limit(COMPILED_BYTES_MAX).dfa_size_limit(COMPILED_BYTES_MAX);
    builder.build().map_err(|error| match error {
        regex::Error::CompiledTooBig(_) => "error parsing regexp: expression too large".to_owned(),
        error => {
            // The last line of the report is the reason; what is before draws the place.
            let text = error.to_string();
            let reason = text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
            format!("error parsing regexp: {reason}: `{pattern}`")
        }
    })
}

/// Go's syntax in the words of the `regex` crate: there, `\d`, `\w`, `\s` and `\b` know Unicode, classes can be nested
/// and subtracted, and there is no `\Q…\E`.
fn translate(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len() + 8);
    let mut chars = pattern.chars().peekable();
    let mut class = false;
    let mut start = false;
    while let Some(char) = chars.next() {
        let first = std::mem::take(&mut start);
        match char {
            '\\' => match chars.next() {
                Some('Q') => literal(&mut chars, &mut out),
                Some(letter) => escape(letter, class, &mut out),
                None => out.push('\\'),
            },
            '[' if !class => {
                class = true;
                start = true;
                out.push('[');
                if chars.next_if_eq(&'^').is_some() {
                    out.push('^');
                }
                if chars.next_if_eq(&']').is_some() {
                    out.push_str("\\]");
                }
            }
            '[' if chars.peek() == Some(&':') => out.push('['),
            '[' => out.push_str("\\["),
            // The end of `[:alpha:]`.
            ']' if class && out.ends_with(':') && named_class(&out) => out.push(']'),
            ']' if class => {
                class = false;
                out.push(']');
            }
            '&' | '~' if class => {
                out.push('\\');
                out.push(char);
            }
            // The second of `--`, which would subtract.
            '-' if class && (first || (out.ends_with('-') && !out.ends_with("\\-"))) => out.push_str("\\-"),
            char => out.push(char),
        }
    }
    out
}

fn named_class(out: &str) -> bool {
    out.rfind("[:").is_some_and(|at| !out[at + 2..].contains(']') && out.len() > at + 2)
}

fn literal(chars: &mut std::iter::Peekable<std::str::Chars<'_>>, out: &mut String) {
    let mut text = String::new();
    while let Some(char) = chars.next() {
        if char == '\\' && chars.next_if_eq(&'E').is_some() {
            break;
        }
        text.push(char);
    }
    out.push_str(&regex::escape(&text));
}

fn escape(letter: char, class: bool, out: &mut String) {
    let (inside, outside) = match letter {
        'd' => ("0-9", "[0-9]"),
        'w' => ("0-9A-Za-z_", "[0-9A-Za-z_]"),
        's' => (r"\t\n\f\r ", r"[\t\n\f\r ]"),
        'D' => ("[^0-9]", "[^0-9]"),
        'W' => ("[^0-9A-Za-z_]", "[^0-9A-Za-z_]"),
        'S' => (r"[^\t\n\f\r ]", r"[^\t\n\f\r ]"),
        'b' => (r"\b", r"(?-u:\b)"),
        // The crate wants it to be valid UTF-8 between characters; the rest of the pattern is ASCII-aware anyway.
        'B' => (r"\B", r"\B"),
        _ => {
            out.push('\\');
            out.push(letter);
            return;
        }
    };
    out.push_str(if class { inside } else { outside });
}

fn with_pattern<T>(call: &Call<'_>, pattern: &str, wrong: &str, apply: impl FnOnce(&Regex) -> T) -> Result<T> {
    match call.regex {
        Some(regex) => Ok(apply(regex)),
        None => match compile(pattern) {
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
    call.meter.step(found.len() as u64)?;
    Ok(Value::list(found))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_mean_what_they_mean_in_go() {
        for (pattern, text, is) in [
            (r"^\d+$", "12", true),
            (r"^\d+$", "١٢", false),
            (r"^[\w-]+$", "a-b_c", true),
            (r"^[\w-]+$", "é", false),
            (r"^[[:alpha:]]+$", "abc", true),
            (r"^[[:alpha:]_]+$", "a_b", true),
            (r"^[a[b]+$", "a[b", true),
            (r"^[]a]+$", "]a", true),
            (r"^[a&&b]+$", "&", true),
            (r"^[a~~b]$", "~", true),
            (r"^[+--]$", ",", true),
            (r"^\Qa.b\E$", "a.b", true),
            (r"^\Qa.b\E$", "axb", false),
            (r"\bfoo\b", "a foo b", true),
            (r"^[^\s]+$", "a b", false),
            (r"(?i)^ABC$", "abc", true),
        ] {
            let compiled = compile(pattern).unwrap_or_else(|why| panic!("{pattern}: {why}"));
            assert_eq!(compiled.is_match(text), is, "{pattern} {text}");
        }
        assert!(compile("(").unwrap_err().starts_with("error parsing regexp: "));
        assert!(compile("(a{1000}){1000}").is_err());
    }
}
