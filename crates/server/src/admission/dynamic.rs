//! The part of admission that is configured by objects and asks others: webhooks. It runs after the built-in plugins.
//!
//! A request that nothing is configured for pays one look at what is registered.

use std::time::Duration;

use jiff::Timestamp;
use mizzen_api::status::ApiError;
use mizzen_store::Snapshot;
use serde_json::Value;
use tokio::time::Instant;

use super::matching::is_exempt;
use super::notes::Notes;
use super::webhook::{Registered, Webhooks, mutating, validating};
use super::{Admitted, Request};
use crate::callout::Callout;

/// How long a write may take in all, as in Kubernetes. What others are asked must be answered within.
const REQUEST_TIME: Duration = Duration::from_secs(34);

/// What admission needs to ask others.
#[derive(Clone, Copy)]
pub(crate) struct Outside<'a> {
    /// Who is registered.
    pub webhooks: &'a Webhooks,
    /// The way to them.
    pub callout: &'a Callout,
    /// Where warnings and annotations go.
    pub notes: &'a Notes,
}

/// What is asked now: who is registered, and until when an answer counts.
pub(super) struct Asking<'a> {
    pub outside: Outside<'a>,
    pub registered: std::sync::Arc<Registered>,
    pub deadline: Instant,
}

/// The mutating phase. `object` is `Null` on delete.
pub(crate) async fn mutate(request: &Request<'_>, object: &mut Value, old: Option<&Value>) -> Result<(), ApiError> {
    match asking(request).filter(|asking| !asking.registered.mutating.is_empty()) {
        Some(asking) => Box::pin(mutating::run(request, &asking, object, old)).await,
        None => Ok(()),
    }
}

/// The validating phase. `object` is `Null` on delete.
pub(crate) async fn validate(request: &Request<'_>, object: &Value, old: Option<&Value>) -> Result<(), ApiError> {
    match asking(request).filter(|asking| !asking.registered.validating.is_empty()) {
        Some(asking) => Box::pin(validating::run(request, &asking, object, old)).await,
        None => Ok(()),
    }
}

/// Both phases for what is only answered, not stored.
pub(crate) async fn both(request: &Request<'_>, object: &mut Value, old: Option<&Value>) -> Result<(), ApiError> {
    mutate(request, object, old).await?;
    validate(request, object, old).await
}

/// Who may be asked about a request; `None` where it is certain that nobody is.
fn asking<'a>(request: &Request<'a>) -> Option<Asking<'a>> {
    let outside = request.outside?;
    if !is_configured(outside.webhooks, request.snapshot) || is_exempt(request.kind) {
        return None;
    }
    let spent = Timestamp::now().duration_since(request.now).unsigned_abs();
    let deadline = Instant::now() + REQUEST_TIME.saturating_sub(spent);
    Some(Asking { outside, registered: outside.webhooks.registered(request.snapshot), deadline })
}

fn is_configured(webhooks: &Webhooks, snapshot: &Snapshot) -> bool {
    !webhooks.registered(snapshot).is_empty()
}

/// The built-in plugins once more, for what webhooks changed.
pub(super) fn again(request: &Request<'_>, object: &mut Value, old: Option<&Value>) -> Result<Admitted, ApiError> {
    super::mutate(request, object, old)
}
