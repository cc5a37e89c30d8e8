//! JSON patch (RFC 6902): a list of operations, all of which must apply.

use serde::Deserialize;
use serde_json::Value;

use super::{OPERATIONS_MAX, PatchError, remove_member};

/// Most bytes that all copies of one patch may make together (as many as a body may have).
const COPIES_MAX: usize = 3 * 1024 * 1024;

/// One operation.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(tag = "op", rename_all = "lowercase")]
pub enum Operation {
    /// Adds a member, or inserts into a list.
    Add {
        /// Where.
        path: String,
        /// What.
        #[serde(default)]
        value: Value,
    },
    /// Removes what is there.
    Remove {
        /// Where.
        path: String,
    },
    /// Replaces what is there.
    Replace {
        /// Where.
        path: String,
        /// By what.
        #[serde(default)]
        value: Value,
    },
    /// Removes at one place and adds at another.
    Move {
        /// From where.
        from: String,
        /// To where.
        path: String,
    },
    /// Adds what is elsewhere.
    Copy {
        /// From where.
        from: String,
        /// To where.
        path: String,
    },
    /// Fails unless the value is there.
    Test {
        /// Where.
        path: String,
        /// Which.
        #[serde(default)]
        value: Value,
    },
}

/// A list of operations.
#[derive(Debug, Clone, PartialEq)]
pub struct JsonPatch(pub Vec<Operation>);

impl JsonPatch {
    /// Reads a patch.
    ///
    /// # Errors
    /// [`PatchError::Malformed`] or [`PatchError::TooManyOperations`].
    pub fn parse(bytes: &[u8]) -> Result<Self, PatchError> {
        let malformed = |error: serde_json::Error| PatchError::Malformed { message: error.to_string() };
        let operations: Vec<Operation> = serde_json::from_slice(bytes).map_err(malformed)?;
        if operations.len() > OPERATIONS_MAX {
            return Err(PatchError::TooManyOperations { count: operations.len() });
        }
        Ok(Self(operations))
    }

    /// Applies all operations, or fails; what a failed patch did to `target` is to be thrown away.
    ///
    /// # Errors
    /// [`PatchError::DoesNotApply`] or [`PatchError::CopiesTooLarge`].
    pub fn apply(&self, target: &mut Value) -> Result<(), PatchError> {
        let mut copied = 0;
        for (index, operation) in self.0.iter().enumerate() {
            step(target, operation, &mut copied).map_err(|failure| match failure {
                Failure::No(why) => PatchError::DoesNotApply { index, why },
                Failure::TooLarge => PatchError::CopiesTooLarge { max: COPIES_MAX },
            })?;
        }
        Ok(())
    }
}

enum Failure {
    No(&'static str),
    TooLarge,
}

const MISSING: Failure = Failure::No("the path does not exist");

fn step(target: &mut Value, operation: &Operation, copied: &mut usize) -> Result<(), Failure> {
    match operation {
        Operation::Add { path, value } => add(target, path, value.clone()),
        Operation::Remove { path } => remove(target, path).map(drop),
        Operation::Replace { path, value } => {
            *find_mut(target, path)? = value.clone();
            Ok(())
        }
        Operation::Move { from, path } => {
            if path.strip_prefix(from.as_str()).is_some_and(|rest| rest.starts_with('/')) {
                return Err(Failure::No("a value cannot be moved into itself"));
            }
            let value = remove(target, from)?;
            add(target, path, value)
        }
        Operation::Copy { from, path } => {
            let value = find_mut(target, from)?.clone();
            *copied += value.to_string().len();
            if *copied > COPIES_MAX {
                return Err(Failure::TooLarge);
            }
            add(target, path, value)
        }
        Operation::Test { path, value } => match find_mut(target, path) {
            Ok(there) if equal(there, value) => Ok(()),
            // Kubernetes takes a missing member for null.
            Err(_) if value.is_null() => Ok(()),
            _ => Err(Failure::No("the test failed")),
        },
    }
}

/// Equal as JSON: members in any order, `1` is `1.0`.
fn equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| equal(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| equal(a, b)))
        }
        _ => a == b,
    }
}

fn find_mut<'a>(target: &'a mut Value, path: &str) -> Result<&'a mut Value, Failure> {
    target.pointer_mut(path).ok_or(MISSING)
}

/// The value that holds the last step of a path, and that step.
fn parent<'a>(target: &'a mut Value, path: &str) -> Result<(&'a mut Value, String), Failure> {
    let (parent, last) = path.rsplit_once('/').ok_or(Failure::No("a path starts with /"))?;
    let last = last.replace("~1", "/").replace("~0", "~");
    Ok((find_mut(target, parent)?, last))
}

