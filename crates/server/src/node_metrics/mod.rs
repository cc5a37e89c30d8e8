//! `metrics.k8s.io`: what nodes and pods use, for `kubectl top` and autoscaling (api-facts §9.9).
//!
//! Nothing of it is stored: each request is answered from what the nodes' agents measured within the last seconds
//! ([`source`]), for the pods and nodes that the store's snapshot knows ([`objects`]). A node that does not answer in
//! time, and a pod that its node has not measured yet, are left out.

mod kinds;
mod objects;
mod source;

use std::collections::BTreeSet;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Pod};
use mizzen_api::kind::Kind;
use mizzen_api::status::ApiError;
use mizzen_store::Entry;
use serde_json::{Value, json};

use crate::answer::Answer;
use crate::dispatch::Ctx;
use crate::negotiate::Shape;
use crate::registry::Resource;
use crate::registry::select::Selection;
use crate::render::{self, Body, Output, encoded};
use crate::shapes;
pub(crate) use source::Source;

/// The kinds served here, in discovery's order.
pub(crate) fn kinds() -> &'static [Kind] {
    &kinds::KINDS
}

/// The kind of a resource that is served here.
pub(crate) fn by_resource(group: &str, version: &str, plural: &str) -> Option<&'static Kind> {
    kinds().iter().find(|k| k.group == group && k.version == version && k.plural == plural)
}

/// Whether a kind is served here.
pub(crate) fn serves(kind: &Kind) -> bool {
    kind.group == kinds::GROUP
}

/// Answers a GET or LIST.
pub(crate) async fn answer(ctx: &Ctx<'_>) -> Result<Answer, ApiError> {
    let resource = Resource::new(kinds::measured(ctx.kind()).ok_or_else(ApiError::no_resource)?);
    let (namespace, name) = (ctx.info.namespace.as_ref(), ctx.info.name.as_ref());
    if ctx.info.verb == "get" {
        let snapshot = ctx.snapshot();
        let entry = snapshot.get(&resource.key(namespace, name)).cloned();
        let found = measured(ctx, entry.into_iter().collect()).await.pop();
        let object = found.ok_or_else(|| ApiError::not_found(ctx.kind().subject(), name))?;
        return render::answer(ctx, Output::new(200, Body::Stored(object)));
    }
    let selection = Selection::parse(&resource, ctx.head.query)?;
    let snapshot = ctx.snapshot();
    let entries = snapshot.prefix(&resource.prefix(namespace)).filter(|e| selection.matches(e)).cloned().collect();
    Ok(list(ctx, measured(ctx, entries).await))
}

/// The metrics of stored pods or nodes, in their order.
async fn measured(ctx: &Ctx<'_>, entries: Vec<Arc<Entry>>) -> Vec<Value> {
    let snapshot = ctx.snapshot();
    if !ctx.kind().namespaced {
        let nodes: Vec<Arc<Node>> = entries.iter().filter_map(|e| snapshot.get_as(&e.key)).collect();
        let names = nodes.iter().filter_map(|n| n.metadata.name.clone()).collect();
        let usage = ctx.core.node_metrics.usage(ctx.core, &snapshot, names).await;
        return nodes.iter().filter_map(|node| objects::node(node, &usage)).collect();
    }
    let pods: Vec<Arc<Pod>> = entries.iter().filter_map(|e| snapshot.get_as(&e.key)).collect();
    let names: BTreeSet<String> = pods.iter().filter_map(|p| p.spec.as_ref()?.node_name.clone()).collect();
    let usage = ctx.core.node_metrics.usage(ctx.core, &snapshot, names).await;
    pods.iter().filter_map(|pod| objects::pod(pod, &usage)).collect()
}

fn list(ctx: &Ctx<'_>, objects: Vec<Value>) -> Answer {
    let list = match ctx.format.shape {
        Shape::Full => json!({"kind": ctx.kind().list_kind, "apiVersion": ctx.kind().api_version(), "metadata": {},
            "items": objects}),
        Shape::Table(version) => {
            let include = shapes::Include::parse(ctx.head.query.get("includeObject"));
            let now = ctx.now.as_second();
            let rows = objects.into_iter().map(|o| shapes::row(&ctx.resource, o, version, include, now)).collect();
            shapes::table(ctx.kind(), version, json!({}), rows, true)
        }
        Shape::Metadata(version) => {
            let items: Vec<Value> = objects.iter().map(|o| shapes::partial(o, version)).collect();
            json!({"kind": "PartialObjectMetadataList", "apiVersion": version.api_version(), "metadata": {}, "items": items})
        }
    };
    encoded(200, &list, ctx.format)
}
