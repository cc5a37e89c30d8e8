//! The formats of strings and numbers that schemas can ask for; unknown ones are ignored, as Kubernetes does.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::LazyLock;

use base64::Engine as _;
use regex::Regex;

use super::schema::JsonType;
use crate::names;

/// A format that is checked.
#[derive(Debug, Clone)]
pub(super) struct Format {
    /// As the schema writes it.
    pub name: String,
    check: fn(&str) -> bool,
}

/// A format's name, and whether a text has it.
type Check = (&'static str, fn(&str) -> bool);

/// Formats of strings, without their hyphens.
const STRINGS: &[Check] = &[
    ("bsonobjectid", |t| t.len() == 24 && t.bytes().all(|b| b.is_ascii_hexdigit())),
    ("uri", is_uri),
    ("email", is_email),
    ("hostname", is_hostname),
    ("ipv4", |t| t.parse::<Ipv4Addr>().is_ok()),
    ("ipv6", |t| t.parse::<Ipv6Addr>().is_ok()),
    ("cidr", is_cidr),
    ("mac", is_mac),
    ("uuid", |t| is_uuid(t, None)),
    ("uuid3", |t| is_uuid(t, Some('3'))),
    ("uuid4", |t| is_uuid(t, Some('4'))),
    ("uuid5", |t| is_uuid(t, Some('5'))),
    ("isbn", |t| is_isbn10(t) || is_isbn13(t)),
    ("isbn10", is_isbn10),
    ("isbn13", is_isbn13),
    ("creditcard", is_credit_card),
    ("ssn", |t| matches(&SSN, t)),
    ("hexcolor", |t| matches(&HEX_COLOR, t)),
    ("rgbcolor", is_rgb_color),
    ("byte", |t| base64::engine::general_purpose::STANDARD.decode(t).is_ok()),
    ("password", |_| true),
    ("date", |t| t.len() == 10 && t.parse::<jiff::civil::Date>().is_ok()),
    ("duration", is_duration),
    ("datetime", is_date_time),
    ("k8sshortname", |t| names::dns1123_label(t).is_empty()),
    ("k8slongname", |t| names::dns1123_subdomain(t).is_empty()),
];

impl Format {
    /// The format of this name for values of a type, if it is one that is checked.
    pub fn known(name: &str, ty: Option<JsonType>) -> Option<Self> {
        match ty {
            None | Some(JsonType::String) => {
                let plain = name.replace('-', "");
                let (_, check) = STRINGS.iter().find(|(known, _)| *known == plain)?;
                Some(Self { name: name.into(), check: *check })
            }
            _ => None,
        }
    }

    /// Whether a text has the format.
    pub fn fits(&self, text: &str) -> bool {
        (self.check)(text)
    }
}

/// The numbers that a schema has room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NumberFormat {
    /// 32 bits.
    Int32,
    /// 64 bits, said or not.
    Int64 {
        /// The schema says so.
        said: bool,
    },
    /// Single precision.
    Float,
}

impl NumberFormat {
    /// The format of this name for numbers of a type; none where any number fits.
    pub fn of(name: &str, ty: Option<JsonType>) -> Option<Self> {
        match (ty, name) {
            (Some(JsonType::Integer), "int32") => Some(Self::Int32),
            (Some(JsonType::Integer), name) => Some(Self::Int64 { said: name == "int64" }),
            (Some(JsonType::Number), "float") => Some(Self::Float),
            _ => None,
        }
    }

    /// Whether a number has the format.
    pub fn fits(self, number: &serde_json::Number) -> bool {
        let value = number.as_f64().unwrap_or_default();
        match self {
            Self::Int32 => i32::try_from(number.as_i64().unwrap_or(value as i64)).is_ok(),
            Self::Int64 { .. } => number.is_i64() || number.is_f64() && value.abs() < 9.3e18,
            Self::Float => value.abs() <= f64::from(f32::MAX),
        }
    }

    /// What a number must be, as the refusal words it.
    pub fn words(self) -> &'static str {
        match self {
            Self::Int32 => "integer with format int32",
            Self::Int64 { said: true } => "integer with format int64",
            Self::Int64 { said: false } => "integer (default format)",
            Self::Float => "number with format float",
        }
    }
}

/// A pattern that is part of the program; a test uses each.
type Known = LazyLock<Option<Regex>>;

static SSN: Known = LazyLock::new(|| Regex::new(r"^[0-9]{3}[- ]?[0-9]{2}[- ]?[0-9]{4}$").ok());
static HEX_COLOR: Known = LazyLock::new(|| Regex::new(r"^#?([0-9a-fA-F]{3}|[0-9a-fA-F]{6})$").ok());
static CREDIT_CARD: Known = LazyLock::new(|| {
    Regex::new(
        r"^(?:4[0-9]{12}(?:[0-9]{3})?|5[1-5][0-9]{14}|6(?:011|5[0-9][0-9])[0-9]{12}|3[47][0-9]{13}|3(?:0[0-5]|[68][0-9])[0-9]{11}|(?:2131|1800|35[0-9]{3})[0-9]{11})$",
    )
    .ok()
});

