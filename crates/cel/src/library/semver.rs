//! Semantic versions (semver.org 2.0).

use std::cmp::Ordering;
use std::sync::Arc;

use super::{Call, Cost, Declarations, Opaque, Result};
use crate::error::EvalError;
use crate::value::Value;

/// A version; what comes after a `+` is read and has no weight.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Semver {
    numbers: [u64; 3],
    pre: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Number(u64),
    Text(String),
}

impl PartialOrd for Semver {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Semver {
    fn cmp(&self, other: &Self) -> Ordering {
        // Without a pre-release is later than with one.
        let released = other.pre.is_empty().cmp(&self.pre.is_empty()).reverse();
        self.numbers.cmp(&other.numbers).then(released).then_with(|| self.pre.cmp(&other.pre))
    }
}

pub(super) fn declare(table: &mut Declarations) {
    const SCAN: Cost = Cost::Scan { times: 1.0, keeps: false };
    table.add("semver(string) -> Semver", SCAN, convert);
    table.add("semver(string, bool) -> Semver", SCAN, convert);
    table.add("isSemver(string) -> bool", SCAN, |_, args| Ok(Value::Bool(read(args)?.is_ok())));
    table.add("isSemver(string, bool) -> bool", SCAN, |_, args| Ok(Value::Bool(read(args)?.is_ok())));
    table.add(".isGreaterThan(Semver, Semver) -> bool", Cost::One, |_, args| {
        order(args).map(|order| Value::Bool(order.is_gt()))
    });
    table.add(".isLessThan(Semver, Semver) -> bool", Cost::One, |_, args| {
        order(args).map(|order| Value::Bool(order.is_lt()))
    });
    table.add(".compareTo(Semver, Semver) -> int", Cost::One, |_, args| {
        order(args).map(|order| Value::Int(order as i64))
    });
    table.add(".major(Semver) -> int", Cost::One, |_, args| number(args, 0));
    table.add(".minor(Semver) -> int", Cost::One, |_, args| number(args, 1));
    table.add(".patch(Semver) -> int", Cost::One, |_, args| number(args, 2));
}

fn version<'v>(value: Option<&'v Value<'_>>) -> Result<&'v Semver> {
    match value {
        Some(Value::Opaque(Opaque::Semver(version))) => Ok(version),
        _ => Err(EvalError::NoSuchOverload),
    }
}

fn number<'a>(args: &[Value<'a>], which: usize) -> Result<Value<'a>> {
    let number = version(args.first())?.numbers[which];
    i64::try_from(number).map(Value::Int).map_err(|_| EvalError::Overflow("integer"))
}

fn order(args: &[Value<'_>]) -> Result<Ordering> {
    Ok(version(args.first())?.cmp(version(args.get(1))?))
}

fn convert<'a>(_: &mut Call<'_>, args: &[Value<'a>]) -> Result<Value<'a>> {
    match read(args)? {
        Ok(version) => Ok(Value::Opaque(Opaque::Semver(Arc::new(version)))),
        Err(why) => Err(EvalError::function(why)),
    }
}

fn read(args: &[Value<'_>]) -> Result<std::result::Result<Semver, &'static str>> {
    match args {
        [Value::String(text)] | [Value::String(text), Value::Bool(false)] => Ok(parse(text)),
        [Value::String(text), Value::Bool(true)] => Ok(parse(&normalized(text))),
        _ => Err(EvalError::NoSuchOverload),
    }
}

/// Without a leading `v`, with three numbers, none of them with zeros before it.
fn normalized(text: &str) -> String {
    let text = text.strip_prefix('v').unwrap_or(text);
    let end = text.find(['-', '+']).unwrap_or(text.len());
    let (core, rest) = text.split_at(end);
    let mut parts: Vec<&str> = core.splitn(3, '.').collect();
    // Only the bare version may be short: with a pre-release all three have to be there.
    while parts.len() < 3 && rest.is_empty() {
        parts.push("0");
    }
    let trimmed = parts.iter().map(|part| match part.trim_start_matches('0') {
        "" if !part.is_empty() => "0",
        trimmed => trimmed,
    });
    format!("{}{rest}", trimmed.collect::<Vec<_>>().join("."))
}

fn parse(text: &str) -> std::result::Result<Semver, &'static str> {
    if text.is_empty() {
        return Err("Version string empty");
    }
    let (version, build) = text.split_once('+').map_or((text, None), |(version, build)| (version, Some(build)));
    let (core, pre) = version.split_once('-').map_or((version, None), |(core, pre)| (core, Some(pre)));
    let mut parts = core.split('.');
    let mut numbers = [0; 3];
    for number in &mut numbers {
        let part = parts.next().ok_or("No Major.Minor.Patch elements found")?;
        *number = numeric(part).ok_or("Invalid character(s) found in version number")?;
    }
    if parts.next().is_some() {
        return Err("Invalid character(s) found in patch number");
    }
    let word = |part: &&str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    if build.is_some_and(|build| !build.split('.').all(|part| word(&part))) {
        return Err("Invalid character(s) found in build meta data");
    }
    let mut identifiers = Vec::new();
    for part in pre.into_iter().flat_map(|pre| pre.split('.')) {
        if !word(&part) {
            return Err("Invalid character(s) found in prerelease");
        }
        identifiers.push(match part.bytes().all(|byte| byte.is_ascii_digit()) {
            true => Part::Number(numeric(part).ok_or("Numeric PreRelease version must not contain leading zeroes")?),
            false => Part::Text(part.to_owned()),
        });
    }
    Ok(Semver { numbers, pre: identifiers })
}

fn numeric(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let plain = text == "0" || !text.starts_with('0');
    if digits && plain { text.parse().ok() } else { None }
}
