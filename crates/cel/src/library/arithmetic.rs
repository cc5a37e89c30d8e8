//! Operators: sums, products, comparisons, membership.

use std::cmp::Ordering;

use super::{Call, Cost, Declarations, Result};
use crate::error::EvalError;
use crate::value::text::in_range;
use crate::value::{Value, add_lists};

const TEXT: &[&str] = &["string", "bytes"];
const NUMBERS: &[&str] = &["int", "uint", "double"];

pub(super) fn declare(table: &mut Declarations) {
    table.add("!_(bool) -> bool", Cost::One, not);
    table.add("-_(double) -> double", Cost::One, negate);
    table.add("-_(int) -> int", Cost::One, negate);
    table.add("_==_(A, A) -> bool", Cost::Smaller, equal);
    table.add("_!=_(A, A) -> bool", Cost::Smaller, not_equal);
    for ty in NUMBERS {
        table.add(&format!("_+_({ty}, {ty}) -> {ty}"), Cost::One, add);
        table.add(&format!("_-_({ty}, {ty}) -> {ty}"), Cost::One, subtract);
        table.add(&format!("_*_({ty}, {ty}) -> {ty}"), Cost::One, multiply);
        table.add(&format!("_/_({ty}, {ty}) -> {ty}"), Cost::One, divide);
    }
    for ty in ["int", "uint"] {
        table.add(&format!("_%_({ty}, {ty}) -> {ty}"), Cost::One, modulo);
    }
    for ty in TEXT {
        table.add(&format!("_+_({ty}, {ty}) -> {ty}"), Cost::AddText, add);
    }
    table.add("_+_(list<A>, list<A>) -> list<A>", Cost::AddList, add);
    table.add("_+_(duration, duration) -> duration", Cost::One, add);
    table.add("_+_(duration, timestamp) -> timestamp", Cost::One, add);
    table.add("_+_(timestamp, duration) -> timestamp", Cost::One, add);
    table.add("_-_(duration, duration) -> duration", Cost::One, subtract);
    table.add("_-_(timestamp, duration) -> timestamp", Cost::One, subtract);
    table.add("_-_(timestamp, timestamp) -> duration", Cost::One, subtract);
    for (name, eval) in [("_<_", less as super::Eval), ("_<=_", less_equal), ("_>_", greater), ("_>=_", greater_equal)]
    {
        for one in NUMBERS {
            for other in NUMBERS {
                table.add(&format!("{name}({one}, {other}) -> bool"), Cost::One, eval);
            }
        }
        for ty in ["bool", "timestamp", "duration"] {
            table.add(&format!("{name}({ty}, {ty}) -> bool"), Cost::One, eval);
        }
        for ty in TEXT {
            table.add(&format!("{name}({ty}, {ty}) -> bool"), Cost::Smaller, eval);
        }
    }
    table.add("@in(A, list<A>) -> bool", Cost::InList, within);
    table.add("@in(A, map<A, B>) -> bool", Cost::One, within);
    table.add("_[_](list<A>, int) -> A", Cost::One, index);
    table.add("_[_](map<A, B>, A) -> B", Cost::One, index);
    table.add("_[_](optional<list<A>>, int) -> optional<A>", Cost::One, index);
    table.add("_[_](optional<map<A, B>>, A) -> optional<B>", Cost::One, index);
    table.add("_[?_](list<A>, int) -> optional<A>", Cost::One, optional_index);
    table.add("_[?_](optional<list<A>>, int) -> optional<A>", Cost::One, optional_index);
    table.add("_[?_](map<A, B>, A) -> optional<B>", Cost::One, optional_index);
    table.add("_[?_](optional<map<A, B>>, A) -> optional<B>", Cost::One, optional_index);
    for ty in ["bytes", "list<A>", "map<A, B>", "string"] {
        table.add(&format!("size({ty}) -> int"), Cost::One, size);
        table.add(&format!(".size({ty}) -> int"), Cost::One, size);
    }
}

