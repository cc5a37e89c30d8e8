//! JSON paths as kubectl and printer columns write them: `.spec.ports[0].name`, `.status.conditions[?(@.type=="Ready")].status`.

use serde_json::Value;

/// A path that was read.
#[derive(Debug, Clone, PartialEq)]
pub struct Path {
    steps: Vec<Step>,
}

#[derive(Debug, Clone, PartialEq)]
enum Step {
    Field(String),
    /// All values of a list or map.
    All,
    /// This and everything below.
    Descend,
    Index(i64),
    Slice(Option<i64>, Option<i64>, i64),
    /// Several of a kind.
    Union(Vec<Step>),
    Filter {
        left: Operand,
        test: Option<(Compare, Operand)>,
    },
}

#[derive(Debug, Clone, PartialEq)]
enum Operand {
    Path(Path),
    Literal(Value),
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Compare {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// Most bytes of a path: far more than any that makes sense.
const TEXT_MAX: usize = 4096;
/// Most values that one path is followed to.
const FOUND_MAX: usize = 10_000;
/// Filters may hold paths with filters, so deep.
const DEPTH_MAX: usize = 8;

/// A text that is no path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// Too long or too deep.
    #[error("path is too long")]
    TooLong,
    /// Something is open that should be closed.
    #[error("unterminated {what}")]
    Unterminated {
        /// `array`, `filter`, …
        what: &'static str,
    },
    /// Something that means nothing.
    #[error("unrecognized character in action: {found:?}")]
    Unrecognized {
        /// What was found.
        found: String,
    },
}

impl Path {
    /// Reads a path. A leading `$` or `@` and braces around it may be there.
    ///
    /// # Errors
    /// [`PathError`].
    pub fn parse(text: &str) -> Result<Self, PathError> {
        Self::parse_at(text, 0)
    }

    fn parse_at(text: &str, depth: usize) -> Result<Self, PathError> {
        if text.len() > TEXT_MAX || depth > DEPTH_MAX {
            return Err(PathError::TooLong);
        }
        let mut rest = text.trim();
        rest = rest.strip_prefix(['$', '@']).unwrap_or(rest);
        let mut steps = Vec::new();
        while !rest.is_empty() {
            rest = step(rest, &mut steps, depth)?;
        }
        Ok(Self { steps })
    }

    /// The names of its fields, if it is made of nothing else.
    pub fn names(&self) -> Option<Vec<&str>> {
        self.steps.iter().map(|step| if let Step::Field(name) = step { Some(name.as_str()) } else { None }).collect()
    }

    /// The values that the path leads to.
    pub fn find<'v>(&self, root: &'v Value) -> Vec<&'v Value> {
        let mut found = vec![root];
        for step in &self.steps {
            let mut next = Vec::new();
            for value in found {
                step.follow(value, &mut next);
            }
            found = next;
        }
        found
    }

    /// The first of them.
    pub fn first<'v>(&self, root: &'v Value) -> Option<&'v Value> {
        self.find(root).into_iter().next()
    }
}

/// Reads one step; answers what follows.
fn step<'t>(text: &'t str, steps: &mut Vec<Step>, depth: usize) -> Result<&'t str, PathError> {
    if let Some(rest) = text.strip_prefix("..") {
        steps.push(Step::Descend);
        return if rest.starts_with('[') { Ok(rest) } else { field(rest, steps) };
    }
    match text.as_bytes()[0] {
        b'.' if text[1..].starts_with('[') => Ok(&text[1..]),
        b'.' => field(&text[1..], steps),
        b'[' => {
            let end = closing(text).ok_or(PathError::Unterminated { what: "array" })?;
            steps.push(bracket(&text[1..end], depth)?);
            Ok(&text[end + 1..])
        }
        _ if steps.is_empty() => field(text, steps),
        _ => Err(PathError::Unrecognized { found: text.chars().take(1).collect() }),
    }
}

fn field<'t>(text: &'t str, steps: &mut Vec<Step>) -> Result<&'t str, PathError> {
    let mut name = String::new();
    let mut chars = text.char_indices();
    let mut end = text.len();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => name.extend(chars.next().map(|(_, c)| c)),
            '.' | '[' => {
                end = at;
                break;
            }
            c if c.is_whitespace() || matches!(c, '{' | '}' | ']' | '(' | ')' | '"' | '\'') => {
                return Err(PathError::Unrecognized { found: c.to_string() });
            }
            c => name.push(c),
        }
    }
    match name.as_str() {
        "" if end == text.len() => {} // A trailing dot leads nowhere else.
        "" => return Err(PathError::Unrecognized { found: text.chars().take(1).collect() }),
        "*" => steps.push(Step::All),
        _ => steps.push(Step::Field(name)),
    }
    Ok(&text[end..])
}

