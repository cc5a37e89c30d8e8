//! PATCH: JSON patch, merge patch, strategic merge patch, server-side apply (api-facts §4).

use bytes::Bytes;
use mizzen_api::decode::{self, FieldValidation};
use mizzen_api::field::FieldError;
use mizzen_api::patch::{self, JsonPatch, PatchError};
use mizzen_api::schema::{self, Object};
use mizzen_api::status::ApiError;
use serde_json::Value;

use super::update::{Proposal, Target, change, requested};
use super::{body, create, managed, prepare};
use crate::dispatch::Ctx;
use crate::negotiate::{media, unsupported};
use crate::options::WriteOptions;
use crate::render::Output;

/// The types of patches that built-in kinds accept.
const TYPES: [&str; 4] = [
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
];

/// Custom resources have no merge keys that a strategic patch could go by.
const CUSTOM_TYPES: [&str; 3] =
    ["application/json-patch+json", "application/merge-patch+json", "application/apply-patch+yaml"];

/// A patch that was read.
pub(crate) struct Patch {
    form: Form,
    sent: Bytes,
    /// Duplicate fields of the patch itself.
    problems: Vec<String>,
}

enum Form {
    Json(JsonPatch),
    Merge(Value),
    Strategic(Value),
}

/// Answers a PATCH to an object.
pub(crate) async fn handle(ctx: &Ctx<'_>, sent: &Bytes) -> Result<Output, ApiError> {
    to(ctx, sent, Target::Main).await
}

/// Answers a PATCH to an object or its status.
pub(crate) async fn to(ctx: &Ctx<'_>, sent: &Bytes, target: Target) -> Result<Output, ApiError> {
    let content_type = media(Some(ctx.head.header(http::header::CONTENT_TYPE)));
    if content_type == "application/apply-patch+yaml" {
        return managed::apply(ctx, sent, target).await;
    }
    let patch = read(ctx, sent)?;
    let options = WriteOptions::parse(ctx.head.query, ctx.head.header(http::header::USER_AGENT), false)?;
    change(ctx, target, &options, |old| propose(ctx, &patch, old, options.field_validation)).await
}

/// Reads the patch of a request.
pub(crate) fn read(ctx: &Ctx<'_>, sent: &Bytes) -> Result<Patch, ApiError> {
    let content_type = media(Some(ctx.head.header(http::header::CONTENT_TYPE)));
    let mut problems = Vec::new();
    let mut object = || {
        let decoded = decode::json(sent, body::limits(ctx)).map_err(|e| malformed(&e))?;
        problems = decoded.problems;
        if decoded.value.is_object() { Ok(decoded.value) } else { Err(malformed(&"a merge patch is an object")) }
    };
    let form = match content_type {
        "application/json-patch+json" => Form::Json(JsonPatch::parse(sent).map_err(|e| e.to_status())?),
        "application/merge-patch+json" => Form::Merge(object()?),
        "application/strategic-merge-patch+json" if ctx.kind().custom.is_none() => Form::Strategic(object()?),
        _ if ctx.kind().custom.is_some() => return Err(unsupported(&CUSTOM_TYPES)),
        _ => return Err(unsupported(&TYPES)),
    };
    Ok(Patch { form, sent: sent.clone(), problems })
}

fn malformed(error: &dyn std::fmt::Display) -> ApiError {
    PatchError::Malformed { message: error.to_string() }.to_status()
}

/// The state that a patch makes of the stored object.
fn propose(ctx: &Ctx<'_>, patch: &Patch, old: &Value, validation: FieldValidation) -> Result<Proposal, ApiError> {
    let (object, warnings) = patched(ctx, patch, old, validation)?;
    Ok(Proposal { warnings, ..Proposal::new(object) })
}

/// The stored object with the patch applied, in its storage version with defaults, and warnings about it.
pub(crate) fn patched(
    ctx: &Ctx<'_>,
    patch: &Patch,
    old: &Value,
    validation: FieldValidation,
) -> Result<(Value, Vec<String>), ApiError> {
    let name = ctx.info.name.as_ref();
    let kind = ctx.kind();
    let ty = schema::of(kind);
    let mut object = requested(ctx, old);
    apply(patch, &mut object, ty)?;
    let mut problems = Vec::new();
    if let Some(ty) = ty {
        problems = schema::admit(&mut object, ty).map_err(|e| patch::result_error(kind, name, &patch.sent, &e))?;
    }
    if let Some(custom) = &kind.custom {
        problems = custom.admit(&mut object).map_err(|e| patch::result_error(kind, name, &patch.sent, &e))?;
    }
    problems.extend(patch.problems.iter().cloned());
    let warnings = match validation {
        FieldValidation::Ignore => Vec::new(),
        FieldValidation::Strict if !problems.is_empty() => {
            return Err(patch::strict_error(kind, name, &patch.sent, &problems));
        }
        FieldValidation::Warn | FieldValidation::Strict => problems,
    };
    keeps_identity(ctx, &object, old)?;
    Ok((create::to_storage(ctx, object), warnings))
}

/// Applies a patch to an object of a type.
pub(crate) fn apply(patch: &Patch, object: &mut Value, ty: Option<&'static Object>) -> Result<(), ApiError> {
    match (&patch.form, ty) {
        (Form::Json(operations), _) => operations.apply(object).map_err(|e| e.to_status()),
        (Form::Strategic(fields), Some(ty)) => patch::strategic(object, fields, ty).map_err(|e| e.to_status()),
        (Form::Merge(fields) | Form::Strategic(fields), _) => {
            patch::merge(object, fields);
            Ok(())
        }
    }
}

/// A patch may not make another object of the one it is applied to.
fn keeps_identity(ctx: &Ctx<'_>, object: &Value, old: &Value) -> Result<(), ApiError> {
    for field in ["name", "namespace"] {
        let (sent, stored) = (prepare::text(object, field), prepare::text(old, field));
        if sent != stored {
            let error = FieldError::invalid(format!("metadata.{field}"), sent, "field is immutable");
            return Err(ApiError::invalid(&ctx.kind().group, &ctx.kind().kind, &ctx.info.name, &[error]));
        }
    }
    Ok(())
}
