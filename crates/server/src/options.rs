//! The options of reads and writes, from query parameters (`ListOptions`, `CreateOptions`, `DeleteOptions`, …).

use mizzen_api::decode::FieldValidation;
use mizzen_api::field::FieldError;
use mizzen_api::status::ApiError;
use serde_json::Value;

use crate::query::Query;

/// The options of create, update and patch.
#[derive(Debug, Clone)]
pub struct WriteOptions {
    /// Go all the way, but store nothing.
    pub dry_run: bool,
    /// Who the fields written belong to.
    pub manager: String,
    /// What to do with unknown and duplicate fields.
    pub field_validation: FieldValidation,
    /// Apply takes conflicting fields from their managers.
    pub force: bool,
}

/// Longest field manager; the API's limit.
const MANAGER_MAX: usize = 128;

impl WriteOptions {
    /// Reads them; `apply` is whether the request is a server-side apply, which has rules of its own.
    pub fn parse(query: &Query, user_agent: &str, apply: bool) -> Result<Self, ApiError> {
        let kind = if apply { "PatchOptions" } else { "CreateOptions" };
        let dry_run = dry_run(query.all("dryRun"), kind)?;
        let asked = query.get("fieldValidation").unwrap_or_default();
        let field_validation = FieldValidation::parse(asked).ok_or_else(|| {
            let error = FieldError::not_supported("fieldValidation", asked, &["", "Ignore", "Strict", "Warn"]);
            options_error(kind, &[error])
        })?;
        let manager = match query.get("fieldManager") {
            Some(name) if name.len() > MANAGER_MAX => {
                return Err(options_error(kind, &[FieldError::too_long("fieldManager", MANAGER_MAX)]));
            }
            Some(name) if name.chars().any(|c| c.is_control()) => {
                let error = FieldError::invalid("fieldManager", name, "should only contain printable characters");
                return Err(options_error(kind, &[error]));
            }
            Some(name) => name.to_string(),
            None if apply => {
                return Err(options_error(
                    kind,
                    &[FieldError::required("fieldManager", "is required for apply patch")],
                ));
            }
            None => manager_of(user_agent),
        };
        let force = query.flag("force");
        if force && !apply {
            let error = FieldError::forbidden("force", "may not be specified for non-apply patch");
            return Err(options_error("PatchOptions", &[error]));
        }
        Ok(Self { dry_run, manager, field_validation, force })
    }
}

/// A user agent up to its first slash, cut to what a manager may be.
fn manager_of(user_agent: &str) -> String {
    let name = user_agent.split('/').next().unwrap_or_default();
    let name: String = name.chars().filter(|c| !c.is_control()).take(MANAGER_MAX).collect();
    if name.is_empty() { "unknown".into() } else { name }
}

fn dry_run<'a>(values: impl Iterator<Item = &'a str>, kind: &str) -> Result<bool, ApiError> {
    let mut dry = false;
    for value in values {
        match value {
            "" => {}
            "All" => dry = true,
            other => return Err(options_error(kind, &[FieldError::not_supported("dryRun", other, &["All"])])),
        }
    }
    Ok(dry)
}

fn options_error(kind: &str, errors: &[FieldError]) -> ApiError {
    ApiError::invalid("meta.k8s.io", kind, "", errors)
}

/// What happens to the objects that an object owns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Propagation {
    /// They lose their owner and stay.
    Orphan,
    /// They go after it.
    Background,
    /// They go before it.
    Foreground,
}

/// `DeleteOptions`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeleteOptions {
    /// Go all the way, but delete nothing.
    pub dry_run: bool,
    /// Seconds of grace; the kind's own when unset.
    pub grace: Option<i64>,
    /// See [`Propagation`].
    pub propagation: Option<Propagation>,
    /// `orphanDependents=false` was sent, which alone turns an unfinished delete's 200 into a 202.
    pub orphan_dependents: Option<bool>,
    /// The UID the object must have.
    pub uid: Option<String>,
    /// The resourceVersion the object must have.
    pub resource_version: Option<String>,
}

