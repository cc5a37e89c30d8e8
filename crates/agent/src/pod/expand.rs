//! `$(NAME)` in commands, arguments and values. Pure.

/// Replaces `$(NAME)` by what `look` gives; `$$` stands for `$`, and what is unknown or unfinished stays as it is.
pub fn expand<'a>(text: &str, look: impl Fn(&str) -> Option<&'a str>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        if let Some(tail) = after.strip_prefix('$') {
            out.push('$');
            rest = tail;
        } else if let Some((name, tail)) = after.strip_prefix('(').and_then(|a| a.split_once(')')) {
            match look(name) {
                Some(value) => out.push_str(value),
                None => {
                    out.push_str("$(");
                    out.push_str(name);
                    out.push(')');
                }
            }
            rest = tail;
        } else {
            out.push('$');
            rest = after;
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    #[test]
    fn replaces_what_is_known() {
        for (text, want) in [
            ("$(A)", "1"),
            ("x$(A)y$(B)", "x1y"),
            ("$(NO)", "$(NO)"),
            ("$$(A)", "$(A)"),
            ("$$$(A)", "$1"),
            ("$A $", "$A $"),
            ("$(A", "$(A"),
            ("", ""),
        ] {
            let look = |name: &str| match name {
                "A" => Some("1"),
                "B" => Some(""),
                _ => None,
            };
            assert_eq!(super::expand(text, look), want, "{text}");
        }
    }
}