fn not<'a>(_: &mut Call<'_>, args: &[Value<'a>]) -> Result<Value<'a>> {
    match args {
        [Value::Bool(value)] => Ok(Value::Bool(!value)),
        _ => Err(EvalError::NoSuchOverload),
    }
}

fn negate<'a>(_: &mut Call<'_>, args: &[Value<'a>]) -> Result<Value<'a>> {
    match args {
        [Value::Int(value)] => value.checked_neg().map(Value::Int).ok_or(EvalError::Overflow("integer")),
        [Value::Double(value)] => Ok(Value::Double(-value)),
        _ => Err(EvalError::NoSuchOverload),
    }
}

fn equal<'a>(call: &mut Call<'_>, args: &[Value<'a>]) -> Result<Value<'a>> {
    match args {
        [a, b] => Ok(Value::Bool(a.equals(b, call.meter)?)),
        _ => Err(EvalError::NoSuchOverload),
    }
}

fn not_equal<'a>(call: &mut Call<'_>, args: &[Value<'a>]) -> Result<Value<'a>> {
    match args {
        [a, b] => Ok(Value::Bool(!a.equals(b, call.meter)?)),
        _ => Err(EvalError::NoSuchOverload),
    }
}

pub(super) fn add<'a>(call: &mut Call<'_>, args: &[Value<'a>]) -> Result<Value<'a>> {
    let [a, b] = args else { return Err(EvalError::NoSuchOverload) };
    match (a, b) {
        (Value::Int(a), Value::Int(b)) => a.checked_add(*b).map(Value::Int).ok_or(EvalError::Overflow("integer")),
        (Value::Uint(a), Value::Uint(b)) => {
            a.checked_add(*b).map(Value::Uint).ok_or(EvalError::Overflow("unsigned integer"))
        }
        (Value::Double(a), Value::Double(b)) => Ok(Value::Double(a + b)),
        (Value::String(a), Value::String(b)) => {
            call.meter.allocate(a.len() + b.len())?;
            Ok(Value::text([&**a, &**b].concat()))
        }
        (Value::Bytes(a), Value::Bytes(b)) => {
            call.meter.allocate(a.len() + b.len())?;
            Ok(Value::Bytes([&**a, &**b].concat().into()))
        }
        (Value::List(a), Value::List(b)) => Ok(Value::List(add_lists(a, b, call.meter)?)),
        (Value::Duration(a), Value::Duration(b)) => {
            a.checked_add(*b).map(Value::Duration).ok_or(EvalError::Overflow("duration"))
        }
        (Value::Timestamp(time), Value::Duration(by)) | (Value::Duration(by), Value::Timestamp(time)) => {
            shift(*time, i128::from(*by))
        }
        _ => Err(EvalError::NoSuchOverload),
    }
}

fn shift<'a>(time: jiff::Timestamp, by: i128) -> Result<Value<'a>> {
    let moved = jiff::Timestamp::from_nanosecond(time.as_nanosecond() + by).ok().filter(in_range);
    moved.map(Value::Timestamp).ok_or(EvalError::Overflow("timestamp"))
}

fn subtract<'a>(_: &mut Call<'_>, args: &[Value<'a>]) -> Result<Value<'a>> {
    let [a, b] = args else { return Err(EvalError::NoSuchOverload) };
    match (a, b) {
        (Value::Int(a), Value::Int(b)) => a.checked_sub(*b).map(Value::Int).ok_or(EvalError::Overflow("integer")),
        (Value::Uint(a), Value::Uint(b)) => {
            a.checked_sub(*b).map(Value::Uint).ok_or(EvalError::Overflow("unsigned integer"))
        }
        (Value::Double(a), Value::Double(b)) => Ok(Value::Double(a - b)),
        (Value::Duration(a), Value::Duration(b)) => {
            a.checked_sub(*b).map(Value::Duration).ok_or(EvalError::Overflow("duration"))
        }
        (Value::Timestamp(time), Value::Duration(by)) => shift(*time, -i128::from(*by)),
        (Value::Timestamp(a), Value::Timestamp(b)) => {
            let nanos = a.as_nanosecond() - b.as_nanosecond();
            i64::try_from(nanos).map(Value::Duration).map_err(|_| EvalError::Overflow("duration"))
        }
        _ => Err(EvalError::NoSuchOverload),
    }
}

fn multiply<'a>(_: &mut Call<'_>, args: &[Value<'a>]) -> Result<Value<'a>> {
    match args {
        [Value::Int(a), Value::Int(b)] => a.checked_mul(*b).map(Value::Int).ok_or(EvalError::Overflow("integer")),
        [Value::Uint(a), Value::Uint(b)] => {
            a.checked_mul(*b).map(Value::Uint).ok_or(EvalError::Overflow("unsigned integer"))
        }
        [Value::Double(a), Value::Double(b)] => Ok(Value::Double(a * b)),
        _ => Err(EvalError::NoSuchOverload),
    }
}

fn divide<'a>(_: &mut Call<'_>, args: &[Value<'a>]) -> Result<Value<'a>> {
    match args {
        [Value::Int(_), Value::Int(0)] | [Value::Uint(_), Value::Uint(0)] => Err(EvalError::DivisionByZero),
        [Value::Int(a), Value::Int(b)] => a.checked_div(*b).map(Value::Int).ok_or(EvalError::Overflow("integer")),
        [Value::Uint(a), Value::Uint(b)] => Ok(Value::Uint(a / b)),
        [Value::Double(a), Value::Double(b)] => Ok(Value::Double(a / b)),
        _ => Err(EvalError::NoSuchOverload),
    }
}

fn modulo<'a>(_: &mut Call<'_>, args: &[Value<'a>]) -> Result<Value<'a>> {
    match args {
        [Value::Int(_), Value::Int(0)] | [Value::Uint(_), Value::Uint(0)] => Err(EvalError::ModulusByZero),
        [Value::Int(a), Value::Int(b)] => a.checked_rem(*b).map(Value::Int).ok_or(EvalError::Overflow("integer")),
        [Value::Uint(a), Value::Uint(b)] => Ok(Value::Uint(a % b)),
        _ => Err(EvalError::NoSuchOverload),
    }
}

fn ordered(args: &[Value<'_>], is: impl Fn(Ordering) -> bool) -> Result<bool> {
    let [a, b] = args else { return Err(EvalError::NoSuchOverload) };
    // Not-a-number is in no order with anything.
    let nan = |value: &Value<'_>| matches!(value, Value::Double(value) if value.is_nan());
    match a.compare(b) {
        Some(order) => Ok(is(order)),
        None if nan(a) || nan(b) => Ok(false),
        None => Err(EvalError::NoSuchOverload),
    }
}

fn less<'a>(_: &mut Call<'_>, args: &[Value<'a>]) -> Result<Value<'a>> {
    ordered(args, Ordering::is_lt).map(Value::Bool)
}

fn less_equal<'a>(_: &mut Call<'_>, args: &[Value<'a>]) -> Result<Value<'a>> {
    ordered(args, Ordering::is_le).map(Value::Bool)
}

fn greater<'a>(_: &mut Call<'_>, args: &[Value<'a>]) -> Result<Value<'a>> {
    ordered(args, Ordering::is_gt).map(Value::Bool)
}

fn greater_equal<'a>(_: &mut Call<'_>, args: &[Value<'a>]) -> Result<Value<'a>> {
    ordered(args, Ordering::is_ge).map(Value::Bool)
}

fn within<'a>(call: &mut Call<'_>, args: &[Value<'a>]) -> Result<Value<'a>> {
    match args {
        [value, Value::List(list)] => {
            for item in list.iter() {
                if item?.equals(value, call.meter)? {
                    return Ok(Value::Bool(true));
                }
            }
            Ok(Value::Bool(false))
        }
        [key, Value::Map(map)] => Ok(Value::Bool(map.get(key).is_some())),
        _ => Err(EvalError::NoSuchOverload),
    }
}

fn size<'a>(_: &mut Call<'_>, args: &[Value<'a>]) -> Result<Value<'a>> {
    match args {
        [value @ (Value::String(_) | Value::Bytes(_) | Value::List(_) | Value::Map(_))] => {
            Ok(Value::Int(i64::try_from(value.size()).unwrap_or(i64::MAX)))
        }
        _ => Err(EvalError::NoSuchOverload),
    }
}

/// The index of a list: whole numbers of any type.
fn list_index(index: &Value<'_>) -> Result<i64> {
    match index {
        Value::Int(index) => Ok(*index),
        Value::Uint(index) => i64::try_from(*index).map_err(|_| EvalError::OutOfBounds(i64::MAX)),
        Value::Double(index) if index.fract() == 0.0 => Ok(*index as i64),
        _ => Err(EvalError::NoSuchOverload),
    }
}

fn lookup<'a>(container: &Value<'a>, key: &Value<'a>) -> Result<Option<Value<'a>>> {
    match container {
        Value::List(list) => match u64::try_from(list_index(key)?) {
            Ok(index) => list.get(index).transpose(),
            Err(_) => Ok(None),
        },
        Value::Map(map) => map.get(key).transpose(),
        _ => Err(EvalError::NoSuchOverload),
    }
}

pub(crate) fn index<'a>(call: &mut Call<'_>, args: &[Value<'a>]) -> Result<Value<'a>> {
    match args {
        [Value::Optional(_), _] => optional_index(call, args),
        [container, key] => match (lookup(container, key)?, container) {
            (Some(value), _) => Ok(value),
            (None, Value::List(_)) => Err(EvalError::OutOfBounds(list_index(key)?)),
            (None, _) => Err(EvalError::NoSuchKey(show(key))),
        },
        _ => Err(EvalError::NoSuchOverload),
    }
}

fn optional_index<'a>(_: &mut Call<'_>, args: &[Value<'a>]) -> Result<Value<'a>> {
    match args {
        [Value::Optional(None), _] => Ok(Value::Optional(None)),
        [Value::Optional(Some(container)), key] => {
            Ok(lookup(container, key)?.map_or(Value::Optional(None), Value::some))
        }
        [container, key] => Ok(lookup(container, key)?.map_or(Value::Optional(None), Value::some)),
        _ => Err(EvalError::NoSuchOverload),
    }
}

fn show(key: &Value<'_>) -> String {
    match key {
        Value::String(text) => text.to_string(),
        Value::Int(number) => number.to_string(),
        Value::Uint(number) => number.to_string(),
        Value::Double(number) => number.to_string(),
        Value::Bool(value) => value.to_string(),
        other => other.type_of().to_string(),
    }
}
