//! `fieldPath` of a rule: a JSON path of names only, like `.spec.x` or `.labels['a/b']`.

use serde_json::Value;

/// The path as errors write it, without a leading dot.
///
/// # Errors
/// It is no such path, or leads to nothing in the schema.
pub(super) fn normalized(path: &str, schema: &Value) -> Result<String, &'static str> {
    const NOWHERE: &str = "does not refer to a valid field";
    let (mut out, mut schema, mut rest) = (String::new(), schema, path);
    while !rest.is_empty() {
        let name;
        (name, rest) = step(rest)?;
        if schema["properties"].is_object() {
            schema = schema["properties"].get(&name).ok_or(NOWHERE)?;
            if !out.is_empty() {
                out.push('.');
            }
            out.push_str(&name);
        } else if schema["additionalProperties"].is_object() {
            schema = &schema["additionalProperties"];
            out.push_str(&format!("[{name}]"));
        } else {
            return Err(NOWHERE);
        }
    }
    Ok(out)
}

/// The next name, and what comes after it.
fn step(path: &str) -> Result<(String, &str), &'static str> {
    if let Some(rest) = path.strip_prefix('.') {
        let end = rest.find(['.', '[', ']']).unwrap_or(rest.len());
        return if end == 0 { Err("unexpected end of JSON path") } else { Ok((rest[..end].to_owned(), &rest[end..])) };
    }
    let Some(rest) = path.strip_prefix("['") else { return Err("expected [ or .") };
    let mut name = String::new();
    let mut chars = rest.char_indices();
    while let Some((at, char)) = chars.next() {
        match char {
            '\'' => {
                let after = rest[at + 1..].strip_prefix(']').ok_or("expected ]")?;
                return Ok((name, after));
            }
            '\\' => name.push(match chars.next().map(|(_, escaped)| escaped) {
                Some('a') => '\u{7}',
                Some('b') => '\u{8}',
                Some('f') => '\u{c}',
                Some('n') => '\n',
                Some('r') => '\r',
                Some('t') => '\t',
                Some('v') => '\u{b}',
                Some(quoted @ ('\'' | '\\')) => quoted,
                _ => return Err("invalid string literal"),
            }),
            char => name.push(char),
        }
    }
    Err("unexpected end of JSON path")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::normalized;

    #[test]
    fn a_path_leads_somewhere() {
        let schema = json!({"properties": {"spec": {"properties": {
            "x.y": {"type": "string"}, "labels": {"additionalProperties": {"type": "string"}}}}}});
        for (path, expected) in [
            (".spec", Some("spec")),
            (".spec['x.y']", Some("spec.x.y")),
            ("['spec'].labels['a\\'b']", Some("spec.labels[a'b]")),
            (".spec.nothing", None),
            ("spec", None),
            (".", None),
            (".spec[0]", None),
            (".spec.labels.a.b", None),
        ] {
            assert_eq!(normalized(path, &schema).ok().as_deref(), expected, "{path}");
        }
    }
}
