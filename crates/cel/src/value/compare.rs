//! Equality and order.

use std::cmp::Ordering;
use std::collections::HashMap;

use super::{Key, List, Map, Value};
use crate::error::EvalError;
use crate::meter::Meter;
use crate::schema::ListKind;

impl<'a> Value<'a> {
    /// They are the same value. Numbers are compared across their types; values of other types that differ are not equal.
    pub(crate) fn equals(&self, other: &Value<'a>, meter: &mut Meter) -> Result<bool, EvalError> {
        meter.step(1)?;
        Ok(match (self, other) {
            (Self::Null, Self::Null) => true,
            (Self::Bool(a), Self::Bool(b)) => a == b,
            (Self::Int(a), Self::Int(b)) => a == b,
            (Self::String(a), Self::String(b)) => **a == **b,
            (Self::Bytes(a), Self::Bytes(b)) => a == b,
            (Self::Duration(a), Self::Duration(b)) => a == b,
            (Self::Timestamp(a), Self::Timestamp(b)) => a == b,
            (Self::List(a), Self::List(b)) => lists(a, b, meter)?,
            (Self::Map(a), Self::Map(b)) => maps(a, b, meter)?,
            (Self::Optional(a), Self::Optional(b)) => match (a, b) {
                (Some(a), Some(b)) => a.equals(b, meter)?,
                (a, b) => a.is_none() && b.is_none(),
            },
            (Self::Type(a), Self::Type(b)) => std::mem::discriminant(a) == std::mem::discriminant(b) && base(a, b),
            (Self::Opaque(a), Self::Opaque(b)) => a == b,
            (a, b) => a.compare(b) == Some(Ordering::Equal),
        })
    }

    /// How they are ordered, if they are: numbers among each other, and two of one ordered type.
    pub(crate) fn compare(&self, other: &Value<'a>) -> Option<Ordering> {
        match (self, other) {
            (Self::Bool(a), Self::Bool(b)) => Some(a.cmp(b)),
            (Self::String(a), Self::String(b)) => Some((**a).cmp(&**b)),
            (Self::Bytes(a), Self::Bytes(b)) => Some(a.cmp(b)),
            (Self::Duration(a), Self::Duration(b)) => Some(a.cmp(b)),
            (Self::Timestamp(a), Self::Timestamp(b)) => Some(a.cmp(b)),
            (Self::Double(a), Self::Double(b)) => a.partial_cmp(b),
            (Self::Double(a), b) => Some(integer_to_double(b.integer()?, *a)?.reverse()),
            (a, Self::Double(b)) => integer_to_double(a.integer()?, *b),
            (a, b) => Some(a.integer()?.cmp(&b.integer()?)),
        }
    }

    fn integer(&self) -> Option<i128> {
        match self {
            Self::Int(value) => Some(i128::from(*value)),
            Self::Uint(value) => Some(i128::from(*value)),
            _ => None,
        }
    }
}

fn integer_to_double(integer: i128, double: f64) -> Option<Ordering> {
    if double.is_nan() {
        return None;
    }
    if double >= 1.9e19 || double <= -1.9e19 {
        return Some(if double > 0.0 { Ordering::Less } else { Ordering::Greater });
    }
    let whole = integer.cmp(&(double.trunc() as i128));
    Some(whole.then_with(|| 0.0_f64.partial_cmp(&double.fract()).unwrap_or(Ordering::Equal)))
}

/// Two types of one kind are the same as far as `type()` tells.
fn base(a: &crate::types::Type, b: &crate::types::Type) -> bool {
    use crate::types::Type;
    match (a, b) {
        (Type::Opaque(a), Type::Opaque(b)) => a == b,
        (Type::Object(a), Type::Object(b)) => a.name == b.name,
        _ => true,
    }
}

fn lists<'a>(a: &List<'a>, b: &List<'a>, meter: &mut Meter) -> Result<bool, EvalError> {
    if a.len() != b.len() {
        return Ok(false);
    }
    match a.kind().or(b.kind()) {
        Some(ListKind::Set) => return unordered(a, b, meter),
        Some(ListKind::Map(keys)) => return keyed(a, b, keys, meter),
        _ => {}
    }
    for (a, b) in a.iter().zip(b.iter()) {
        if !a?.equals(&b?, meter)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Every element of each is in the other, whatever the order.
fn unordered<'a>(a: &List<'a>, b: &List<'a>, meter: &mut Meter) -> Result<bool, EvalError> {
    let mut known = std::collections::BTreeSet::new();
    for item in a.iter() {
        meter.step(1)?;
        known.extend(Key::of(&item?));
    }
    for item in b.iter() {
        meter.step(1)?;
        if Key::of(&item?).is_none_or(|key| !known.contains(&key)) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The elements with the same keys are the same, whatever the order.
fn keyed<'a>(a: &List<'a>, b: &List<'a>, keys: &[String], meter: &mut Meter) -> Result<bool, EvalError> {
    let mut known = HashMap::new();
    for item in a.iter() {
        let item = item?;
        meter.step(1)?;
        known.insert(map_key(&item, keys), item);
    }
    for item in b.iter() {
        let item = item?;
        match known.get(&map_key(&item, keys)) {
            Some(other) if other.equals(&item, meter)? => {}
            _ => return Ok(false),
        }
    }
    Ok(true)
}

/// What the key fields of a list's element say, as text that differs where they do.
pub(super) fn map_key(item: &Value<'_>, keys: &[String]) -> String {
    let mut text = String::new();
    if let Value::Map(map) = item {
        for key in keys {
            let name = crate::schema::escape(key).unwrap_or_else(|| key.clone());
            let value = map.field(&name).or_else(|| map.field(key)).and_then(Result::ok);
            text.push_str(&format!("{:?}\u{0}", value.as_ref().and_then(Key::of)));
        }
    }
    text
}

fn maps<'a>(a: &Map<'a>, b: &Map<'a>, meter: &mut Meter) -> Result<bool, EvalError> {
    let keys = a.keys();
    if keys.len() != b.keys().len() {
        return Ok(false);
    }
    for key in keys {
        let (Some(a), Some(b)) = (a.get(&key), b.get(&key)) else { return Ok(false) };
        if !a?.equals(&b?, meter)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The sum of two lists: one after the other, or merged where the list's kind says how.
pub(crate) fn add_lists<'a>(a: &List<'a>, b: &List<'a>, meter: &mut Meter) -> Result<List<'a>, EvalError> {
    let kind = a.kind();
    let key_of: Box<dyn Fn(&Value<'a>) -> String> = match kind {
        None | Some(ListKind::Atomic) => return a.clone().concat(b.clone(), meter),
        Some(ListKind::Set) => Box::new(|item| format!("{:?}", Key::of(item))),
        Some(ListKind::Map(keys)) => Box::new(|item| map_key(item, keys)),
    };
    let (mut items, mut places) = (Vec::new(), HashMap::new());
    for item in a.iter() {
        let item = item?;
        meter.step(1)?;
        places.insert(key_of(&item), items.len());
        items.push(item);
    }
    for item in b.iter() {
        let item = item?;
        meter.step(1)?;
        match places.get(&key_of(&item)) {
            Some(place) => items[*place] = item,
            None => {
                places.insert(key_of(&item), items.len());
                items.push(item);
            }
        }
    }
    Ok(List::of_kind(items, kind))
}
