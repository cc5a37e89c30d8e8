//! ResourceQuota: a namespace holds and asks for no more than its quotas allow.
//!
//! What is used is counted in the snapshot for the resource being written, not taken from the quota's status, so it can
//! neither drift nor wait for a controller. The new usage is written to the status in the transaction of the object, on
//! the condition that the quota is still the one that was read: of two requests that would together exceed it, one
//! tries again and is refused.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, ResourceQuota, ResourceQuotaSpec};
use mizzen_api::key;
use mizzen_api::quantity::Quantity;
use mizzen_api::quota::{self as rules, Counted, Usage};
use mizzen_api::status::ApiError;
use mizzen_store::Entry;
use serde_json::{Value, json};

use super::plugin::Plugin;
use super::{Admitted, Operation, Request, SideWrite};

#[cfg(test)]
mod tests;

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
    let read = |object: &Value| Counted::read(&request.kind.group, &request.kind.plural, object);
    let (new, old) = (read(object), old.map(read));
    for entry in quotas {
        if let Some(write) = check_one(request, object, entry, &new, old.as_ref())? {
            out.writes.push(write);
        }
    }
    Ok(())
}

/// Whether the request can raise usage.
fn handles(request: &Request<'_>) -> bool {
    let grows = rules::reads(&request.kind.group, &request.kind.plural);
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
    let limited: Vec<&str> = hard
        .keys()
        .map(String::as_str)
        .filter(|name| rules::counts(&request.kind.group, &request.kind.plural, name))
        .collect();
    if limited.is_empty() || !rules::match_object(spec, new) {
        return Ok(None);
    }
    let name = quota.metadata.name.as_deref().unwrap_or_default();
    if let (Counted::Pod(pod), Operation::Create) = (new, request.operation)
        && let Some(missing) = rules::unspecified(pod, &limited)
    {
        return Err(request.forbidden(object, &format!("failed quota: {name}: {missing}")));
    }
    // An object that the quota did not count before counts as a whole now.
    let before = old.filter(|old| rules::match_object(spec, old)).map(|old| usage(request, old)).unwrap_or_default();
    let mut delta = usage(request, new);
    delta.retain(|resource, _| limited.contains(&resource.as_str()));
    for (resource, amount) in &mut delta {
        *amount = *amount - before.get(resource).copied().unwrap_or(Quantity::ZERO);
    }
    delta.retain(|_, amount| !amount.is_zero() && !amount.is_negative());
    if delta.is_empty() {
        return Ok(None);
    }
    let used = of_namespace(request, spec, &limited);
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

fn usage(request: &Request<'_>, object: &Counted) -> Usage {
    object.usage(&request.kind.group, &request.kind.plural, request.now.as_second())
}

/// What the objects of the request's kind that are stored in its namespace, and that the quota's scopes match, use together.
fn of_namespace(request: &Request<'_>, quota: &ResourceQuotaSpec, limited: &[&str]) -> Usage {
    let mut total: Usage = limited.iter().map(|name| ((*name).to_string(), Quantity::ZERO)).collect();
    let mut add = |counted: &Counted| {
        if rules::match_object(quota, counted) {
            for (name, amount) in usage(request, counted) {
                total.entry(name).and_modify(|sum| *sum = *sum + amount);
            }
        }
    };
    let prefix = key::namespace_prefix(&request.kind.group, &request.kind.plural, request.namespace);
    if request.is("", "pods") {
        for pod in request.snapshot.list_as::<Pod>(&prefix) {
            add(&Counted::Pod(pod));
        }
        return total;
    }
    let read = rules::reads(&request.kind.group, &request.kind.plural);
    for entry in request.snapshot.prefix(&prefix) {
        let object = if read { serde_json::from_slice(&entry.value).unwrap_or_default() } else { Value::Null };
        add(&Counted::Other(object));
    }
    total
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
