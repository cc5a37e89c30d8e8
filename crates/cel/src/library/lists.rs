//! Functions on lists: Kubernetes' own and the `lists` extension.

use std::cmp::Ordering;

use super::{Call, Cost, Declarations, Eval, Result};
use crate::error::EvalError;
use crate::meter::Meter;
use crate::value::{List, Value};

const ORDERED: &[&str] = &["int", "uint", "double", "bool", "duration", "timestamp", "string", "bytes"];

pub(super) fn declare(table: &mut Declarations) {
    for ty in ORDERED {
        table.add(&format!(".isSorted(list<{ty}>) -> bool"), Cost::Traverse, is_sorted);
        table.add(&format!(".max(list<{ty}>) -> {ty}"), Cost::Traverse, max);
        table.add(&format!(".min(list<{ty}>) -> {ty}"), Cost::Traverse, min);
    }
    let sums: [(&str, Eval); 4] = [
        ("int", |call, args| sum(call, args, Value::Int(0))),
        ("uint", |call, args| sum(call, args, Value::Uint(0))),
        ("double", |call, args| sum(call, args, Value::Double(0.0))),
        ("duration", |call, args| sum(call, args, Value::Duration(0))),
    ];
    for (ty, eval) in sums {
        table.add(&format!(".sum(list<{ty}>) -> {ty}"), Cost::Traverse, eval);
    }
    table.add(".indexOf(list<A>, A) -> int", Cost::Traverse, index_of);
    table.add(".lastIndexOf(list<A>, A) -> int", Cost::Traverse, last_index_of);
    table.add(".slice(list<A>, int, int) -> list<A>", Cost::NewList, slice);
    table.add(".flatten(list<list<A>>) -> list<A>", Cost::Flatten, flatten);
    table.add(".flatten(list<dyn>, int) -> list<dyn>", Cost::Flatten, flatten);
    for ty in ORDERED {
        table.add(&format!(".sort(list<{ty}>) -> list<{ty}>"), Cost::Quadratic, sort);
    }
    table.add("lists.range(int) -> list<int>", Cost::NewList, range);
    table.add(".reverse(list<A>) -> list<A>", Cost::NewList, reverse);
    table.add(".distinct(list<A>) -> list<A>", Cost::Quadratic, distinct);
}

fn items<'a>(list: &List<'a>, meter: &mut Meter) -> Result<Vec<Value<'a>>> {
    meter.items(list.len())?;
    list.iter().collect()
}

fn compared(a: &Value<'_>, b: &Value<'_>) -> Result<Ordering> {
    a.compare(b).ok_or(EvalError::NoSuchOverload)
}