impl DeleteOptions {
    /// From the body if there is one, else from the query.
    pub fn parse(query: &Query, body: Option<&Value>) -> Result<Self, ApiError> {
        let options = match body {
            Some(body) => Self::from_body(body)?,
            None => Self::from_query(query)?,
        };
        if options.propagation.is_some() && options.orphan_dependents.is_some() {
            let both = "orphanDependents and deletionPropagation cannot be both set";
            let error = FieldError::invalid("propagationPolicy", query.get("propagationPolicy"), both);
            return Err(options_error("DeleteOptions", &[error]));
        }
        Ok(options)
    }

    fn from_query(query: &Query) -> Result<Self, ApiError> {
        let grace = match query.get("gracePeriodSeconds") {
            None => None,
            Some(text) => Some(text.parse().map_err(|_| {
                ApiError::bad_request(format!("invalid value for gracePeriodSeconds: {text:?} is not a number"))
            })?),
        };
        Ok(Self {
            dry_run: dry_run(query.all("dryRun"), "DeleteOptions")?,
            grace,
            propagation: query.get("propagationPolicy").map(propagation).transpose()?,
            orphan_dependents: query.has("orphanDependents").then(|| query.flag("orphanDependents")),
            uid: None,
            resource_version: None,
        })
    }

    fn from_body(body: &Value) -> Result<Self, ApiError> {
        let text = |value: &Value| value.as_str().filter(|s| !s.is_empty()).map(str::to_string);
        let dry: Vec<&str> = body["dryRun"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        Ok(Self {
            dry_run: dry_run(dry.into_iter(), "DeleteOptions")?,
            grace: body["gracePeriodSeconds"].as_i64(),
            propagation: body["propagationPolicy"].as_str().filter(|s| !s.is_empty()).map(propagation).transpose()?,
            orphan_dependents: body["orphanDependents"].as_bool(),
            uid: text(&body["preconditions"]["uid"]),
            resource_version: text(&body["preconditions"]["resourceVersion"]),
        })
    }
}

fn propagation(text: &str) -> Result<Propagation, ApiError> {
    match text {
        "Orphan" => Ok(Propagation::Orphan),
        "Background" => Ok(Propagation::Background),
        "Foreground" => Ok(Propagation::Foreground),
        other => {
            let error = FieldError::not_supported("propagationPolicy", other, &["Background", "Foreground", "Orphan"]);
            Err(options_error("DeleteOptions", &[error]))
        }
    }
}

/// How a resourceVersion is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VersionMatch {
    /// That revision and no other.
    Exact,
    /// That revision or any later.
    NotOlderThan,
}

/// `ListOptions` without the selectors.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListOptions {
    /// `None` when unset.
    pub resource_version: Option<u64>,
    /// See [`VersionMatch`].
    pub version_match: Option<VersionMatch>,
    /// Most items of one answer; 0 for all.
    pub limit: usize,
    /// The token of an earlier page, as sent.
    pub continuation: Option<String>,
    /// Seconds after which a watch ends.
    pub timeout_seconds: Option<u64>,
    /// The watch wants bookmarks.
    pub bookmarks: bool,
    /// The watch begins with the current state and a bookmark after it.
    pub initial_events: Option<bool>,
}

impl ListOptions {
    /// Reads and checks them; `watching` is whether the request is a watch (api-facts §3.3).
    pub fn parse(query: &Query, watching: bool) -> Result<Self, ApiError> {
        let version_match = match query.get("resourceVersionMatch") {
            None => None,
            Some("Exact") => Some(VersionMatch::Exact),
            Some("NotOlderThan") => Some(VersionMatch::NotOlderThan),
            Some(other) => {
                let supported = ["Exact", "NotOlderThan", ""];
                let error = FieldError::not_supported("resourceVersionMatch", other, &supported);
                return Err(options_error("ListOptions", &[error]));
            }
        };
        let resource_version = query.get("resourceVersion").map(revision).transpose()?;
        let number = |key: &str| -> Result<Option<u64>, ApiError> {
            query
                .get(key)
                .map(|text| {
                    text.parse::<i64>().map_err(|_| {
                        ApiError::bad_request(format!("invalid value for {key}: {text:?} is not a number"))
                    })
                })
                .transpose()
                .map(|n| n.map(|n| n.max(0) as u64))
        };
        let options = Self {
            resource_version,
            version_match,
            limit: number("limit")?.unwrap_or(0) as usize,
            continuation: query.get("continue").map(str::to_string),
            timeout_seconds: number("timeoutSeconds")?.filter(|s| *s > 0),
            bookmarks: query.flag("allowWatchBookmarks"),
            initial_events: query.has("sendInitialEvents").then(|| query.flag("sendInitialEvents")),
        };
        let errors = if watching { options.watch_errors() } else { options.list_errors() };
        if errors.is_empty() { Ok(options) } else { Err(options_error("ListOptions", &errors)) }
    }

