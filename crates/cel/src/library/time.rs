//! Parts of timestamps and durations.

use jiff::Zoned;
use jiff::tz::{Offset, TimeZone};

use super::{Cost, Declarations, Eval, Result};
use crate::error::EvalError;
use crate::value::Value;

pub(super) fn declare(table: &mut Declarations) {
    let parts: [(&str, Eval); 10] = [
        ("getFullYear", |_, args| part(args, |time| i64::from(time.year()))),
        ("getMonth", |_, args| part(args, |time| i64::from(time.month()) - 1)),
        ("getDayOfYear", |_, args| part(args, |time| i64::from(time.day_of_year()) - 1)),
        ("getDayOfMonth", |_, args| part(args, |time| i64::from(time.day()) - 1)),
        ("getDate", |_, args| part(args, |time| i64::from(time.day()))),
        ("getDayOfWeek", |_, args| part(args, |time| i64::from(time.weekday().to_sunday_zero_offset()))),
        ("getHours", |_, args| part(args, |time| i64::from(time.hour()))),
        ("getMinutes", |_, args| part(args, |time| i64::from(time.minute()))),
        ("getSeconds", |_, args| part(args, |time| i64::from(time.second()))),
        ("getMilliseconds", |_, args| part(args, |time| i64::from(time.millisecond()))),
    ];
    for (name, eval) in parts {
        table.add(&format!(".{name}(timestamp) -> int"), Cost::One, eval);
        table.add(&format!(".{name}(timestamp, string) -> int"), Cost::One, eval);
    }
    let whole: [(&str, Eval); 4] = [
        ("getHours", |_, args| of_duration(args, 3_600_000_000_000)),
        ("getMinutes", |_, args| of_duration(args, 60_000_000_000)),
        ("getSeconds", |_, args| of_duration(args, 1_000_000_000)),
        ("getMilliseconds", |_, args| of_duration(args, 1_000_000)),
    ];
    for (name, eval) in whole {
        table.add(&format!(".{name}(duration) -> int"), Cost::One, eval);
    }
}

fn of_duration<'a>(args: &[Value<'a>], unit: i64) -> Result<Value<'a>> {
    match args {
        [Value::Duration(nanos)] => Ok(Value::Int(nanos / unit)),
        _ => Err(EvalError::NoSuchOverload),
    }
}

fn part<'a>(args: &[Value<'a>], of: impl Fn(&Zoned) -> i64) -> Result<Value<'a>> {
    let (time, zone) = match args {
        [Value::Timestamp(time)] => (time, TimeZone::UTC),
        [Value::Timestamp(time), Value::String(zone)] => (time, named(zone)?),
        _ => return Err(EvalError::NoSuchOverload),
    };
    Ok(Value::Int(of(&time.to_zoned(zone))))
}

/// The zone of this name, or at this distance from UTC (`+02:00`).
fn named(name: &str) -> Result<TimeZone> {
    let unknown = || EvalError::Function(format!("unknown time zone {name}"));
    if let Some((hours, minutes)) = name.split_once(':') {
        let number = |text: &str| text.parse::<i32>().ok();
        let (hours_number, minutes) = number(hours).zip(number(minutes)).ok_or_else(unknown)?;
        let sign = if hours.starts_with('-') { -1 } else { 1 };
        let seconds = hours_number.checked_mul(3600).and_then(|hours| hours.checked_add(sign * (minutes % 60) * 60));
        let offset = seconds.and_then(|seconds| Offset::from_seconds(seconds).ok()).ok_or_else(unknown)?;
        return Ok(TimeZone::fixed(offset));
    }
    if name.is_empty() || name == "UTC" {
        return Ok(TimeZone::UTC);
    }
    TimeZone::get(name).map_err(|_| unknown())
}
