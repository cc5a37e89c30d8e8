//! Points in time as the API writes them: RFC 3339 in UTC, with whole seconds or with six digits.

use std::borrow::Cow;

use jiff::Timestamp;

/// The canonical form of an RFC 3339 time: `2026-01-02T03:04:05Z`, or with `micro` `2026-01-02T03:04:05.000000Z`.
/// `None` if the text is no such time.
pub fn canonical(text: &str, micro: bool) -> Option<Cow<'_, str>> {
    // Go insists on the letters; jiff would also take a space or small letters.
    let bytes = text.as_bytes();
    if bytes.len() > 64 || bytes.get(10) != Some(&b'T') || !(text.ends_with('Z') || text.contains(['+', '-'])) {
        return None;
    }
    let time: Timestamp = text.parse().ok()?;
    let out = if micro { format_micros(time) } else { format_seconds(time) };
    Some(if out == text { Cow::Borrowed(text) } else { Cow::Owned(out) })
}

/// `2026-01-02T03:04:05Z`; fractions are cut off.
pub fn format_seconds(time: Timestamp) -> String {
    // Rounded down also before 1970, as Go does.
    let seconds = time.as_nanosecond().div_euclid(1_000_000_000);
    let whole = i64::try_from(seconds).ok().and_then(|s| Timestamp::from_second(s).ok()).unwrap_or(time);
    whole.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// `2026-01-02T03:04:05.000000Z`.
pub fn format_micros(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::canonical;

    #[test]
    fn times_are_utc() {
        for (text, seconds, micros) in [
            ("2026-01-02T03:04:05Z", "2026-01-02T03:04:05Z", "2026-01-02T03:04:05.000000Z"),
            ("2026-01-02T03:04:05.9+01:00", "2026-01-02T02:04:05Z", "2026-01-02T02:04:05.900000Z"),
            ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z", "0001-01-01T00:00:00.000000Z"),
        ] {
            assert_eq!(canonical(text, false).as_deref(), Some(seconds));
            assert_eq!(canonical(text, true).as_deref(), Some(micros));
        }
        for bad in ["", "now", "2026-01-02", "2026-01-02 03:04:05Z", "2026-01-02T03:04:05", "2026-13-02T03:04:05Z"] {
            assert_eq!(canonical(bad, false), None, "{bad}");
        }
    }
}
