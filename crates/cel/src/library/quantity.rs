//! Quantities of resources.

use std::cmp::Ordering;

use mizzen_api::quantity::{Format, Quantity};

use super::{Call, Cost, Declarations, Opaque, Result};
use crate::error::EvalError;
use crate::value::Value;

pub(super) fn declare(table: &mut Declarations) {
    const SCAN: Cost = Cost::Scan { times: 1.0, keeps: false };
    table.add("quantity(string) -> Quantity", SCAN, parse);
    table.add("isQuantity(string) -> bool", SCAN, is_quantity);
    table.add(".sign(Quantity) -> int", Cost::One, |_, args| {
        one(args).map(|of| Value::Int(of.cmp(&Quantity::ZERO) as i64))
    });
    table.add(".isGreaterThan(Quantity, Quantity) -> bool", Cost::One, |_, args| {
        order(args).map(|order| Value::Bool(order.is_gt()))
    });
    table.add(".isLessThan(Quantity, Quantity) -> bool", Cost::One, |_, args| {
        order(args).map(|order| Value::Bool(order.is_lt()))
    });
    table.add(".compareTo(Quantity, Quantity) -> int", Cost::One, |_, args| {
        order(args).map(|order| Value::Int(order as i64))
    });
    table.add(".asApproximateFloat(Quantity) -> double", Cost::One, |_, args| {
        one(args).map(|of| Value::Double(of.approximate()))
    });
    table.add(".asInteger(Quantity) -> int", Cost::One, |_, args| {
        let whole = one(args)?.exact_units();
        whole.map(Value::Int).ok_or(EvalError::function("cannot convert value to integer"))
    });
    table.add(".isInteger(Quantity) -> bool", Cost::One, |_, args| {
        one(args).map(|of| Value::Bool(of.exact_units().is_some()))
    });
    for other in ["Quantity", "int"] {
        table.add(&format!(".add(Quantity, {other}) -> Quantity"), Cost::One, |_, args| {
            both(args).map(|(a, b)| Value::Opaque(Opaque::Quantity(a + b)))
        });
        table.add(&format!(".sub(Quantity, {other}) -> Quantity"), Cost::One, |_, args| {
            both(args).map(|(a, b)| Value::Opaque(Opaque::Quantity(a - b)))
        });
    }
}

fn parse<'a>(_: &mut Call<'_>, args: &[Value<'a>]) -> Result<Value<'a>> {
    match args {
        [Value::String(text)] => match text.parse() {
            Ok(quantity) => Ok(Value::Opaque(Opaque::Quantity(quantity))),
            Err(why) => {
                let why: mizzen_api::quantity::BadQuantity = why;
                Err(EvalError::Function(why.to_string()))
            }
        },
        _ => Err(EvalError::NoSuchOverload),
    }
}

fn is_quantity<'a>(_: &mut Call<'_>, args: &[Value<'a>]) -> Result<Value<'a>> {
    match args {
        [Value::String(text)] => Ok(Value::Bool(text.parse::<Quantity>().is_ok())),
        _ => Err(EvalError::NoSuchOverload),
    }
}

fn one(args: &[Value<'_>]) -> Result<Quantity> {
    match args.first() {
        Some(Value::Opaque(Opaque::Quantity(quantity))) => Ok(*quantity),
        _ => Err(EvalError::NoSuchOverload),
    }
}

fn both(args: &[Value<'_>]) -> Result<(Quantity, Quantity)> {
    match args {
        [_, Value::Int(other)] => Ok((one(args)?, Quantity::from_units(*other, Format::DecimalSi))),
        [_, other] => Ok((one(args)?, one(std::slice::from_ref(other))?)),
        _ => Err(EvalError::NoSuchOverload),
    }
}

fn order(args: &[Value<'_>]) -> Result<Ordering> {
    both(args).map(|(a, b)| a.cmp(&b))
}
