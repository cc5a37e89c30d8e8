//! The mutating phase: webhooks are asked one after the other, each sees what those before it made of the object. If one
//! changed it, the built-in plugins look at it again, and webhooks with `reinvocationPolicy: IfNeeded` are asked once more
//! if the object changed after they were.

use std::collections::HashSet;

use mizzen_api::kind::Kind;
use mizzen_api::patch::JsonPatch;
use mizzen_api::schema;
use mizzen_api::status::ApiError;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::ask::{Failure, Shown, ask, from_version, judge, show};
use super::hook::Hook;
use super::metrics::Phase;
use crate::admission::Request;
use crate::admission::dynamic::{Asking, again};

/// Who has to be asked again. Webhooks go by their place in the list.
#[derive(Default)]
struct Reinvocation {
    /// Asked, and to be asked again if something changes from now on.
    asked: HashSet<usize>,
    /// To be asked again.
    due: HashSet<usize>,
    /// Something changed.
    changed: bool,
}

impl Reinvocation {
    fn changed(&mut self) {
        self.changed = true;
        self.due.extend(self.asked.drain());
    }
}

/// Asks all that the request concerns.
pub(crate) async fn run(
    request: &Request<'_>,
    asking: &Asking<'_>,
    object: &mut Value,
    old: Option<&Value>,
) -> Result<(), ApiError> {
    let mut reinvocation = Reinvocation::default();
    round(request, asking, object, old, 0, &mut reinvocation).await?;
    if !reinvocation.changed {
        return Ok(());
    }
    let before = object.clone();
    if request.is_whole() {
        again(request, object, old)?;
    }
    if before != *object {
        reinvocation.changed();
    }
    round(request, asking, object, old, 1, &mut reinvocation).await
}

async fn round(
    request: &Request<'_>,
    asking: &Asking<'_>,
    object: &mut Value,
    old: Option<&Value>,
    round: usize,
    reinvocation: &mut Reinvocation,
) -> Result<(), ApiError> {
    for (index, hook) in asking.registered.mutating.iter().enumerate() {
        if round > 0 && !reinvocation.due.contains(&index) {
            continue;
        }
        let Some(shown) = show(request, asking, hook, Phase::Admit, object, old).await? else { continue };
        let started = Instant::now();
        let outcome = call(request, asking, hook, &shown, (round, index)).await;
        let outcome = outcome.map(|changed| changed.map(|changed| *object = changed).is_some());
        let changed = *outcome.as_ref().unwrap_or(&false);
        note_mutation(asking, hook, (round, index), changed);
        if changed {
            reinvocation.changed();
        }
        if hook.reinvoked {
            reinvocation.asked.insert(index);
        }
        judge(request, asking, hook, Phase::Admit, (started, (round, index)), outcome.map(drop))?;
    }
    Ok(())
}

/// Asks one webhook and applies its patch; the object if it changed.
async fn call(
    request: &Request<'_>,
    asking: &Asking<'_>,
    hook: &Hook,
    shown: &Shown<'_>,
    place: (usize, usize),
) -> Result<Option<Value>, Failure> {
    let bytes = ask(request, asking, hook, shown, Phase::Admit).await?;
    if bytes.is_empty() {
        return Ok(None);
    }
    let undecodable = |error| Failure::call(503, format!("received undecodable patch in webhook response: {error}"));
    let patch = JsonPatch::parse(&bytes).map_err(undecodable)?;
    if patch.0.is_empty() {
        return Ok(None);
    }
    if !shown.object.is_object() {
        let message = format!(
            "admission webhook {:?} attempted to modify the object, which is not supported for this operation",
            hook.name
        );
        return Err(Failure::Broken(ApiError::internal(message)));
    }
    let mut patched = shown.object.as_ref().clone();
    patch.apply(&mut patched).map_err(|error| Failure::Broken(ApiError::internal(error)))?;
    well_formed(request, shown.kind, &mut patched).map_err(Failure::Broken)?;
    note_patch(asking, hook, place, &bytes);
    if patched == *shown.object {
        return Ok(None);
    }
    let mut object = from_version(request, patched, shown.kind).await.map_err(Failure::Broken)?;
    if request.is_whole() {
        request.handled().default(&mut object);
    }
    Ok(Some(object))
}

/// A patched object must still be one of its kind.
pub(crate) fn well_formed(request: &Request<'_>, kind: &Kind, object: &mut Value) -> Result<(), ApiError> {
    let ty = match (kind.subresource(request.subresource), &kind.custom) {
        (Some(sub), _) if !request.is_whole() => schema::by_gvk(&sub.group, &sub.version, &sub.kind),
        (_, Some(custom)) => return custom.admit(object).map(drop).map_err(ApiError::internal),
        _ => schema::of(kind),
    };
    match ty {
        Some(ty) => schema::admit(object, ty).map(drop).map_err(ApiError::internal),
        None => Ok(()),
    }
}

fn note_mutation(asking: &Asking<'_>, hook: &Hook, (round, index): (usize, usize), mutated: bool) {
    let value = json!({"configuration": hook.configuration, "webhook": hook.name, "mutated": mutated}).to_string();
    let key = format!("mutation.webhook.admission.k8s.io/round_{round}_index_{index}");
    asking.outside.notes.annotate(&key, &value, false);
}

fn note_patch(asking: &Asking<'_>, hook: &Hook, (round, index): (usize, usize), patch: &[u8]) {
    let patch: Value = serde_json::from_slice(patch).unwrap_or_default();
    let value =
        json!({"configuration": hook.configuration, "webhook": hook.name, "patch": patch, "patchType": "JSONPatch"});
    let key = format!("patch.webhook.admission.k8s.io/round_{round}_index_{index}");
    asking.outside.notes.annotate(&key, &value.to_string(), true);
}
