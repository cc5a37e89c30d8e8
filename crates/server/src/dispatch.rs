//! One request from its head to its answer: parse → authorize → find the resource → handler → render.
//!
//! The same road for requests over HTTP and from within the process; who is asking was settled before.

use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Method};
use jiff::Timestamp;
use mizzen_api::kind::{Kind, Subresource};
use mizzen_api::kinds::kinds;
use mizzen_api::status::ApiError;
use mizzen_store::Snapshot;

use crate::admission::notes::Notes;
use crate::answer::Answer;
use crate::auth::{Attributes, Decision, Identity};
use crate::crd;
use crate::deprecations;
use crate::flow;
use crate::negotiate::{self, Format, Offer};
use crate::node_metrics;
use crate::nonresource;
use crate::peers;
use crate::query::Query;
use crate::registry::{self, Resource};
use crate::render;
use crate::request::RequestInfo;
use crate::server::Core;
use crate::watch;

/// The head of a request.
pub(crate) struct Head<'a> {
    pub method: &'a Method,
    pub path: &'a str,
    pub query: &'a Query,
    pub headers: &'a HeaderMap,
    /// What is to be said beside the answer.
    pub notes: Notes,
}

impl Head<'_> {
    /// A header as text, empty if there is none.
    pub fn header(&self, name: http::HeaderName) -> &str {
        self.headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default()
    }
}

/// Everything a handler knows of its request.
pub(crate) struct Ctx<'a> {
    pub core: &'a Arc<Core>,
    pub identity: &'a Arc<Identity>,
    pub head: &'a Head<'a>,
    pub info: &'a RequestInfo<'a>,
    pub resource: Resource,
    pub subresource: Option<&'a Subresource>,
    pub format: Format,
    pub now: Timestamp,
}

impl Ctx<'_> {
    pub fn kind(&self) -> &Kind {
        &self.resource.kind
    }

    pub fn snapshot(&self) -> Snapshot {
        self.core.store.snapshot()
    }
}

/// The resource that a request is for: built in, or defined at run time. Who serves a group and version in its stead (an
/// aggregated APIService) has to be asked before.
fn find(core: &Core, info: &RequestInfo<'_>) -> Option<Resource> {
    let (group, version, resource) = (info.group.as_ref(), info.version.as_ref(), info.resource.as_ref());
    let built_in =
        kinds().by_resource(group, version, resource).or_else(|| node_metrics::by_resource(group, version, resource));
    if let Some(kind) = built_in {
        return Some(Resource::new(kind));
    }
    let (kind, definition) = core.definitions.find(&core.store.snapshot(), group, version, resource)?;
    Some(Resource::custom(kind, definition))
}

/// 403 unless `identity` may do `what`: the one question, put to whoever decides, webhooks too where there are any.
pub(crate) async fn admit(
    core: &Core,
    snapshot: &Snapshot,
    identity: &Identity,
    what: &Attributes<'_>,
) -> Result<(), ApiError> {
    match core.authorizer.chain() {
        None => core.authorizer.authorize(snapshot, identity, what),
        Some(chain) => Box::pin(chain.authorize(&core.authorizer, &core.callout, snapshot, identity, what)).await,
    }
}

/// What is decided here of a request, and why, for the audit log.
pub(crate) fn decide(
    core: &Core,
    snapshot: &Snapshot,
    identity: &Identity,
    head: &Head<'_>,
    info: &RequestInfo<'_>,
) -> Decision {
    core.authorizer.decide(snapshot, identity, &attributes(head, info, info.verb))
}

/// What is asked for, as authorizers and FlowSchemas see it.
pub(crate) fn attributes<'a>(head: &Head<'a>, info: &'a RequestInfo<'_>, verb: &'a str) -> Attributes<'a> {
    Attributes {
        verb,
        resource_request: info.is_resource,
        group: &info.group,
        version: &info.version,
        resource: &info.resource,
        subresource: &info.subresource,
        namespace: &info.namespace,
        name: &info.name,
        path: head.path,
        field_selector: head.query.get("fieldSelector").unwrap_or_default(),
        label_selector: head.query.get("labelSelector").unwrap_or_default(),
    }
}

/// Answers a request when there are seats for it and its sender may make it. The seats are held until the answer is made;
/// for a watch, until its initial events are.
pub(crate) async fn admitted(
    core: &Arc<Core>,
    identity: &Arc<Identity>,
    head: &Head<'_>,
    info: &RequestInfo<'_>,
    body: impl Future<Output = Result<Bytes, ApiError>>,
    uids: &mut Option<flow::Uids>,
) -> Result<Answer, ApiError> {
    let what = attributes(head, info, info.verb);
    let width = || flow::width(info, head.query, &core.store.snapshot());
    let seat = core.flow.enter(identity, &what, width, uids).await?;
    let snapshot = core.store.snapshot();
    admit(core, &snapshot, identity, &what).await?;
    drop(snapshot);
    let answer = answer(core, identity, head, info, body).await?;
    if let Some(hold) = &answer.hold {
        // Set once, here.
        let _ = hold.set(seat.keep(&core.tasks, core.config.request_timeout));
    }
    Ok(answer)
}

