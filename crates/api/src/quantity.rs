//! Amounts of resources (`resource.Quantity`): parsing, the canonical form, comparison and arithmetic.
//!
//! A quantity is kept exactly, in units of 10^-9. Anything finer is rounded away from zero and anything beyond 2^63-1
//! is that limit, as in Kubernetes.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

const NANO: i128 = 1_000_000_000;
const LIMIT: i128 = i64::MAX as i128 * NANO;
/// Longer text cannot be a sensible number; parsing stays cheap whatever is sent.
const LENGTH_MAX: usize = 64;

/// How a quantity is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `500m`, `2k`, `1G`.
    DecimalSi,
    /// `64Ki`, `2Gi`.
    BinarySi,
    /// `1e3`.
    DecimalExponent,
}

/// An exact amount.
#[derive(Debug, Clone, Copy)]
pub struct Quantity {
    nanos: i128,
    format: Format,
}

/// The text is no quantity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
pub struct BadQuantity;

impl Quantity {
    /// Nothing, written in decimal.
    pub const ZERO: Quantity = Quantity { nanos: 0, format: Format::DecimalSi };

    /// A whole number.
    pub fn from_units(units: i64, format: Format) -> Self {
        Self { nanos: i128::from(units) * NANO, format }
    }

    /// Thousandths, as CPU is counted.
    pub fn from_millis(millis: i64) -> Self {
        Self { nanos: i128::from(millis) * 1_000_000, format: Format::DecimalSi }
    }

    /// The whole number not below this amount (`Value()` in Go).
    pub fn units(self) -> i64 {
        clamp(ceil_div(self.nanos, NANO))
    }

    /// The number of thousandths not below this amount (`MilliValue()` in Go).
    pub fn millis(self) -> i64 {
        clamp(ceil_div(self.nanos, 1_000_000))
    }

    /// The amount as a whole number, if it is one.
    pub fn exact_units(self) -> Option<i64> {
        if self.nanos % NANO == 0 { i64::try_from(self.nanos / NANO).ok() } else { None }
    }

    /// The amount as a floating-point number, as near as there is one.
    pub fn approximate(self) -> f64 {
        self.nanos as f64 / NANO as f64
    }

    /// Neither more nor less than nothing.
    pub fn is_zero(self) -> bool {
        self.nanos == 0
    }

    /// Less than nothing.
    pub fn is_negative(self) -> bool {
        self.nanos < 0
    }

    /// The format it is printed in.
    pub fn format(self) -> Format {
        self.format
    }
}

fn clamp(value: i128) -> i64 {
    i64::try_from(value).unwrap_or(if value < 0 { i64::MIN } else { i64::MAX })
}

/// Rounds away from zero.
fn ceil_div(value: i128, by: i128) -> i128 {
    let (whole, rest) = (value / by, value % by);
    whole + rest.signum()
}

impl std::ops::Add for Quantity {
    type Output = Self;
    /// The sum, printed like the left side, or like the right one when the left is zero.
    fn add(self, other: Self) -> Self {
        let format = if self.is_zero() { other.format } else { self.format };
        Self { nanos: (self.nanos + other.nanos).clamp(-LIMIT, LIMIT), format }
    }
}

impl std::ops::Sub for Quantity {
    type Output = Self;
    /// The difference, printed like the left side, or like the right one when the left is zero.
    fn sub(self, other: Self) -> Self {
        self + Self { nanos: -other.nanos, format: other.format }
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nanos == other.nanos
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nanos.cmp(&other.nanos)
    }
}

/// What a suffix multiplies by.
enum Scale {
    Ten(i32),
    Two(u32),
}

fn suffix(text: &str) -> Option<(Scale, Format)> {
    let ten = |e| Some((Scale::Ten(e), Format::DecimalSi));
    let two = |e| Some((Scale::Two(e), Format::BinarySi));
    match text {
        "" => ten(0),
        "n" => ten(-9),
        "u" => ten(-6),
        "m" => ten(-3),
        "k" => ten(3),
        "M" => ten(6),
        "G" => ten(9),
        "T" => ten(12),
        "P" => ten(15),
        "E" => ten(18),
        "Ki" => two(10),
        "Mi" => two(20),
        "Gi" => two(30),
        "Ti" => two(40),
        "Pi" => two(50),
        "Ei" => two(60),
        _ => {
            let digits = text.strip_prefix(['e', 'E'])?;
            let bare = digits.strip_prefix(['+', '-']).unwrap_or(digits);
            let valid = !bare.is_empty() && bare.bytes().all(|b| b.is_ascii_digit());
            // An exponent too large for the type only says "far beyond the limits".
            let exponent = digits.parse::<i32>().unwrap_or(if digits.starts_with('-') { -1000 } else { 1000 });
            valid.then_some((Scale::Ten(exponent.clamp(-1000, 1000)), Format::DecimalExponent))
        }
    }
}

impl FromStr for Quantity {
    type Err = BadQuantity;

    fn from_str(text: &str) -> Result<Self, BadQuantity> {
        if text.is_empty() || text.len() > LENGTH_MAX {
            return Err(BadQuantity);
        }
        let negative = text.starts_with('-');
        let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
        let whole_end = unsigned.bytes().position(|b| !b.is_ascii_digit()).unwrap_or(unsigned.len());
        let (whole, rest) = unsigned.split_at(whole_end);
        let (fraction, rest) = match rest.strip_prefix('.') {
            Some(rest) => rest.split_at(rest.bytes().position(|b| !b.is_ascii_digit()).unwrap_or(rest.len())),
            None => ("", rest),
        };
        if whole.is_empty() && fraction.is_empty() {
            return Err(BadQuantity);
        }
        let (scale, format) = suffix(rest).ok_or(BadQuantity)?;
        let nanos = scaled(whole, fraction, &scale);
        Ok(Self { nanos: if negative { -nanos } else { nanos }, format })
    }
}

