//! Request bodies → objects.

use bytes::Bytes;
use mizzen_api::decode::{self, Expected, FieldValidation, Format, Limits};
use mizzen_api::status::ApiError;
use serde_json::Value;

use crate::dispatch::Ctx;
use crate::negotiate::{Encoding, body_encoding};

/// The kind that bodies of the main resource have.
pub(crate) fn expected(ctx: &Ctx<'_>) -> Expected {
    Expected::new(ctx.kind().group, ctx.kind().version, ctx.kind().kind)
}

/// Decodes a body of the requested kind; problems that the client is to hear of are added to `warnings`.
pub(crate) fn object(
    ctx: &Ctx<'_>,
    body: &Bytes,
    validation: FieldValidation,
    warnings: &mut Vec<String>,
) -> Result<Value, ApiError> {
    let expected = expected(ctx);
    let decoded = decode::object(body, format(ctx)?, &expected, limits(ctx))?;
    warnings.extend(validation.judge(decoded.problems, &expected)?);
    Ok(decoded.value)
}

/// Decodes a body of another kind; unknown fields in it are ignored.
pub(crate) fn of_kind(ctx: &Ctx<'_>, body: &Bytes, expected: &Expected) -> Result<Value, ApiError> {
    Ok(decode::object(body, format(ctx)?, expected, limits(ctx))?.value)
}

/// Decodes a body whose kind does not matter.
pub(crate) fn untyped(ctx: &Ctx<'_>, body: &Bytes) -> Result<Value, ApiError> {
    let decoded = match format(ctx)? {
        Format::Json => decode::json(body, limits(ctx)),
        Format::Yaml => decode::yaml(body, limits(ctx)),
    };
    Ok(decoded.map_err(|error| ApiError::bad_request(error.to_string()))?.value)
}

fn format(ctx: &Ctx<'_>) -> Result<Format, ApiError> {
    Ok(match body_encoding(Some(ctx.head.header(http::header::CONTENT_TYPE)))? {
        Encoding::Json => Format::Json,
        Encoding::Yaml => Format::Yaml,
    })
}

/// How large and deep a body may be.
pub(crate) fn limits(ctx: &Ctx<'_>) -> Limits {
    Limits { bytes_max: ctx.core.config.max_body, ..Limits::default() }
}