fn is_sorted<'a>(call: &mut Call<'_>, args: &[Value<'a>]) -> Result<Value<'a>> {
    let [Value::List(list)] = args else { return Err(EvalError::NoSuchOverload) };
    let items = items(list, call.meter)?;
    for pair in items.windows(2) {
        if compared(&pair[0], &pair[1])?.is_gt() {
            return Ok(Value::Bool(false));
        }
    }
    Ok(Value::Bool(true))
}

fn extreme<'a>(call: &mut Call<'_>, args: &[Value<'a>], name: &str, wanted: Ordering) -> Result<Value<'a>> {
    let [Value::List(list)] = args else { return Err(EvalError::NoSuchOverload) };
    let mut items = items(list, call.meter)?.into_iter();
    let Some(mut best) = items.next() else {
        return Err(EvalError::Function(format!("{name} called on empty list")));
    };
    for item in items {
        if compared(&item, &best)? == wanted {
            best = item;
        }
    }
    Ok(best)
}

fn max<'a>(call: &mut Call<'_>, args: &[Value<'a>]) -> Result<Value<'a>> {
    extreme(call, args, "max", Ordering::Greater)
}

fn min<'a>(call: &mut Call<'_>, args: &[Value<'a>]) -> Result<Value<'a>> {
    extreme(call, args, "min", Ordering::Less)
}

fn sum<'a>(call: &mut Call<'_>, args: &[Value<'a>], zero: Value<'a>) -> Result<Value<'a>> {
    let [Value::List(list)] = args else { return Err(EvalError::NoSuchOverload) };
    let mut total: Option<Value<'a>> = None;
    for item in list.iter() {
        call.meter.step(1)?;
        let item = item?;
        total = Some(match total {
            None => item,
            Some(total) => super::arithmetic::add(call, &[total, item])?,
        });
    }
    Ok(total.unwrap_or(zero))
}

fn index_of<'a>(call: &mut Call<'_>, args: &[Value<'a>]) -> Result<Value<'a>> {
    let [Value::List(list), wanted] = args else { return Err(EvalError::NoSuchOverload) };
    for (index, item) in list.iter().enumerate() {
        if item?.equals(wanted, call.meter)? {
            return Ok(Value::Int(index as i64));
        }
    }
    Ok(Value::Int(-1))
}

fn last_index_of<'a>(call: &mut Call<'_>, args: &[Value<'a>]) -> Result<Value<'a>> {
    let [Value::List(list), wanted] = args else { return Err(EvalError::NoSuchOverload) };
    let items = items(list, call.meter)?;
    for (index, item) in items.iter().enumerate().rev() {
        if item.equals(wanted, call.meter)? {
            return Ok(Value::Int(index as i64));
        }
    }
    Ok(Value::Int(-1))
}

fn slice<'a>(call: &mut Call<'_>, args: &[Value<'a>]) -> Result<Value<'a>> {
    let [Value::List(list), Value::Int(start), Value::Int(end)] = args else { return Err(EvalError::NoSuchOverload) };
    let refuse = |why: String| Err(EvalError::Function(format!("cannot slice({start}, {end}), {why}")));
    let (Ok(from), Ok(to)) = (u64::try_from(*start), u64::try_from(*end)) else {
        return refuse("negative indexes not supported".into());
    };
    if from > to {
        return refuse("start index must be less than or equal to end index".into());
    }
    if to > list.len() {
        return refuse(format!("list is length {}", list.len()));
    }
    call.meter.items(to - from)?;
    Ok(Value::list((from..to).filter_map(|index| list.get(index)).collect::<Result<_>>()?))
}

fn flatten<'a>(call: &mut Call<'_>, args: &[Value<'a>]) -> Result<Value<'a>> {
    let (list, depth) = match args {
        [Value::List(list)] => (list, 1),
        [Value::List(_), Value::Int(depth)] if *depth < 0 => {
            return Err(EvalError::function("level must be non-negative"));
        }
        [Value::List(list), Value::Int(depth)] => (list, *depth),
        _ => return Err(EvalError::NoSuchOverload),
    };
    let mut flat = Vec::new();
    flatten_into(list, depth, &mut flat, call.meter)?;
    Ok(Value::list(flat))
}

fn flatten_into<'a>(list: &List<'a>, depth: i64, flat: &mut Vec<Value<'a>>, meter: &mut Meter) -> Result<()> {
    for item in list.iter() {
        meter.step(1)?;
        match item? {
            Value::List(inner) if depth > 0 => flatten_into(&inner, depth - 1, flat, meter)?,
            item => {
                meter.items(1)?;
                flat.push(item);
            }
        }
    }
    Ok(())
}

fn sort<'a>(call: &mut Call<'_>, args: &[Value<'a>]) -> Result<Value<'a>> {
    let [Value::List(list)] = args else { return Err(EvalError::NoSuchOverload) };
    let items = items(list, call.meter)?;
    let keyed = items.into_iter().map(|item| (item.clone(), item)).collect();
    sort_by_keys(keyed)
}

/// The values in the order of their keys.
pub(crate) fn sort_by_keys<'a>(mut keyed: Vec<(Value<'a>, Value<'a>)>) -> Result<Value<'a>> {
    if let Some((first, _)) = keyed.first() {
        for (key, _) in &keyed {
            if std::mem::discriminant(key) != std::mem::discriminant(first) {
                return Err(EvalError::function("list elements must have the same type"));
            }
            if key.compare(first).is_none() {
                return Err(EvalError::function("list elements must be comparable"));
            }
        }
    }
    keyed.sort_by(|(a, _), (b, _)| a.compare(b).unwrap_or(Ordering::Equal));
    Ok(Value::list(keyed.into_iter().map(|(_, value)| value).collect()))
}

fn range<'a>(call: &mut Call<'_>, args: &[Value<'a>]) -> Result<Value<'a>> {
    let [Value::Int(count)] = args else { return Err(EvalError::NoSuchOverload) };
    call.meter.items(u64::try_from(*count).unwrap_or(0))?;
    Ok(Value::list((0..*count).map(Value::Int).collect()))
}

fn reverse<'a>(call: &mut Call<'_>, args: &[Value<'a>]) -> Result<Value<'a>> {
    let [Value::List(list)] = args else { return Err(EvalError::NoSuchOverload) };
    let mut items = items(list, call.meter)?;
    items.reverse();
    Ok(Value::list(items))
}

fn distinct<'a>(call: &mut Call<'_>, args: &[Value<'a>]) -> Result<Value<'a>> {
    let [Value::List(list)] = args else { return Err(EvalError::NoSuchOverload) };
    let mut kept: Vec<Value<'a>> = Vec::new();
    'items: for item in list.iter() {
        let item = item?;
        for known in &kept {
            if known.equals(&item, call.meter)? {
                continue 'items;
            }
        }
        kept.push(item);
    }
    Ok(Value::list(kept))
}
