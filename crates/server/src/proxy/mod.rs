//! The way to nodes, pods and services: logs, exec, attach, port-forward and proxies, passed on as bytes (api-facts §12).
//!
//! Who speaks which streaming protocol is settled between the client and the agent; what is upgraded here is copied.

pub(crate) mod forward;
mod rewrite;
mod target;

use std::sync::Arc;

use http::HeaderValue;
use http::header::LOCATION;
use http::request::Parts;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use mizzen_api::kinds::kinds;
use mizzen_api::status::ApiError;
use mizzen_store::Snapshot;
use serde_json::Value;

use crate::admission::{Options, dynamic};
use crate::answer::Answer;
use crate::auth::Identity;
use crate::dispatch::{self, Head};
use crate::negotiate::Format;
use crate::registry::Resource;
use crate::registry::create::request;
use crate::request::RequestInfo;
use crate::server::Core;
use forward::Link;
pub(crate) use forward::NodeClient;
use rewrite::Place;
use target::Target;
pub(crate) use target::kubelet_address;

/// Whether a request is passed on instead of being answered from the store.
pub(crate) fn passes_on(info: &RequestInfo<'_>) -> bool {
    let pods =
        info.resource == "pods" && matches!(info.subresource.as_ref(), "exec" | "attach" | "portforward" | "log");
    let proxied = info.subresource == "proxy" && matches!(info.resource.as_ref(), "pods" | "services" | "nodes");
    info.is_resource && info.group.is_empty() && info.version == "v1" && !info.name.is_empty() && (pods || proxied)
}

/// A request that is passed on.
pub(crate) struct Passed<'a> {
    pub core: &'a Arc<Core>,
    pub identity: &'a Arc<Identity>,
    pub head: &'a Head<'a>,
    pub info: &'a RequestInfo<'a>,
    pub snapshot: &'a Snapshot,
}

/// Passes an authorized request on and answers what comes back.
pub(crate) async fn answer(
    passed: &Passed<'_>,
    parts: &Parts,
    upgrade: Option<OnUpgrade>,
    body: Incoming,
) -> Result<Answer, ApiError> {
    let Passed { core, identity, head, info, snapshot } = passed;
    let streams = matches!(info.subresource.as_ref(), "exec" | "attach" | "portforward");
    if streams && *head.method == http::Method::GET {
        // A GET that opens a stream does what a POST does, and so needs the same permission.
        dispatch::admit(core, snapshot, identity, &dispatch::attributes(head, info, "create")).await?;
    }
    if info.subresource != "log" {
        Box::pin(admit(passed)).await?;
    }
    let target = target::resolve(snapshot, info, head.query)?;
    let reads = matches!(*head.method, http::Method::GET | http::Method::HEAD);
    if info.subresource == "proxy" && reads && upgrade.is_none() && parts.uri.path().ends_with("/proxy") {
        return to_the_root(&parts.uri);
    }
    let link = Link { core, parts, upgrade, body };
    match target {
        Target::Nothing => Ok(Answer::bytes(204, "", "")),
        Target::Kubelet { address, port, path } => {
            let nodes =
                core.nodes.as_ref().ok_or_else(|| ApiError::unavailable("this server has no way to the nodes"))?;
            let sender = nodes.connect(core, &address, port).await?;
            let answer = link.send(sender, &path, &format!("{address}:{port}")).await?;
            if info.subresource == "log" { forward::refused(answer).await } else { Ok(answer) }
        }
        Target::Pod { tls, address, port, path } => {
            let sender = forward::connect_pod(core, tls, &address, port).await?;
            let host = format!("{address}:{port}");
            let answer = link.send(sender, &path, &host).await?;
            let prefix = parts.uri.path().strip_suffix(info.rest).unwrap_or_default().trim_end_matches('/');
            Ok(forward::seen_from_outside(answer, Place { prefix: prefix.into(), host }))
        }
    }
}

/// A client that names no path is sent to the root, so that relative links of what it finds there work.
fn to_the_root(uri: &http::Uri) -> Result<Answer, ApiError> {
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    let location = format!("{}/{query}", uri.path());
    let mut answer = Answer::bytes(301, "", "");
    answer.headers.push((LOCATION, HeaderValue::from_str(&location).map_err(ApiError::internal)?));
    Ok(answer)
}

async fn admit(passed: &Passed<'_>) -> Result<(), ApiError> {
    let Passed { core, identity, head, info, snapshot } = passed;
    let kind = kinds().by_resource("", "v1", &info.resource).ok_or_else(ApiError::no_resource)?;
    let ctx = dispatch::Ctx {
        core,
        identity,
        head,
        info,
        resource: Resource::new(kind),
        subresource: kind.subresource(&info.subresource),
        format: Format::JSON,
        now: jiff::Timestamp::now(),
    };
    let asked = request(&ctx, snapshot, crate::admission::Operation::Connect, &info.name, false);
    let asked = crate::admission::Request { options: Options::None, ..asked };
    crate::admission::validate(&asked, &Value::Null, None)?;
    let mut options = target::options(info, head.query, ctx.subresource.map_or("", |sub| &sub.kind));
    dynamic::both(&asked, &mut options, None).await
}
