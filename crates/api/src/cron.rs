//! Schedules of CronJobs: `minute hour day-of-month month day-of-week`, or `@daily` and the like.

use std::str::FromStr;

use jiff::{SignedDuration, ToSpan, Zoned};

/// Years that are searched for the next time; a schedule such as `0 0 30 2 *` never comes.
const YEARS_MAX: i16 = 5;

/// When a CronJob starts jobs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Schedule {
    /// At the minutes that all five fields allow.
    Fields(Box<Fields>),
    /// Again and again after a span (`@every 1h30m`).
    Every(SignedDuration),
}

/// The allowed values of each field, as bits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fields {
    minute: u64,
    hour: u64,
    day: u64,
    month: u64,
    weekday: u64,
    /// Whether both day fields are restricted: then either suffices.
    either_day: bool,
}

/// The text is no schedule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadSchedule {
    /// Not five fields.
    #[error("expected exactly 5 fields, found {found}: {fields:?}")]
    Count {
        /// How many there are.
        found: usize,
        /// The fields.
        fields: Vec<String>,
    },
    /// A number or name that cannot be read.
    #[error("failed to parse int from {0}")]
    Number(String),
    /// A value below the least of its field.
    #[error("beginning of range ({value}) below minimum ({min}): {text}")]
    Below {
        /// The value.
        value: u32,
        /// The least.
        min: u32,
        /// Where it stands.
        text: String,
    },
    /// A value above the greatest of its field.
    #[error("end of range ({value}) above maximum ({max}): {text}")]
    Above {
        /// The value.
        value: u32,
        /// The greatest.
        max: u32,
        /// Where it stands.
        text: String,
    },
    /// A range that ends before it begins.
    #[error("beginning of range ({low}) beyond end of range ({high}): {text}")]
    Backwards {
        /// Where it begins.
        low: u32,
        /// Where it ends.
        high: u32,
        /// Where it stands.
        text: String,
    },
    /// More than one step or range in a place.
    #[error("too many slashes or hyphens: {0}")]
    TooMany(String),
    /// A step of nothing.
    #[error("step of range should be a positive number: {0}")]
    Step(String),
    /// An unknown `@` word.
    #[error("unrecognized descriptor: {0}")]
    Descriptor(String),
}

