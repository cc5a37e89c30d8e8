//! The place of a value within an object, and what is wrong with its type, in the words of Go's JSON decoder.

use std::fmt;

use super::Object;

/// One step of a path.
#[derive(Debug, Clone, Copy)]
enum Segment<'a> {
    /// The object itself.
    Root,
    /// A named field.
    Name(&'a str),
    /// A key of a map.
    Key(&'a str),
    /// An item of a list.
    Index(usize),
}

/// Where a walk has got to: a list of steps on the stack, read only when something is to be said.
#[derive(Debug, Clone, Copy)]
pub(crate) struct At<'a> {
    up: Option<&'a At<'a>>,
    step: Segment<'a>,
}

impl At<'_> {
    pub(crate) const ROOT: At<'static> = At { up: None, step: Segment::Root };
}

impl<'a> At<'a> {
    pub(crate) fn name(&'a self, name: &'a str) -> At<'a> {
        At { up: Some(self), step: Segment::Name(name) }
    }

    pub(crate) fn key(&'a self, key: &'a str) -> At<'a> {
        At { up: Some(self), step: Segment::Key(key) }
    }

    pub(crate) fn index(&'a self, index: usize) -> At<'a> {
        At { up: Some(self), step: Segment::Index(index) }
    }

    fn steps(&self) -> Vec<Segment<'a>> {
        let mut steps = Vec::new();
        let mut at = Some(*self);
        while let Some(here) = at {
            steps.push(here.step);
            at = here.up.copied();
        }
        steps.reverse();
        steps
    }

    /// Without the indices of lists and the keys of maps, as Go's decoder tells a field.
    fn fields_only(&self) -> String {
        let steps = self.steps();
        let names = steps.iter().filter_map(|s| if let Segment::Name(name) = s { Some(*name) } else { None });
        names.collect::<Vec<_>>().join(".")
    }
}

/// `spec.containers[0].image`.
impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut first = true;
        for step in self.steps() {
            match step {
                Segment::Root => continue,
                Segment::Name(name) | Segment::Key(name) if first => write!(f, "{name}")?,
                Segment::Name(name) | Segment::Key(name) => write!(f, ".{name}")?,
                Segment::Index(index) => write!(f, "[{index}]")?,
            }
            first = false;
        }
        Ok(())
    }
}

/// A value that its field cannot hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TypeError {
    /// The JSON type is wrong.
    #[error("json: cannot unmarshal {found} into Go struct field {owner}.{field} of type {wanted}")]
    Mismatch {
        /// `string`, `number 1.5`, `object`, …
        found: String,
        /// The innermost structure.
        owner: &'static str,
        /// Path of names below the object.
        field: String,
        /// Go's name of the wanted type.
        wanted: String,
    },
    /// The whole value is of the wrong type.
    #[error("json: cannot unmarshal {found} into Go value of type {wanted}")]
    Root {
        /// See [`TypeError::Mismatch`].
        found: String,
        /// See [`TypeError::Mismatch`].
        wanted: String,
    },
    /// Not a time.
    #[error("parsing time {value:?} as \"2006-01-02T15:04:05Z07:00\": cannot parse {value:?} as \"2006\"")]
    Time {
        /// What was sent.
        value: String,
    },
    /// Not a quantity.
    #[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
    Quantity,
    /// Not base64.
    #[error("illegal base64 data at input byte {offset}")]
    Base64 {
        /// Where decoding stopped.
        offset: usize,
    },
}

impl TypeError {
    pub(super) fn mismatch(found: &serde_json::Value, owner: &'static Object, at: &At<'_>, wanted: String) -> Self {
        let found = match found {
            // Go shows a number only where another number would have fitted.
            serde_json::Value::Number(n) if wanted.starts_with("int") && !wanted.contains('.') => format!("number {n}"),
            other => json_type(other).into(),
        };
        let field = at.fields_only();
        if field.is_empty() {
            return Self::Root { found, wanted };
        }
        let owner = owner.go_name.rsplit('.').next().unwrap_or(owner.go_name);
        Self::Mismatch { found, owner, field, wanted }
    }
}

fn json_type(value: &serde_json::Value) -> &'static str {
    use serde_json::Value;
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}
