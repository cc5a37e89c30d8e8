//! ResourceQuota: a namespace holds and asks for no more than its quotas allow.
//!
//! What is used is counted in the snapshot for the resource being written, not taken from the quota's status, so it can
//! neither drift nor wait for a controller. The new usage is written to the status in the transaction of the object, on
//! the condition that the quota is still the one that was read: of two requests that would together exceed it, one
//! tries again and is refused.

use std::sync::Arc;

use k8s_openapi::api::core::v1::ResourceQuota;
use mizzen_api::key;
use mizzen_api::quantity::Quantity;
use mizzen_api::status::ApiError;
use mizzen_store::Entry;
use serde_json::{Value, json};

use super::plugin::Plugin;
use super::{Admitted, Operation, Request, SideWrite};

mod pods;
mod scopes;
#[cfg(test)]
mod tests;
mod usage;

use usage::{Counted, Usage};

pub const PLUGIN: Plugin = Plugin { resources: &[], mutate: None, validate: Some(check) };

fn check(request: &Request<'_>, object: &Value, old: Option<&Value>, out: &mut Admitted) -> Result<(), ApiError> {
    if request.namespace.is_empty() || !handles(request) {
        return Ok(());
    }
    let prefix = key::in_namespace::<ResourceQuota>(request.namespace);
    let mut quotas = request.snapshot.prefix(&prefix).peekable();
    if quotas.peek().is_none() {
        return Ok(());
    }
    let new = Counted::read(request, object);
    let old = old.map(|old| Counted::read(request, old));
    for entry in quotas {
        if let Some(write) = check_one(request, object, entry, &new, old.as_ref())? {
            out.writes.push(write);
        }
    }
    Ok(())
}

/// Whether the request can raise usage.
fn handles(request: &Request<'_>) -> bool {
    let grows =
        ["pods", "services", "persistentvolumeclaims"].contains(&request.kind.plural) && request.kind.group.is_empty();
    match (request.operation, request.subresource) {
        (Operation::Create, "") => true,
        (Operation::Update, "") => grows,
        (Operation::Update, "resize") => request.is("", "pods"),
        _ => false,
    }
}

fn check_one(
    request: &Request<'_>,
    object: &Value,
    entry: &Arc<Entry>,
    new: &Counted,
    old: Option<&Counted>,
) -> Result<Option<SideWrite>, ApiError> {
    let Some(quota) = request.snapshot.get_as::<ResourceQuota>(&entry.key) else { return Ok(None) };
    let Some(spec) = &quota.spec else { return Ok(None) };
    let hard = spec.hard.iter().flatten();
    let hard: Usage = hard.filter_map(|(name, amount)| Some((name.clone(), amount.0.parse().ok()?))).collect();
    let limited: Vec<&str> = hard.keys().map(String::as_str).filter(|name| usage::counts(request.kind, name)).collect();
    if limited.is_empty() || !scopes::match_object(spec, new) {
        return Ok(None);
    }
    let name = quota.metadata.name.as_deref().unwrap_or_default();
    if let (Counted::Pod(pod), Operation::Create) = (new, request.operation)
        && let Some(missing) = pods::unspecified(pod, &limited)
    {
        return Err(request.forbidden(object, &format!("failed quota: {name}: {missing}")));
    }
    // An object that the quota did not count before counts as a whole now.
    let before = old.filter(|old| scopes::match_object(spec, old)).map(|old| old.usage(request)).unwrap_or_default();
    let mut delta = new.usage(request);
    delta.retain(|resource, _| limited.contains(&resource.as_str()));
    for (resource, amount) in &mut delta {
        *amount = *amount - before.get(resource).copied().unwrap_or(Quantity::ZERO);
    }
    delta.retain(|_, amount| !amount.is_zero() && !amount.is_negative());
    if delta.is_empty() {
        return Ok(None);
    }
    let used = usage::of_namespace(request, spec, &limited);
    let exceeded: Vec<&String> = delta
        .iter()
        .filter(|(resource, amount)| sum(&used, resource, **amount) > hard[*resource])
        .map(|(resource, _)| resource)
        .collect();
    if !exceeded.is_empty() {
        let show = |usage: &Usage| {
            let each = exceeded.iter().map(|resource| {
                let amount = usage.get(*resource).copied().unwrap_or(Quantity::ZERO);
                format!("{resource}={amount}")
            });
            each.collect::<Vec<_>>().join(",")
        };
        let (requested, used, limited) = (show(&delta), show(&used), show(&hard));
        let why = format!("exceeded quota: {name}, requested: {requested}, used: {used}, limited: {limited}");
        return Err(request.forbidden(object, &why));
    }
    Ok(with_status(entry, &hard, &used, &delta))
}

fn sum(used: &Usage, resource: &str, more: Quantity) -> Quantity {
    used.get(resource).copied().unwrap_or(Quantity::ZERO) + more
}

/// The quota with its new usage.
fn with_status(entry: &Arc<Entry>, hard: &Usage, used: &Usage, delta: &Usage) -> Option<SideWrite> {
    let mut object: Value = serde_json::from_slice(&entry.value).ok()?;
    let mut status = object.get("status").filter(|status| status.is_object()).cloned().unwrap_or_else(|| json!({}));
    status["hard"] = object["spec"]["hard"].clone();
    if !status["used"].is_object() {
        status["used"] = json!({});
    }
    for resource in hard.keys().filter(|resource| used.contains_key(*resource) || delta.contains_key(*resource)) {
        let more = delta.get(resource).copied().unwrap_or(Quantity::ZERO);
        status["used"][resource] = sum(used, resource, more).to_string().into();
    }
    object["status"] = status;
    Some(SideWrite { key: entry.key.to_string(), expect: entry.revision, object })
}
