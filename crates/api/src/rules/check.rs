//! Walking an object and collecting what is wrong with it.

use std::fmt;

use serde::Serialize;
use serde_json::Value;

use crate::field::FieldError;
use crate::rules::cells::text;

/// What every immutable field answers to a change.
pub const IMMUTABLE: &str = "field is immutable";

/// The place of a field; becomes text only when there is something to say about it.
#[derive(Debug, Clone, Copy)]
pub struct At<'a> {
    up: Option<&'a At<'a>>,
    step: Step<'a>,
}

#[derive(Debug, Clone, Copy)]
enum Step<'a> {
    Root,
    Field(&'a str),
    Index(usize),
    Key(&'a str),
}

impl At<'static> {
    /// The object itself.
    pub const ROOT: At<'static> = At { up: None, step: Step::Root };
}

impl<'a> At<'a> {
    /// `a.name`.
    pub fn field(&'a self, name: &'a str) -> At<'a> {
        At { up: Some(self), step: Step::Field(name) }
    }

    /// `a[3]`.
    pub fn index(&'a self, index: usize) -> At<'a> {
        At { up: Some(self), step: Step::Index(index) }
    }

    /// `a[key]`.
    pub fn key(&'a self, key: &'a str) -> At<'a> {
        At { up: Some(self), step: Step::Key(key) }
    }
}

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(up) = self.up {
            up.fmt(f)?;
        }
        match self.step {
            Step::Root => Ok(()),
            Step::Field(name) if self.up.is_none_or(|up| matches!(up.step, Step::Root)) => f.write_str(name),
            Step::Field(name) => write!(f, ".{name}"),
            Step::Index(index) => write!(f, "[{index}]"),
            Step::Key(key) => write!(f, "[{key}]"),
        }
    }
}

/// The errors found so far.
#[derive(Debug, Default)]
pub struct Errors(pub Vec<FieldError>);

impl Errors {
    /// See [`FieldError::required`].
    pub fn required(&mut self, at: &At<'_>, detail: &str) {
        self.0.push(FieldError::required(at.to_string(), detail));
    }

    /// See [`FieldError::invalid`].
    pub fn invalid(&mut self, at: &At<'_>, value: impl Serialize, detail: impl Into<String>) {
        self.0.push(FieldError::invalid(at.to_string(), value, detail));
    }

    /// See [`FieldError::forbidden`].
    pub fn forbidden(&mut self, at: &At<'_>, detail: &str) {
        self.0.push(FieldError::forbidden(at.to_string(), detail));
    }

    /// See [`FieldError::duplicate`].
    pub fn duplicate(&mut self, at: &At<'_>, value: impl Serialize) {
        self.0.push(FieldError::duplicate(at.to_string(), value));
    }

    /// See [`FieldError::not_found`].
    pub fn not_found(&mut self, at: &At<'_>, value: impl Serialize) {
        self.0.push(FieldError::not_found(at.to_string(), value));
    }

    /// See [`FieldError::too_long`].
    pub fn too_long(&mut self, at: &At<'_>, max: usize) {
        self.0.push(FieldError::too_long(at.to_string(), max));
    }

    /// See [`FieldError::too_many`].
    pub fn too_many(&mut self, at: &At<'_>, actual: usize, max: usize) {
        self.0.push(FieldError::too_many(at.to_string(), actual, max));
    }

    /// One [`FieldError::invalid`] for each of `wrong`.
    pub fn all(&mut self, at: &At<'_>, value: impl Serialize, wrong: Vec<String>) {
        for detail in wrong {
            self.0.push(FieldError::invalid(at.to_string(), &value, detail));
        }
    }

    /// The string must have a form, unless it is empty.
    pub fn form(&mut self, at: &At<'_>, value: &Value, form: fn(&str) -> Vec<String>) {
        let text = text(value);
        if !text.is_empty() {
            self.all(at, text, form(text));
        }
    }

