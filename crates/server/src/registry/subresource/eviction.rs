//! `pods/eviction`: a delete that a PodDisruptionBudget may refuse (api-facts §3.8).

use bytes::Bytes;
use mizzen_api::decode::Expected;
use mizzen_api::key;
use mizzen_api::selector::LabelSelector;
use mizzen_api::status::ApiError;
use mizzen_store::{Entry, Expect, Snapshot};
use serde_json::{Value, json};
use std::sync::Arc;

use super::binding::set_condition;
use crate::admission::{self, Operation, dynamic};
use crate::dispatch::Ctx;
use crate::options::DeleteOptions;
use crate::registry::commit::{ATTEMPTS, Failed, Sides, commit};
use crate::registry::meta::Meta;
use crate::registry::{body, create, delete, prepare};
use crate::render::{Output, parse};

/// Answers a POST to `pods/<name>/eviction`.
pub(super) async fn handle(ctx: &Ctx<'_>, sent: &Bytes) -> Result<Output, ApiError> {
    let eviction = body::of_kind(ctx, sent, &Expected::new("policy", "v1", "Eviction"))?;
    let named = prepare::text(&eviction, "name");
    if !named.is_empty() && named != ctx.info.name {
        return Err(ApiError::bad_request("name in URL does not match name in Eviction object"));
    }
    let eviction = admit(ctx, eviction).await?;
    let options = match &eviction["deleteOptions"] {
        Value::Null => DeleteOptions::default(),
        body => DeleteOptions::parse(ctx.head.query, Some(body))?,
    };
    if !options.dry_run {
        permit(ctx).await?;
    }
    delete::delete(ctx, &ctx.info.namespace, &ctx.info.name, &options).await?;
    Ok(Output::success(201, Value::Null))
}

/// Nodes evict only their own pods, which must be asked before anything is marked.
async fn admit(ctx: &Ctx<'_>, mut eviction: Value) -> Result<Value, ApiError> {
    let snapshot = ctx.snapshot();
    let dry_run = eviction["deleteOptions"]["dryRun"].as_array().is_some_and(|dry| !dry.is_empty());
    let asked = create::request(ctx, &snapshot, Operation::Create, &ctx.info.name, dry_run);
    admission::mutate(&asked, &mut eviction.clone(), None)?;
    dynamic::both(&asked, &mut eviction, None).await?;
    Ok(eviction)
}

/// Marks the pod as disrupted, and takes one from its budget in the same transaction.
async fn permit(ctx: &Ctx<'_>) -> Result<(), ApiError> {
    let key = ctx.resource.key(&ctx.info.namespace, &ctx.info.name);
    for _ in 0..ATTEMPTS {
        let snapshot = ctx.snapshot();
        let entry = snapshot.get(&key).ok_or_else(|| ApiError::not_found(ctx.kind().subject(), &ctx.info.name))?;
        let mut pod = parse(entry)?;
        if bypasses(&pod) {
            return Ok(());
        }
        let mut sides = Sides::default();
        if let Some((budget_entry, mut budget)) = budget(ctx, &snapshot, entry)?
            && take(&mut budget, &pod, &prepare::time(ctx.now))?
        {
            sides.add(vec![crate::admission::SideWrite {
                key: budget_entry.key.to_string(),
                expect: budget_entry.revision,
                object: budget,
            }]);
        }
        let now = prepare::time(ctx.now);
        set_condition(
            &mut pod,
            json!({"type": "DisruptionTarget", "status": "True", "lastProbeTime": null, "lastTransitionTime": now,
                "reason": "EvictionByEvictionAPI", "message": "Eviction API: evicting"}),
        );
        match commit(ctx.core, &key, Expect::At(entry.revision), Some(&pod), sides).await {
            Ok(_) => return Ok(()),
            Err(Failed::Changed | Failed::SideChanged) => {}
            Err(Failed::Error(error)) => return Err(error),
        }
    }
    Err(ApiError::modified(ctx.kind().subject(), &ctx.info.name))
}

