//! The part of admission that is configured by objects: policies, and webhooks, which ask others. It runs after the
//! built-in plugins.
//!
//! A request that nothing is configured for pays one look at what is registered.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use mizzen_api::status::ApiError;
use serde_json::Value;
use tokio::time::Instant;

use super::matching::is_exempt;
use super::notes::Notes;
use super::policy::{self, Bound, Policies};
use super::webhook::{Registered, Webhooks, mutating, validating};
use super::{Admitted, Request};
use crate::callout::Callout;
use crate::crd::Definitions;

/// How long a write may take in all, as in Kubernetes. What others are asked must be answered within.
const REQUEST_TIME: Duration = Duration::from_secs(34);

/// What admission needs to ask others.
#[derive(Clone, Copy)]
pub(crate) struct Outside<'a> {
    /// Who is registered.
    pub webhooks: &'a Webhooks,
    /// What is to hold.
    pub policies: &'a Policies,
    /// The kinds of parameters.
    pub definitions: &'a Definitions,
    /// The way to them.
    pub callout: &'a Callout,
    /// Where warnings and annotations go.
    pub notes: &'a Notes,
}

/// What is asked now: who is registered, and until when an answer counts.
pub(super) struct Asking<'a> {
    pub outside: Outside<'a>,
    pub registered: Arc<Registered>,
    pub bound: Arc<Bound>,
    pub deadline: Instant,
}

/// The mutating phase. `object` is `Null` on delete.
pub(crate) async fn mutate(request: &Request<'_>, object: &mut Value, old: Option<&Value>) -> Result<(), ApiError> {
    let any = |asking: &Asking<'_>| !(asking.bound.mutating.is_empty() && asking.registered.mutating.is_empty());
    match asking(request).filter(any) {
        Some(asking) => Box::pin(mutate_by_all(request, &asking, object, old)).await,
        None => Ok(()),
    }
}

async fn mutate_by_all(
    request: &Request<'_>,
    asking: &Asking<'_>,
    object: &mut Value,
    old: Option<&Value>,
) -> Result<(), ApiError> {
    let policies = match asking.bound.mutating.is_empty() {
        true => policy::mutating::Reinvocation::default(),
        false => policy::mutating::run(request, asking, object, old).await?,
    };
    if asking.registered.mutating.is_empty() {
        return Ok(());
    }
    let before = policies.awaits().then(|| object.clone());
    mutating::run(request, asking, object, old).await?;
    match before {
        Some(before) if before != *object => policy::mutating::rerun(request, asking, object, old, policies).await,
        _ => Ok(()),
    }
}

/// The validating phase. `object` is `Null` on delete.
pub(crate) async fn validate(request: &Request<'_>, object: &Value, old: Option<&Value>) -> Result<(), ApiError> {
    let any = |asking: &Asking<'_>| !(asking.bound.validating.is_empty() && asking.registered.validating.is_empty());
    match asking(request).filter(any) {
        Some(asking) => Box::pin(validate_by_all(request, &asking, object, old)).await,
        None => Ok(()),
    }
}

async fn validate_by_all(
    request: &Request<'_>,
    asking: &Asking<'_>,
    object: &Value,
    old: Option<&Value>,
) -> Result<(), ApiError> {
    if !asking.bound.validating.is_empty() {
        policy::validating::run(request, asking, object, old).await?;
    }
    if asking.registered.validating.is_empty() {
        return Ok(());
    }
    validating::run(request, asking, object, old).await
}

/// Both phases for what is only answered, not stored.
pub(crate) async fn both(request: &Request<'_>, object: &mut Value, old: Option<&Value>) -> Result<(), ApiError> {
    mutate(request, object, old).await?;
    validate(request, object, old).await
}

/// Who may be asked about a request; `None` where it is certain that nobody is.
fn asking<'a>(request: &Request<'a>) -> Option<Asking<'a>> {
    let outside = request.outside?;
    if is_exempt(request.kind) {
        return None;
    }
    let registered = outside.webhooks.registered(request.snapshot);
    let bound = outside.policies.bound(request.snapshot);
    if registered.is_empty() && bound.is_empty() {
        return None;
    }
    let spent = Timestamp::now().duration_since(request.now).unsigned_abs();
    let deadline = Instant::now() + REQUEST_TIME.saturating_sub(spent);
    Some(Asking { outside, registered, bound, deadline })
}

/// The built-in plugins once more, for what others changed.
pub(super) fn again(request: &Request<'_>, object: &mut Value, old: Option<&Value>) -> Result<Admitted, ApiError> {
    super::mutate(request, object, old)
}
