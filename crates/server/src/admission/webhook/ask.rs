//! One question to one webhook: matched, sent, answered, counted.

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;
use mizzen_api::kind::Kind;
use mizzen_api::kinds::convert;
use mizzen_api::status::ApiError;
use serde_json::Value;
use tokio::time::Instant;

use super::hook::Hook;
use super::metrics::{Call, Phase, Rejection};
use super::review::{self, Verdict};
use crate::admission::Request;
use crate::admission::dynamic::Asking;
use crate::callout::{Bounds, CallError};
use crate::crd;

/// Largest answer: an object of 3 MiB may be replaced by a patch, which is base64 in JSON.
const ANSWER_MAX: usize = 16 << 20;

/// Why a webhook's answer is not a yes.
#[derive(Debug)]
pub(super) enum Failure {
    /// It could not be asked, or its answer means nothing: its failure policy decides.
    Call {
        /// In what words.
        message: String,
        /// The code that is counted.
        code: u16,
    },
    /// It said no.
    Denied(ApiError),
    /// The request cannot go on whatever the failure policy.
    Broken(ApiError),
}

impl Failure {
    pub fn call(code: u16, message: impl Into<String>) -> Self {
        Failure::Call { message: message.into(), code }
    }

    /// 500 `failed calling webhook`.
    pub fn into_error(self, hook: &Hook) -> ApiError {
        match self {
            Failure::Call { message, .. } => {
                ApiError::internal(format_args!("failed calling webhook {:?}: {message}", hook.name))
            }
            Failure::Denied(error) | Failure::Broken(error) => error,
        }
    }
}

/// What a webhook is shown of a request: its objects in the version that the webhook's rules name.
pub(super) struct Shown<'a> {
    pub kind: &'a Kind,
    pub object: Cow<'a, Value>,
    pub old: Option<Cow<'a, Value>>,
}

/// What a webhook is to be asked about; `None` if it is not to be asked.
pub(super) async fn show<'a>(
    request: &Request<'a>,
    asking: &Asking<'_>,
    hook: &Hook,
    phase: Phase,
    object: &'a Value,
    old: Option<&'a Value>,
) -> Result<Option<Shown<'a>>, ApiError> {
    let Some(kind) = hook.criteria.matches(request, object, old)? else { return Ok(None) };
    let old = match old {
        Some(old) => Some(in_version(request, old, kind).await?),
        None => None,
    };
    let shown = Shown { kind, object: in_version(request, object, kind).await?, old };
    if hook.conditions.is_empty() {
        return Ok(Some(shown));
    }
    let call = Call { name: &hook.name, phase, operation: request.operation.name() };
    let metrics = &asking.outside.webhooks.metrics;
    match hook.conditions.hold(request, kind, &shown.object, shown.old.as_deref().unwrap_or(&Value::Null)) {
        Ok(true) => Ok(Some(shown)),
        Ok(false) => {
            metrics.excluded(&call);
            Ok(None)
        }
        Err(why) => {
            metrics.not_evaluated(&call);
            if hook.ignores_failure {
                return Ok(None);
            }
            Err(ApiError::forbidden(request.kind.subject(), request.name, &why))
        }
    }
}