const MONTHS: &[&str] = &["", "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: &[&str] = &["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

impl FromStr for Schedule {
    type Err = BadSchedule;

    fn from_str(text: &str) -> Result<Self, BadSchedule> {
        let text = text.trim();
        if text.starts_with('@') {
            return descriptor(text);
        }
        let fields: Vec<&str> = text.split_whitespace().collect();
        let [minute, hour, day, month, weekday] = fields.as_slice() else {
            let fields: Vec<String> = fields.into_iter().map(String::from).collect();
            return Err(BadSchedule::Count { found: fields.len(), fields });
        };
        let is_open = |field: &str| field.starts_with(['*', '?']);
        Ok(Schedule::Fields(Box::new(Fields {
            minute: bits(minute, 0, 59, &[])?,
            hour: bits(hour, 0, 23, &[])?,
            day: bits(day, 1, 31, &[])?,
            month: bits(month, 1, 12, MONTHS)?,
            weekday: bits(weekday, 0, 6, DAYS)?,
            either_day: !is_open(day) && !is_open(weekday),
        })))
    }
}

fn descriptor(text: &str) -> Result<Schedule, BadSchedule> {
    let fields = match text {
        "@yearly" | "@annually" => "0 0 1 1 *",
        "@monthly" => "0 0 1 * *",
        "@weekly" => "0 0 * * 0",
        "@daily" | "@midnight" => "0 0 * * *",
        "@hourly" => "0 * * * *",
        _ => {
            let every = text.strip_prefix("@every ").and_then(|span| span.trim().parse::<SignedDuration>().ok());
            // Less than a second would start jobs without end.
            let every = every.map(|span| span.max(SignedDuration::from_secs(1)));
            return every.map(Schedule::Every).ok_or_else(|| BadSchedule::Descriptor(text.into()));
        }
    };
    fields.parse()
}

/// The values that a comma-separated field allows.
fn bits(field: &str, min: u32, max: u32, names: &[&str]) -> Result<u64, BadSchedule> {
    field.split(',').try_fold(0, |all, part| Ok(all | range(part, min, max, names)?))
}

/// `5`, `1-5`, `*`, each perhaps with `/step`.
fn range(part: &str, min: u32, max: u32, names: &[&str]) -> Result<u64, BadSchedule> {
    let too_many = || BadSchedule::TooMany(part.into());
    let (span, step) = match part.split_once('/') {
        Some((_, step)) if step.contains('/') => return Err(too_many()),
        Some((span, step)) => (span, Some(number(step, &[])?)),
        None => (part, None),
    };
    let (low, high) = match span.split_once('-') {
        _ if span == "*" || span == "?" => (min, max),
        Some((_, high)) if high.contains('-') => return Err(too_many()),
        Some((low, high)) => (number(low, names)?, number(high, names)?),
        // `5/10` means from 5 on.
        None => (number(span, names)?, if step.is_some() { max } else { number(span, names)? }),
    };
    let text = || part.to_string();
    if low < min {
        return Err(BadSchedule::Below { value: low, min, text: text() });
    }
    if high > max {
        return Err(BadSchedule::Above { value: high, max, text: text() });
    }
    if low > high {
        return Err(BadSchedule::Backwards { low, high, text: text() });
    }
    let step = step.unwrap_or(1);
    if step == 0 {
        return Err(BadSchedule::Step(text()));
    }
    let step = usize::try_from(step).unwrap_or(usize::MAX);
    Ok((low..=high).step_by(step).fold(0, |all, value| all | 1 << value))
}

fn number(text: &str, names: &[&str]) -> Result<u32, BadSchedule> {
    let lower = text.to_lowercase();
    if let Some(at) = names.iter().position(|name| !name.is_empty() && *name == lower) {
        return u32::try_from(at).map_err(|_| BadSchedule::Number(text.into()));
    }
    let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = if plain { text.parse().ok() } else { None };
    number.ok_or_else(|| BadSchedule::Number(text.into()))
}

impl Schedule {
    /// The first scheduled time after `after`, in its time zone; `None` if there is none within five years.
    pub fn next_after(&self, after: &Zoned) -> Option<Zoned> {
        match self {
            Schedule::Every(span) => after.checked_add(*span).ok(),
            Schedule::Fields(fields) => fields.next_after(after),
        }
    }
}

impl Fields {
    fn next_after(&self, after: &Zoned) -> Option<Zoned> {
        let last = after.year().checked_add(YEARS_MAX)?;
        let start = after.datetime().with().second(0).subsec_nanosecond(0).build().ok()?;
        let mut time = start.checked_add(1.minute()).ok()?;
        while time.year() <= last {
            if !allows(self.month, time.month()) {
                let first = time.with().day(1).hour(0).minute(0).build().ok()?;
                time = first.checked_add(1.month()).ok()?;
            } else if !self.allows_day(time.day(), time.weekday().to_sunday_zero_offset()) {
                time = time.with().hour(0).minute(0).build().ok()?.checked_add(1.day()).ok()?;
            } else if !allows(self.hour, time.hour()) {
                time = time.with().minute(0).build().ok()?.checked_add(1.hour()).ok()?;
            } else if !allows(self.minute, time.minute()) {
                time = time.checked_add(1.minute()).ok()?;
            } else {
                let zoned = time.to_zoned(after.time_zone().clone()).ok()?;
                // A time that the clock skips, or shows twice, must still lie ahead.
                if zoned > *after {
                    return Some(zoned);
                }
                time = time.checked_add(1.minute()).ok()?;
            }
        }
        None
    }

    fn allows_day(&self, day: i8, weekday: i8) -> bool {
        let (by_day, by_weekday) = (allows(self.day, day), allows(self.weekday, weekday));
        if self.either_day { by_day || by_weekday } else { by_day && by_weekday }
    }
}

fn allows(bits: u64, value: i8) -> bool {
    u32::try_from(value).is_ok_and(|value| bits & (1 << value) != 0)
}

#[cfg(test)]
mod tests {
    use super::Schedule;

    #[test]
    fn the_next_time_follows_the_fields() {
        for (schedule, after, next) in [
            ("* * * * *", "2026-01-01T00:00:30+00[UTC]", Some("2026-01-01T00:01:00+00:00[UTC]")),
            ("*/15 * * * *", "2026-01-01T00:46:00+00[UTC]", Some("2026-01-01T01:00:00+00:00[UTC]")),
            ("0 0 * * MON", "2026-01-01T00:00:00+00[UTC]", Some("2026-01-05T00:00:00+00:00[UTC]")),
            ("0 12 1,15 * *", "2026-01-02T00:00:00+00[UTC]", Some("2026-01-15T12:00:00+00:00[UTC]")),
            ("0 0 13 * fri", "2026-01-01T00:00:00+00[UTC]", Some("2026-01-02T00:00:00+00:00[UTC]")),
            ("0 0 29 2 *", "2026-01-01T00:00:00+00[UTC]", Some("2028-02-29T00:00:00+00:00[UTC]")),
            ("0 0 30 2 *", "2026-01-01T00:00:00+00[UTC]", None),
            ("@daily", "2026-01-01T00:00:00+00[UTC]", Some("2026-01-02T00:00:00+00:00[UTC]")),
            ("@every 1h30m", "2026-01-01T00:00:00+00[UTC]", Some("2026-01-01T01:30:00+00:00[UTC]")),
        ] {
            let parsed: Schedule = schedule.parse().expect(schedule);
            let found = parsed.next_after(&after.parse().expect(after)).map(|time| time.to_string());
            assert_eq!(found.as_deref(), next, "{schedule}");
        }
    }

    #[test]
    fn bad_schedules_are_told() {
        for (schedule, words) in [
            ("", "expected exactly 5 fields, found 0: []"),
            ("* * * *", "expected exactly 5 fields, found 4: [\"*\", \"*\", \"*\", \"*\"]"),
            ("60 * * * *", "end of range (60) above maximum (59): 60"),
            ("* * 0 * *", "beginning of range (0) below minimum (1): 0"),
            ("5-1 * * * *", "beginning of range (5) beyond end of range (1): 5-1"),
            ("*/0 * * * *", "step of range should be a positive number: */0"),
            ("x * * * *", "failed to parse int from x"),
            ("1/2/3 * * * *", "too many slashes or hyphens: 1/2/3"),
            ("@soon", "unrecognized descriptor: @soon"),
        ] {
            assert_eq!(
                schedule.parse::<Schedule>().map_err(|error| error.to_string()),
                Err(words.into()),
                "{schedule}"
            );
        }
    }
}
