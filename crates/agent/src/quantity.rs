//! Quantities of the API as whole numbers: bytes, thousandths of a core. Rounds up.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// A quantity times `scale`, rounded up; `None` if it cannot be read or does not fit.
fn scaled(text: &str, scale: i128) -> Option<i64> {
    let text = text.trim();
    let end = text.find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | '-' | '+'))).unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (mul, div): (i128, i128) = match suffix {
        "" => (1, 1),
        "n" => (1, 1_000_000_000),
        "u" => (1, 1_000_000),
        "m" => (1, 1_000),
        "k" => (1_000, 1),
        "M" => (1_000_000, 1),
        "G" => (1_000_000_000, 1),
        "T" => (1_000_000_000_000, 1),
        "P" => (1_000_000_000_000_000, 1),
        "E" => (1_000_000_000_000_000_000, 1),
        "Ki" => (1 << 10, 1),
        "Mi" => (1 << 20, 1),
        "Gi" => (1 << 30, 1),
        "Ti" => (1 << 40, 1),
        "Pi" => (1 << 50, 1),
        "Ei" => (1 << 60, 1),
        _ => {
            let exponent: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
            let power = 10i128.checked_pow(exponent.unsigned_abs())?;
            if exponent >= 0 { (power, 1) } else { (1, power) }
        }
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits: i128 = format!("{whole}{fraction}").parse().ok()?;
    let decimals = 10i128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let numerator = digits.checked_mul(mul)?.checked_mul(scale)?;
    let denominator = decimals.checked_mul(div)?;
    let rounded = if numerator > 0 { (numerator + denominator - 1) / denominator } else { numerator / denominator };
    i64::try_from(rounded).ok()
}

/// Whole units: bytes, pods.
pub fn units(quantity: &Quantity) -> Option<i64> {
    scaled(&quantity.0, 1)
}

/// Thousandths: CPU.
pub fn millis(quantity: &Quantity) -> Option<i64> {
    scaled(&quantity.0, 1000)
}

/// A resource of a list in thousandths for `cpu`, else whole units.
pub fn amount(list: Option<&BTreeMap<String, Quantity>>, name: &str) -> Option<i64> {
    let quantity = list?.get(name)?;
    if name == "cpu" { millis(quantity) } else { units(quantity) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_api_writes() {
        for (text, want_units, want_millis) in [
            ("1", Some(1), Some(1000)),
            ("100m", Some(1), Some(100)),
            ("1500m", Some(2), Some(1500)),
            ("0.5", Some(1), Some(500)),
            ("128Mi", Some(134_217_728), Some(134_217_728_000)),
            ("1.5Gi", Some(1_610_612_736), Some(1_610_612_736_000)),
            ("1e3", Some(1000), Some(1_000_000)),
            ("12E", None, None),
            ("x", None, None),
            ("", None, None),
        ] {
            let quantity = Quantity(text.into());
            assert_eq!(units(&quantity), want_units, "{text}");
            assert_eq!(millis(&quantity), want_millis, "{text}");
        }
    }
}
