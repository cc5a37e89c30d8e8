//! Fields that are a number or a percentage (`intstr.IntOrString`): `3`, `"25%"`; and ports: `8080`, `"http"`.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::Value;

/// Where a percentage does not come out even.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Round {
    /// To the next whole number (surge).
    Up,
    /// To the whole number below (unavailable).
    Down,
}

/// The number in a percentage: `25` in `25%`.
pub fn percent(text: &str) -> Option<i64> {
    let digits = text.strip_suffix('%')?;
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    if plain { digits.parse().ok() } else { None }
}

/// A number as it is, a percentage as that part of `total`. `None` for other texts.
pub fn scaled(value: &IntOrString, total: i64, round: Round) -> Option<i64> {
    match value {
        IntOrString::Int(number) => Some(i64::from(*number)),
        IntOrString::String(text) => scaled_text(text, total, round),
    }
}

/// [`scaled`] of a JSON value.
pub fn scaled_value(value: &Value, total: i64, round: Round) -> Option<i64> {
    match value {
        Value::String(text) => scaled_text(text, total, round),
        _ => value.as_i64(),
    }
}

fn scaled_text(text: &str, total: i64, round: Round) -> Option<i64> {
    let product = percent(text)?.checked_mul(total)?;
    Some(match round {
        Round::Up => product.checked_add(99)?.div_euclid(100),
        Round::Down => product.div_euclid(100),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn percentages_round_as_asked() {
        for (value, total, up, down) in [
            (json!(3), 10, Some(3), Some(3)),
            (json!("25%"), 10, Some(3), Some(2)),
            (json!("25%"), 4, Some(1), Some(1)),
            (json!("0%"), 4, Some(0), Some(0)),
            (json!("150%"), 3, Some(5), Some(4)),
            (json!("3"), 4, None, None),
            (json!("-1%"), 4, None, None),
            (json!(null), 4, None, None),
        ] {
            assert_eq!(scaled_value(&value, total, Round::Up), up, "{value} of {total}");
            assert_eq!(scaled_value(&value, total, Round::Down), down, "{value} of {total}");
        }
    }
}
