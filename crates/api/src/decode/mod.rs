//! From the bytes of a request to a well-formed object: JSON or YAML, limits, duplicate and unknown fields, types.
//!
//! Errors are in the words of Kubernetes' decoder, since clients and tests match on them.

mod options;
mod tree;

use serde_json::Value;

use crate::crd::Custom;
use crate::kind::Kind;
use crate::schema::{self, Object, TypeError};
use crate::status::ApiError;

pub use options::FieldValidation;

/// Largest body that is read (3 MiB, as in Kubernetes).
pub const BODY_MAX: usize = 3 * 1024 * 1024;

/// What is let in.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Most bytes.
    pub bytes_max: usize,
    /// Most levels of lists and objects.
    pub depth_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        // serde_json itself stops at 128 levels; no Kubernetes object comes near.
        Self { bytes_max: BODY_MAX, depth_max: 120 }
    }
}

/// The text format of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `application/json`.
    Json,
    /// `application/yaml`; JSON is YAML as well.
    Yaml,
}

/// A value, and what a strict reader would refuse about it.
#[derive(Debug, Clone, PartialEq)]
pub struct Decoded {
    /// The value; of duplicate fields the last.
    pub value: Value,
    /// `duplicate field "spec.bar"`, `unknown field "spec.foo"`.
    pub problems: Vec<String>,
}

/// Bytes that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Too many bytes.
    #[error("limit is {max}")]
    TooLarge {
        /// The limit.
        max: usize,
    },
    /// Too many levels.
    #[error("exceeded max depth")]
    TooDeep,
    /// Not JSON.
    #[error("json parse error: {message}")]
    Json {
        /// What the parser said.
        message: String,
    },
    /// Not YAML.
    #[error("yaml: {message}")]
    Yaml {
        /// What the parser said.
        message: String,
    },
}

/// Reads JSON.
///
/// # Errors
/// [`DecodeError`]: too large, too deep, or no JSON.
pub fn json(bytes: &[u8], limits: Limits) -> Result<Decoded, DecodeError> {
    if bytes.len() > limits.bytes_max {
        return Err(DecodeError::TooLarge { max: limits.bytes_max });
    }
    tree::json(bytes, limits)
}

/// Reads one YAML document.
///
/// # Errors
/// [`DecodeError`]: too large, too deep, or no YAML.
pub fn yaml(bytes: &[u8], limits: Limits) -> Result<Decoded, DecodeError> {
    if bytes.len() > limits.bytes_max {
        return Err(DecodeError::TooLarge { max: limits.bytes_max });
    }
    tree::yaml(bytes, limits)
}

/// What the body of a request must be: the kind itself, or the body of a sub-resource.
#[derive(Debug, Clone, Copy)]
pub struct Expected<'a> {
    /// API group, empty for core.
    pub group: &'a str,
    /// Version.
    pub version: &'a str,
    /// Kind.
    pub kind: &'a str,
    /// Its type, if known; without one only `apiVersion` and `kind` are checked.
    pub ty: Option<&'static Object>,
    /// What the definition of a custom resource says of it.
    pub custom: Option<&'a Custom>,
}

impl<'a> Expected<'a> {
    /// An object of this group, version and kind.
    pub fn new(group: &'a str, version: &'a str, kind: &'a str) -> Self {
        Self { group, version, kind, ty: schema::by_gvk(group, version, kind), custom: None }
    }

    /// An object of a kind.
    pub fn of(kind: &'a Kind) -> Self {
        let (group, version, name) = (&*kind.group, &*kind.version, &*kind.kind);
        match kind.custom.as_deref() {
            None => Self::new(group, version, name),
            custom => Self { group, version, kind: name, ty: None, custom },
        }
    }

    /// `apps/v1`, or `v1` for the core group.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.into() } else { format!("{}/{}", self.group, self.version) }
    }
}

