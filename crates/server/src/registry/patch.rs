//! PATCH: JSON patch, merge patch, strategic merge patch, server-side apply (api-facts §4).

use bytes::Bytes;
use mizzen_api::field::FieldError;
use mizzen_api::status::ApiError;
use serde_json::Value;

use super::create;
use super::update::{Proposal, Target, change, requested};
use crate::dispatch::Ctx;
use crate::negotiate::{media, unsupported};
use crate::options::WriteOptions;
use crate::render::Output;

/// Most operations of a JSON patch; the API's limit.
const OPERATIONS_MAX: usize = 10_000;

/// The types of patches that built-in kinds accept.
const TYPES: [&str; 4] = [
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
];

/// A patch that was read.
pub(crate) enum Patch {
    /// RFC 6902.
    Json(json_patch::Patch),
    /// RFC 7396.
    Merge(Value),
    /// Kubernetes' own.
    Strategic(Value),
}

/// Answers a PATCH to an object.
pub(crate) async fn handle(ctx: &Ctx<'_>, sent: &Bytes) -> Result<Output, ApiError> {
    to(ctx, sent, Target::Main).await
}

/// Answers a PATCH to an object or its status.
pub(crate) async fn to(ctx: &Ctx<'_>, sent: &Bytes, target: Target) -> Result<Output, ApiError> {
    let content_type = media(Some(ctx.head.header(http::header::CONTENT_TYPE)));
    let options = |apply| WriteOptions::parse(ctx.head.query, ctx.head.header(http::header::USER_AGENT), apply);
    if content_type == "application/apply-patch+yaml" {
        return Err(unsupported(&TYPES));
    }
    let patch = read(content_type, sent)?;
    let options = options(false)?;
    change(ctx, target, &options, |old| propose(ctx, &patch, old)).await
}

/// Reads a patch of one of the types.
pub(crate) fn read(content_type: &str, sent: &Bytes) -> Result<Patch, ApiError> {
    let bad = |error: serde_json::Error| ApiError::bad_request(format!("error decoding patch: {error}"));
    match content_type {
        "application/json-patch+json" => {
            let patch: json_patch::Patch = serde_json::from_slice(sent).map_err(bad)?;
            if patch.0.len() > OPERATIONS_MAX {
                let message = format!("The allowed maximum operations in a JSON patch is {OPERATIONS_MAX}, got {}", patch.0.len());
                return Err(ApiError::plain(413, "RequestEntityTooLarge", message));
            }
            Ok(Patch::Json(patch))
        }
        "application/merge-patch+json" => Ok(Patch::Merge(object(sent)?)),
        "application/strategic-merge-patch+json" => Ok(Patch::Strategic(object(sent)?)),
        _ => Err(unsupported(&TYPES)),
    }
}

fn object(sent: &Bytes) -> Result<Value, ApiError> {
    let value: Value =
        serde_json::from_slice(sent).map_err(|e| ApiError::bad_request(format!("error decoding patch: {e}")))?;
    if value.is_object() { Ok(value) } else { Err(ApiError::bad_request("the patch is no JSON object")) }
}

/// The state that a patch makes of the stored object.
fn propose(ctx: &Ctx<'_>, patch: &Patch, old: &Value) -> Result<Proposal, ApiError> {
    let mut object = requested(ctx, old);
    apply(ctx, patch, &mut object)?;
    let name = super::prepare::text(&object, "name");
    if name != ctx.info.name {
        let error = FieldError::invalid("metadata.name", name, "field is immutable");
        return Err(ApiError::invalid(ctx.kind().group, ctx.kind().kind, &ctx.info.name, &[error]));
    }
    Ok(Proposal::new(create::to_storage(ctx, object)))
}

/// Applies a patch to an object in the version asked for.
pub(crate) fn apply(_ctx: &Ctx<'_>, patch: &Patch, object: &mut Value) -> Result<(), ApiError> {
    match patch {
        Patch::Json(patch) => json_patch::patch(object, patch).map_err(|_| {
            ApiError::plain(422, "Invalid", "the server rejected our request due to an error in our request")
        }),
        Patch::Merge(patch) | Patch::Strategic(patch) => {
            json_patch::merge(object, patch);
            Ok(())
        }
    }
}
