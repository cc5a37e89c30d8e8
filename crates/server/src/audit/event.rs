//! One request on its way into the log.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use http::HeaderMap;
use http::header::USER_AGENT;
use jiff::Timestamp;
use mizzen_api::protobuf;
use serde_json::{Map, Value, json};

use super::Audit;
use super::policy::{Level, Stage, Verdict};
use crate::admission::notes::Annotation;
use crate::answer::{Answer, Payload};
use crate::auth::{Decision, Identity};
use crate::request::RequestInfo;

/// Bodies above this are left out, and the event says so.
const BODY_MAX: usize = 1 << 20;

/// What a request is.
pub(crate) struct Subject<'a> {
    pub id: &'a str,
    /// Path and query as sent.
    pub uri: String,
    pub path: &'a str,
    pub info: &'a RequestInfo<'a>,
    pub headers: &'a HeaderMap,
    pub source: Option<IpAddr>,
    pub received: Timestamp,
}

/// A request that is recorded.
pub(crate) struct Record {
    audit: Arc<Audit>,
    verdict: Verdict,
    event: Map<String, Value>,
    /// The body, once it was read.
    sent: OnceLock<Bytes>,
    /// What the authorizer said.
    decision: Option<Decision>,
}

impl Record {
    /// Begins to record a request, if the policy wants to hear of it. `who` sent it, and acts as `acting`.
    pub fn begin(audit: &Arc<Audit>, subject: &Subject<'_>, who: &Identity, acting: &Identity) -> Option<Self> {
        let verdict = audit.policy.verdict(acting, subject.info, subject.path);
        if verdict.level == Level::None {
            return None;
        }
        let event = describe(subject, &verdict, who, acting);
        Some(Self { audit: Arc::clone(audit), verdict, event, sent: OnceLock::new(), decision: None })
    }

    /// Notes what the authorizer said.
    pub fn decided(&mut self, decision: Decision) {
        self.decision = Some(decision);
    }

    /// Tells that the request has arrived.
    pub async fn received(&self) {
        if let Some(event) = self.at(Stage::RequestReceived, self.event.clone()) {
            self.audit.sink.put(event).await;
        }
    }

    /// Whether the request's body is to be kept.
    pub fn wants_body(&self) -> bool {
        self.verdict.level >= Level::Request
    }

    /// Keeps the request's body; a pointer.
    pub fn body(&self, body: &Bytes) {
        // Only the first body is that of the request.
        let _ = self.sent.set(body.clone());
    }

    /// Tells how it went. A stream is told of when it begins, and again when it has ended.
    pub async fn answered(mut self, mut answer: Answer, annotations: Vec<Annotation>) -> Answer {
        let mut event = self.event.clone();
        event.insert("responseStatus".into(), status(&answer));
        if let Some(sent) = self.sent.get().filter(|sent| !sent.is_empty()) {
            event.insert("requestObject".into(), self.object(sent));
        }
        if self.verdict.level == Level::RequestResponse
            && let Payload::Whole(Some(body)) = &answer.payload
            && ["application/json", "application/vnd.kubernetes.protobuf"]
                .iter()
                .any(|kind| answer.content_type.starts_with(kind))
        {
            event.insert("responseObject".into(), self.object(body));
        }
        let kept = annotations.into_iter().filter(|one| !one.of_request || self.wants_body());
        let mut told: Map<String, Value> = kept.map(|one| (one.key, one.value.into())).collect();
        if let Some(decision) = self.decision.take() {
            let (word, reason) = match decision {
                Decision::Allow(reason) => ("allow", reason),
                Decision::NoOpinion(reason) => ("forbid", reason),
            };
            told.insert("authorization.k8s.io/decision".into(), word.into());
            told.insert("authorization.k8s.io/reason".into(), reason.into());
        }
        event.insert("annotations".into(), told.into());
        let stream = match answer.payload {
            Payload::Stream(stream) => stream,
            payload => {
                answer.payload = payload;
                if let Some(event) = self.at(Stage::ResponseComplete, event) {
                    self.audit.sink.put(event).await;
                }
                return answer;
            }
        };
        if let Some(event) = self.at(Stage::ResponseStarted, event.clone()) {
            self.audit.sink.put(event).await;
        }
        answer.payload = Payload::Stream(Told { stream, _end: End { record: self, event } }.boxed());
        answer
    }

