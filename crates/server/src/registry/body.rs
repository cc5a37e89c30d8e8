//! Request bodies → objects.

use bytes::Bytes;
use mizzen_api::decode::{self, Decoded, Expected, FieldValidation, Format, Limits};
use mizzen_api::protobuf;
use mizzen_api::status::ApiError;
use serde_json::Value;

use crate::dispatch::Ctx;
use crate::negotiate::{Encoding, body_encoding, unsupported};

/// The kind that bodies of the main resource have.
pub(crate) fn expected<'a>(ctx: &'a Ctx<'_>) -> Expected<'a> {
    Expected::of(ctx.kind())
}

/// Decodes a body of the requested kind; problems that the client is to hear of are added to `warnings`.
pub(crate) fn object(
    ctx: &Ctx<'_>,
    body: &Bytes,
    validation: FieldValidation,
    warnings: &mut Vec<String>,
) -> Result<Value, ApiError> {
    let expected = expected(ctx);
    let decoded = read(ctx, body, &expected)?;
    warnings.extend(validation.judge(decoded.problems, &expected)?);
    Ok(decoded.value)
}

/// Decodes a body of another kind; unknown fields in it are ignored.
pub(crate) fn of_kind(ctx: &Ctx<'_>, body: &Bytes, expected: &Expected<'_>) -> Result<Value, ApiError> {
    Ok(read(ctx, body, expected)?.value)
}

/// Decodes a body whose kind does not matter, save that protobuf must be told which it is.
pub(crate) fn untyped(ctx: &Ctx<'_>, body: &Bytes, kind: &str) -> Result<Value, ApiError> {
    let decoded = match encoding(ctx)? {
        Encoding::Json => decode::json(body, limits(ctx)),
        Encoding::Yaml => decode::yaml(body, limits(ctx)),
        Encoding::Protobuf => return protobuf::decode(body, ("v1", kind)).map_err(|e| unreadable(kind, &e)),
    };
    Ok(decoded.map_err(|error| unreadable(kind, &error))?.value)
}

fn read(ctx: &Ctx<'_>, body: &Bytes, expected: &Expected<'_>) -> Result<Decoded, ApiError> {
    match encoding(ctx)? {
        Encoding::Json => decode::object(body, Format::Json, expected, limits(ctx)),
        Encoding::Yaml => decode::object(body, Format::Yaml, expected, limits(ctx)),
        Encoding::Protobuf if expected.custom.is_some() => Err(unsupported(&["application/json", "application/yaml"])),
        Encoding::Protobuf => {
            let api_version = match expected.group {
                "" => expected.version.to_string(),
                group => format!("{group}/{}", expected.version),
            };
            let value =
                protobuf::decode(body, (&api_version, expected.kind)).map_err(|e| unreadable(expected.kind, &e))?;
            decode::admit(Decoded { value, problems: Vec::new() }, expected)
        }
    }
}

fn unreadable(kind: &str, error: &dyn std::fmt::Display) -> ApiError {
    ApiError::bad_request(format!("the object provided is unrecognized (must be of type {kind}): {error}"))
}

fn encoding(ctx: &Ctx<'_>) -> Result<Encoding, ApiError> {
    body_encoding(Some(ctx.head.header(http::header::CONTENT_TYPE)))
}

/// How large and deep a body may be.
pub(crate) fn limits(ctx: &Ctx<'_>) -> Limits {
    Limits { bytes_max: ctx.core.config.max_body, ..Limits::default() }
}
