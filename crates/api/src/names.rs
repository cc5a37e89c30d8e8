//! The forms of names and labels, with what Kubernetes says of a name that breaks them.
//!
//! Each check answers all that is wrong, as texts for the detail of a field error; nothing wrong is an empty list.

const LABEL_MAX: usize = 63;
const SUBDOMAIN_MAX: usize = 253;

const LABEL_1123: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end \
    with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const SUBDOMAIN_1123: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must \
    start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
    '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const LABEL_1035: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic \
    character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is \
    '[a-z]([-a-z0-9]*[a-z0-9])?')";
const QUALIFIED: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric \
    character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is \
    '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const LABEL_VALUE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start \
    and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is \
    '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";

fn too_long(max: usize) -> String {
    format!("must be no more than {max} characters")
}

fn is_lower(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit()
}

/// Whether `text` consists of `ends` and `middle`, with `ends` at both ends.
fn is_made_of(text: &str, ends: fn(u8) -> bool, middle: fn(u8) -> bool) -> bool {
    let bytes = text.as_bytes();
    match (bytes.first(), bytes.last()) {
        (Some(&first), Some(&last)) => ends(first) && ends(last) && bytes.iter().all(|&b| ends(b) || middle(b)),
        _ => false,
    }
}

fn is_label(text: &str) -> bool {
    is_made_of(text, is_lower, |b| b == b'-')
}

fn is_word(text: &str) -> bool {
    is_made_of(text, |b| b.is_ascii_alphanumeric(), |b| matches!(b, b'-' | b'_' | b'.'))
}

fn collect(too_long_for: Option<usize>, fits: bool, words: &str) -> Vec<String> {
    let mut problems: Vec<String> = too_long_for.map(too_long).into_iter().collect();
    if !fits {
        problems.push(words.into());
    }
    problems
}

/// A label of a DNS name: names of services, namespaces, containers.
pub fn dns1123_label(text: &str) -> Vec<String> {
    collect(
        (text.len() > LABEL_MAX).then_some(LABEL_MAX),
        is_label(text),
        LABEL_1123,
    )
}

/// A DNS name: names of most objects.
pub fn dns1123_subdomain(text: &str) -> Vec<String> {
    let fits = text.split('.').all(is_label);
    collect(
        (text.len() > SUBDOMAIN_MAX).then_some(SUBDOMAIN_MAX),
        fits,
        SUBDOMAIN_1123,
    )
}

/// A label that starts with a letter.
pub fn dns1035_label(text: &str) -> Vec<String> {
    let fits = is_label(text) && text.starts_with(|c: char| c.is_ascii_lowercase());
    collect((text.len() > LABEL_MAX).then_some(LABEL_MAX), fits, LABEL_1035)
}

/// A name with an optional prefix: keys of labels and annotations, names of resources and finalizers.
pub fn qualified_name(text: &str) -> Vec<String> {
    let mut problems = Vec::new();
    let name = match text.split('/').collect::<Vec<_>>().as_slice() {
        [name] => *name,
        [prefix, name] => {
            if prefix.is_empty() {
                problems.push("prefix part must be non-empty".into());
            } else {
                problems.extend(
                    dns1123_subdomain(prefix)
                        .into_iter()
                        .map(|p| format!("prefix part {p}")),
                );
            }
            *name
        }
        _ => {
            return vec![format!(
                "a valid label key/name {QUALIFIED} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
            )];
        }
    };
    if name.is_empty() {
        problems.push("name part must be non-empty".into());
    } else if name.len() > LABEL_MAX {
        problems.push(format!("name part {}", too_long(LABEL_MAX)));
    }
    if !is_word(name) {
        problems.push(format!("name part {QUALIFIED}"));
    }
    problems
}

/// The value of a label.
pub fn label_value(text: &str) -> Vec<String> {
    collect(
        (text.len() > LABEL_MAX).then_some(LABEL_MAX),
        text.is_empty() || is_word(text),
        LABEL_VALUE,
    )
}

/// A name that is one segment of a URL path: what every object's name must at least be.
pub fn path_segment(text: &str) -> Vec<String> {
    if text == "." || text == ".." {
        return vec![format!("may not be '{text}'")];
    }
    let bad = |c: char| text.contains(c).then(|| format!("may not contain '{c}'"));
    ['/', '%'].into_iter().filter_map(bad).collect()
}

#[cfg(test)]
mod tests {
    use super::{dns1035_label, dns1123_label, dns1123_subdomain, label_value, path_segment, qualified_name};

    #[test]
    fn names_are_told_apart() {
        let long = "a".repeat(64);
        type Check = fn(&str) -> Vec<String>;
        let table: [(Check, &[&str], &[&str]); 6] = [
            (
                dns1123_label,
                &["a", "a-1", "0"],
                &["", "A", "-a", "a-", "a.b", "a_b", &long],
            ),
            (
                dns1123_subdomain,
                &["a", "a.b-c.d", &long],
                &["", ".", "a..b", "A.b", "a.-b"],
            ),
            (dns1035_label, &["a", "a-1"], &["0a", "", "A", &long]),
            (
                qualified_name,
                &["a", "A_b.c", "x.y/Z"],
                &["", "/a", "a/", "a/b/c", "X/y", "-a", &long],
            ),
            (label_value, &["", "a", "A_b.c-d"], &["-a", "a b", &long]),
            (path_segment, &["a", "A:b"], &[".", "..", "a/b", "a%"]),
        ];
        for (check, good, bad) in table {
            for name in good {
                assert!(check(name).is_empty(), "{name:?}: {:?}", check(name));
            }
            for name in bad {
                assert!(!check(name).is_empty(), "{name:?}");
            }
        }
        assert_eq!(
            qualified_name("a/"),
            [
                "name part must be non-empty".to_string(),
                format!("name part {}", super::QUALIFIED)
            ]
        );
        assert_eq!(dns1123_label(&long), ["must be no more than 63 characters"]);
    }
}
