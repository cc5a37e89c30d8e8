//! Watches: a stream of events over the store's history (api-facts §3.4).
//!
//! Events are copies of stored bytes in a frame; nothing is serialised for a watcher unless it asks for another shape
//! or version. A watcher holds a cursor, not a queue: one that falls behind the history is told 410 and closed.

mod frame;
mod rendered;
mod stream;

use std::collections::VecDeque;
use std::time::Duration;

use mizzen_api::status::ApiError;
use mizzen_store::{Compacted, Revision};
use rand::Rng;

use crate::answer::{Answer, Hold};
use crate::crd;
use crate::dispatch::Ctx;
use crate::options::ListOptions;
use crate::registry::read::reached;
use crate::registry::select::Selection;
use crate::shapes::Include;
use frame::Frames;
pub(crate) use rendered::Rendered;
use stream::{Start, Watcher};

/// A watch without a time limit of its own ends after this and up to as much again, so that not all end at once.
const DEFAULT_LIFE: Duration = Duration::from_secs(1800);

/// A watch that begins with more objects than this keeps its seats until they are sent.
const BRIEF: usize = 100;

/// Answers a watch.
pub(crate) async fn answer(ctx: &Ctx<'_>) -> Result<Answer, ApiError> {
    let options = ListOptions::parse(ctx.head.query, true)?;
    let mut selection = Selection::parse(&ctx.resource, ctx.head.query)?;
    if !ctx.info.name.is_empty() {
        selection.named(&ctx.info.name)?;
    }
    let frames = Frames {
        resource: ctx.resource.clone(),
        format: ctx.format,
        include: Include::parse(ctx.head.query.get("includeObject")),
        columns_sent: false,
    };
    let content_type = ctx.format.stream_content_type();
    let start = match start(ctx, &options).await {
        Ok(start) => start,
        Err(error) => return Ok(Answer::stream(content_type, stream::failed(frames, &error))),
    };
    let life = match options.timeout_seconds {
        Some(seconds) => Duration::from_secs(seconds),
        None => DEFAULT_LIFE + rand::rng().random_range(Duration::ZERO..DEFAULT_LIFE),
    };
    let hold = (start.state.len() > BRIEF).then(Hold::default);
    let watcher = Watcher::new(ctx, start, selection, frames, options.bookmarks, life).holding(hold.clone());
    let mut answer = Answer::stream(content_type, watcher.into_stream());
    answer.hold = hold;
    Ok(answer)
}

/// Where the watch begins. Errors from here on are events, for the stream has begun in the client's eyes.
async fn start(ctx: &Ctx<'_>, options: &ListOptions) -> Result<Start, ApiError> {
    let wanted = options.resource_version.filter(|v| *v > 0);
    if let Some(wanted) = wanted {
        reached(ctx, wanted).await?;
    }
    let prefix = ctx.resource.prefix(&ctx.info.namespace);
    let from_state = match options.initial_events {
        Some(true) => true,
        Some(false) => false,
        None => wanted.is_none(),
    };
    let snapshot = ctx.snapshot();
    let after = match wanted {
        Some(wanted) if !from_state => Revision(wanted),
        _ => snapshot.revision(),
    };
    let watch = ctx.core.store.watch(&prefix, after).map_err(|e| too_old(&e))?;
    let state = if from_state { snapshot.prefix(&prefix).cloned().collect() } else { Vec::new() };
    let state = VecDeque::from(crd::current_all(ctx.core, &ctx.resource, state).await?);
    let definition = match &ctx.resource.definition {
        Some(_) => {
            let key = crd::definition_key(&ctx.kind().group, &ctx.kind().plural);
            Some(ctx.core.store.watch(&key, snapshot.revision()).map_err(|e| too_old(&e))?)
        }
        None => None,
    };
    Ok(Start {
        watch,
        definition,
        state,
        state_at: after,
        announce_end: options.initial_events == Some(true) && options.bookmarks,
    })
}

/// 410: the history does not reach back so far.
pub(crate) fn too_old(compacted: &Compacted) -> ApiError {
    ApiError::expired(format!("too old resource version: {} ({})", compacted.asked, compacted.oldest))
}