/// The place of the bracket that closes the one at the start.
fn closing(text: &str) -> Option<usize> {
    let (mut depth, mut quote, mut escaped) = (0, None, false);
    for (at, c) in text.char_indices() {
        match (quote, c) {
            _ if escaped => escaped = false,
            (Some(_), '\\') => escaped = true,
            (Some(q), c) if c == q => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(c),
            (None, '[') => depth += 1,
            (None, ']') => {
                depth -= 1;
                if depth == 0 {
                    return Some(at);
                }
            }
            (None, _) => {}
        }
    }
    None
}

fn bracket(inside: &str, depth: usize) -> Result<Step, PathError> {
    let inside = inside.trim();
    if let Some(filter_text) = inside.strip_prefix("?(").and_then(|t| t.strip_suffix(')')) {
        return filter(filter_text, depth);
    }
    if inside == "*" {
        return Ok(Step::All);
    }
    if let Some(name) = quoted(inside) {
        return Ok(Step::Field(name));
    }
    if inside.contains(',') {
        let parts: Result<Vec<Step>, PathError> = inside.split(',').map(|part| bracket(part, depth)).collect();
        return Ok(Step::Union(parts?));
    }
    let wrong = || PathError::Unrecognized { found: inside.to_string() };
    let number = |t: &str| if t.is_empty() { Ok(None) } else { t.parse::<i64>().map(Some).map_err(|_| wrong()) };
    let parts: Vec<&str> = inside.split(':').map(str::trim).collect();
    match parts.as_slice() {
        [one] => Ok(Step::Index(number(one)?.ok_or_else(wrong)?)),
        [from, to] => Ok(Step::Slice(number(from)?, number(to)?, 1)),
        [from, to, by] => Ok(Step::Slice(number(from)?, number(to)?, number(by)?.filter(|n| *n > 0).unwrap_or(1))),
        _ => Err(wrong()),
    }
}

fn quoted(text: &str) -> Option<String> {
    let quote = text.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    let inner = text.strip_prefix(quote)?.strip_suffix(quote)?;
    let mut out = String::new();
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => out.extend(chars.next()),
            c if c == quote => return None,
            c => out.push(c),
        }
    }
    Some(out)
}

const COMPARISONS: &[(&str, Compare)] = &[
    ("==", Compare::Equal),
    ("!=", Compare::NotEqual),
    ("<=", Compare::LessOrEqual),
    (">=", Compare::GreaterOrEqual),
    ("<", Compare::Less),
    (">", Compare::Greater),
];

fn filter(text: &str, depth: usize) -> Result<Step, PathError> {
    let mut quote = None;
    for (at, c) in text.char_indices() {
        match quote {
            Some(q) if q == c => quote = None,
            Some(_) => {}
            None if matches!(c, '"' | '\'') => quote = Some(c),
            None => {
                if let Some((sign, compare)) = COMPARISONS.iter().find(|(sign, _)| text[at..].starts_with(sign)) {
                    let (left, right) = (operand(&text[..at], depth)?, operand(&text[at + sign.len()..], depth)?);
                    return Ok(Step::Filter { left, test: Some((*compare, right)) });
                }
            }
        }
    }
    if quote.is_some() {
        return Err(PathError::Unterminated { what: "filter" });
    }
    Ok(Step::Filter { left: operand(text, depth)?, test: None })
}

fn operand(text: &str, depth: usize) -> Result<Operand, PathError> {
    let text = text.trim();
    if text.starts_with(['@', '$', '.']) {
        return Ok(Operand::Path(Path::parse_at(text, depth + 1)?));
    }
    if let Some(text) = quoted(text) {
        return Ok(Operand::Literal(text.into()));
    }
    serde_json::from_str(text).map(Operand::Literal).map_err(|_| PathError::Unrecognized { found: text.to_string() })
}

