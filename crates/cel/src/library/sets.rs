//! Lists as sets.

use super::{Call, Cost, Declarations, Result};
use crate::error::EvalError;
use crate::value::{List, Value};

pub(super) fn declare(table: &mut Declarations) {
    table.add("sets.contains(list<A>, list<A>) -> bool", Cost::Product(1.0), contains);
    table.add("sets.equivalent(list<A>, list<A>) -> bool", Cost::Product(2.0), equivalent);
    table.add("sets.intersects(list<A>, list<A>) -> bool", Cost::Product(1.0), intersects);
}

fn has<'a>(call: &mut Call<'_>, list: &List<'a>, wanted: &Value<'a>) -> Result<bool> {
    for item in list.iter() {
        if item?.equals(wanted, call.meter)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn covers<'a>(call: &mut Call<'_>, list: &List<'a>, part: &List<'a>) -> Result<bool> {
    for wanted in part.iter() {
        if !has(call, list, &wanted?)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn contains<'a>(call: &mut Call<'_>, args: &[Value<'a>]) -> Result<Value<'a>> {
    match args {
        [Value::List(list), Value::List(part)] => covers(call, list, part).map(Value::Bool),
        _ => Err(EvalError::NoSuchOverload),
    }
}

fn equivalent<'a>(call: &mut Call<'_>, args: &[Value<'a>]) -> Result<Value<'a>> {
    match args {
        [Value::List(a), Value::List(b)] => Ok(Value::Bool(covers(call, a, b)? && covers(call, b, a)?)),
        _ => Err(EvalError::NoSuchOverload),
    }
}

fn intersects<'a>(call: &mut Call<'_>, args: &[Value<'a>]) -> Result<Value<'a>> {
    let [Value::List(a), Value::List(b)] = args else { return Err(EvalError::NoSuchOverload) };
    for wanted in b.iter() {
        if has(call, a, &wanted?)? {
            return Ok(Value::Bool(true));
        }
    }
    Ok(Value::Bool(false))
}