fn matches(known: &Known, text: &str) -> bool {
    known.as_ref().is_some_and(|regex| regex.is_match(text))
}

/// A URI with a scheme, or an absolute path.
fn is_uri(text: &str) -> bool {
    if text.is_empty() || text.bytes().any(|b| b.is_ascii_control() || b == b' ') {
        return false;
    }
    let scheme = |s: &str| {
        s.starts_with(|c: char| c.is_ascii_alphabetic())
            && s.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'))
    };
    match text.split_once(':') {
        Some((before, rest)) if scheme(before) => !rest.is_empty(),
        _ => text.starts_with('/'),
    }
}

fn is_email(text: &str) -> bool {
    let address = match (text.rfind('<'), text.strip_suffix('>')) {
        (Some(at), Some(inner)) => &inner[at + 1..],
        _ => text,
    };
    let Some((local, domain)) = address.rsplit_once('@') else { return false };
    let atom = |t: &str| {
        !t.is_empty()
            && !t.starts_with('.')
            && !t.ends_with('.')
            && !t.contains("..")
            && t.chars().all(|c| c.is_alphanumeric() || "!#$%&'*+-/=?^_`{|}~.".contains(c))
    };
    let quoted = local.len() > 2 && local.starts_with('"') && local.ends_with('"');
    (atom(local) || quoted) && (atom(domain) || domain.starts_with('[') && domain.ends_with(']'))
}

fn is_hostname(text: &str) -> bool {
    let label = |l: &str| {
        (1..=63).contains(&l.len())
            && !l.starts_with('-')
            && !l.ends_with('-')
            && l.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    };
    text.len() <= 255 && text.strip_suffix('.').unwrap_or(text).split('.').all(label)
}

fn is_cidr(text: &str) -> bool {
    let Some((address, bits)) = text.split_once('/') else { return false };
    let most = match address.parse::<IpAddr>() {
        Ok(IpAddr::V4(_)) => 32,
        Ok(IpAddr::V6(_)) => 128,
        Err(_) => return false,
    };
    !bits.starts_with('+') && bits.parse::<u8>().is_ok_and(|bits| bits <= most)
}

/// Six, eight or twenty bytes in hexadecimal, in the three ways they are written.
fn is_mac(text: &str) -> bool {
    let (separator, digits) = match text.as_bytes().get(2) {
        Some(b':') => (':', 2),
        Some(b'-') => ('-', 2),
        _ => ('.', 4),
    };
    let parts: Vec<&str> = text.split(separator).collect();
    parts.iter().all(|p| p.len() == digits && p.bytes().all(|b| b.is_ascii_hexdigit()))
        && matches!(parts.len() * digits / 2, 6 | 8 | 20)
}

fn is_uuid(text: &str, version: Option<char>) -> bool {
    let plain: String = text.chars().filter(|c| *c != '-').collect();
    let hyphens_fit = {
        // Each hyphen is optional, but only these places may have one.
        let places = [8, 12, 16, 20];
        let mut digits = 0;
        text.chars().all(|c| match c {
            '-' => places.contains(&digits),
            _ => {
                digits += 1;
                true
            }
        }) && !text.contains("--")
    };
    let nth = |n| plain.chars().nth(n).map(|c: char| c.to_ascii_lowercase());
    let version_fits = match version {
        None => true,
        Some('3') => nth(12) == Some('3'),
        Some(v) => nth(12) == Some(v) && nth(16).is_some_and(|c| "89ab".contains(c)),
    };
    hyphens_fit && plain.len() == 32 && plain.bytes().all(|b| b.is_ascii_hexdigit()) && version_fits
}

fn digits_of(text: &str) -> String {
    text.chars().filter(|c| !matches!(c, ' ' | '-')).collect()
}

fn is_isbn10(text: &str) -> bool {
    let digits = digits_of(text);
    if digits.len() != 10 || !digits.bytes().enumerate().all(|(i, b)| b.is_ascii_digit() || i == 9 && b == b'X') {
        return false;
    }
    let value = |b: u8| if b == b'X' { 10 } else { u32::from(b - b'0') };
    digits.bytes().zip(1..).map(|(b, weight)| weight * value(b)).sum::<u32>() % 11 == 0
}

fn is_isbn13(text: &str) -> bool {
    let digits = digits_of(text);
    if digits.len() != 13 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return false;
    }
    let weights = [1, 3].into_iter().cycle();
    digits.bytes().zip(weights).map(|(b, weight)| weight * u32::from(b - b'0')).sum::<u32>() % 10 == 0
}

