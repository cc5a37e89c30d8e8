//! Query parameters and percent-escapes.

use std::borrow::Cow;

/// The query parameters of a request, unescaped and in the order sent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Reads `a=b&c=d`.
    pub fn parse(text: &str) -> Self {
        let pairs = text.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (unescape_form(key), unescape_form(value))
        });
        Self(pairs.collect())
    }

    /// From pairs that are not escaped.
    pub fn from_pairs(pairs: Vec<(String, String)>) -> Self {
        Self(pairs)
    }

    /// The first value of a parameter; `None` if it is missing or empty, which the API never tells apart.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str()).filter(|v| !v.is_empty())
    }

    /// Whether a parameter is there at all.
    pub fn has(&self, key: &str) -> bool {
        self.0.iter().any(|(k, _)| k == key)
    }

    /// All values of a repeated parameter.
    pub fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(k, _)| k == key).map(|(_, v)| v.as_str())
    }

    /// A boolean parameter, read as Kubernetes does: absent, `0` and `false` are false, anything else is true.
    pub fn flag(&self, key: &str) -> bool {
        self.0.iter().find(|(k, _)| k == key).is_some_and(|(_, v)| v != "0" && !v.eq_ignore_ascii_case("false"))
    }

    /// All parameters.
    pub fn pairs(&self) -> &[(String, String)] {
        &self.0
    }
}

/// A path part without its percent-escapes; a malformed escape stays as it is.
pub fn unescape(text: &str) -> Cow<'_, str> {
    if !text.contains('%') {
        return Cow::Borrowed(text);
    }
    Cow::Owned(decode(text.bytes(), false))
}

fn unescape_form(text: &str) -> String {
    if text.contains(['%', '+']) { decode(text.bytes(), true) } else { text.to_string() }
}

fn decode(bytes: std::str::Bytes<'_>, plus_is_space: bool) -> String {
    let hex = |b: Option<u8>| b.and_then(|b| char::from(b).to_digit(16)).map(|d| d as u8);
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some(byte) = rest.next() {
        match byte {
            b'%' => {
                let mut ahead = rest.clone();
                match (hex(ahead.next()), hex(ahead.next())) {
                    (Some(high), Some(low)) => {
                        out.push(high << 4 | low);
                        rest = ahead;
                    }
                    _ => out.push(byte),
                }
            }
            b'+' if plus_is_space => out.push(b' '),
            _ => out.push(byte),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Escapes a query value or path part: everything but unreserved characters.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_undone() {
        for (text, key, value) in [
            ("a=b", "a", Some("b")),
            ("a=b%3Dc%2Cd&x=y", "a", Some("b=c,d")),
            ("a=b+c", "a", Some("b c")),
            ("a=100%", "a", Some("100%")),
            ("a=", "a", None),
            ("b=1", "a", None),
        ] {
            assert_eq!(Query::parse(text).get(key), value, "{text}");
        }
        assert_eq!(unescape("system%3Anode+x"), "system:node+x");
        assert_eq!(escape("a b:c"), "a%20b%3Ac");
    }

    #[test]
    fn flags_read_as_kubernetes_reads_them() {
        for (text, is) in
            [("", false), ("w", true), ("w=1", true), ("w=true", true), ("w=0", false), ("w=False", false)]
        {
            assert_eq!(Query::parse(text).flag("w"), is, "{text}");
        }
    }
}
