//! OpenAPI v2 and v3 documents (api-facts §1.2). They are large and seldom asked for, for clients cache them by their
//! hash: each is made when it is asked for, and none is kept.

use std::sync::OnceLock;

use http::header::{ACCEPT, CACHE_CONTROL, ETAG, EXPIRES, IF_NONE_MATCH, LOCATION, VARY};
use mizzen_api::kinds::kinds;
use mizzen_api::openapi::{self, V2_PROTOBUF, V2_PROTOBUF_ASKED};
use serde_json::Value;

use crate::answer::Answer;
use crate::dispatch::Head;

/// An answer that is fixed by its hash never changes: for caches, "for ever" is this date.
const FOR_EVER: &str = "Thu, 31 Dec 2099 23:59:59 GMT";

/// Answers what is below `/openapi`, given as its parts.
pub(super) fn answer(head: &Head<'_>, parts: &[&str]) -> Option<Answer> {
    match parts {
        ["v2"] => Some(v2(head)),
        ["v3"] => Some(Answer::json(200, &index()).with_header(VARY, "Accept")),
        ["v3", "api", version] => v3(head, "", version),
        ["v3", "apis", group, version] => v3(head, group, version),
        _ => None,
    }
}

/// Where the v3 documents are.
fn index() -> Value {
    let mut entries = Vec::new();
    for (group, versions) in kinds().groups() {
        for version in versions {
            entries.push((openapi::v3_path(group, version), openapi::hash(kinds().iter(), group, version)));
        }
    }
    openapi::v3_index(entries.iter().map(|(path, hash)| (path.as_str(), hash.as_str())))
}

fn v3(head: &Head<'_>, group: &str, version: &str) -> Option<Answer> {
    kinds().iter().find(|k| k.group == group && k.version == version)?;
    let hash = openapi::hash(kinds().iter(), group, version);
    if let Some(asked) = head.query.get("hash")
        && asked != hash
    {
        let current = format!("/openapi/v3/{}?hash={hash}", openapi::v3_path(group, version));
        return Some(Answer::bytes(301, "", "").with_header(LOCATION, &current));
    }
    let tag = format!("\"{hash}\"");
    let answer = if head.header(IF_NONE_MATCH) == tag {
        Answer::bytes(304, "", "")
    } else {
        Answer::json(200, &openapi::v3(kinds().iter(), group, version)?)
    };
    let answer = answer.with_header(ETAG, &tag).with_header(VARY, "Accept");
    Some(match head.query.get("hash") {
        Some(_) => answer.with_header(CACHE_CONTROL, "public, immutable").with_header(EXPIRES, FOR_EVER),
        None => answer,
    })
}

fn v2(head: &Head<'_>) -> Answer {
    match v2_form(head.header(ACCEPT)) {
        Some(V2Form::Json) => super::Document::new(&openapi::v2(kinds().iter())).answer(head, "application/json"),
        Some(V2Form::Protobuf) => v2_protobuf(head),
        None => Answer::bytes(406, "", ""),
    }
}

/// How the v2 document is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum V2Form {
    Json,
    Protobuf,
}

/// The first form of those that a client accepts.
fn v2_form(accept: &str) -> Option<V2Form> {
    if accept.is_empty() {
        return Some(V2Form::Json);
    }
    accept.split(',').find_map(|clause| match clause.split(';').next().unwrap_or_default().trim() {
        "application/json" | "application/*" | "*/*" => Some(V2Form::Json),
        V2_PROTOBUF | V2_PROTOBUF_ASKED => Some(V2Form::Protobuf),
        _ => None,
    })
}

/// Clients keep the document and come back with its tag, so the tag is remembered and the document is not.
static V2_PROTOBUF_TAG: OnceLock<String> = OnceLock::new();

fn v2_protobuf(head: &Head<'_>) -> Answer {
    let tagged = |answer: Answer, tag: &str| {
        answer.with_header(ETAG, tag).with_header(VARY, "Accept").with_header(CACHE_CONTROL, "public")
    };
    if let Some(tag) = V2_PROTOBUF_TAG.get()
        && head.header(IF_NONE_MATCH) == tag
    {
        return tagged(Answer::bytes(304, "", ""), tag);
    }
    let document = openapi::v2_protobuf(&openapi::v2(kinds().iter()));
    let tag = V2_PROTOBUF_TAG
        .get_or_init(|| format!("\"{}\"", super::hex(ring::digest::digest(&ring::digest::SHA512, &document).as_ref())));
    tagged(Answer::bytes(200, V2_PROTOBUF, document), tag)
}

#[cfg(test)]
mod tests {
    use super::{V2Form, v2_form};

    #[test]
    fn v2_comes_in_the_form_asked_for() {
        for (accept, expected) in [
            ("application/com.github.proto-openapi.spec.v2@v1.0+protobuf", Some(V2Form::Protobuf)),
            ("application/com.github.proto-openapi.spec.v2.v1.0+protobuf, application/json", Some(V2Form::Protobuf)),
            ("application/json", Some(V2Form::Json)),
            ("*/*", Some(V2Form::Json)),
            ("", Some(V2Form::Json)),
            ("text/html", None),
        ] {
            assert_eq!(v2_form(accept), expected, "{accept}");
        }
    }
}
