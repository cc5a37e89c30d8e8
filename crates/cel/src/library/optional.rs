//! Values that may be missing.

use super::{Call, Cost, Declarations, Result};
use crate::error::EvalError;
use crate::value::Value;

pub(super) fn declare(table: &mut Declarations) {
    table.add("optional.of(A) -> optional<A>", Cost::One, of);
    table.add("optional.ofNonZeroValue(A) -> optional<A>", Cost::One, of_non_zero);
    table.add("optional.none() -> optional<A>", Cost::One, |_, _| Ok(Value::Optional(None)));
    table.add(".value(optional<A>) -> A", Cost::One, value);
    table.add(".hasValue(optional<A>) -> bool", Cost::One, has_value);
    table.add(".or(optional<A>, optional<A>) -> optional<A>", Cost::One, or);
    table.add(".orValue(optional<A>, A) -> A", Cost::One, or_value);
    table.add(".first(list<A>) -> optional<A>", Cost::One, first);
    table.add(".last(list<A>) -> optional<A>", Cost::One, last);
    table.add("optional.unwrap(list<optional<A>>) -> list<A>", Cost::One, unwrap);
    table.add(".unwrapOpt(list<optional<A>>) -> list<A>", Cost::One, unwrap);
}

fn of<'a>(_: &mut Call<'_>, args: &[Value<'a>]) -> Result<Value<'a>> {
    args.first().cloned().map(Value::some).ok_or(EvalError::NoSuchOverload)
}

fn is_zero(value: &Value<'_>) -> bool {
    match value {
        Value::Null | Value::Bool(false) | Value::Int(0) | Value::Uint(0) | Value::Duration(0) => true,
        Value::Optional(value) => value.is_none(),
        Value::Double(value) => *value == 0.0,
        Value::String(text) => text.is_empty(),
        Value::Bytes(bytes) => bytes.is_empty(),
        Value::List(list) => list.is_empty(),
        Value::Map(map) => map.is_empty(),
        _ => false,
    }
}

fn of_non_zero<'a>(_: &mut Call<'_>, args: &[Value<'a>]) -> Result<Value<'a>> {
    match args {
        [value] if is_zero(value) => Ok(Value::Optional(None)),
        [value] => Ok(Value::some(value.clone())),
        _ => Err(EvalError::NoSuchOverload),
    }
}

fn value<'a>(_: &mut Call<'_>, args: &[Value<'a>]) -> Result<Value<'a>> {
    match args {
        [Value::Optional(Some(value))] => Ok((**value).clone()),
        [Value::Optional(None)] => Err(EvalError::function("optional.none() dereference")),
        _ => Err(EvalError::NoSuchOverload),
    }
}

fn has_value<'a>(_: &mut Call<'_>, args: &[Value<'a>]) -> Result<Value<'a>> {
    match args {
        [Value::Optional(value)] => Ok(Value::Bool(value.is_some())),
        _ => Err(EvalError::NoSuchOverload),
    }
}

// The evaluator does not even look at the second argument of these two where the first has a value.

fn or<'a>(_: &mut Call<'_>, args: &[Value<'a>]) -> Result<Value<'a>> {
    match args {
        [first @ Value::Optional(Some(_)), _] => Ok(first.clone()),
        [Value::Optional(None), second @ Value::Optional(_)] => Ok(second.clone()),
        _ => Err(EvalError::NoSuchOverload),
    }
}

fn or_value<'a>(_: &mut Call<'_>, args: &[Value<'a>]) -> Result<Value<'a>> {
    match args {
        [Value::Optional(Some(first)), _] => Ok((**first).clone()),
        [Value::Optional(None), second] => Ok(second.clone()),
        _ => Err(EvalError::NoSuchOverload),
    }
}

fn at<'a>(args: &[Value<'a>], index: impl Fn(u64) -> Option<u64>) -> Result<Value<'a>> {
    match args {
        [Value::List(list)] => match index(list.len()).and_then(|index| list.get(index)) {
            Some(item) => Ok(Value::some(item?)),
            None => Ok(Value::Optional(None)),
        },
        _ => Err(EvalError::NoSuchOverload),
    }
}

fn first<'a>(_: &mut Call<'_>, args: &[Value<'a>]) -> Result<Value<'a>> {
    at(args, |_| Some(0))
}

fn last<'a>(_: &mut Call<'_>, args: &[Value<'a>]) -> Result<Value<'a>> {
    at(args, |len| len.checked_sub(1))
}

fn unwrap<'a>(call: &mut Call<'_>, args: &[Value<'a>]) -> Result<Value<'a>> {
    let [Value::List(list)] = args else { return Err(EvalError::NoSuchOverload) };
    let mut values = Vec::new();
    for item in list.iter() {
        call.meter.step(1)?;
        match item? {
            Value::Optional(Some(value)) => values.push((*value).clone()),
            Value::Optional(None) => {}
            other => return Err(EvalError::Function(format!("value {} is not optional", other.type_of()))),
        }
    }
    Ok(Value::list(values))
}