/// Asks, and notes what the webhook wants noted. The patch of a mutating webhook is returned, not applied.
pub(super) async fn ask(
    request: &Request<'_>,
    asking: &Asking<'_>,
    hook: &Hook,
    shown: &Shown<'_>,
    phase: Phase,
) -> Result<Vec<u8>, Failure> {
    if request.dry_run && !hook.allows_dry_run {
        let message = format!("admission webhook {:?} does not support dry run", hook.name);
        return Err(Failure::Broken(ApiError::bad_request(message)));
    }
    let unknown = || {
        let message =
            "could not create admission objects: webhook does not accept known AdmissionReview versions (v1, v1beta1)";
        Failure::call(400, message)
    };
    let version = hook.version.ok_or_else(unknown)?;
    let to = hook.to.as_ref().map_err(|why| Failure::call(500, format!("could not get REST client: {why}")))?;
    let uid = crate::registry::names::random_uuid().to_string();
    let body = Bytes::from(review::question(request, shown, version, &uid).to_string());
    let deadline = asking.deadline.min(Instant::now() + hook.timeout);
    let bounds = Bounds { deadline, answer_max: ANSWER_MAX };
    let query = format!("timeout={}s", seconds(deadline));
    let answered = asking.outside.callout.post(request.snapshot, to, &query, body, bounds).await;
    let answer =
        answered.map_err(|error: CallError| Failure::call(error.code(), format!("failed to call webhook: {error}")))?;
    let verdict = review::answer(&answer, version, &uid, phase == Phase::Admit).map_err(|why| match why {
        review::Unusable::Unreadable(why) => Failure::call(503, format!("failed to call webhook: {why}")),
        review::Unusable::Invalid(why) => Failure::call(503, format!("received invalid webhook response: {why}")),
    })?;
    let Verdict { denied, patch, warnings, annotations } = verdict;
    for (key, value) in &annotations {
        asking.outside.notes.annotate(&format!("{}/{key}", hook.name), value, false);
    }
    for warning in &warnings {
        asking.outside.notes.warn(warning);
    }
    match denied {
        Some(status) => Err(Failure::Denied(review::denial(&hook.name, &status))),
        None => Ok(patch),
    }
}

/// Whole seconds that are left, rounded up.
fn seconds(deadline: Instant) -> u64 {
    let left = deadline.saturating_duration_since(Instant::now());
    left.as_secs() + u64::from(left.subsec_nanos() > 0)
}

/// Counts a call and notes a failure that is ignored. Answers what goes on with the request.
pub(super) fn judge(
    request: &Request<'_>,
    asking: &Asking<'_>,
    hook: &Hook,
    phase: Phase,
    (started, place): (Instant, (usize, usize)),
    outcome: Result<(), Failure>,
) -> Result<(), ApiError> {
    let metrics = &asking.outside.webhooks.metrics;
    let call = Call { name: &hook.name, phase, operation: request.operation.name() };
    let took: Duration = started.elapsed();
    match outcome {
        Ok(()) => {
            metrics.called(&call, took, 200, false);
            Ok(())
        }
        Err(Failure::Call { message, code }) if hook.ignores_failure => {
            metrics.called(&call, took, code, false);
            metrics.failed_open(&call);
            tracing::warn!(
                webhook = hook.name,
                message,
                "a failed call of a webhook is ignored, as its failurePolicy says"
            );
            let (round, index) = place;
            let prefix = phase.annotation();
            asking.outside.notes.annotate(
                &format!("failed-open.{prefix}/round_{round}_index_{index}"),
                &hook.name,
                false,
            );
            if Instant::now() >= asking.deadline {
                return Err(ApiError::timeout("Timeout: request did not complete within requested timeout"));
            }
            Ok(())
        }
        Err(failure) => {
            let (rejection, code) = match &failure {
                Failure::Call { code, .. } => (Rejection::Calling, *code),
                Failure::Denied(error) => (Rejection::Denied, error.code),
                Failure::Broken(_) => (Rejection::Internal, 0),
            };
            metrics.called(&call, took, code, true);
            metrics.rejected(&call, rejection, code);
            Err(failure.into_error(hook))
        }
    }
}

/// The object in the version of `kind`; what sub-resources take is the same in all.
pub(crate) async fn in_version<'a>(
    request: &Request<'_>,
    object: &'a Value,
    kind: &Kind,
) -> Result<Cow<'a, Value>, ApiError> {
    let handled = request.handled();
    if (&handled.group, &handled.version) == (&kind.group, &kind.version) {
        return Ok(Cow::Borrowed(object));
    }
    converted(request, object.clone(), handled, kind).await.map(Cow::Owned)
}

/// The reverse of what [`show`] does to an object.
pub(crate) async fn from_version(request: &Request<'_>, object: Value, kind: &Kind) -> Result<Value, ApiError> {
    converted(request, object, kind, request.handled()).await
}

async fn converted(request: &Request<'_>, object: Value, from: &Kind, to: &Kind) -> Result<Value, ApiError> {
    if !object.is_object() || !request.is_whole() {
        return Ok(object);
    }
    match request.definition {
        Some(compiled) => {
            let Some(outside) = &request.outside else { return Ok(object) };
            crd::convert((outside.callout, request.snapshot), &compiled.definition, object, to).await
        }
        None => Ok(convert(object, from, to)),
    }
}
