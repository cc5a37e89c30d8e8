//! Durations as kubectl prints them: `5m`, `2d3h`, `3y12d` (k8s.io/apimachinery duration.HumanDuration).

use jiff::Timestamp;
use serde_json::Value;

/// What a table shows where a time is missing.
pub const UNKNOWN: &str = "<unknown>";

/// A span of seconds as a short text of one or two units; a finer unit disappears as the span grows.
///
/// A negative span beyond one second (clocks disagree) reads `<invalid>`.
pub fn human(seconds: i64) -> String {
    if seconds < -1 {
        return "<invalid>".into();
    }
    let seconds = seconds.max(0);
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    let (days, years) = (hours / 24, hours / 24 / 365);
    match () {
        () if seconds < 120 => format!("{seconds}s"),
        () if minutes < 10 => pair(minutes, "m", seconds % 60, "s"),
        () if minutes < 180 => format!("{minutes}m"),
        () if hours < 8 => pair(hours, "h", minutes % 60, "m"),
        () if hours < 48 => format!("{hours}h"),
        () if hours < 24 * 8 => pair(days, "d", hours % 24, "h"),
        () if days < 365 * 2 => format!("{days}d"),
        () if days < 365 * 8 => pair(years, "y", days % 365, "d"),
        () => format!("{years}y"),
    }
}

fn pair(large: i64, large_unit: &str, small: i64, small_unit: &str) -> String {
    if small == 0 { format!("{large}{large_unit}") } else { format!("{large}{large_unit}{small}{small_unit}") }
}

/// The Unix seconds of an RFC 3339 time; `None` for anything else.
pub fn unix_seconds(time: &Value) -> Option<i64> {
    time.as_str()?.parse::<Timestamp>().ok().map(Timestamp::as_second)
}

/// The span from an RFC 3339 time to `now` (Unix seconds), or [`UNKNOWN`].
pub fn since(time: &Value, now: i64) -> String {
    unix_seconds(time).map_or_else(|| UNKNOWN.into(), |then| human(now.saturating_sub(then)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    #[test]
    fn reads_as_kubectl_prints_it() {
        for (seconds, text) in [
            (-2, "<invalid>"),
            (-1, "0s"),
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (121, "2m1s"),
            (599, "9m59s"),
            (600, "10m"),
            (3 * 3600 - 1, "179m"),
            (3 * 3600, "3h"),
            (3 * 3600 + 60, "3h1m"),
            (8 * 3600, "8h"),
            (47 * 3600 + 3599, "47h"),
            (48 * 3600, "2d"),
            (51 * 3600, "2d3h"),
            (8 * 86400, "8d"),
            (729 * 86400, "729d"),
            (730 * 86400, "2y"),
            (740 * 86400, "2y10d"),
            (8 * 365 * 86400, "8y"),
        ] {
            assert_eq!(super::human(seconds), text, "{seconds}");
        }
    }

    #[test]
    fn times_that_are_none_are_unknown() {
        assert_eq!(super::since(&json!("1970-01-01T00:01:00Z"), 65), "5s");
        assert_eq!(super::since(&json!(null), 65), super::UNKNOWN);
        assert_eq!(super::since(&json!("yesterday"), 65), super::UNKNOWN);
    }
}