impl Step {
    fn follow<'v>(&self, value: &'v Value, out: &mut Vec<&'v Value>) {
        if out.len() >= FOUND_MAX {
            return;
        }
        match (self, value) {
            (Step::Field(name), Value::Object(map)) => out.extend(map.get(name)),
            (Step::All, Value::Array(items)) => out.extend(items.iter().take(FOUND_MAX)),
            (Step::All, Value::Object(map)) => out.extend(map.values().take(FOUND_MAX)),
            (Step::Descend, value) => descend(value, out),
            (Step::Index(index), Value::Array(items)) => {
                out.extend(place(*index, items.len()).and_then(|i| items.get(i)))
            }
            (Step::Slice(from, to, by), Value::Array(items)) => {
                let clamp = |at: i64| usize::try_from(if at < 0 { at + items.len() as i64 } else { at }).unwrap_or(0);
                let (from, to) = (clamp(from.unwrap_or(0)), to.map_or(items.len(), clamp).min(items.len()));
                let by = usize::try_from(*by).unwrap_or(1);
                out.extend(items.get(from..to).unwrap_or_default().iter().step_by(by).take(FOUND_MAX));
            }
            (Step::Union(steps), value) => steps.iter().for_each(|step| step.follow(value, out)),
            (Step::Filter { left, test }, Value::Array(items)) => {
                out.extend(items.iter().filter(|item| holds(item, left, test.as_ref())).take(FOUND_MAX));
            }
            _ => {}
        }
    }
}

fn place(index: i64, len: usize) -> Option<usize> {
    let at = if index < 0 { index.checked_add(i64::try_from(len).ok()?)? } else { index };
    usize::try_from(at).ok()
}

fn descend<'v>(value: &'v Value, out: &mut Vec<&'v Value>) {
    if out.len() >= FOUND_MAX {
        return;
    }
    out.push(value);
    match value {
        Value::Array(items) => items.iter().for_each(|item| descend(item, out)),
        Value::Object(map) => map.values().for_each(|item| descend(item, out)),
        _ => {}
    }
}

fn holds(item: &Value, left: &Operand, test: Option<&(Compare, Operand)>) -> bool {
    let value = |operand: &Operand| match operand {
        Operand::Path(path) => path.first(item).cloned(),
        Operand::Literal(literal) => Some(literal.clone()),
    };
    let Some((compare, right)) = test else { return value(left).is_some() };
    let (Some(left), Some(right)) = (value(left), value(right)) else { return false };
    let order = match (&left, &right) {
        (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
        (Value::Number(a), Value::Number(b)) => a.as_f64().partial_cmp(&b.as_f64()),
        (a, b) => (a == b).then_some(std::cmp::Ordering::Equal),
    };
    match compare {
        Compare::Equal => order.is_some_and(std::cmp::Ordering::is_eq),
        Compare::NotEqual => order.is_none_or(std::cmp::Ordering::is_ne),
        Compare::Less => order.is_some_and(std::cmp::Ordering::is_lt),
        Compare::LessOrEqual => order.is_some_and(std::cmp::Ordering::is_le),
        Compare::Greater => order.is_some_and(std::cmp::Ordering::is_gt),
        Compare::GreaterOrEqual => order.is_some_and(std::cmp::Ordering::is_ge),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::Path;

    #[test]
    fn paths_lead_where_kubectl_takes_them() {
        let object = json!({"spec": {"n": 3, "list": [{"a": 1, "t": "x"}, {"a": 2, "t": "y"}]},
            "metadata": {"labels": {"a.b/c": "v"}}});
        for (path, expected) in [
            (".spec.n", json!([3])),
            ("spec.n", json!([3])),
            ("$.spec.n", json!([3])),
            (".spec.missing.more", json!([])),
            (".spec.list[0].a", json!([1])),
            (".spec.list[-1].a", json!([2])),
            (".spec.list[*].a", json!([1, 2])),
            (".spec.list[0:1].a", json!([1])),
            (".spec.list[0,1].t", json!(["x", "y"])),
            (".spec.list[?(@.t==\"y\")].a", json!([2])),
            (".spec.list[?(@.t=='y')].a", json!([2])),
            (".spec.list[?(@.a>1)].t", json!(["y"])),
            (".spec.list[?(@.t)].a", json!([1, 2])),
            (".metadata.labels.a\\.b/c", json!(["v"])),
            (".metadata.labels['a.b/c']", json!(["v"])),
            ("..t", json!(["x", "y"])),
        ] {
            let found: Vec<Value> = Path::parse(path).expect(path).find(&object).into_iter().cloned().collect();
            assert_eq!(Value::Array(found), expected, "{path}");
        }
        assert_eq!(Path::parse(".spec.replicas").expect("path").names(), Some(vec!["spec", "replicas"]));
    }

    #[test]
    fn what_is_no_path() {
        for text in [".a[", ".a[?(@.b==]", ".a b", ".a[x]", &".a[?(@".repeat(50), &"x".repeat(5000)] {
            assert!(Path::parse(text).is_err(), "{}", &text[..text.len().min(40)]);
        }
    }
}
