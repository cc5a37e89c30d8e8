//! Requests passed on to an aggregated server, with the user that this server found out.

use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONNECTION, UPGRADE};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use mizzen_api::status::ApiError;
use mizzen_store::Snapshot;

use super::services::Remote;
use crate::answer::Answer;
use crate::auth::{AUTHENTICATED, Identity, MASTERS};
use crate::callout::{Body, Cause};
use crate::proxy::forward;
use crate::server::Core;

/// How long the head of an answer may take. Watches answer their head at once.
const PATIENCE: Duration = Duration::from_secs(60);

/// The server that a path is to be passed on to: `/apis/<group>/<version>` and what is below it, and the OpenAPI of that.
pub(crate) fn passes_on(core: &Core, snapshot: &Snapshot, path: &str) -> Option<Remote> {
    let services = core.aggregation.services(snapshot);
    if !services.has_remote() {
        return None;
    }
    let below = path.strip_prefix("/apis/").or_else(|| path.strip_prefix("/openapi/v3/apis/"))?;
    let (group, rest) = below.split_once('/')?;
    let version = rest.split('/').next()?;
    services.remote(group, version).cloned()
}

/// A request that is passed on.
pub(crate) struct Passed<'a> {
    pub core: &'a Core,
    pub snapshot: &'a Snapshot,
    pub identity: &'a Identity,
    pub remote: &'a Remote,
    pub parts: &'a Parts,
}

/// Passes an authorized request on and answers what comes back.
pub(crate) async fn answer(passed: Passed<'_>, upgrade: Option<OnUpgrade>, body: Incoming) -> Result<Answer, ApiError> {
    let Passed { core, snapshot, identity, remote, parts } = passed;
    if !remote.available {
        return Ok(Answer::text(503, "service unavailable\n"));
    }
    let to = match &remote.to {
        Ok(to) => to,
        Err(why) => return Ok(Answer::text(500, format!("{why}\n"))),
    };
    let mut request = Request::new(body.map_err(Into::into).boxed_unsync());
    *request.method_mut() = parts.method.clone();
    let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
    *request.uri_mut() = target.parse().map_err(|e| ApiError::bad_request(format!("{target}: {e}")))?;
    *request.headers_mut() = forward::passed_on(&parts.headers);
    vouch(request.headers_mut(), identity);
    if let Some(protocol) = parts.headers.get(UPGRADE).filter(|_| upgrade.is_some()) {
        request.headers_mut().insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        request.headers_mut().insert(UPGRADE, protocol.clone());
    }
    let sent = tokio::time::timeout(PATIENCE, core.callout.open(snapshot, to, request)).await;
    let mut response = match sent.map_err(|_| Cause::Deadline).and_then(|sent| sent) {
        Ok(response) => response,
        Err(Cause::Deadline) => return Err(ApiError::timeout("the aggregated API server did not answer in time")),
        Err(cause) => return Ok(Answer::text(503, format!("error trying to reach service: {cause}\n"))),
    };
    if response.status() == StatusCode::SWITCHING_PROTOCOLS
        && let Some(client) = upgrade
    {
        let backend = hyper::upgrade::on(&mut response);
        forward::copy(core, client, backend);
        return Ok(forward::switched(&response));
    }
    Ok(forward::returned(response))
}

/// Says who asks, in headers that count because of our certificate. What the client sent under these names is gone.
fn vouch(headers: &mut HeaderMap, identity: &Identity) {
    let ours = |name: &HeaderName| name.as_str().starts_with("x-remote-") || *name == AUTHORIZATION;
    let sent: Vec<HeaderName> = headers.keys().filter(|name| ours(name)).cloned().collect();
    for name in sent {
        headers.remove(name);
    }
    let mut say = |name: &str, text: &str| {
        let pair = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_bytes(text.as_bytes()));
        if let (Ok(name), Ok(value)) = pair {
            headers.append(name, value);
        }
    };
    say("x-remote-user", &identity.user);
    if !identity.uid.is_empty() {
        say("x-remote-uid", &identity.uid);
    }
    for group in &identity.groups {
        say("x-remote-group", group);
    }
    for (key, values) in &identity.extra {
        let name = format!("x-remote-extra-{}", escaped(key));
        for value in values {
            say(&name, value);
        }
    }
}

/// A key as part of a header's name: what names cannot hold is percent-encoded.
fn escaped(key: &str) -> String {
    let mut out = String::with_capacity(key.len());
    for byte in key.bytes() {
        match byte {
            b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => out.push(byte as char),
            b'!' | b'#' | b'$' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~' => {
                out.push(byte as char);
            }
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}

/// An answer to a question of this server's own.
pub(super) struct Fetched {
    pub code: u16,
    pub content_type: String,
    pub bytes: Bytes,
}

/// Largest document that is read of an aggregated server.
const DOCUMENT_MAX: usize = 16 << 20;

/// GETs a path of an aggregated server as this server itself.
pub(super) async fn fetch(
    core: &Core,
    snapshot: &Snapshot,
    remote: &Remote,
    path: &str,
    accept: &'static str,
) -> Result<Fetched, Cause> {
    let to = remote.to.as_ref().map_err(|why| Cause::Config(why.clone()))?;
    let body: Body = Full::new(Bytes::new()).map_err(|never| match never {}).boxed_unsync();
    let mut request = Request::new(body);
    *request.uri_mut() = path.parse().map_err(|_| Cause::Config(format!("invalid path {path:?}")))?;
    request.headers_mut().insert(http::header::ACCEPT, HeaderValue::from_static(accept));
    let own = Identity {
        user: "system:kube-aggregator".into(),
        groups: vec![MASTERS.into(), AUTHENTICATED.into()],
        ..Identity::default()
    };
    vouch(request.headers_mut(), &own);
    let response: Response<Incoming> = core.callout.open(snapshot, to, request).await?;
    let (parts, body) = response.into_parts();
    let bytes = Limited::new(body, DOCUMENT_MAX).collect().await.map_err(Cause::Body)?.to_bytes();
    let content_type = parts.headers.get(http::header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    Ok(Fetched { code: parts.status.as_u16(), content_type: content_type.into(), bytes })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn users_are_vouched_for_and_cannot_vouch_for_themselves() {
        let mut headers = HeaderMap::new();
        for (name, value) in [("x-remote-user", "root"), ("x-remote-extra-a", "b"), ("accept", "text/plain")] {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        let identity = Identity {
            user: "jane".into(),
            uid: "7".into(),
            groups: vec!["dev".into(), "ops".into()],
            extra: BTreeMap::from([("example.com/a b".into(), vec!["x".into()])]),
        };
        vouch(&mut headers, &identity);
        let all: Vec<String> =
            headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
        assert_eq!(
            all,
            [
                "accept: text/plain",
                "x-remote-user: jane",
                "x-remote-uid: 7",
                "x-remote-group: dev",
                "x-remote-group: ops",
                "x-remote-extra-example.com%2fa%20b: x",
            ]
        );
    }
}
