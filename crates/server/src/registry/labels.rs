//! Label selectors in their text form: `app=web,tier in (a,b),!canary`.

use mizzen_api::status::ApiError;

/// Requirements that must all hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Labels(Vec<(String, Needs)>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Needs {
    In(Vec<String>),
    NotIn(Vec<String>),
    Exists,
    Absent,
    Above(i64),
    Below(i64),
}

impl Labels {
    /// Reads a selector.
    pub fn parse(text: &str) -> Result<Self, ApiError> {
        let bad = || ApiError::bad_request(format!("unable to parse requirement: invalid label selector {text:?}"));
        let mut needs = Vec::new();
        for part in split(text) {
            needs.push(requirement(part.trim()).ok_or_else(bad)?);
        }
        Ok(Self(needs))
    }

    /// Whether an object with these labels is selected.
    pub fn matches<'a>(&self, label: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.0.iter().all(|(key, needs)| {
            let value = label(key);
            let number = || value.and_then(|v| v.parse::<i64>().ok());
            match needs {
                Needs::In(values) => value.is_some_and(|v| values.iter().any(|x| x == v)),
                Needs::NotIn(values) => value.is_none_or(|v| values.iter().all(|x| x != v)),
                Needs::Exists => value.is_some(),
                Needs::Absent => value.is_none(),
                Needs::Above(bound) => number().is_some_and(|n| n > *bound),
                Needs::Below(bound) => number().is_some_and(|n| n < *bound),
            }
        })
    }
}

/// The parts between commas that are outside of parentheses.
fn split(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut depth, mut start) = (0usize, 0);
    for (at, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    if parts.len() == 1 && parts[0].trim().is_empty() { Vec::new() } else { parts }
}

fn requirement(text: &str) -> Option<(String, Needs)> {
    if let Some(key) = text.strip_prefix('!') {
        return Some((valid_key(key)?, Needs::Absent));
    }
    let one = |value: &str| valid_value(value).map(|v| vec![v]);
    for (operator, negated) in [("!=", true), ("==", false), ("=", false)] {
        if let Some((key, value)) = text.split_once(operator) {
            let values = one(value)?;
            return Some((valid_key(key)?, if negated { Needs::NotIn(values) } else { Needs::In(values) }));
        }
    }
    for (operator, above) in [('>', true), ('<', false)] {
        if let Some((key, value)) = text.split_once(operator) {
            let bound = value.trim().parse().ok()?;
            return Some((valid_key(key)?, if above { Needs::Above(bound) } else { Needs::Below(bound) }));
        }
    }
    let Some((key, rest)) = text.split_once(char::is_whitespace) else {
        return Some((valid_key(text)?, Needs::Exists));
    };
    let (negated, list) = match rest.trim_start() {
        rest if rest.starts_with("notin") => (true, &rest["notin".len()..]),
        rest if rest.starts_with("in") => (false, &rest["in".len()..]),
        _ => return None,
    };
    let list = list.trim().strip_prefix('(')?.strip_suffix(')')?;
    let values = list.split(',').map(valid_value).collect::<Option<Vec<_>>>()?;
    Some((valid_key(key)?, if negated { Needs::NotIn(values) } else { Needs::In(values) }))
}

fn valid_key(text: &str) -> Option<String> {
    let text = text.trim();
    let fits = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
    (!text.is_empty() && text.chars().all(fits)).then(|| text.to_string())
}

fn valid_value(text: &str) -> Option<String> {
    let text = text.trim();
    let fits = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    (text.len() <= 63 && text.chars().all(fits)).then(|| text.to_string())
}
