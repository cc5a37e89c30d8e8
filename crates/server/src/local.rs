//! The API for parts of this process: the same road as over HTTP, without the connection.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::{BoxFuture, FutureExt};
use futures_util::{StreamExt, stream};
use http::header::{ACCEPT, CONTENT_TYPE, USER_AGENT};
use http::{HeaderMap, HeaderValue};
use mizzen_api::status::ApiError;
use mizzen_client::{Api, ClientError, Request, Response, WatchStream};

use crate::admission::notes::Notes;
use crate::answer::{Answer, Payload};
use crate::auth::Identity;
use crate::dispatch::{self, Head};
use crate::query::Query;
use crate::request::RequestInfo;
use crate::server::Core;

/// Requests of one identity within the process.
pub(crate) struct LocalApi {
    core: Arc<Core>,
    identity: Arc<Identity>,
    /// What field managers are named after: the last part of the user name.
    agent: HeaderValue,
}

impl LocalApi {
    pub fn new(core: Arc<Core>, identity: Arc<Identity>) -> Self {
        let agent = identity.user.rsplit(':').next().unwrap_or_default();
        let agent = HeaderValue::from_str(agent).unwrap_or(HeaderValue::from_static("mizzen"));
        Self { core, identity, agent }
    }

    async fn answer(&self, request: Request) -> Answer {
        let Request { method, path, query, content_type, body } = request;
        let mut headers = HeaderMap::with_capacity(3);
        headers.insert(USER_AGENT, self.agent.clone());
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        if !content_type.is_empty() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        }
        let query = Query::from_pairs(query);
        let head = Head { method: &method, path: &path, query: &query, headers: &headers, notes: Notes::default() };
        let info = RequestInfo::parse(&method, &path, &query);
        let body = std::future::ready(Ok(body));
        let mut uids = None;
        let answered = dispatch::admitted(&self.core, &self.identity, &head, &info, body, &mut uids);
        answered.await.unwrap_or_else(|error: ApiError| Answer::error(&error))
    }
}

impl Api for LocalApi {
    fn send(&self, request: Request) -> BoxFuture<'_, Result<Response, ClientError>> {
        async move {
            let answer = self.answer(request).await;
            let body = collect(answer.payload).await;
            Ok(Response { code: answer.code, body })
        }
        .boxed()
    }

    fn watch(&self, request: Request) -> BoxFuture<'_, Result<WatchStream, ClientError>> {
        async move {
            let (method, path) = (request.method.clone(), request.path.clone());
            let answer = self.answer(request).await;
            match answer.payload {
                Payload::Stream(events) if answer.code == 200 => {
                    Ok(events.flat_map(|chunk| stream::iter(lines(&chunk))).map(Ok).boxed())
                }
                payload => Err(refused(method, path, answer.code, &collect(payload).await)),
            }
        }
        .boxed()
    }
}

async fn collect(payload: Payload) -> Bytes {
    match payload {
        Payload::Whole(bytes) => bytes.unwrap_or_default(),
        Payload::List(chunks) | Payload::Stream(chunks) => chunks.map(Vec::from).concat().await.into(),
        // Connections to nodes are made over HTTP only.
        Payload::Proxied(_) => Bytes::new(),
    }
}

/// The events of a chunk: one a line, for compact JSON has no line breaks in it.
fn lines(chunk: &Bytes) -> Vec<Bytes> {
    chunk.split(|b| *b == b'\n').filter(|line| !line.is_empty()).map(|line| chunk.slice_ref(line)).collect()
}

fn refused(method: http::Method, path: String, code: u16, body: &Bytes) -> ClientError {
    let status: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    let text = |field: &str| status[field].as_str().unwrap_or_default().to_string();
    ClientError::Status { method, path, code, reason: text("reason"), message: text("message") }
}