/// Reads the body of a create or update: an object of the expected kind, in canonical form, with `apiVersion` and `kind`.
///
/// # Errors
/// 400 as Kubernetes words it, or 413 for a body that is too large.
pub fn object(bytes: &[u8], format: Format, expected: &Expected<'_>, limits: Limits) -> Result<Decoded, ApiError> {
    let read = match format {
        Format::Json => json(bytes, limits),
        Format::Yaml => yaml(bytes, limits),
    };
    let decoded = read.map_err(|error| unreadable(&error, expected))?;
    admit(decoded, expected)
}

/// The second half of [`object`]: checks and completes a value that was read already.
///
/// # Errors
/// 400 as Kubernetes words it.
pub fn admit(mut decoded: Decoded, expected: &Expected<'_>) -> Result<Decoded, ApiError> {
    check_kind(&mut decoded.value, expected)?;
    if let Some(ty) = expected.ty {
        let duplicates: Vec<&str> = decoded.problems.iter().filter_map(|p| tree::duplicate_path(p)).collect();
        let found = schema::admit_with(&mut decoded.value, ty, &duplicates);
        let found = found.map_err(|error| wrong_type(&error, expected))?;
        // Those told by path are among the found, in the order of the document.
        decoded.problems.retain(|problem| tree::duplicate_path(problem).is_none());
        decoded.problems.extend(found);
    }
    if let Some(custom) = expected.custom {
        let unknown = custom.admit(&mut decoded.value).map_err(|error| wrong_type(&error, expected))?;
        decoded.problems.extend(unknown);
    }
    Ok(decoded)
}

fn unreadable(error: &DecodeError, expected: &Expected<'_>) -> ApiError {
    match error {
        DecodeError::TooLarge { .. } => {
            ApiError::plain(413, "RequestEntityTooLarge", format!("Request entity too large: {error}"))
        }
        DecodeError::TooDeep => wrong(expected, error),
        DecodeError::Json { .. } | DecodeError::Yaml { .. } => ApiError::bad_request(format!(
            "the object provided is unrecognized (must be of type {}): couldn't get version/kind; {error}",
            expected.kind
        )),
    }
}

/// `Deployment in version "v1" cannot be handled as a Deployment: …`
fn wrong(expected: &Expected<'_>, why: impl std::fmt::Display) -> ApiError {
    let Expected { version, kind, .. } = expected;
    ApiError::bad_request(format!("{kind} in version {version:?} cannot be handled as a {kind}: {why}"))
}

/// The error for a value whose type is wrong.
pub fn wrong_type(error: &TypeError, expected: &Expected<'_>) -> ApiError {
    wrong(expected, error)
}