/// `whole.fraction` times the scale in nanos, rounded up, at most [`LIMIT`].
fn scaled(whole: &str, fraction: &str, scale: &Scale) -> i128 {
    let digits = whole.bytes().chain(fraction.bytes()).map(|b| i128::from(b - b'0'));
    let mut exponent = 9 - i32::try_from(fraction.len()).unwrap_or(i32::MAX / 2);
    let mut factor = 1i128;
    match scale {
        Scale::Ten(e) => exponent += e,
        Scale::Two(e) => factor <<= e,
    }
    // Digits beyond what fits are counted in the exponent; they matter only for rounding up.
    let (mut value, mut inexact) = (0i128, false);
    for digit in digits {
        if value < LIMIT / 10 {
            value = value * 10 + digit;
        } else {
            exponent += 1;
            inexact |= digit != 0;
        }
    }
    let Some(mut value) = value.checked_mul(factor) else {
        return LIMIT;
    };
    if value == 0 {
        return 0;
    }
    while exponent > 0 {
        if value > LIMIT {
            return LIMIT;
        }
        value *= 10;
        exponent -= 1;
    }
    while exponent < 0 && (value > 1 || !inexact) && value != 0 {
        inexact |= value % 10 != 0;
        value /= 10;
        exponent += 1;
    }
    if inexact { (value + 1).min(LIMIT) } else { value.min(LIMIT) }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nanos == 0 {
            return f.write_str("0");
        }
        let whole = self.nanos / NANO;
        if self.format == Format::BinarySi && self.nanos % NANO == 0 && whole.abs() >= 1024 {
            let (mut value, mut power) = (whole, 0);
            while value % 1024 == 0 && power < 6 {
                value /= 1024;
                power += 1;
            }
            return write!(f, "{value}{}", ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"][power]);
        }
        let (mut value, mut power) = (self.nanos, 0usize);
        while value % 1000 == 0 && power < 9 {
            value /= 1000;
            power += 1;
        }
        if self.format == Format::DecimalExponent {
            return match 3 * i64::try_from(power).unwrap_or(0) - 9 {
                0 => write!(f, "{value}"),
                exponent => write!(f, "{value}e{exponent}"),
            };
        }
        write!(f, "{value}{}", ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"][power])
    }
}

/// The canonical form of a quantity, which is how the server stores it.
///
/// # Errors
/// [`BadQuantity`] when the text is none.
pub fn canonical(text: &str) -> Result<Cow<'_, str>, BadQuantity> {
    let trimmed = text.trim();
    let out = trimmed.parse::<Quantity>()?.to_string();
    Ok(if out == text { Cow::Borrowed(text) } else { Cow::Owned(out) })
}

#[cfg(test)]
mod tests {
    use super::{Quantity, canonical};

    #[test]
    fn canonical_forms_are_those_of_kubernetes() {
        for (text, expected) in [
            ("0", "0"),
            ("0m", "0"),
            ("1000m", "1"),
            ("1500m", "1500m"),
            ("0.5", "500m"),
            (".5", "500m"),
            ("5.", "5"),
            ("1000", "1k"),
            ("1024", "1024"),
            ("1024Mi", "1Gi"),
            ("1.5Gi", "1536Mi"),
            ("0.5Gi", "512Mi"),
            ("1000Ki", "1000Ki"),
            ("512Ki", "512Ki"),
            ("1Ki", "1Ki"),
            ("0.5Ki", "512"),
            ("1e3", "1e3"),
            ("1000e0", "1e3"),
            ("1E", "1E"),
            ("12E0", "12"),
            ("-1.5", "-1500m"),
            ("+2", "2"),
            ("1n", "1n"),
            ("0.1n", "1n"),
            ("0.0000000001", "1n"),
            ("1.0000000001", "1000000001n"),
            ("100000E", "9223372036854775807"),
            ("1e1000", "9223372036854775807"),
            ("1e-1000", "1e-9"),
            ("1e-999999999999", "1e-9"),
        ] {
            assert_eq!(canonical(text).map(|c| c.into_owned()), Ok(expected.into()), "{text}");
        }
        for bad in ["", "a", "1x", "1e", "1 Gi", "--1", "1.2.3", "Ki", ".", "1KI", "1mi", "1e3Ki", "+-1"] {
            assert!(canonical(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn arithmetic_is_exact() {
        let q = |text: &str| text.parse::<Quantity>().expect(text);
        assert_eq!((q("1Gi") + q("512Mi")).to_string(), "1536Mi");
        assert_eq!((q("1") - q("100m")).to_string(), "900m");
        assert_eq!((Quantity::ZERO + q("1Gi")).to_string(), "1Gi");
        assert!(q("1Gi") > q("1G") && q("1000m") == q("1"));
        assert_eq!((q("1.5").units(), q("1.5").millis(), q("-1.5").units()), (2, 1500, -2));
        assert_eq!((q("100u").millis(), q("1Gi").units()), (1, 1 << 30));
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_answered(text in "[-+0-9.eEinumkKMGTPi ]{0,70}") {
            if let Ok(first) = canonical(&text) {
                let second = canonical(&first).map(|c| c.into_owned());
                proptest::prop_assert_eq!(second, Ok(first.into_owned()));
            }
        }
    }
}
