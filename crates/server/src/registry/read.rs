//! GET of one object and LIST of many.

use std::time::Duration;

use mizzen_api::status::ApiError;
use mizzen_store::{Revision, Snapshot};

use super::list::{self, Page};
use super::select::Selection;
use crate::dispatch::Ctx;
use crate::options::{ListOptions, VersionMatch, revision};
use crate::render::{Body, Output};

/// How long a read waits for a revision that this server has not seen yet.
const AHEAD_WAIT: Duration = Duration::from_secs(3);

/// Answers a GET.
pub(crate) async fn get(ctx: &Ctx<'_>) -> Result<Output, ApiError> {
    if let Some(wanted) = ctx.head.query.get("resourceVersion") {
        reached(ctx, revision(wanted)?).await?;
    }
    let snapshot = ctx.snapshot();
    let key = ctx.resource.key(&ctx.info.namespace, &ctx.info.name);
    let entry = snapshot.get(&key).ok_or_else(|| ApiError::not_found(ctx.kind().subject(), &ctx.info.name))?;
    Ok(Output::new(200, Body::Entry(std::sync::Arc::clone(entry))))
}

/// Answers a LIST.
pub(crate) async fn list(ctx: &Ctx<'_>) -> Result<Output, ApiError> {
    let options = ListOptions::parse(ctx.head.query, false)?;
    let selection = Selection::parse(&ctx.resource, ctx.head.query)?;
    if !ctx.kind().is_stored() {
        return Ok(Output::new(200, Body::List(Page::empty(ctx.snapshot().revision()))));
    }
    let page = match &options.continuation {
        Some(token) => continued(ctx, &options, &selection, token).await?,
        None => {
            let snapshot = at_version(ctx, &options).await?;
            list::page(ctx, &snapshot, snapshot.revision(), &selection, options.limit, None).await?
        }
    };
    Ok(Output::new(200, Body::List(page)))
}

async fn continued(ctx: &Ctx<'_>, options: &ListOptions, selection: &Selection, token: &str) -> Result<Page, ApiError> {
    let token = list::Token::decode(token)?;
    let Some(wanted) = token.revision else {
        // Issued with a 410: goes on at the newest state.
        let snapshot = ctx.snapshot();
        return list::page(ctx, &snapshot, snapshot.revision(), selection, options.limit, Some(&token.start)).await;
    };
    match ctx.core.store.snapshot_at(wanted) {
        Ok(snapshot) => list::page(ctx, &snapshot, wanted, selection, options.limit, Some(&token.start)).await,
        Err(_) => Err(list::expired_token(&token)),
    }
}

/// The state a list is answered from (api-facts §3.3).
async fn at_version(ctx: &Ctx<'_>, options: &ListOptions) -> Result<Snapshot, ApiError> {
    let Some(wanted) = options.resource_version.filter(|v| *v > 0) else {
        return Ok(ctx.snapshot());
    };
    reached(ctx, wanted).await?;
    let exact = match options.version_match {
        Some(how) => how == VersionMatch::Exact,
        None => options.limit > 0,
    };
    if !exact {
        return Ok(ctx.snapshot());
    }
    ctx.core
        .store
        .snapshot_at(Revision(wanted))
        .map_err(|_| ApiError::expired("The resourceVersion for the provided list is too old."))
}

/// Waits until the store has reached a revision; 504 when it does not in time.
pub(crate) async fn reached(ctx: &Ctx<'_>, wanted: u64) -> Result<(), ApiError> {
    let current = ctx.snapshot().revision().0;
    if wanted <= current {
        return Ok(());
    }
    if tokio::time::timeout(AHEAD_WAIT, ctx.core.store.reached(Revision(wanted))).await.is_ok() {
        return Ok(());
    }
    let message = format!("Timeout: Too large resource version: {wanted}, current: {current}");
    let mut error = ApiError::timeout(message).with_cause("ResourceVersionTooLarge", "Too large resource version", "");
    if let Some(details) = &mut error.details {
        details.retry_after_seconds = Some(1);
    }
    Err(error)
}