/// Checks `apiVersion` and `kind`, and fills them in where they are missing: first of all fields, as kubectl prints them.
fn check_kind(value: &mut Value, expected: &Expected<'_>) -> Result<(), ApiError> {
    let Value::Object(map) = value else {
        return Err(wrong(
            expected,
            format!("json: cannot unmarshal into Go value of type {}.{}", expected.version, expected.kind),
        ));
    };
    let text = |field: &str| match map.get(field) {
        None | Some(Value::Null) => Ok(""),
        Some(Value::String(text)) => Ok(text.as_str()),
        Some(_) => Err(ApiError::bad_request(format!(
            "the object provided is unrecognized (must be of type {}): couldn't get version/kind; json parse error: \
             json: cannot unmarshal into Go struct field .{field} of type string",
            expected.kind
        ))),
    };
    let (api_version, kind) = (text("apiVersion")?, text("kind")?);
    let wanted = expected.api_version();
    if !api_version.is_empty() && api_version != wanted {
        return Err(ApiError::bad_request(format!(
            "the API version in the data ({api_version}) does not match the expected API version ({wanted})"
        )));
    }
    if !kind.is_empty() && kind != expected.kind {
        return Err(ApiError::bad_request(format!(
            "{kind} in version {:?} cannot be handled as a {}: converting to {} is not possible",
            expected.version, expected.kind, expected.kind
        )));
    }
    let (no_version, no_kind) = (api_version.is_empty(), kind.is_empty());
    if no_kind {
        map.shift_remove("kind");
        map.shift_insert(0, "kind".into(), expected.kind.into());
    }
    if no_version {
        map.shift_remove("apiVersion");
        map.shift_insert(0, "apiVersion".into(), wanted.into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Expected, Format, Limits, object};

    fn deployment() -> Expected<'static> {
        Expected::new("apps", "v1", "Deployment")
    }

    #[test]
    fn bodies_are_read_and_completed() {
        for (format, body, duplicate) in [
            (
                Format::Json,
                r#"{"metadata":{"name":"a"},"spec":{"replicas":2,"foo":1,"replicas":3}}"#,
                "duplicate field \"spec.replicas\"",
            ),
            (
                Format::Yaml,
                "metadata: {name: a}\nspec:\n  replicas: 2\n  foo: 1\n  replicas: 3\n",
                "yaml: unmarshal errors:\n  line 5: key \"replicas\" already set in map",
            ),
        ] {
            let decoded = object(body.as_bytes(), format, &deployment(), Limits::default()).expect("readable");
            let expected = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a"}, "spec": {"replicas": 3}});
            assert_eq!(decoded.value, expected);
            assert_eq!(decoded.problems, [duplicate, "unknown field \"spec.foo\""]);
            assert_eq!(decoded.value.as_object().and_then(|m| m.keys().next()).map(String::as_str), Some("apiVersion"));
        }
    }

    #[test]
    fn problems_are_told_in_the_order_of_the_document() {
        let body = r#"{"spec":{"unknown1":1,"unknownDupe":1,"unknownDupe":2,"paused":true,"paused":false,
            "template":{"spec":{"containers":[{"name":"a","nested":1,"image":"a","image":"b"}]}}},
            "metadata":{"labels":{"a":"1","a":"2"}}}"#;
        let decoded = object(body.as_bytes(), Format::Json, &deployment(), Limits::default()).expect("readable");
        let expected = [
            "unknown field \"spec.unknown1\"",
            "unknown field \"spec.unknownDupe\"",
            "duplicate field \"spec.paused\"",
            "unknown field \"spec.template.spec.containers[0].nested\"",
            "duplicate field \"spec.template.spec.containers[0].image\"",
            "duplicate field \"metadata.labels.a\"",
        ];
        assert_eq!(decoded.problems, expected);
    }

    #[test]
    fn refusals_read_as_kubernetes_words_them() {
        for (body, code, text) in [
            (
                r#"{"spec":{"replicas":"x"}}"#.to_string(),
                400,
                "Deployment in version \"v1\" cannot be handled as a Deployment: json: cannot unmarshal string into Go \
                 struct field DeploymentSpec.spec.replicas of type int32",
            ),
            (
                r#"{"apiVersion":"v1","kind":"Deployment"}"#.to_string(),
                400,
                "the API version in the data (v1) does not match the expected API version (apps/v1)",
            ),
            (r#"{"kind":"Pod"}"#.to_string(), 400, "Pod in version \"v1\" cannot be handled as a Deployment"),
            (
                "{".to_string(),
                400,
                "the object provided is unrecognized (must be of type Deployment): couldn't get version/kind; json parse error: ",
            ),
            ("[]".to_string(), 400, "Deployment in version \"v1\" cannot be handled as a Deployment: "),
            ("{}x".to_string(), 400, "the object provided is unrecognized"),
            (
                format!("{{\"metadata\":{}1{}}}", "[".repeat(200), "]".repeat(200)),
                400,
                "Deployment in version \"v1\" cannot be handled",
            ),
            (" ".repeat(super::BODY_MAX + 1), 413, "Request entity too large: limit is 3145728"),
        ] {
            let error = object(body.as_bytes(), Format::Json, &deployment(), Limits::default()).expect_err(text);
            assert_eq!(error.code, code, "{text}");
            assert!(error.message.starts_with(text), "{}", error.message);
        }
    }
}
