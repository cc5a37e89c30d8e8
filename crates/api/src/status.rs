//! The errors of the API: `meta/v1 Status` with its code, reason and details (api-facts §5).

use std::borrow::Cow;

use serde_json::{Value, json};

use crate::field::FieldError;

/// A refused or failed request, as the client will read it.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// HTTP status code.
    pub code: u16,
    /// `Status.reason`, empty where Kubernetes gives none; anything where a webhook gave it.
    pub reason: Cow<'static, str>,
    /// `Status.message`.
    pub message: String,
    /// `Status.details`, if any.
    pub details: Option<Box<Details>>,
}

/// `Status.details`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Details {
    /// Name of the object, if known.
    pub name: String,
    /// API group of the resource.
    pub group: String,
    /// The resource (plural) or, for invalid objects, the kind.
    pub kind: String,
    /// UID of the object.
    pub uid: String,
    /// What exactly was wrong: reason, message, field.
    pub causes: Vec<Cause>,
    /// Seconds after which the client may try again.
    pub retry_after_seconds: Option<u32>,
    /// Of an expired list: the token that goes on at the newest state. Stands in the metadata of the `Status`.
    pub continue_token: Option<String>,
}

/// `StatusCause`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Cause {
    /// Machine-readable reason.
    pub reason: String,
    /// Words for people.
    pub message: String,
    /// Path of the field, if one is to blame.
    pub field: String,
}

/// The resource an error speaks of; prints as `deployments.apps` or `pods`.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// API group, empty for core.
    pub group: &'a str,
    /// Plural resource name.
    pub resource: &'a str,
}

impl std::fmt::Display for Subject<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.group.is_empty() { f.write_str(self.resource) } else { write!(f, "{}.{}", self.resource, self.group) }
    }
}

impl ApiError {
    /// An error with neither details nor retry.
    pub fn plain(code: u16, reason: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self { code, reason: reason.into(), message: message.into(), details: None }
    }

    fn about(code: u16, reason: &'static str, what: Subject<'_>, name: &str, message: String) -> Self {
        let details =
            Details { name: name.into(), group: what.group.into(), kind: what.resource.into(), ..Details::default() };
        Self { code, reason: reason.into(), message, details: Some(Box::new(details)) }
    }

    /// 400: the request cannot be understood.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::plain(400, "BadRequest", message)
    }

    /// 401: nobody knows who is asking.
    pub fn unauthorized() -> Self {
        Self::plain(401, "Unauthorized", "Unauthorized")
    }

    /// 403: `<resource> "<name>" is forbidden: <why>`.
    pub fn forbidden(what: Subject<'_>, name: &str, why: &str) -> Self {
        let message = match (what.resource.is_empty(), name.is_empty()) {
            (true, _) => format!("forbidden: {why}"),
            (false, true) => format!("{what} is forbidden: {why}"),
            (false, false) => format!("{what} {name:?} is forbidden: {why}"),
        };
        Self::about(403, "Forbidden", what, name, message)
    }

    /// 404: no such object.
    pub fn not_found(what: Subject<'_>, name: &str) -> Self {
        Self::about(404, "NotFound", what, name, format!("{what} {name:?} not found"))
    }

    /// 404: no such path or resource.
    pub fn no_resource() -> Self {
        let mut error = Self::plain(404, "NotFound", "the server could not find the requested resource");
        error.details = Some(Box::default());
        error
    }

    /// 405: the resource does not support the verb.
    pub fn method_not_allowed() -> Self {
        let mut error =
            Self::plain(405, "MethodNotAllowed", "the server does not allow this method on the requested resource");
        error.details = Some(Box::default());
        error
    }

    /// 409: the name is taken.
    pub fn already_exists(what: Subject<'_>, name: &str) -> Self {
        Self::about(409, "AlreadyExists", what, name, format!("{what} {name:?} already exists"))
    }

    /// 409: `Operation cannot be fulfilled on <resource> "<name>": <why>`.
    pub fn conflict(what: Subject<'_>, name: &str, why: &str) -> Self {
        Self::about(409, "Conflict", what, name, format!("Operation cannot be fulfilled on {what} {name:?}: {why}"))
    }

    /// 409: the object changed since the client read it.
    pub fn modified(what: Subject<'_>, name: &str) -> Self {
        let why = "the object has been modified; please apply your changes to the latest version and try again";
        Self::conflict(what, name, why)
    }

    /// 410: the revision asked for is compacted.
    pub fn expired(message: impl Into<String>) -> Self {
        Self::plain(410, "Expired", message)
    }

    /// 422: the object breaks rules; every broken one is listed.
    pub fn invalid(group: &str, kind: &str, name: &str, errors: &[FieldError]) -> Self {
        let subject = Subject { group, resource: kind };
        let causes = errors
            .iter()
            .map(|e| Cause { reason: e.problem.reason().into(), message: e.message(), field: e.path.clone() })
            .collect();
        let listed: Vec<String> = errors.iter().map(ToString::to_string).collect();
        let text = match listed.as_slice() {
            [] => String::new(),
            [one] => one.clone(),
            many => format!("[{}]", many.join(", ")),
        };
        let message = format!("{subject} {name:?} is invalid: {text}");
        let mut error = Self::about(422, "Invalid", subject, name, message);
        if let Some(details) = &mut error.details {
            details.causes = causes;
        }
        error
    }

    /// 429: try again after `seconds`.
    pub fn too_many_requests(message: impl Into<String>, seconds: u32) -> Self {
        let details = Details { retry_after_seconds: Some(seconds), ..Details::default() };
        Self { code: 429, reason: "TooManyRequests".into(), message: message.into(), details: Some(Box::new(details)) }
    }

    /// 500: the server failed.
    pub fn internal(message: impl std::fmt::Display) -> Self {
        Self::plain(500, "InternalError", format!("Internal error occurred: {message}"))
    }

    /// 503: not now.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::plain(503, "ServiceUnavailable", message)
    }

    /// 504: the time for the request is over.
    pub fn timeout(message: impl Into<String>) -> Self {
        Self::plain(504, "Timeout", message)
    }

    /// Adds a cause to the details.
    #[must_use]
    pub fn with_cause(mut self, reason: &str, message: &str, field: &str) -> Self {
        let details = self.details.get_or_insert_default();
        details.causes.push(Cause { reason: reason.into(), message: message.into(), field: field.into() });
        self
    }

    /// The `v1 Status` object.
    pub fn to_status(&self) -> Value {
        let mut status =
            json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": self.message});
        if !self.reason.is_empty() {
            status["reason"] = self.reason.as_ref().into();
        }
        if let Some(details) = &self.details {
            status["details"] = details.to_json();
            if let Some(token) = &details.continue_token {
                status["metadata"]["continue"] = token.as_str().into();
            }
        }
        status["code"] = self.code.into();
        status
    }
}

