//! What a call costs when it is evaluated, from the actual sizes. `crate::cost` has the same rules for sizes that are
//! only estimated.

use crate::error::EvalError;
use crate::library::{Cost, Opaque};
use crate::meter::Meter;
use crate::value::Value;

/// The cost of walking a character.
pub(crate) const PER_CHAR: f64 = 0.1;
/// The cost of a character of a pattern.
pub(crate) const PER_PATTERN_CHAR: f64 = 0.25;
/// The cost of a new list, map and object.
pub(crate) const NEW_LIST: u64 = 10;
pub(crate) const NEW_MAP: u64 = 30;
pub(crate) const NEW_OBJECT: u64 = 40;

/// The part of the cost that follows from the arguments; counted before the call is made, so that no call does more
/// than its budget allows.
pub(crate) fn before(cost: Cost, args: &[Value<'_>], meter: &mut Meter) -> Result<u64, EvalError> {
    let size = |index: usize| args.get(index).map_or(1, Value::size);
    Ok(match cost {
        Cost::One => 1,
        Cost::Fixed(cost) => cost,
        Cost::Smaller => match args {
            [Value::Opaque(Opaque::Ip(_) | Opaque::Cidr(_)), _] => 1,
            _ => scaled(size(0).min(size(1)), PER_CHAR),
        },
        Cost::Affix | Cost::Encode | Cost::Decode | Cost::Quote => scaled(size(0), PER_CHAR),
        Cost::Scan { times, .. } => scaled(size(0), times * PER_CHAR),
        Cost::Replace | Cost::Split => scaled(size(0), 2.0 * PER_CHAR),
        // Of the result.
        Cost::Join | Cost::NewList => 0,
        Cost::Traverse => traversal(&args[0], meter)?,
        Cost::Matches { .. } => {
            scaled(size(0).saturating_add(1), PER_CHAR).saturating_mul(scaled(size(1), PER_PATTERN_CHAR))
        }
        Cost::Contains => scaled(size(0), PER_CHAR).saturating_mul(scaled(size(1), PER_CHAR)),
        Cost::InList => size(1),
        Cost::AddText => scaled(size(0).saturating_add(size(1)), PER_CHAR),
        Cost::AddList => 1,
        Cost::ContainsIp { parses } => {
            scaled(size(0) * 2, PER_CHAR) + if parses { scaled(size(1), PER_CHAR) } else { 0 }
        }
        Cost::ContainsCidr { parses } => {
            let parsing = if parses { scaled(size(1), PER_CHAR) } else { 0 };
            scaled(size(0) * 2, PER_CHAR) + scaled(size(0), PER_CHAR) + 1 + parsing
        }
        Cost::Validate => {
            let pattern = match args.first() {
                Some(Value::Opaque(Opaque::Format(format))) => format.pattern_length,
                _ => 1,
            };
            scaled(size(1) + 1, PER_CHAR).saturating_mul(scaled(pattern, PER_PATTERN_CHAR))
        }
        Cost::Selector => selector(size(1)),
        Cost::Flatten => {
            let depth = match args.get(1) {
                Some(Value::Int(depth)) => u64::try_from(*depth).unwrap_or(0),
                _ => 1,
            };
            size(0).saturating_mul(depth).saturating_add(1 + NEW_LIST)
        }
        Cost::Quadratic => {
            let text = match args.first() {
                Some(Value::List(list)) => matches!(list.get(0), Some(Ok(Value::String(_) | Value::Bytes(_)))),
                _ => false,
            };
            let pairs = size(0).saturating_mul(size(0));
            floored(pairs, if text { 2.0 + PER_CHAR } else { 2.0 }).saturating_add(1 + NEW_LIST)
        }
        Cost::Product(factor) => floored(size(0).saturating_mul(size(1)), factor).saturating_add(1),
    })
}

/// The part of the cost that follows from the result.
pub(crate) fn after(cost: Cost, result: &Value<'_>) -> u64 {
    match cost {
        Cost::Join => scaled(result.size(), 2.0 * PER_CHAR),
        Cost::NewList => result.size().saturating_add(1 + NEW_LIST),
        _ => 0,
    }
}

/// Selectors: a list of requirements, each with a list of values, each of two characters at least.
pub(crate) fn selector(length: u64) -> u64 {
    let requirements = scaled(length, 0.5);
    NEW_LIST + scaled(length, PER_CHAR) + requirements.saturating_mul(NEW_LIST + NEW_OBJECT)
}

/// `size` times `factor`, rounded up.
pub(crate) fn scaled(size: u64, factor: f64) -> u64 {
    // Casts of floats saturate.
    (size as f64 * factor).ceil() as u64
}

fn floored(size: u64, factor: f64) -> u64 {
    (size as f64 * factor) as u64
}

/// The cost of walking all that is in a value.
fn traversal(value: &Value<'_>, meter: &mut Meter) -> Result<u64, EvalError> {
    meter.step(1)?;
    Ok(match value {
        Value::String(text) => (text.len() as f64 * PER_CHAR) as u64,
        Value::Bytes(bytes) => (bytes.len() as f64 * PER_CHAR) as u64,
        Value::List(list) => {
            let mut cost = 0_u64;
            for item in list.iter() {
                cost = cost.saturating_add(traversal(&item?, meter)?);
            }
            cost
        }
        Value::Map(map) => {
            let mut cost = 0_u64;
            for key in map.keys() {
                cost = cost.saturating_add(traversal(&key, meter)?);
                if let Some(value) = map.get(&key) {
                    cost = cost.saturating_add(traversal(&value?, meter)?);
                }
            }
            cost
        }
        _ => 1,
    })
}
