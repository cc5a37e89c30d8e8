//! Helpers for JSON patches.

use super::{Cost, Declarations};
use crate::error::EvalError;
use crate::value::Value;

pub(super) fn declare(table: &mut Declarations) {
    let cost = Cost::Scan { times: 1.0, keeps: true };
    table.add("jsonpatch.escapeKey(string) -> string", cost, |call, args| match args {
        [Value::String(key)] => {
            call.meter.allocate(key.len().saturating_mul(2))?;
            Ok(Value::text(key.replace('~', "~0").replace('/', "~1")))
        }
        _ => Err(EvalError::NoSuchOverload),
    });
}