    fn list_errors(&self) -> Vec<FieldError> {
        let mut errors = Vec::new();
        if let Some(how) = self.version_match {
            let mut refuse = |why: &str| errors.push(FieldError::forbidden("resourceVersionMatch", why));
            if self.resource_version.is_none() {
                refuse("resourceVersionMatch is forbidden unless resourceVersion is provided");
            }
            if self.continuation.is_some() {
                refuse("resourceVersionMatch is forbidden when continue is provided");
            }
            if how == VersionMatch::Exact && self.resource_version == Some(0) {
                refuse("resourceVersionMatch \"Exact\" is forbidden for resourceVersion \"0\"");
            }
        }
        if self.initial_events.is_some() {
            errors.push(FieldError::forbidden("sendInitialEvents", "sendInitialEvents is forbidden for list"));
        }
        errors
    }

    fn watch_errors(&self) -> Vec<FieldError> {
        let mut errors = Vec::new();
        match (self.initial_events, self.version_match) {
            (None, Some(_)) => errors.push(FieldError::forbidden(
                "resourceVersionMatch",
                "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
            )),
            (Some(_), Some(VersionMatch::NotOlderThan)) | (None, None) => {}
            (Some(_), Some(VersionMatch::Exact)) => {
                errors.push(FieldError::not_supported("resourceVersionMatch", "Exact", &["NotOlderThan"]));
            }
            (Some(_), None) => errors.push(FieldError::forbidden(
                "resourceVersionMatch",
                "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
            )),
        }
        errors
    }
}

/// A resourceVersion as sent.
pub fn revision(text: &str) -> Result<u64, ApiError> {
    text.parse().map_err(|_| {
        let error = FieldError::invalid("resourceVersion", text, "strconv.ParseUint: parsing: invalid syntax");
        ApiError::invalid("", "ListOptions", "", &[error])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn impossible_combinations_of_list_options_are_refused() {
        for (watching, query, ok) in [
            (false, "", true),
            (false, "resourceVersion=5&resourceVersionMatch=Exact", true),
            (false, "resourceVersionMatch=Exact", false),
            (false, "resourceVersion=0&resourceVersionMatch=Exact", false),
            (false, "resourceVersion=5&resourceVersionMatch=Exact&continue=x", false),
            (false, "sendInitialEvents=true", false),
            (false, "resourceVersion=x", false),
            (true, "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true", true),
            (true, "sendInitialEvents=true", false),
            (true, "resourceVersion=5&resourceVersionMatch=NotOlderThan", false),
        ] {
            assert_eq!(ListOptions::parse(&Query::parse(query), watching).is_ok(), ok, "{query}");
        }
    }

    #[test]
    fn write_options() {
        let parse = |query: &str, apply| WriteOptions::parse(&Query::parse(query), "kubectl/v1.36 (linux)", apply);
        assert_eq!(parse("", false).unwrap().manager, "kubectl");
        assert!(parse("dryRun=All", false).unwrap().dry_run);
        assert!(parse("dryRun=Some", false).is_err());
        assert!(parse("", true).is_err(), "apply needs a manager");
        assert!(parse("force=true", false).is_err());
        assert_eq!(parse("fieldValidation=Strict", false).unwrap().field_validation, FieldValidation::Strict);
    }
}
