//! Numbers, times and durations as text, as Go writes and reads them.

use jiff::Timestamp;

/// A duration as Go reads it (`1h30m`, `-1.5s`, `0`), in nanoseconds.
pub(crate) fn parse_duration(text: &str) -> Option<i64> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() || text.len() > 128 {
        return None;
    }
    let mut nanos: i128 = 0;
    while !rest.is_empty() {
        let number = rest.find(|char: char| !char.is_ascii_digit() && char != '.')?;
        let unit =
            rest[number..].find(|char: char| char.is_ascii_digit() || char == '.').unwrap_or(rest.len() - number);
        let scale: i128 = match &rest[number..number + unit] {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return None,
        };
        nanos = nanos.checked_add(scaled(&rest[..number], scale)?)?;
        rest = &rest[number + unit..];
    }
    i64::try_from(if negative { -nanos } else { nanos }).ok()
}

fn scaled(number: &str, scale: i128) -> Option<i128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return None;
    }
    let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let (mut nanos, mut step) = (whole.checked_mul(scale)?, scale);
    for digit in fraction.chars() {
        step /= 10;
        nanos = nanos.checked_add(i128::from(digit.to_digit(10)?) * step)?;
    }
    Some(nanos)
}

/// A duration as CEL writes it: seconds, with as many decimals as are needed.
pub(crate) fn format_duration(nanos: i64) -> String {
    let (sign, magnitude) = (if nanos < 0 { "-" } else { "" }, nanos.unsigned_abs());
    let (seconds, fraction) = (magnitude / 1_000_000_000, magnitude % 1_000_000_000);
    if fraction == 0 {
        return format!("{sign}{seconds}s");
    }
    let fraction = format!("{fraction:09}");
    format!("{sign}{seconds}.{}s", fraction.trim_end_matches('0'))
}

/// A time as RFC 3339 has it, between the years 1 and 9999.
pub(crate) fn parse_timestamp(text: &str) -> Option<Timestamp> {
    // Only the full form: jiff also reads shorter ones.
    let bytes = text.as_bytes();
    let full = bytes.len() >= 20 && bytes[10] == b'T' && bytes[13] == b':' && bytes[16] == b':';
    if !full || text.contains('[') || !text.ends_with(|last: char| last == 'Z' || last.is_ascii_digit()) {
        return None;
    }
    text.parse().ok().filter(in_range)
}

/// The years that CEL knows.
pub(crate) fn in_range(time: &Timestamp) -> bool {
    (-62_135_596_800..=253_402_300_799).contains(&time.as_second())
}

/// A double as Go prints it by `%g`: the shortest text that reads back the same.
pub(crate) fn format_double(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    let scientific = format!("{value:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..6).contains(&exponent) {
        return format!("{value}");
    }
    let (sign, exponent) = (if exponent < 0 { '-' } else { '+' }, exponent.unsigned_abs());
    format!("{digits}e{sign}{exponent:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_written_as_go_does() {
        for (text, nanos, written) in [
            ("1h30m", Some(5_400_000_000_000), "5400s"),
            ("-1.5s", Some(-1_500_000_000), "-1.5s"),
            ("0", Some(0), "0s"),
            ("100ms", Some(100_000_000), "0.1s"),
            (".5s", Some(500_000_000), "0.5s"),
            ("1", None, ""),
            ("", None, ""),
            ("1d", None, ""),
            ("1..5s", None, ""),
            ("9999999999h", None, ""),
        ] {
            assert_eq!(parse_duration(text), nanos, "{text}");
            if let Some(nanos) = nanos {
                assert_eq!(format_duration(nanos), written, "{text}");
            }
        }
    }

    #[test]
    fn doubles_are_written_as_go_does() {
        for (value, text) in
            [(1.0, "1"), (0.5, "0.5"), (1e21, "1e+21"), (1.5e-7, "1.5e-07"), (123456.0, "123456"), (1e6, "1e+06")]
        {
            assert_eq!(format_double(value), text);
        }
    }
}
