//! Output of a handler → answer: encodings, shapes, versions, warnings.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use mizzen_api::kinds::convert;
use mizzen_api::protobuf;
use mizzen_api::status::ApiError;
use mizzen_store::Entry;
use serde_json::{Value, json};

use crate::answer::Answer;
use crate::dispatch::Ctx;
use crate::negotiate::{Encoding, Format, Shape};
use crate::registry::Resource;
use crate::registry::list::Page;
use crate::shapes;

/// What a handler answers.
pub(crate) struct Output {
    pub code: u16,
    pub body: Body,
    pub warnings: Vec<String>,
}

/// The object or objects of an answer.
pub(crate) enum Body {
    /// A stored object.
    Entry(Arc<Entry>),
    /// An object of the requested kind in its storage version that is not stored (a dry run, an object just deleted).
    Stored(Value),
    /// Any other object, as it is: a Status, a Scale.
    Other(Value),
    /// A page of a list.
    List(Page),
}

impl Output {
    /// An answer without warnings.
    pub fn new(code: u16, body: Body) -> Self {
        Self { code, body, warnings: Vec::new() }
    }

    /// `Status` of success about an object.
    pub fn success(code: u16, details: Value) -> Self {
        let mut status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"});
        if !details.is_null() {
            status["details"] = details;
        }
        if code != 200 {
            status["code"] = code.into();
        }
        Self::new(code, Body::Other(status))
    }

    /// Adds warnings.
    #[must_use]
    pub fn warn(mut self, warnings: Vec<String>) -> Self {
        self.warnings = warnings;
        self
    }
}

/// Renders an output in the format that was negotiated.
pub(crate) fn answer(ctx: &Ctx<'_>, output: Output) -> Result<Answer, ApiError> {
    let Output { code, body, warnings } = output;
    let answer = match body {
        Body::List(page) => crate::registry::list::render(ctx, page)?,
        Body::Other(value) => encoded(code, &value, ctx.format),
        Body::Entry(entry) => stored_entry(ctx, code, &entry)?,
        Body::Stored(value) => stored_value(ctx, code, value),
    };
    Ok(warned(answer, warnings))
}

/// Adds warnings to an answer.
pub(crate) fn warned(mut answer: Answer, warnings: Vec<String>) -> Answer {
    for text in warning_headers(warnings) {
        answer.headers.push((http::header::WARNING, text));
    }
    answer
}

fn stored_entry(ctx: &Ctx<'_>, code: u16, entry: &Entry) -> Result<Answer, ApiError> {
    if ctx.format == Format::JSON && !ctx.kind().is_converted() {
        return Ok(Answer::bytes(code, "application/json", entry.value.clone()));
    }
    Ok(stored_value(ctx, code, parse(entry)?))
}

fn stored_value(ctx: &Ctx<'_>, code: u16, value: Value) -> Answer {
    let shaped = match ctx.format.shape {
        Shape::Full => served(&ctx.resource, value),
        Shape::Table(version) => {
            let include = shapes::Include::parse(ctx.head.query.get("includeObject"));
            let now = ctx.now.as_second();
            let metadata = shapes::single_metadata(&value);
            let row = shapes::row(&ctx.resource, value, version, include, now);
            shapes::table(&ctx.resource.storage, version, metadata, vec![row], true)
        }
        Shape::Metadata(version) => shapes::partial(&value, version),
    };
    encoded(code, &shaped, ctx.format)
}

/// A stored object in the version that was asked for.
pub(crate) fn served(resource: &Resource, stored: Value) -> Value {
    if resource.kind.is_converted() { convert(stored, &resource.storage, &resource.kind) } else { stored }
}

/// Decodes a stored entry.
pub(crate) fn parse(entry: &Entry) -> Result<Value, ApiError> {
    serde_json::from_slice(&entry.value)
        .map_err(|source| ApiError::internal(format_args!("stored object {} is unreadable: {source}", entry.key)))
}

/// A value in the encoding that was negotiated.
pub(crate) fn encoded(code: u16, value: &Value, format: Format) -> Answer {
    let bytes: Bytes = match format.encoding {
        Encoding::Json if format.pretty => format!("{value:#}\n").into(),
        Encoding::Json => value.to_string().into(),
        Encoding::Yaml => crate::yaml::to_string(value).into(),
        Encoding::Protobuf => match protobuf::encode(value) {
            Some(bytes) => bytes.into(),
            // A kind without a protobuf form; clients go by the content type of the answer.
            None => return Answer::json(code, value),
        },
    };
    Answer::bytes(code, Cow::Borrowed(format.content_type()), bytes)
}

/// All warnings of one answer together; beyond that each is cut (api-facts §2.5).
const WARNINGS_TOTAL: usize = 4096;
/// What is left of each then.
const WARNING_CUT: usize = 256;

fn warning_headers(warnings: Vec<String>) -> Vec<HeaderValue> {
    let mut distinct: Vec<String> = Vec::new();
    for warning in warnings {
        let clean: String = warning.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        if !clean.is_empty() && !distinct.contains(&clean) {
            distinct.push(clean);
        }
    }
    let total: usize = distinct.iter().map(|w| w.chars().count()).sum();
    let cut = if total > WARNINGS_TOTAL { WARNING_CUT } else { usize::MAX };
    let header = |text: &String| {
        let text: String = text.chars().take(cut).collect();
        let quoted = text.replace('\\', "\\\\").replace('"', "\\\"");
        HeaderValue::from_bytes(format!("299 - \"{quoted}\"").as_bytes()).ok()
    };
    distinct.iter().filter_map(header).collect()
}

/// A header that names who the answer's request was, in logs of both sides.
pub(crate) const AUDIT_ID: HeaderName = HeaderName::from_static("audit-id");

#[cfg(test)]
mod tests {
    #[test]
    fn warnings_are_quoted_and_told_once() {
        let headers = super::warning_headers(vec!["unknown field \"a\"".into(), "b\nc".into(), "b\nc".into()]);
        assert_eq!(headers, ["299 - \"unknown field \\\"a\\\"\"", "299 - \"b c\""]);
        let long = super::warning_headers((0..40).map(|n| format!("{n}{}", "x".repeat(300))).collect());
        assert!(long.iter().all(|h| h.len() < 300));
    }
}
