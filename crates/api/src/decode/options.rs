//! What `fieldValidation` makes of unknown and duplicate fields.

use crate::status::ApiError;

use super::Expected;

/// The query parameter `fieldValidation`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FieldValidation {
    /// Say nothing.
    Ignore,
    /// Answer a `Warning` header for each.
    #[default]
    Warn,
    /// Refuse the request.
    Strict,
}

impl FieldValidation {
    /// From the parameter's value; `None` if it is none of the three. An empty value is the default.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "" | "Warn" => Some(Self::Warn),
            "Ignore" => Some(Self::Ignore),
            "Strict" => Some(Self::Strict),
            _ => None,
        }
    }

    /// The warnings to send for these problems.
    ///
    /// # Errors
    /// With [`FieldValidation::Strict`], 400 that lists them.
    pub fn judge(self, problems: Vec<String>, expected: &Expected<'_>) -> Result<Vec<String>, ApiError> {
        match self {
            Self::Ignore => Ok(Vec::new()),
            Self::Warn => Ok(problems),
            Self::Strict if problems.is_empty() => Ok(problems),
            Self::Strict => Err(ApiError::bad_request(format!(
                "{kind} in version {:?} cannot be handled as a {kind}: {}",
                expected.version,
                strict_message(&problems),
                kind = expected.kind,
            ))),
        }
    }
}

/// `strict decoding error: unknown field "spec.foo", duplicate field "spec.bar"`.
pub fn strict_message(problems: &[String]) -> String {
    format!("strict decoding error: {}", problems.join(", "))
}

#[cfg(test)]
mod tests {
    use super::{Expected, FieldValidation};

    #[test]
    fn strict_refuses_what_warn_reports() {
        let expected = Expected::new("", "v1", "Pod");
        let problems = || vec!["unknown field \"a\"".to_string(), "duplicate field \"b\"".to_string()];
        assert_eq!(FieldValidation::Ignore.judge(problems(), &expected), Ok(vec![]));
        assert_eq!(FieldValidation::Warn.judge(problems(), &expected), Ok(problems()));
        let error = FieldValidation::Strict.judge(problems(), &expected).expect_err("strict");
        assert_eq!(
            error.message,
            "Pod in version \"v1\" cannot be handled as a Pod: strict decoding error: unknown field \"a\", duplicate field \"b\""
        );
        assert_eq!(FieldValidation::parse("strict"), None);
    }
}
