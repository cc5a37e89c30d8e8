//! What a plan has to know first: read from the API, step by step.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use futures_util::stream::{self, StreamExt};
use http::Method;
use mizzen_client::Client;
use mizzen_store::Store;

use crate::plan::{Answer, ControllerError, Plan, Read};

/// Reads of one plan on their way at a time.
const PARALLEL: usize = 16;
/// Steps of reading before a plan must be there.
const STEPS_MAX: usize = 4;
/// Longest wait for one answer: who serves metrics may hang.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Reads what the plan about `key` asks for until it asks for nothing more.
pub(super) async fn resolve(
    client: &Client,
    store: &dyn Store,
    key: &str,
    mut plan: Plan,
) -> Result<Plan, ControllerError> {
    for _ in 0..STEPS_MAX {
        let Some(reads) = plan.reads.take() else { return Ok(plan) };
        let answers = stream::iter(reads.of).map(|read| one(client, read)).buffered(PARALLEL).collect().await;
        let decide = AssertUnwindSafe(|| (reads.then)(&store.snapshot(), answers, jiff::Timestamp::now()));
        plan = catch_unwind(decide).map_err(|_| ControllerError::Panicked { object: key.into() })?;
    }
    if plan.reads.is_none() { Ok(plan) } else { Err(ControllerError::Insatiable { object: key.into() }) }
}

async fn one(client: &Client, read: Read) -> Answer {
    let query: Vec<(&str, &str)> = read.query.iter().map(|(name, value)| (*name, value.as_str())).collect();
    match tokio::time::timeout(TIMEOUT, client.call(Method::GET, &read.path, &query, None)).await {
        Err(_) => Err(format!("no answer to GET {} in {} s", read.path, TIMEOUT.as_secs())),
        Ok(Err(error)) => Err(error.to_string()),
        Ok(Ok(answer)) => serde_json::from_slice(&answer.body).map_err(|error| format!("GET {}: {error}", read.path)),
    }
}
