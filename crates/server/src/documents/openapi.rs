//! OpenAPI v2 and v3 documents (api-facts §1.2). They are large and seldom asked for, for clients cache them by their
//! hash: each is made when it is asked for, and only the hashes are kept.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{ACCEPT, CACHE_CONTROL, ETAG, EXPIRES, IF_NONE_MATCH, LOCATION, VARY};
use mizzen_api::kind::KindRef;
use mizzen_api::kinds::kinds;
use mizzen_api::openapi::{self, V2_PROTOBUF, V2_PROTOBUF_ASKED};
use mizzen_store::Revision;
use serde_json::Value;

use crate::aggregation;
use crate::answer::Answer;
use crate::crd::Definitions;
use crate::dispatch::Head;
use crate::server::Core;

/// An answer that is fixed by its hash never changes: for caches, "for ever" is this date.
const FOR_EVER: &str = "Thu, 31 Dec 2099 23:59:59 GMT";

/// Answers what is below `/openapi`, given as its parts.
pub(super) fn answer(core: &Core, head: &Head<'_>, parts: &[&str]) -> Option<Answer> {
    match parts {
        ["v2"] => Some(v2(core, head)),
        ["v3"] => Some(Answer::json(200, &index(core)).with_header(VARY, "Accept")),
        ["v3", "api", version] => v3(core, head, "", version),
        ["v3", "apis", group, version] => v3(core, head, group, version),
        _ => None,
    }
}

/// Where the v3 documents are.
fn index(core: &Core) -> Value {
    let mut entries: Vec<(String, String)> = Vec::new();
    let published = published(core);
    for kind in &published {
        let path = openapi::v3_path(&kind.group, &kind.version);
        if !entries.iter().any(|(known, _)| *known == path) {
            entries.push((path, openapi::hash(published.iter().map(|k| &**k), &kind.group, &kind.version)));
        }
    }
    let others = aggregation::v3_entries(&core.aggregation, &core.store.snapshot());
    entries.retain(|(path, _)| !others.iter().any(|(other, _)| other == path));
    entries.extend(others);
    openapi::v3_index(entries.iter().map(|(path, hash)| (path.as_str(), hash.as_str())))
}

/// All kinds that have a place in the documents.
fn published(core: &Core) -> Vec<KindRef> {
    let custom = core.definitions.told(&core.store.snapshot());
    kinds().iter().map(KindRef::BuiltIn).chain(custom).collect()
}

fn v3(core: &Core, head: &Head<'_>, group: &str, version: &str) -> Option<Answer> {
    let published: Vec<KindRef> =
        published(core).into_iter().filter(|k| k.group == group && k.version == version).collect();
    let kinds = || published.iter().map(|k| &**k);
    kinds().next()?;
    let hash = openapi::hash(kinds(), group, version);
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
        Answer::json(200, &openapi::v3(kinds(), group, version)?)
    };
    let answer = answer.with_header(ETAG, &tag).with_header(VARY, "Accept");
    Some(match head.query.get("hash") {
        Some(_) => answer.with_header(CACHE_CONTROL, "public, immutable").with_header(EXPIRES, FOR_EVER),
        None => answer,
    })
}

fn v2(core: &Core, head: &Head<'_>) -> Answer {
    let Some(form) = v2_form(head.header(ACCEPT)) else { return Answer::bytes(406, "", "") };
    let snapshot = core.store.snapshot();
    let of = (Definitions::fingerprint(&snapshot), core.aggregation.generation(&snapshot));
    let tagged = |answer: Answer, tag: &str| {
        answer.with_header(ETAG, tag).with_header(VARY, "Accept").with_header(CACHE_CONTROL, "public")
    };
    let known = core.documents.v2_tags.load_full().filter(|known| known.of == of);
    if let Some(tag) = known.as_ref().and_then(|known| known.tags[form as usize].as_deref())
        && head.header(IF_NONE_MATCH) == tag
    {
        return tagged(Answer::bytes(304, "", ""), tag);
    }
    let published = published(core);
    let mut document = openapi::v2(published.iter().map(|k| &**k));
    aggregation::merge_v2(&core.aggregation, &snapshot, &mut document);
    let (content_type, bytes) = match form {
        V2Form::Json => ("application/json", Bytes::from(document.to_string())),
        V2Form::Protobuf => (V2_PROTOBUF, Bytes::from(openapi::v2_protobuf(&document))),
    };
    let tag = format!("\"{}\"", super::hex(ring::digest::digest(&ring::digest::SHA512, &bytes).as_ref()));
    let mut tags = known.map(|known| known.tags.clone()).unwrap_or_default();
    tags[form as usize] = Some(tag.clone());
    core.documents.v2_tags.store(Some(Arc::new(Tags { of, tags })));
    if head.header(IF_NONE_MATCH) == tag {
        return tagged(Answer::bytes(304, "", ""), &tag);
    }
    tagged(Answer::bytes(200, content_type, bytes), &tag)
}

/// The tags of the v2 document's forms as of a state of the definitions: clients keep the document and come back with its
/// tag, so the tag is remembered and the document is not.
#[derive(Debug)]
pub(super) struct Tags {
    of: ((usize, Revision), u64),
    tags: [Option<String>; 2],
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
