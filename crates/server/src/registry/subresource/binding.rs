//! `pods/binding`: the scheduler's decision (api-facts §3.8).

use bytes::Bytes;
use mizzen_api::decode::Expected;
use mizzen_api::kind::Kind;
use mizzen_api::kinds::kinds;
use mizzen_api::status::{ApiError, Subject};
use serde_json::{Value, json};

use super::write_options;
use crate::admission::{Operation, dynamic};
use crate::dispatch::Ctx;
use crate::registry::create::request;
use crate::registry::update::{Proposal, Seen, Target, change};
use crate::registry::{Resource, body, prepare};
use crate::render::{Output, served};
use crate::request::RequestInfo;

const SUBJECT: Subject<'static> = Subject { group: "", resource: "pods/binding" };

/// Answers a POST to `pods/<name>/binding`.
pub(super) async fn handle(ctx: &Ctx<'_>, sent: &Bytes) -> Result<Output, ApiError> {
    let binding = body::of_kind(ctx, sent, &Expected::new("", "v1", "Binding"))?;
    let named = prepare::text(&binding, "name");
    if !named.is_empty() && named != ctx.info.name {
        return Err(ApiError::bad_request("name in URL does not match name in Binding object"));
    }
    bind(ctx, binding).await
}

/// Answers a POST to the collection `bindings`, the older form of the same.
pub(crate) async fn from_collection(ctx: &Ctx<'_>, binding: Value) -> Result<Output, ApiError> {
    let pods: &'static Kind = kinds().by_resource("", "v1", "pods").ok_or_else(ApiError::no_resource)?;
    let name = prepare::text(&binding, "name").to_string();
    let info =
        RequestInfo { name: name.into(), resource: "pods".into(), subresource: "binding".into(), ..ctx.info.clone() };
    let what = crate::dispatch::attributes(ctx.head, &info, "create");
    crate::dispatch::admit(ctx.core, &ctx.snapshot(), ctx.identity, &what).await?;
    let ctx = Ctx {
        core: ctx.core,
        identity: ctx.identity,
        head: ctx.head,
        info: &info,
        resource: Resource::new(pods),
        subresource: pods.subresource("binding"),
        format: ctx.format,
        now: ctx.now,
    };
    bind(&ctx, binding).await
}

async fn bind(ctx: &Ctx<'_>, mut binding: Value) -> Result<Output, ApiError> {
    let options = write_options(ctx)?;
    let snapshot = ctx.snapshot();
    let asked = request(ctx, &snapshot, Operation::Create, &ctx.info.name, options.dry_run);
    dynamic::both(&asked, &mut binding, None).await?;
    let binding = &binding;
    change(ctx, Target::Binding, &options, |old| {
        let mut pod = served(&ctx.resource, old.clone());
        let name = ctx.info.name.as_ref();
        place(&mut pod, binding, &prepare::time(ctx.now)).map_err(|why| ApiError::conflict(SUBJECT, name, &why))?;
        let fields = prepare::metadata(&mut pod);
        for field in ["uid", "resourceVersion"] {
            fields.insert(field.into(), binding["metadata"][field].as_str().unwrap_or_default().into());
        }
        Ok(Proposal { managed: true, seen: Seen::Nothing, ..Proposal::new(pod) })
    })
    .await?;
    let mut output = Output::success(201, Value::Null);
    output.code = 201;
    Ok(output)
}

/// Puts a pod on the node that a binding names.
fn place(pod: &mut Value, binding: &Value, now: &str) -> Result<(), String> {
    let name = prepare::text(pod, "name").to_string();
    let node = binding["target"]["name"].as_str().unwrap_or_default();
    if prepare::is_deleting(pod) {
        return Err(format!("pod {name} is being deleted, cannot be assigned to a host"));
    }
    if let Some(assigned) = pod["spec"]["nodeName"].as_str().filter(|n| !n.is_empty()) {
        return Err(format!("pod {name} is already assigned to node {assigned:?}"));
    }
    if pod["spec"]["schedulingGates"].as_array().is_some_and(|g| !g.is_empty()) {
        return Err(format!("pod {name} has non-empty .spec.schedulingGates"));
    }
    pod["spec"]["nodeName"] = node.into();
    for map in ["annotations", "labels"] {
        let Some(added) = binding["metadata"][map].as_object() else { continue };
        let slot = prepare::metadata(pod).entry(map).or_insert_with(|| json!({}));
        if let Some(fields) = slot.as_object_mut() {
            fields.extend(added.iter().map(|(k, v)| (k.clone(), v.clone())));
        }
    }
    set_condition(
        pod,
        json!({"type": "PodScheduled", "status": "True", "lastProbeTime": null, "lastTransitionTime": now}),
    );
    Ok(())
}

/// Sets a condition of a pod; its transition time stays where the status does.
pub(super) fn set_condition(pod: &mut Value, mut condition: Value) {
    let status = &mut pod["status"];
    if !status.is_object() {
        *status = json!({});
    }
    let conditions = &mut status["conditions"];
    if !conditions.is_array() {
        *conditions = json!([]);
    }
    let Some(list) = conditions.as_array_mut() else { return };
    match list.iter_mut().find(|c| c["type"] == condition["type"]) {
        Some(found) => {
            if found["status"] == condition["status"] {
                condition["lastTransitionTime"] = found["lastTransitionTime"].clone();
            }
            *found = condition;
        }
        None => list.push(condition),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_is_placed_once() {
        let binding = json!({"metadata": {"labels": {"zone": "a"}}, "target": {"kind": "Node", "name": "n1"}});
        let mut pod = json!({"metadata": {"name": "p"}, "spec": {}});
        assert_eq!(place(&mut pod, &binding, "T"), Ok(()));
        assert_eq!(pod["spec"]["nodeName"], "n1");
        assert_eq!(pod["metadata"]["labels"]["zone"], "a");
        assert_eq!(pod["status"]["conditions"][0]["type"], "PodScheduled");
        for (pod, why) in [
            (pod.clone(), "pod p is already assigned to node \"n1\""),
            (
                json!({"metadata": {"name": "p", "deletionTimestamp": "x"}}),
                "pod p is being deleted, cannot be assigned to a host",
            ),
            (
                json!({"metadata": {"name": "p"}, "spec": {"schedulingGates": [{"name": "g"}]}}),
                "pod p has non-empty .spec.schedulingGates",
            ),
        ] {
            assert_eq!(place(&mut pod.clone(), &binding, "T"), Err(why.to_string()));
        }
    }
}
