//! Validation errors, each with the path of the field it is about (`k8s.io/apimachinery` field.Error as clients see it).

use std::fmt;

/// What is wrong with a field. The names are those of `StatusCause.reason` (`FieldValue…`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Problem {
    /// The field must be present.
    Required,
    /// The value has the wrong form.
    Invalid,
    /// The value is none of those supported.
    NotSupported,
    /// The value may not be set here.
    Forbidden,
    /// The value occurs twice where it must be unique.
    Duplicate,
    /// The object or value referred to does not exist.
    NotFound,
    /// A string is longer than allowed.
    TooLong,
    /// A list or map has more items than allowed.
    TooMany,
    /// The value has the wrong JSON type.
    TypeInvalid,
    /// The server failed to check the value.
    Internal,
}

impl Problem {
    /// The `reason` of the `StatusCause` that carries this problem.
    pub fn reason(self) -> &'static str {
        match self {
            Problem::Required => "FieldValueRequired",
            Problem::Invalid => "FieldValueInvalid",
            Problem::NotSupported => "FieldValueNotSupported",
            Problem::Forbidden => "FieldValueForbidden",
            Problem::Duplicate => "FieldValueDuplicate",
            Problem::NotFound => "FieldValueNotFound",
            Problem::TooLong => "FieldValueTooLong",
            Problem::TooMany => "FieldValueTooMany",
            Problem::TypeInvalid => "FieldValueTypeInvalid",
            Problem::Internal => "InternalError",
        }
    }

    fn words(self) -> &'static str {
        match self {
            Problem::Required => "Required value",
            Problem::Invalid | Problem::TypeInvalid => "Invalid value",
            Problem::NotSupported => "Unsupported value",
            Problem::Forbidden => "Forbidden",
            Problem::Duplicate => "Duplicate value",
            Problem::NotFound => "Not found",
            Problem::TooLong => "Too long",
            Problem::TooMany => "Too many",
            Problem::Internal => "Internal error",
        }
    }
}

/// One problem with one field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldError {
    /// What is wrong.
    pub problem: Problem,
    /// The field, as `spec.containers[0].name`.
    pub path: String,
    /// The offending value, rendered as JSON; `None` where the message shows none (required, forbidden, too long).
    pub value: Option<String>,
    /// What would be right.
    pub detail: String,
}

impl FieldError {
    /// The field is missing.
    pub fn required(path: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { problem: Problem::Required, path: path.into(), value: None, detail: detail.into() }
    }

    /// The value has the wrong form. `value` is shown as JSON.
    pub fn invalid(path: impl Into<String>, value: impl serde::Serialize, detail: impl Into<String>) -> Self {
        Self { problem: Problem::Invalid, path: path.into(), value: Some(render(value)), detail: detail.into() }
    }

    /// The value is not among `supported`.
    pub fn not_supported(path: impl Into<String>, value: impl serde::Serialize, supported: &[&str]) -> Self {
        let mut sorted: Vec<String> = supported.iter().map(|s| format!("{s:?}")).collect();
        sorted.sort();
        let detail = if sorted.is_empty() { String::new() } else { format!("supported values: {}", sorted.join(", ")) };
        Self { problem: Problem::NotSupported, path: path.into(), value: Some(render(value)), detail }
    }

    /// The field may not be set (or changed) here.
    pub fn forbidden(path: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { problem: Problem::Forbidden, path: path.into(), value: None, detail: detail.into() }
    }

    /// The value occurs twice.
    pub fn duplicate(path: impl Into<String>, value: impl serde::Serialize) -> Self {
        Self { problem: Problem::Duplicate, path: path.into(), value: Some(render(value)), detail: String::new() }
    }

    /// What the value names does not exist.
    pub fn not_found(path: impl Into<String>, value: impl serde::Serialize) -> Self {
        Self { problem: Problem::NotFound, path: path.into(), value: Some(render(value)), detail: String::new() }
    }

    /// The string is longer than `max` bytes.
    pub fn too_long(path: impl Into<String>, max: usize) -> Self {
        let detail = format!("may not be more than {max} bytes");
        Self { problem: Problem::TooLong, path: path.into(), value: None, detail }
    }

    /// The list has `actual` items, `max` are allowed.
    pub fn too_many(path: impl Into<String>, actual: usize, max: usize) -> Self {
        let detail = format!("must have at most {max} items");
        Self { problem: Problem::TooMany, path: path.into(), value: Some(actual.to_string()), detail }
    }

    /// The text without the path, as `StatusCause.message` carries it.
    pub fn message(&self) -> String {
        let mut text = self.problem.words().to_string();
        if let Some(value) = &self.value {
            text.push_str(": ");
            text.push_str(value);
        }
        if !self.detail.is_empty() {
            text.push_str(": ");
            text.push_str(&self.detail);
        }
        text
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.message())
    }
}

fn render(value: impl serde::Serialize) -> String {
    serde_json::to_string(&value).unwrap_or_else(|_| "<unprintable>".into())
}

#[cfg(test)]
mod tests {
    use super::FieldError;

    #[test]
    fn reads_as_kubernetes_words_it() {
        for (error, text) in [
            (FieldError::required("spec.x", ""), "spec.x: Required value"),
            (FieldError::invalid("a[0]", "B", "must be lower case"), "a[0]: Invalid value: \"B\": must be lower case"),
            (
                FieldError::not_supported("t", "X", &["TCP", "SCTP"]),
                "t: Unsupported value: \"X\": supported values: \"SCTP\", \"TCP\"",
            ),
            (FieldError::too_long("n", 63), "n: Too long: may not be more than 63 bytes"),
        ] {
            assert_eq!(error.to_string(), text);
        }
    }
}