impl Details {
    /// The details of a `Status` that somebody else wrote.
    pub fn from_json(details: &Value) -> Self {
        let of = |value: &Value, field: &str| value[field].as_str().unwrap_or_default().to_string();
        let text = |field: &str| of(details, field);
        let causes = details["causes"].as_array().into_iter().flatten();
        let cause = |cause: &Value| Cause {
            reason: of(cause, "reason"),
            message: of(cause, "message"),
            field: of(cause, "field"),
        };
        Self {
            name: text("name"),
            group: text("group"),
            kind: text("kind"),
            uid: text("uid"),
            causes: causes.map(cause).collect(),
            retry_after_seconds: details["retryAfterSeconds"].as_u64().and_then(|seconds| u32::try_from(seconds).ok()),
            continue_token: None,
        }
    }

    fn to_json(&self) -> Value {
        let mut out = json!({});
        for (field, text) in [("name", &self.name), ("group", &self.group), ("kind", &self.kind), ("uid", &self.uid)] {
            if !text.is_empty() {
                out[field] = text.as_str().into();
            }
        }
        if !self.causes.is_empty() {
            let causes = self.causes.iter().map(|c| {
                let mut cause = json!({"reason": c.reason, "message": c.message});
                if !c.field.is_empty() {
                    cause["field"] = c.field.as_str().into();
                }
                cause
            });
            out["causes"] = causes.collect();
        }
        if let Some(seconds) = self.retry_after_seconds {
            out["retryAfterSeconds"] = seconds.into();
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::{ApiError, Subject};
    use crate::field::FieldError;

    #[test]
    fn messages_are_those_clients_match_on() {
        let pods = Subject { group: "", resource: "pods" };
        let sets = Subject { group: "apps", resource: "replicasets" };
        for (error, code, text) in [
            (ApiError::not_found(pods, "a"), 404, "pods \"a\" not found"),
            (ApiError::already_exists(sets, "a"), 409, "replicasets.apps \"a\" already exists"),
            (
                ApiError::invalid("", "Pod", "a", &[FieldError::required("spec.containers", "")]),
                422,
                "Pod \"a\" is invalid: spec.containers: Required value",
            ),
        ] {
            assert_eq!((error.code, error.message.as_str()), (code, text));
            assert_eq!(error.to_status()["code"], code);
        }
    }
}
