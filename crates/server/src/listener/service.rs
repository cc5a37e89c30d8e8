//! One request over HTTP: who asks, whether they may, the body within its limits, the answer with its headers.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, UPGRADE};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use jiff::Timestamp;
use mizzen_api::status::ApiError;
use mizzen_store::Snapshot;

use super::{gzip, websocket};
use crate::admission::notes::Notes;
use crate::aggregation;
use crate::answer::{Answer, Payload};
use crate::audit::{Audit, Record, Subject};
use crate::auth::{Authenticator, Identity};
use crate::deadline;
use crate::dispatch::{self, Head};
use crate::flow;
use crate::peers;
use crate::proxy::{self, Passed};
use crate::query::Query;
use crate::registry::names;
use crate::render::{self, AUDIT_ID};
use crate::request::RequestInfo;
use crate::server::Core;

/// Longer ids of clients are not taken over.
const AUDIT_ID_MAX: usize = 64;

/// What the requests of one connection share.
pub(super) struct Connection {
    pub core: Arc<Core>,
    /// Who the client certificate speaks for.
    pub peer: Option<Arc<Identity>>,
    /// Whence it comes, for the audit log.
    pub source: Option<IpAddr>,
}

impl Connection {
    /// Answers a request, whatever it is.
    pub async fn respond(&self, mut request: Request<Incoming>) -> Response<Payload> {
        if request.uri().path() == peers::PATH {
            let answer = peers::answer(&self.core, self.peer.as_deref(), request.into_body()).await;
            return finish(answer.unwrap_or_else(|error| Answer::error(&error)), false, "");
        }
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
        let id = audit_id(&parts.headers);
        let audited = self.core.config.audit.as_ref().map(|audit| Audited {
            audit,
            subject: Subject {
                id: &id,
                uri: parts.uri.to_string(),
                path: head.path,
                info: &info,
                headers: &parts.headers,
                source: self.source,
                received: Timestamp::now(),
            },
        });
        let mut told = Told::default();
        let answer = match self.answer(&head, &info, &parts, (upgrade, body), audited.as_ref(), &mut told).await {
            Ok(answer) => answer,
            Err(error) => Answer::error(&error),
        };
        let mut answer = render::warned(answer, head.notes.take_warnings());
        if let Some(record) = told.record {
            answer = Box::pin(record.answered(answer, head.notes.take_annotations())).await;
        }
        if let Some([schema, level]) = told.uids {
            answer.headers.extend([(flow::SCHEMA_UID, schema), (flow::LEVEL_UID, level)]);
        }
        self.core.metrics.answered(&info, query.has("dryRun"), answer.code, started.elapsed());
        finish(answer, gzip::accepts(&parts.headers), &id)
    }

    async fn answer(
        &self,
        head: &Head<'_>,
        info: &RequestInfo<'_>,
        parts: &Parts,
        (upgrade, body): (Option<OnUpgrade>, Incoming),
        audited: Option<&Audited<'_>>,
        told: &mut Told,
    ) -> Result<Answer, ApiError> {
        let snapshot = self.core.store.snapshot();
        let known = self.authenticate(&snapshot, head).await;
        let act = |who| {
            let what = dispatch::attributes(head, info, info.verb);
            self.core.authenticator.impersonate(&snapshot, &self.core.authorizer, who, head.headers, &what)
        };
        let Told { uids, record } = told;
        let identity = match audited {
            None => act(known?)?,
            Some(audited) => {
                let sender = known.as_ref().map_or_else(|_| Arc::new(Identity::default()), Arc::clone);
                let acting = known.and_then(act);
                *record = audited.begin(&sender, acting.as_ref().unwrap_or(&sender)).await;
                let identity = acting?;
                if let Some(record) = record {
                    record.decided(dispatch::decide(&self.core, &snapshot, &identity, head, info));
                }
                identity
            }
        };
        if proxy::passes_on(info) {
            let what = dispatch::attributes(head, info, info.verb);
            dispatch::admit(&self.core, &snapshot, &identity, &what).await?;
            let passed = Passed { core: &self.core, identity: &identity, head, info, snapshot: &snapshot };
            return proxy::answer(&passed, parts, upgrade, body).await;
        }
        if let Some(remote) = aggregation::passes_on(&self.core, &snapshot, head.path) {
            let what = dispatch::attributes(head, info, info.verb);
            dispatch::admit(&self.core, &snapshot, &identity, &what).await?;
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
        let record = record.as_ref().filter(|record| record.wants_body());
        let read = async {
            let body = self.read(body).await?;
            if let Some(record) = record {
                record.body(&body);
            }
            Ok(body)
        };
        let answer = dispatch::admitted(&self.core, &identity, head, info, read, uids);
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

    /// Who sends a request.
    async fn authenticate(&self, snapshot: &Snapshot, head: &Head<'_>) -> Result<Arc<Identity>, ApiError> {
        let authorization = head.headers.get(AUTHORIZATION).and_then(|v| v.to_str().ok());
        let (authenticator, now) = (&self.core.authenticator, Timestamp::now());
        let known = authenticator.authenticate(snapshot, now, self.peer.as_ref(), authorization);
        if known.is_err()
            && let Some(outside) = authenticator.outside()
            && let Some(token) = Authenticator::bearer(authorization)
            && let Some(found) = Box::pin(outside.identity(&self.core.callout, snapshot, token, now)).await
        {
            return Ok(Arc::new(found));
        }
        known.and_then(|who| authenticator.check_anonymous(&who, head.path).map(|()| who))
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

/// What is known of a request beside its answer.
#[derive(Default)]
struct Told {
    /// The FlowSchema and priority level that it went by.
    uids: Option<flow::Uids>,
    /// What the audit log is to hear.
    record: Option<Record>,
}

/// A request that the audit log may want to hear of.
struct Audited<'a> {
    audit: &'a Arc<Audit>,
    subject: Subject<'a>,
}

impl Audited<'_> {
    /// Begins its record and tells that it has arrived; `None` if the policy does not want to hear of it.
    async fn begin(&self, sender: &Identity, acting: &Identity) -> Option<Record> {
        let record = Record::begin(self.audit, &self.subject, sender, acting)?;
        record.received().await;
        Some(record)
    }
}

/// The id that the client gave the request, or a fresh one.
fn audit_id(headers: &HeaderMap) -> String {
    let given = headers.get(AUDIT_ID).and_then(|id| id.to_str().ok());
    let given = given.filter(|id| (1..=AUDIT_ID_MAX).contains(&id.len()));
    given.map_or_else(|| names::random_uuid().to_string(), String::from)
}

/// The answer as HTTP carries it.
fn finish(answer: Answer, gzip: bool, id: &str) -> Response<Payload> {
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
    if let Ok(id) = HeaderValue::from_str(id) {
        fields.insert(AUDIT_ID, id);
    }
    response
}
