//! The validating phase: all webhooks that the request concerns are asked at once, and each can refuse it.

use futures_util::future::join_all;
use mizzen_api::status::ApiError;
use serde_json::Value;
use tokio::time::Instant;

use super::ask::{Shown, ask, judge, show};
use super::hook::Hook;
use super::metrics::Phase;
use crate::admission::Request;
use crate::admission::dynamic::Asking;

/// Asks all that the request concerns; the refusal of the first of them in the list is the answer.
pub(crate) async fn run(
    request: &Request<'_>,
    asking: &Asking<'_>,
    object: &Value,
    old: Option<&Value>,
) -> Result<(), ApiError> {
    let mut relevant: Vec<(&Hook, Shown<'_>)> = Vec::new();
    for hook in &asking.registered.validating {
        if let Some(shown) = show(request, asking, hook, Phase::Validating, object, old).await? {
            relevant.push((hook, shown));
        }
    }
    if relevant.is_empty() {
        return Ok(());
    }
    if Instant::now() >= asking.deadline {
        return Err(ApiError::timeout("Timeout: request did not complete within requested timeout"));
    }
    let calls = relevant.into_iter().enumerate().map(|(index, (hook, shown))| async move {
        let started = Instant::now();
        let outcome = ask(request, asking, hook, &shown, Phase::Validating).await.map(drop);
        judge(request, asking, hook, Phase::Validating, (started, (0, index)), outcome)
    });
    join_all(calls).await.into_iter().collect()
}