/// Pods whose eviction disrupts nothing.
fn bypasses(pod: &Value) -> bool {
    matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed" | "Pending")) || prepare::is_deleting(pod)
}

/// The one budget that selects the pod.
fn budget(ctx: &Ctx<'_>, snapshot: &Snapshot, pod: &Arc<Entry>) -> Result<Option<(Arc<Entry>, Value)>, ApiError> {
    let prefix = key::namespace_prefix("policy", "poddisruptionbudgets", &ctx.info.namespace);
    let labels = Meta::of(pod, &ctx.resource.storage);
    let mut found = None;
    for entry in snapshot.prefix(&prefix) {
        let budget = parse(entry)?;
        // A selector that cannot be read selects nothing.
        let selector =
            LabelSelector::from_object(&budget["spec"]["selector"]).unwrap_or_else(|_| LabelSelector::nothing());
        if !selector.matches(|name| labels.label(name)) {
            continue;
        }
        if found.is_some() {
            let message =
                "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.";
            return Err(ApiError::plain(500, "InternalError", message));
        }
        found = Some((Arc::clone(entry), budget));
    }
    Ok(found)
}

/// Takes one disruption from a budget; `false` if the pod needs none.
fn take(budget: &mut Value, pod: &Value, now: &str) -> Result<bool, ApiError> {
    let number = |path: &str| budget["status"][path].as_i64().unwrap_or(0);
    let (healthy, desired, allowed) =
        (number("currentHealthy"), number("desiredHealthy"), number("disruptionsAllowed"));
    let ready = pod["status"]["conditions"]
        .as_array()
        .into_iter()
        .flatten()
        .any(|c| c["type"] == "Ready" && c["status"] == "True");
    let always = budget["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow";
    if !ready && (always || healthy >= desired && desired > 0) {
        return Ok(false);
    }
    let name = prepare::text(budget, "name").to_string();
    let violates = "Cannot evict pod as it would violate the pod's disruption budget.";
    let observed = number("observedGeneration") >= budget["metadata"]["generation"].as_i64().unwrap_or(0);
    if !observed {
        let cause = format!("The disruption budget {name} is still being processed by the server.");
        return Err(ApiError::too_many_requests(violates, 10).with_cause("DisruptionBudget", &cause, ""));
    }
    if allowed <= 0 {
        let cause = format!("The disruption budget {name} needs {desired} healthy pods and has {healthy} currently");
        let error = ApiError::plain(429, "TooManyRequests", violates);
        return Err(error.with_cause("DisruptionBudget", &cause, ""));
    }
    budget["status"]["disruptionsAllowed"] = (allowed - 1).into();
    if !budget["status"]["disruptedPods"].is_object() {
        budget["status"]["disruptedPods"] = json!({});
    }
    let pod_name = prepare::text(pod, "name");
    budget["status"]["disruptedPods"][pod_name] = now.into();
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budgets_give_and_refuse() {
        let budget = |allowed: i64, healthy: i64| {
            json!({"metadata": {"name": "b", "generation": 1},
                "status": {"observedGeneration": 1, "disruptionsAllowed": allowed, "currentHealthy": healthy, "desiredHealthy": 2}})
        };
        let pod = |ready: &str| json!({"metadata": {"name": "p"}, "status": {"conditions": [{"type": "Ready", "status": ready}]}});
        let mut one = budget(1, 3);
        assert_eq!(take(&mut one, &pod("True"), "T"), Ok(true));
        assert_eq!(one["status"]["disruptionsAllowed"], 0);
        assert_eq!(one["status"]["disruptedPods"], json!({"p": "T"}));
        let refused = take(&mut budget(0, 2), &pod("True"), "T").unwrap_err();
        assert_eq!((refused.code, refused.reason.as_ref()), (429, "TooManyRequests"));
        assert_eq!(take(&mut budget(0, 2), &pod("False"), "T"), Ok(false), "an unready pod is free to go");
        assert!(take(&mut budget(0, 1), &pod("False"), "T").is_err());
    }
}