fn is_credit_card(text: &str) -> bool {
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    if !matches(&CREDIT_CARD, &digits) {
        return false;
    }
    let doubled = |n: u32| if n * 2 > 9 { n * 2 - 9 } else { n * 2 };
    let each = digits.bytes().rev().map(|b| u32::from(b - b'0')).enumerate();
    each.map(|(i, n)| if i % 2 == 1 { doubled(n) } else { n }).sum::<u32>() % 10 == 0
}

fn is_rgb_color(text: &str) -> bool {
    let inner = text.strip_prefix("rgb(").and_then(|t| t.strip_suffix(')'));
    let part = |p: &str| {
        !p.trim().is_empty() && p.trim().bytes().all(|b| b.is_ascii_digit()) && p.trim().parse::<u8>().is_ok()
    };
    inner.is_some_and(|t| t.split(',').count() == 3 && t.split(',').all(part))
}

/// `1h30m` as Go writes it, or a number with a unit in words.
fn is_duration(text: &str) -> bool {
    const UNITS: &[&str] = &[
        "ns",
        "nano",
        "us",
        "µs",
        "micro",
        "ms",
        "milli",
        "s",
        "sec",
        "second",
        "m",
        "min",
        "minute",
        "h",
        "hr",
        "hour",
        "d",
        "day",
        "w",
        "wk",
        "week",
        "nanosecond",
        "microsecond",
        "millisecond",
        "nanos",
        "micros",
        "millis",
        "secs",
        "seconds",
        "mins",
        "minutes",
        "hrs",
        "hours",
        "days",
        "weeks",
        "wks",
        "nanoseconds",
        "microseconds",
        "milliseconds",
        "μs",
    ];
    let mut rest = text.trim_start_matches(['-', '+']);
    if rest == "0" {
        return true;
    }
    let mut found = false;
    while !rest.is_empty() {
        let number = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let after = rest[number..].trim_start();
        let unit = after.find(|c: char| !c.is_alphabetic()).unwrap_or(after.len());
        if number == 0 || rest[..number].parse::<f64>().is_err() || !UNITS.contains(&&after[..unit].to_lowercase()[..])
        {
            return false;
        }
        found = true;
        rest = &after[unit..];
    }
    found
}

fn is_date_time(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.get(10).is_some_and(|b| matches!(b, b'T' | b't' | b' '))
        && (text.parse::<jiff::Timestamp>().is_ok() || text.parse::<jiff::civil::DateTime>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::{Format, STRINGS};
    use crate::crd::JsonType;

    #[test]
    fn every_format_takes_and_refuses() {
        let cases: &[(&str, &str, &str)] = &[
            ("bsonobjectid", "507f1f77bcf86cd799439011", "x"),
            ("uri", "http://a.b/c", "not a uri"),
            ("email", "a@b.c", "a@"),
            ("hostname", "a.example", "-a"),
            ("ipv4", "10.0.0.1", "10.0.0.256"),
            ("ipv6", "fd00::1", "1.2.3.4"),
            ("cidr", "10.0.0.0/8", "10.0.0.0/33"),
            ("mac", "01:23:45:67:89:ab", "01:23"),
            ("uuid", "123e4567-e89b-12d3-a456-426614174000", "123"),
            ("uuid3", "123e4567-e89b-32d3-a456-426614174000", "123e4567-e89b-42d3-a456-426614174000"),
            ("uuid4", "123e4567-e89b-42d3-a456-426614174000", "123e4567-e89b-42d3-c456-426614174000"),
            ("uuid5", "123e4567e89b52d3a456426614174000", "-123e4567e89b52d3a456426614174000"),
            ("isbn", "978-0321751041", "978-0321751042"),
            ("isbn10", "0321751043", "0321751044"),
            ("isbn13", "978-0321751041", "0321751043"),
            ("creditcard", "4111 1111 1111 1111", "4111 1111 1111 1112"),
            ("ssn", "111-22-3333", "11-222-3333"),
            ("hexcolor", "#FFF", "#FFFF"),
            ("rgbcolor", "rgb(255,255,255)", "rgb(255,255,256)"),
            ("byte", "aGVsbG8=", "***"),
            ("date", "2026-01-02", "2026-13-02"),
            ("duration", "22 ns", "22 parsecs"),
            ("date-time", "2014-12-15T19:30:20.000Z", "2014-12-15"),
            ("k8s-short-name", "abc", "a.b"),
            ("k8s-long-name", "a.b", "A"),
        ];
        for (name, good, bad) in cases {
            let format = Format::known(name, Some(JsonType::String)).expect(name);
            assert!(format.fits(good), "{name} {good}");
            assert!(!format.fits(bad), "{name} {bad}");
        }
        assert!(cases.len() + 1 >= STRINGS.len(), "a case for each but password");
        assert!(Format::known("int32", Some(JsonType::Integer)).is_none());
        assert!(Format::known("phone", Some(JsonType::String)).is_none());
    }
}
