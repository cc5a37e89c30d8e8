//! Objects from one version of a custom resource to another: by changing `apiVersion` alone, or by a webhook.

use std::time::Duration;

use bytes::Bytes;
use mizzen_api::crd::{Conversion, Definition, Review};
use mizzen_api::kind::Kind;
use mizzen_api::status::ApiError;
use mizzen_store::Snapshot;
use serde_json::Value;

use crate::callout::{Bounds, Callout, Destination};
use crate::registry::names;

/// How long a webhook may take.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Most bytes that go into one call, in objects: longer lists are converted in several.
const CALL_MAX: usize = 8 << 20;
/// Largest answer: conversions may add to what they get.
const ANSWER_MAX: usize = 32 << 20;

/// One object in another version of its kind.
pub(crate) async fn convert(
    (callout, snapshot): (&Callout, &Snapshot),
    definition: &Definition,
    object: Value,
    to: &Kind,
) -> Result<Value, ApiError> {
    let mut converted = convert_all((callout, snapshot), definition, vec![object], to).await?;
    converted.pop().ok_or_else(|| ApiError::internal("a conversion lost its object"))
}

/// Objects in another version, in their order. Those that have it already are not sent anywhere.
pub(super) async fn convert_all(
    way: (&Callout, &Snapshot),
    definition: &Definition,
    mut objects: Vec<Value>,
    to: &Kind,
) -> Result<Vec<Value>, ApiError> {
    let wanted = to.api_version();
    let Conversion::Webhook(webhook) = &definition.conversion else {
        objects.iter_mut().for_each(|object| object["apiVersion"] = wanted.as_str().into());
        return Ok(objects);
    };
    let mut others: Vec<usize> =
        (0..objects.len()).filter(|at| objects[*at]["apiVersion"] != wanted.as_str()).collect();
    while !others.is_empty() {
        let mut size = 0;
        let fits = others.iter().take_while(|at| {
            let first = size == 0;
            size += objects[**at].to_string().len();
            first || size <= CALL_MAX
        });
        let count = fits.count();
        let batch: Vec<usize> = others.drain(..count).collect();
        let sent: Vec<Value> = batch.iter().map(|at| objects[*at].take()).collect();
        let converted = call(way, webhook, &sent, &wanted).await?;
        for (at, object) in batch.into_iter().zip(converted) {
            objects[at] = object;
        }
    }
    Ok(objects)
}

async fn call(
    (callout, snapshot): (&Callout, &Snapshot),
    webhook: &Value,
    objects: &[Value],
    wanted: &str,
) -> Result<Vec<Value>, ApiError> {
    let failed = |why: &dyn std::fmt::Display| {
        let text = |field: &str| objects.first().and_then(|o| o[field].as_str()).unwrap_or_default();
        let message = format!("conversion webhook for {}, Kind={} {why}", text("apiVersion"), text("kind"));
        ApiError::plain(500, "", message)
    };
    let uid = names::uid();
    let review = Review::new(objects, wanted, &uid, &webhook["conversionReviewVersions"]).map_err(|e| failed(&e))?;
    let to =
        Destination::from_client_config(&webhook["clientConfig"]).map_err(|e| failed(&format_args!("failed: {e}")))?;
    let body: Bytes = review.body().to_string().into();
    let query = format!("timeout={}s", TIMEOUT.as_secs());
    let answer = callout.post(snapshot, &to, &query, body, Bounds::within(TIMEOUT, ANSWER_MAX)).await;
    let answer = answer.map_err(|e| failed(&format_args!("failed: {e}")))?;
    let answer: Value =
        serde_json::from_slice(&answer).map_err(|e| failed(&format_args!("failed: the answer is no JSON: {e}")))?;
    review.read(answer).map_err(|e| failed(&e))
}
