//! How long a request may take: `?timeout=` as far as the server allows it.

use std::time::Duration;

use mizzen_api::status::ApiError;

use crate::query::Query;

/// The time of a request that asks for one; never longer than `longest`, and zero asks for nothing in particular.
pub(crate) fn of(query: &Query, longest: Duration) -> Result<Duration, ApiError> {
    let Some(text) = query.get("timeout") else { return Ok(longest) };
    match parse(text) {
        Some(Duration::ZERO) => Ok(longest),
        Some(asked) => Ok(asked.min(longest)),
        None => {
            let message = format!("invalid timeout specified in the request URL - time: invalid duration {text:?}");
            Err(ApiError::bad_request(message))
        }
    }
}

/// A duration as Go writes it (`1h15m`, `1.5s`, `300ms`); a negative one is none.
fn parse(text: &str) -> Option<Duration> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(Duration::ZERO);
    }
    if rest.is_empty() {
        return None;
    }
    let mut seconds = 0.0_f64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        let after = &rest[digits..];
        let unit = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let scale = match &after[..unit] {
            "ns" => 1e-9,
            "us" | "µs" | "μs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        seconds += number * scale;
        rest = &after[unit..];
    }
    if negative { Some(Duration::ZERO) } else { Duration::try_from_secs_f64(seconds).ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_outs() {
        let longest = Duration::from_secs(60);
        for (query, millis) in [
            ("", Some(60_000)),
            ("timeout=10s", Some(10_000)),
            ("timeout=0s", Some(60_000)),
            ("timeout=0", Some(60_000)),
            ("timeout=-5s", Some(60_000)),
            ("timeout=5m", Some(60_000)),
            ("timeout=1m1s", Some(60_000)),
            ("timeout=1.5s250ms", Some(1750)),
            ("timeout=invalid", None),
            ("timeout=10", None),
            ("timeout=s", None),
            ("timeout=1e9h", None),
            ("timeout=..s", None),
        ] {
            let got = of(&Query::parse(query), longest);
            assert_eq!(got.ok(), millis.map(Duration::from_millis), "{query}");
        }
    }
}