fn index(step: &str, length: usize) -> Result<usize, Failure> {
    let canonical = step == "0" || !step.starts_with(['0', '+']);
    match step.parse::<usize>() {
        Ok(index) if canonical && index < length => Ok(index),
        _ => Err(Failure::No("there is no such item")),
    }
}

fn add(target: &mut Value, path: &str, value: Value) -> Result<(), Failure> {
    if path.is_empty() {
        *target = value;
        return Ok(());
    }
    let (parent, last) = parent(target, path)?;
    match parent {
        Value::Object(map) => {
            map.insert(last, value);
            Ok(())
        }
        Value::Array(items) => {
            let at = if last == "-" { items.len() } else { index(&last, items.len() + 1)? };
            items.insert(at, value);
            Ok(())
        }
        _ => Err(MISSING),
    }
}

fn remove(target: &mut Value, path: &str) -> Result<Value, Failure> {
    if path.is_empty() {
        return Ok(target.take());
    }
    let (parent, last) = parent(target, path)?;
    match parent {
        Value::Object(map) => remove_member(map, &last).ok_or(MISSING),
        Value::Array(items) => {
            let at = index(&last, items.len())?;
            Ok(items.remove(at))
        }
        _ => Err(MISSING),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{JsonPatch, PatchError};

    fn apply(before: Value, patch: &Value) -> Result<Value, PatchError> {
        let mut value = before;
        JsonPatch::parse(patch.to_string().as_bytes())?.apply(&mut value)?;
        Ok(value)
    }

    #[test]
    fn operations_do_what_the_rfc_says() {
        for (before, patch, after) in [
            (json!({}), json!([{"op": "add", "path": "/a", "value": 1}]), Some(json!({"a": 1}))),
            (json!({"a": [1, 3]}), json!([{"op": "add", "path": "/a/1", "value": 2}]), Some(json!({"a": [1, 2, 3]}))),
            (json!({"a": [1]}), json!([{"op": "add", "path": "/a/-", "value": 2}]), Some(json!({"a": [1, 2]}))),
            (json!({"a": [1]}), json!([{"op": "add", "path": "/a/2", "value": 2}]), None),
            (json!({}), json!([{"op": "add", "path": "/a/b", "value": 2}]), None),
            (json!({"a": 1, "b": 2}), json!([{"op": "remove", "path": "/a"}]), Some(json!({"b": 2}))),
            (json!({"a": 1}), json!([{"op": "remove", "path": "/b"}]), None),
            (json!({"a": 1}), json!([{"op": "replace", "path": "/a", "value": null}]), Some(json!({"a": null}))),
            (json!({}), json!([{"op": "replace", "path": "/a", "value": 1}]), None),
            (
                json!({"a/b": 1, "m~n": 2}),
                json!([{"op": "remove", "path": "/a~1b"}, {"op": "remove", "path": "/m~0n"}]),
                Some(json!({})),
            ),
            (
                json!({"a": {"b": 1}}),
                json!([{"op": "move", "from": "/a/b", "path": "/c"}]),
                Some(json!({"a": {}, "c": 1})),
            ),
            (json!({"a": {"b": 1}}), json!([{"op": "move", "from": "/a", "path": "/a/b"}]), None),
            (json!({"a": 1}), json!([{"op": "copy", "from": "/a", "path": "/b"}]), Some(json!({"a": 1, "b": 1}))),
            (json!({"a": 1.0}), json!([{"op": "test", "path": "/a", "value": 1}]), Some(json!({"a": 1.0}))),
            (json!({"a": 1}), json!([{"op": "test", "path": "/a", "value": 2}]), None),
            (json!({"a": 1}), json!([{"op": "remove", "path": "a"}]), None),
            (json!({"a": [1, 2]}), json!([{"op": "remove", "path": "/a/01"}]), None),
            (json!({"a": 1}), json!([{"op": "replace", "path": "", "value": {"b": 2}}]), Some(json!({"b": 2}))),
        ] {
            assert_eq!(apply(before, &patch).ok(), after, "{patch}");
        }
    }

    #[test]
    fn refusals_have_their_codes() {
        let code = |error: PatchError| error.to_status().code;
        assert_eq!(apply(json!({}), &json!({"op": "add"})).map_err(code), Err(400));
        assert_eq!(apply(json!({}), &json!([{"op": "fly", "path": "/a"}])).map_err(code), Err(400));
        assert_eq!(apply(json!({}), &json!([{"op": "remove", "path": "/a"}])).map_err(code), Err(422));
        let many: Vec<Value> = (0..10_001).map(|_| json!({"op": "add", "path": "/a", "value": 1})).collect();
        assert_eq!(apply(json!({}), &many.into()).map_err(code), Err(413));
        let doubling: Vec<Value> = (0..40).map(|_| json!({"op": "copy", "from": "/a", "path": "/a/-"})).collect();
        assert_eq!(apply(json!({"a": ["x"]}), &doubling.into()).map_err(code), Err(413));
    }
}
