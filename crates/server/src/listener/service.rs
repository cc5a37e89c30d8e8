//! One request over HTTP: who asks, whether they may, the body within its limits, the answer with its headers.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, UPGRADE};
use http::request::Parts;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use jiff::Timestamp;
use mizzen_api::status::ApiError;

use super::{gzip, websocket};
use crate::admission::notes::Notes;
use crate::aggregation;
use crate::answer::{Answer, Payload};
use crate::auth::Identity;
use crate::deadline;
use crate::dispatch::{self, Head};
use crate::flow;
use crate::proxy::{self, Passed};
use crate::query::Query;
use crate::registry::names;
use crate::render::{self, AUDIT_ID};
use crate::request::RequestInfo;
use crate::server::Core;

/// What the requests of one connection share.
pub(super) struct Connection {
    pub core: Arc<Core>,
    /// Who the client certificate speaks for.
    pub peer: Option<Arc<Identity>>,
}

impl Connection {
    /// Answers a request, whatever it is.
    pub async fn respond(&self, mut request: Request<Incoming>) -> Response<Payload> {
        let started = Instant::now();
        let upgrade = request.headers().contains_key(UPGRADE).then(|| hyper::upgrade::on(&mut request));
        let (parts, body) = request.into_parts();
        let query = Query::parse(parts.uri.query().unwrap_or_default());
        let head = Head {
            method: &parts.method,
            path: parts.uri.path(),
            query: &query,
            headers: &parts.headers,
            notes: Notes::default(),
        };
        let info = RequestInfo::parse(&parts.method, parts.uri.path(), &query);
        let _under_way = self.core.metrics.inflight(info.verb);
        let mut uids = None;
        let answer = match self.answer(&head, &info, &parts, upgrade, body, &mut uids).await {
            Ok(answer) => answer,
            Err(error) => Answer::error(&error),
        };
        let mut answer = render::warned(answer, head.notes.take_warnings());
        if let Some([schema, level]) = uids {
            answer.headers.extend([(flow::SCHEMA_UID, schema), (flow::LEVEL_UID, level)]);
        }
        self.core.metrics.answered(&info, query.has("dryRun"), answer.code, started.elapsed());
        finish(answer, gzip::accepts(&parts.headers))
    }

    async fn answer(
        &self,
        head: &Head<'_>,
        info: &RequestInfo<'_>,
        parts: &Parts,
        upgrade: Option<OnUpgrade>,
        body: Incoming,
        uids: &mut Option<flow::Uids>,
    ) -> Result<Answer, ApiError> {
        let snapshot = self.core.store.snapshot();
        let authorization = head.headers.get(AUTHORIZATION).and_then(|v| v.to_str().ok());
        let authenticator = &self.core.authenticator;
        let identity = authenticator.authenticate(&snapshot, Timestamp::now(), self.peer.as_ref(), authorization)?;
        let identity = authenticator.impersonate(&snapshot, &self.core.authorizer, identity, head.headers)?;
        if proxy::passes_on(info) {
            dispatch::authorize(&self.core, &snapshot, &identity, head, info, info.verb)?;
            let passed = Passed { core: &self.core, identity: &identity, head, info, snapshot: &snapshot };
            return proxy::answer(&passed, parts, upgrade, body).await;
        }
        if let Some(remote) = aggregation::passes_on(&self.core, &snapshot, head.path) {
            dispatch::authorize(&self.core, &snapshot, &identity, head, info, info.verb)?;
            let passed = aggregation::Passed {
                core: &self.core,
                snapshot: &snapshot,
                identity: &identity,
                remote: &remote,
                parts,
            };
            return Box::pin(aggregation::answer(passed, upgrade, body)).await;
        }
        drop(snapshot);
        let answer = dispatch::admitted(&self.core, &identity, head, info, self.read(body), uids);
        if info.verb == "watch" {
            let answer = answer.await?;
            return Ok(match upgrade {
                Some(upgrade) => websocket::accept(answer, head.headers, upgrade, &self.core.tasks),
                None => answer,
            });
        }
        let time = deadline::of(head.query, self.core.config.request_timeout)?;
        let late = |_| Err(ApiError::timeout("Timeout: request did not complete within the allotted timeout"));
        tokio::time::timeout(time, answer).await.unwrap_or_else(late)
    }

    /// The whole body, within the limits of size and time.
    async fn read(&self, body: Incoming) -> Result<Bytes, ApiError> {
        let config = &self.core.config;
        let read = Limited::new(body, config.max_body).collect();
        match tokio::time::timeout(config.read_timeout, read).await {
            Ok(Ok(collected)) => Ok(collected.to_bytes()),
            Ok(Err(error)) if error.is::<LengthLimitError>() => {
                let message = format!("Request entity too large: limit is {}", config.max_body);
                Err(ApiError::plain(413, "RequestEntityTooLarge", message))
            }
            Ok(Err(error)) => Err(ApiError::bad_request(format!("the body of the request cannot be read: {error}"))),
            Err(_) => Err(ApiError::timeout("the body of the request did not arrive in time")),
        }
    }
}

/// The answer as HTTP carries it.
fn finish(answer: Answer, gzip: bool) -> Response<Payload> {
    let Answer { code, content_type, headers, payload, hold: _ } = if gzip { gzip::compress(answer) } else { answer };
    let mut response = Response::new(payload);
    *response.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let fields = response.headers_mut();
    fields.reserve(3 + headers.len());
    for (name, value) in headers {
        fields.append(name, value);
    }
    let content_type = match content_type {
        Cow::Borrowed(text) => Ok(HeaderValue::from_static(text)),
        Cow::Owned(text) => HeaderValue::try_from(text),
    };
    if let Ok(content_type) = content_type
        && !content_type.is_empty()
    {
        fields.insert(CONTENT_TYPE, content_type);
    }
    fields.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-cache, private"));
    let mut buffer = uuid::Uuid::encode_buffer();
    if let Ok(id) = HeaderValue::from_str(names::random_uuid().hyphenated().encode_lower(&mut buffer)) {
        fields.insert(AUDIT_ID, id);
    }
    response
}
