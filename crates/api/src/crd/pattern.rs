//! Regular expressions as Go writes them (RE2), compiled with bounds on their size.
//!
//! The syntaxes are the same but for the letters `\d`, `\w`, `\s` and `\b`, which are ASCII in Go, and for braces that are
//! no repetition, which Go takes as they stand.

use regex::{Regex, RegexBuilder};

/// Most bytes of a pattern's text.
pub(crate) const TEXT_MAX: usize = 16 * 1024;
/// Most memory of a compiled pattern: a few nested repetitions could ask for gigabytes.
const SIZE_MAX: usize = 2 << 20;
/// Most levels of groups.
const NEST_MAX: u32 = 100;

/// Compiles a pattern.
///
/// # Errors
/// What is wrong with it, in words for people.
pub fn compile(pattern: &str) -> Result<Regex, String> {
    if pattern.len() > TEXT_MAX {
        return Err(format!("expression is longer than {TEXT_MAX} bytes"));
    }
    RegexBuilder::new(&translate(pattern))
        .size_limit(SIZE_MAX)
        .dfa_size_limit(SIZE_MAX)
        .nest_limit(NEST_MAX)
        .build()
        .map_err(|error| match error {
            regex::Error::CompiledTooBig(_) => "expression is too large".to_string(),
            other => other.to_string().lines().last().unwrap_or_default().trim_start_matches("error: ").to_string(),
        })
}

fn translate(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len() + 16);
    let mut chars = pattern.char_indices().peekable();
    let mut in_class = false;
    let mut first = false;
    while let Some((at, c)) = chars.next() {
        let is_first = std::mem::take(&mut first);
        match c {
            '\\' => match chars.next() {
                Some((_, 'Q')) => quote(&mut out, &mut chars),
                Some((_, escaped)) => out.push_str(&escape(escaped, in_class)),
                None => out.push('\\'),
            },
            '[' if !in_class => {
                (in_class, first) = (true, true);
                out.push('[');
                if chars.peek().is_some_and(|(_, c)| *c == '^') {
                    chars.next();
                    out.push('^');
                }
                // A bracket that comes first is a member.
                if chars.peek().is_some_and(|(_, c)| *c == ']') {
                    chars.next();
                    out.push_str("\\]");
                }
            }
            '[' if pattern[at..].starts_with("[:") => out.push('['),
            // Within a class Go takes these as they stand; here they are set operations.
            '[' | '&' | '~' if in_class => {
                out.push('\\');
                out.push(c);
            }
            // The second of two dashes ends a range, and the first in a class is one; here two are a set operation too.
            '-' if in_class && (is_first || out.ends_with('-') && !out.ends_with("\\-")) => out.push_str("\\-"),
            ']' if in_class => {
                in_class = ends_named_class(&out);
                out.push(']');
            }
            '{' if !in_class && !is_repetition(&pattern[at..]) => out.push_str("\\{"),
            _ => out.push(c),
        }
    }
    out
}

/// Whether the bracket to come closes `[:alpha:` rather than the class around it.
fn ends_named_class(out: &str) -> bool {
    let Some(name) = out.rfind("[:").and_then(|at| out[at + 2..].strip_suffix(':')) else { return false };
    name.chars().all(|c| c.is_ascii_lowercase() || c == '^')
}

fn quote(out: &mut String, chars: &mut std::iter::Peekable<std::str::CharIndices<'_>>) {
    while let Some((_, c)) = chars.next() {
        if c == '\\' && chars.peek().is_some_and(|(_, c)| *c == 'E') {
            chars.next();
            return;
        }
        out.push_str(&regex::escape(&c.to_string()));
    }
}

fn escape(escaped: char, in_class: bool) -> String {
    match (escaped, in_class) {
        ('d', true) => "0-9".into(),
        ('d', false) => "[0-9]".into(),
        ('D', false) => "[^0-9]".into(),
        ('w', true) => "0-9A-Za-z_".into(),
        ('w', false) => "[0-9A-Za-z_]".into(),
        ('W', false) => "[^0-9A-Za-z_]".into(),
        ('s', true) => r"\t\n\f\r\x20".into(),
        ('s', false) => r"[\t\n\f\r\x20]".into(),
        ('S', false) => r"[^\t\n\f\r\x20]".into(),
        ('b' | 'B', false) => format!(r"(?-u:\{escaped})"),
        // Go knows any escaped punctuation, and so does the other syntax for ASCII; of the rest it takes letters only.
        (c, _) if c.is_ascii() || c.is_alphanumeric() => format!("\\{c}"),
        (c, _) => c.to_string(),
    }
}

/// `{2}`, `{2,}` or `{2,3}` at the start of the text.
fn is_repetition(text: &str) -> bool {
    let Some((inside, _)) = text[1..].split_once('}') else { return false };
    let (low, high) = inside.split_once(',').unwrap_or((inside, ""));
    let number = |t: &str| t.bytes().all(|b| b.is_ascii_digit());
    !low.is_empty() && number(low) && number(high)
}

#[cfg(test)]
mod tests {
    use super::compile;

    #[test]
    fn patterns_mean_what_they_mean_in_go() {
        for (pattern, text, matches) in [
            (r"^\d+$", "12", true),
            (r"^\d+$", "١", false),
            (r"^[\w-]+$", "a_1-", true),
            (r"^\w$", "ä", false),
            (r"^a{foo}$", "a{foo}", true),
            (r"^a{2,3}$", "aaa", true),
            (r"^[]a]+$", "]a", true),
            (r"^[[:alpha:]-]+$", "ab-", true),
            (r"^[a&&b]+$", "a&b", true),
            (r"^\Qa.b\E$", "a.b", true),
            (r"^\Qa.b\E$", "axb", false),
            (r"\bfoo\b", "a foo b", true),
            (r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?)$", "a-b", true),
            (r"^\$\{x\}$", "${x}", true),
            (r"^a\/b$", "a/b", true),
            (r"^[+--]$", ",", true),
            (r"^[--a]$", "0", true),
            (r"^[a~~b]$", "~", true),
            (r"^[^\s]+$", "a b", false),
            (r"(?i)^ABC$", "abc", true),
        ] {
            assert_eq!(compile(pattern).map(|r| r.is_match(text)), Ok(matches), "{pattern} {text}");
        }
    }

    #[test]
    fn hostile_patterns_are_refused() {
        let deep = format!("{}a{}", "(".repeat(2000), ")".repeat(2000));
        for pattern in ["(", "[a", "[[:]", "a**b(", "((((a{1000}){1000}){1000}){1000})", &deep, &"a".repeat(20_000)] {
            assert!(compile(pattern).is_err(), "{}", &pattern[..pattern.len().min(40)]);
        }
    }
}