/// Answers an authorized request. `body` is awaited only if a handler wants one.
pub(crate) async fn answer(
    core: &Arc<Core>,
    identity: &Arc<Identity>,
    head: &Head<'_>,
    info: &RequestInfo<'_>,
    body: impl Future<Output = Result<Bytes, ApiError>>,
) -> Result<Answer, ApiError> {
    if !info.is_resource {
        return Ok(nonresource::answer(core, head));
    }
    let Some(resource) = find(core, info) else {
        return Ok(nonresource::not_found());
    };
    // A second handle, for the context owns the first and lends the parts of the second.
    let handle = resource.kind.clone();
    let kind: &Kind = &handle;
    let subresource = match info.subresource.as_ref() {
        "" => None,
        name => match kind.subresource(name) {
            Some(found) => Some(found),
            None if kind.custom.is_some() => return Err(ApiError::not_found(kind.subject(), &info.name)),
            None => return Ok(nonresource::not_found()),
        },
    };
    if !info.rest.is_empty() {
        return Ok(nonresource::not_found()); // Only proxies have paths below them, and those were passed on.
    }
    check_scope(kind, info)?;
    let verbs = subresource.map_or(kind.verbs, |s| s.verbs);
    if !verbs.contains(&info.verb) {
        return Err(not_supported(info, kind));
    }
    let offer = Offer {
        stream: info.verb == "watch",
        list: matches!(info.verb, "list" | "watch" | "deletecollection"),
        custom: kind.custom.is_some(),
        shapes: (kind.is_stored() || node_metrics::serves(kind))
            && subresource.is_none_or(|s| s.kind == kind.kind || s.kind == "Scale"),
    };
    let mut format = negotiate::accept(Some(head.header(http::header::ACCEPT)), offer)?;
    let agent = head.header(http::header::USER_AGENT);
    format.pretty = negotiate::wants_pretty(head.query.get("pretty"), agent, format.pretty);
    let ctx = Ctx { core, identity, head, info, resource, subresource, format, now: Timestamp::now() };
    if wants_newest(&ctx) {
        peers::newest(core).await?;
    }
    let mut answer = route(&ctx, body).await?;
    if let Some(deprecated) = deprecations::of(ctx.kind()) {
        core.metrics.deprecated(info, deprecated.removed);
        answer.headers.push((http::header::WARNING, deprecated.header()));
    }
    Ok(answer)
}

/// The futures of all but the shortest handlers are boxed: kept in place, they would make every request's future as large
/// as the largest of them.
async fn route(ctx: &Ctx<'_>, body: impl Future<Output = Result<Bytes, ApiError>>) -> Result<Answer, ApiError> {
    if node_metrics::serves(ctx.kind()) {
        return Box::pin(node_metrics::answer(ctx)).await;
    }
    let output = match (ctx.info.verb, ctx.subresource) {
        ("get", None) if ctx.resource.definition.is_none() => registry::read::get(ctx).await?,
        ("get", None) => Box::pin(registry::read::get(ctx)).await?,
        ("list", _) => Box::pin(registry::read::list(ctx)).await?,
        ("watch", _) => return Box::pin(watch::answer(ctx)).await,
        ("create", None) => Box::pin(registry::create::handle(ctx, &body.await?)).await?,
        ("update", None) => Box::pin(registry::update::handle(ctx, &body.await?)).await?,
        ("patch", None) => Box::pin(registry::patch::handle(ctx, &body.await?)).await?,
        ("delete", _) => Box::pin(registry::delete::handle(ctx, &body.await?)).await?,
        ("deletecollection", _) => Box::pin(registry::delete::collection(ctx, &body.await?)).await?,
        (_, Some(subresource)) => Box::pin(registry::subresource::handle(ctx, subresource, body)).await?,
        _ => return Err(ApiError::method_not_allowed()),
    };
    if ctx.resource.definition.is_some() {
        let output = Box::pin(crd::served(ctx, output)).await?;
        return render::answer(ctx, output);
    }
    render::answer(ctx, output)
}

/// Whether a request must see what was written just before at any server: all but reads that say how old they may be.
fn wants_newest(ctx: &Ctx<'_>) -> bool {
    let given = |parameter| ctx.head.query.get(parameter).is_some_and(|value| !value.is_empty());
    !matches!(ctx.info.verb, "get" | "list" | "watch") || !given("resourceVersion") && !given("continue")
}

/// 404 for paths that have a namespace where none belongs, or lack one.
fn check_scope(kind: &Kind, info: &RequestInfo<'_>) -> Result<(), ApiError> {
    let has_namespace = !info.namespace.is_empty();
    let named = !info.name.is_empty() && !matches!(info.verb, "list" | "watch" | "deletecollection");
    if !kind.namespaced && kind.plural != "namespaces" && has_namespace || kind.namespaced && !has_namespace && named {
        return Err(ApiError::no_resource());
    }
    if kind.namespaced && !has_namespace && matches!(info.verb, "create" | "deletecollection") {
        return Err(ApiError::method_not_allowed());
    }
    if matches!(info.verb, "update" | "patch") && info.name.is_empty() {
        return Err(ApiError::method_not_allowed());
    }
    if info.verb == "create" && !info.name.is_empty() && info.subresource.is_empty() {
        return Err(ApiError::method_not_allowed());
    }
    Ok(())
}

fn not_supported(info: &RequestInfo<'_>, kind: &Kind) -> ApiError {
    let mut error = ApiError::method_not_allowed();
    error.message = format!("{} is not supported on resources of kind \"{}\"", info.verb, kind.subject());
    error
}
