//! Sub-resources: status, scale, binding, eviction, finalize, approval, token, and those that change a part of a Pod.

mod binding;
mod eviction;
mod part;
mod scale;

use std::future::Future;

use bytes::Bytes;
use mizzen_api::decode::Expected;
use mizzen_api::kind::Subresource;
use mizzen_api::status::ApiError;
use serde_json::Value;

use super::update::{self, Proposal, Target, change};
use super::{body, create, names, patch, read};
use crate::admission::{self, Operation, dynamic};
use crate::dispatch::Ctx;
use crate::options::WriteOptions;
use crate::render::{Body, Output};

pub(crate) use binding::from_collection as bind_from_collection;
pub(crate) use scale::take as take_scale;

/// Answers a request to a sub-resource.
pub(crate) async fn handle(
    ctx: &Ctx<'_>,
    subresource: &Subresource,
    body: impl Future<Output = Result<Bytes, ApiError>>,
) -> Result<Output, ApiError> {
    let body = if ctx.info.verb == "get" { Bytes::new() } else { body.await? };
    match subresource.name {
        "status" => status(ctx, &body).await,
        "scale" => scale::handle(ctx, &body).await,
        "binding" => binding::handle(ctx, &body).await,
        "eviction" => eviction::handle(ctx, &body).await,
        "token" => token(ctx, &body).await,
        _ => part::handle(ctx, subresource.name, &body).await,
    }
}

async fn status(ctx: &Ctx<'_>, sent: &Bytes) -> Result<Output, ApiError> {
    match ctx.info.verb {
        "get" => read::get(ctx).await,
        "patch" => patch::to(ctx, sent, Target::Status).await,
        _ => {
            let options = write_options(ctx)?;
            let (object, warnings) = update::decode(ctx, sent, &options)?;
            let propose = |_: &Value| Ok(Proposal { warnings: warnings.clone(), ..Proposal::new(object.clone()) });
            change(ctx, Target::Status, &options, propose).await
        }
    }
}

async fn token(ctx: &Ctx<'_>, sent: &Bytes) -> Result<Output, ApiError> {
    let expected = Expected::new("authentication.k8s.io", "v1", "TokenRequest");
    let mut request = body::of_kind(ctx, sent, &expected)?;
    let (namespace, name) = (&ctx.info.namespace, &ctx.info.name);
    let snapshot = ctx.snapshot();
    let asked = create::request(ctx, &snapshot, Operation::Create, name, false);
    admission::mutate(&asked, &mut request.clone(), None)?;
    dynamic::both(&asked, &mut request, None).await?;
    let answered = ctx.core.issuer.create(&snapshot, namespace, name, &request, ctx.now, &names::uid())?;
    Ok(Output::new(201, Body::Other(answered)))
}

fn write_options(ctx: &Ctx<'_>) -> Result<WriteOptions, ApiError> {
    WriteOptions::parse(ctx.head.query, ctx.head.header(http::header::USER_AGENT), false)
}