    /// The event of a stage as it is written; `None` if the policy leaves the stage out.
    fn at(&self, stage: Stage, mut event: Map<String, Value>) -> Option<Bytes> {
        if self.verdict.omit.contains(&stage) {
            return None;
        }
        event.insert("stage".into(), stage.name().into());
        event.insert("stageTimestamp".into(), time(Timestamp::now()).into());
        Some(Value::Object(event).to_string().into())
    }

    /// An object as it is told.
    fn object(&self, body: &Bytes) -> Value {
        if body.len() > BODY_MAX {
            return json!({"omitted": format!("{} bytes", body.len())});
        }
        let json = serde_json::from_slice::<Value>(body).ok();
        let Some(mut object) = json.or_else(|| protobuf::decode(body, ("", "")).ok()) else {
            return json!({"omitted": format!("{} bytes that are no object", body.len())});
        };
        if self.verdict.omit_managed_fields {
            without_managers(&mut object);
        }
        object
    }
}

fn describe(subject: &Subject<'_>, verdict: &Verdict, who: &Identity, acting: &Identity) -> Map<String, Value> {
    let Subject { id, uri, info, headers, source, received, .. } = subject;
    let mut event = Map::new();
    let mut set = |name: &str, value: Value| event.insert(name.into(), value);
    set("kind", "Event".into());
    set("apiVersion", "audit.k8s.io/v1".into());
    set("level", verdict.level.name().into());
    set("auditID", (*id).into());
    set("stage", Value::Null);
    set("requestURI", uri.as_str().into());
    set("verb", info.verb.into());
    set("user", who.to_user_info());
    if who != acting {
        set("impersonatedUser", acting.to_user_info());
    }
    let forwarded = headers.get("x-forwarded-for").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let mut sources: Vec<String> = forwarded
        .split(',')
        .map(str::trim)
        .filter_map(|ip| ip.parse::<IpAddr>().ok())
        .map(|ip| ip.to_string())
        .collect();
    sources.extend(source.map(|ip| ip.to_string()));
    sources.dedup();
    set("sourceIPs", json!(sources));
    if let Some(agent) = headers.get(USER_AGENT).and_then(|value| value.to_str().ok()) {
        set("userAgent", agent.chars().take(1024).collect::<String>().into());
    }
    if info.is_resource {
        let mut object = Map::new();
        for (name, value) in [
            ("resource", &info.resource),
            ("namespace", &info.namespace),
            ("name", &info.name),
            ("apiGroup", &info.group),
            ("apiVersion", &info.version),
            ("subresource", &info.subresource),
        ] {
            if !value.is_empty() {
                object.insert(name.into(), value.as_ref().into());
            }
        }
        set("objectRef", object.into());
    }
    set("requestReceivedTimestamp", time(*received).into());
    event
}

fn time(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()
}

/// Code, and what a `Status` says beside it.
fn status(answer: &Answer) -> Value {
    let mut status = json!({"metadata": {}, "code": answer.code});
    if answer.code >= 400
        && let Payload::Whole(Some(body)) = &answer.payload
        && let Ok(Value::Object(told)) = serde_json::from_slice::<Value>(body)
    {
        for (name, value) in told {
            if matches!(name.as_str(), "status" | "message" | "reason" | "details") {
                status[name.as_str()] = value;
            }
        }
    }
    status
}

fn without_managers(object: &mut Value) {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.shift_remove("managedFields");
    }
    for item in object.get_mut("items").and_then(Value::as_array_mut).into_iter().flatten() {
        without_managers(item);
    }
}

/// A stream whose end is told.
struct Told<S> {
    stream: S,
    /// Dropped with the stream.
    _end: End,
}

/// Tells the end when dropped, also of a stream that its client left.
struct End {
    record: Record,
    event: Map<String, Value>,
}

impl<S: Stream<Item = Bytes> + Unpin> Stream for Told<S> {
    type Item = Bytes;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        Pin::new(&mut self.get_mut().stream).poll_next(cx)
    }
}

impl Drop for End {
    fn drop(&mut self) {
        let event = std::mem::take(&mut self.event);
        if let Some(event) = self.record.at(Stage::ResponseComplete, event) {
            self.record.audit.sink.put_now(event);
        }
    }
}