    /// The string must be there, and have a form.
    pub fn required_form(&mut self, at: &At<'_>, value: &Value, form: fn(&str) -> Vec<String>) {
        match text(value) {
            "" => self.required(at, ""),
            text => self.all(at, text, form(text)),
        }
    }

    /// The string must be there.
    pub fn required_text(&mut self, at: &At<'_>, value: &Value, detail: &str) {
        if text(value).is_empty() {
            self.required(at, detail);
        }
    }

    /// The string must be one of those supported, unless it is left out.
    pub fn one_of(&mut self, at: &At<'_>, value: &Value, supported: &[&str]) {
        if !value.is_null() && !supported.contains(&text(value)) {
            self.0.push(FieldError::not_supported(at.to_string(), value, supported));
        }
    }

    /// The string must be there, and be one of those supported.
    pub fn required_one_of(&mut self, at: &At<'_>, value: &Value, supported: &[&str]) {
        if text(value).is_empty() {
            self.required(at, "");
        } else {
            self.one_of(at, value, supported);
        }
    }

    /// The number must not be negative, if there is one.
    pub fn not_negative(&mut self, at: &At<'_>, value: &Value) {
        if value.as_i64().is_some_and(|number| number < 0) {
            self.invalid(at, value, "must be greater than or equal to 0");
        }
    }

    /// The number must be above zero, if there is one.
    pub fn positive(&mut self, at: &At<'_>, value: &Value) {
        if value.as_i64().is_some_and(|number| number <= 0) {
            self.invalid(at, value, "must be greater than 0");
        }
    }

    /// The field must be what it was.
    pub fn immutable(&mut self, at: &At<'_>, new: &Value, old: &Value) {
        if !same(new, old) {
            self.invalid(at, new, IMMUTABLE);
        }
    }
}

/// Equal as Kubernetes compares: null, left out, and an empty list or map are the same.
pub fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Object(a), Value::Object(b)) => {
            let covers = |x: &serde_json::Map<String, Value>, y: &serde_json::Map<String, Value>| {
                x.iter().all(|(key, value)| same(value, y.get(key).unwrap_or(&Value::Null)))
            };
            covers(a, b) && covers(b, a)
        }
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        _ if is_nothing(a) && is_nothing(b) => true,
        _ => a == b,
    }
}

fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.values().all(is_nothing),
        _ => false,
    }
}

/// What tests of validation share.
#[cfg(test)]
pub mod testing {
    use serde_json::Value;

    use crate::field::FieldError;

    /// A case: its name, how it differs from a good object, and how its errors begin.
    pub type Case = (&'static str, fn(&mut Value), &'static [&'static str]);

    /// The errors are as many as `starts`, and each begins as its start says.
    pub fn check(case: &str, errors: &[FieldError], starts: &[&str]) {
        let told: Vec<String> = errors.iter().map(ToString::to_string).collect();
        let fits = told.len() == starts.len() && told.iter().zip(starts).all(|(told, start)| told.starts_with(start));
        assert!(fits, "{case}\n  found: {told:#?}\n  wanted: {starts:#?}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn places_read_as_paths() {
        let spec = At::ROOT.field("spec");
        let list = spec.field("containers");
        let item = list.index(2);
        assert_eq!(item.field("name").to_string(), "spec.containers[2].name");
        assert_eq!(At::ROOT.field("metadata").field("labels").key("a/b").to_string(), "metadata.labels[a/b]");
    }

    #[test]
    fn nothing_has_many_faces() {
        for (a, b, equal) in [
            (json!({"a": 1}), json!({"a": 1, "b": null, "c": []}), true),
            (json!({"a": {}}), json!({}), true),
            (json!([1]), json!([1, 2]), false),
            (json!({"a": 0}), json!({}), false),
            (json!(null), json!([]), true),
        ] {
            assert_eq!(same(&a, &b), equal, "{a} {b}");
        }
    }
}
