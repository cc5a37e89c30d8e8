//! Outgoing calls of the API server: to webhooks (admission, conversion, authentication, authorization) and aggregated
//! API servers.
//!
//! A [`Destination`] says whom to call and how to know them; [`Callout`] calls. Connections are kept and shared by all
//! calls with the same [`Origin`], spoken HTTP/1.1 over TLS as Kubernetes does, so that every connection is one request
//! at a time and calls spread over a Service's endpoints. Time, sizes and the number of calls under way are bounded: a
//! target that hangs, lies or floods costs the requests that need it and no others. Errors are worded as Kubernetes
//! words them, for people search for those words.

mod connect;
mod destination;
mod error;
mod pool;
mod service;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod tls;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, USER_AGENT};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use mizzen_store::Snapshot;
use rustls::client::ResolvesClientCert;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::answer::BodyError;
pub(crate) use destination::{Client, Destination, Origin, Place, Trust};
pub(crate) use error::{CallError, Cause, Refusal};
use pool::Peer;
pub(crate) use service::ready_endpoints;

/// The body of an outgoing request.
pub(crate) type Body = UnsyncBoxBody<Bytes, BodyError>;

/// Most origins that connections are kept for. A cluster has tens of webhooks; further ones push out the longest unused.
const ORIGINS_MAX: usize = 512;

/// What a refused call may say of itself: as much as Kubernetes reads.
const REFUSAL_MAX: usize = 2048;

/// The bounds of one call.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// When the call must be over.
    pub deadline: Instant,
    /// Largest answer in bytes.
    pub answer_max: usize,
}

impl Bounds {
    /// A call that may take this long from now.
    pub fn within(time: Duration, answer_max: usize) -> Self {
        Self { deadline: Instant::now() + time, answer_max }
    }
}

/// Makes the calls. One for the whole server.
pub(crate) struct Callout {
    origins: Mutex<Origins>,
    /// What aggregated API servers know this server by.
    front_proxy: Option<Arc<dyn ResolvesClientCert>>,
    tasks: TaskTracker,
    closing: CancellationToken,
}

/// The known origins and a clock that counts their uses.
#[derive(Default)]
struct Origins {
    known: HashMap<Origin, (Arc<Peer>, u64)>,
    uses: u64,
}

impl Callout {
    /// A client whose connections are tracked by `tasks` and end with `closing`.
    pub fn new(
        front_proxy: Option<Arc<dyn ResolvesClientCert>>,
        tasks: TaskTracker,
        closing: CancellationToken,
    ) -> Self {
        Self { origins: Mutex::default(), front_proxy, tasks, closing }
    }

    /// Posts JSON and returns the body of a successful answer. `query` is appended to the destination's path.
    pub async fn post(
        &self,
        snapshot: &Snapshot,
        to: &Destination,
        query: &str,
        body: Bytes,
        bounds: Bounds,
    ) -> Result<Bytes, CallError> {
        let target = to.target(query);
        let failed = |cause: Cause| CallError::Failed { method: "Post", url: to.shown(&target), cause };
        let called = tokio::time::timeout_at(bounds.deadline, self.exchange(snapshot, to, &target, body, bounds)).await;
        match called {
            Ok(Ok(Ok(answer))) => Ok(answer),
            Ok(Ok(Err(refusal))) => Err(CallError::Refused(refusal)),
            Ok(Err(cause)) => Err(failed(cause)),
            Err(_) => Err(failed(Cause::Deadline)),
        }
    }

    async fn exchange(
        &self,
        snapshot: &Snapshot,
        to: &Destination,
        target: &str,
        body: Bytes,
        bounds: Bounds,
    ) -> Result<Result<Bytes, Refusal>, Cause> {
        let peer = self.peer(&to.origin)?;
        let _permit = peer.permit().await?;
        let address = service::address(snapshot, &to.origin.place)?;
        let mut fresh = false;
        loop {
            let mut connection = peer.connection(self, &address, fresh).await?;
            let request = json_request(to, target, body.clone())?;
            let sent = connection.sender.send_request(request).await;
            let response = match sent {
                Ok(response) => response,
                // The other end closed a kept connection as this call took it up: it saw nothing of the call.
                Err(error) if connection.reused && (error.is_canceled() || error.is_incomplete_message()) => {
                    fresh = true;
                    continue;
                }
                Err(error) => return Err(Cause::Http(error)),
            };
            let answer = read(response, bounds.answer_max).await?;
            peer.keep(&address, connection);
            return Ok(answer);
        }
    }

    /// Sends a request and returns the answer with its body still to be read; an upgrade is possible. The caller bounds
    /// the time. The connection is not kept afterwards.
    pub async fn open(
        &self,
        snapshot: &Snapshot,
        to: &Destination,
        mut request: Request<Body>,
    ) -> Result<Response<Incoming>, Cause> {
        let peer = self.peer(&to.origin)?;
        let address = service::address(snapshot, &to.origin.place)?;
        let mut connection = peer.connection(self, &address, true).await?;
        request.headers_mut().insert(HOST, header(&to.origin.authority())?);
        connection.sender.send_request(request).await.map_err(Cause::Http)
    }

    /// What is kept for an origin.
    fn peer(&self, origin: &Origin) -> Result<Arc<Peer>, Cause> {
        let mut origins = self.lock();
        origins.uses += 1;
        let uses = origins.uses;
        if let Some((peer, used)) = origins.known.get_mut(origin) {
            *used = uses;
            return Ok(Arc::clone(peer));
        }
        if origins.known.len() >= ORIGINS_MAX {
            let oldest = origins.known.iter().min_by_key(|(_, (_, used))| *used).map(|(origin, _)| origin.clone());
            oldest.map(|origin| origins.known.remove(&origin));
        }
        let front_proxy = self.front_proxy.as_ref().filter(|_| origin.client == Client::FrontProxy);
        let peer = Arc::new(Peer::new(tls::Connector::new(origin, front_proxy)?));
        origins.known.insert(origin.clone(), (Arc::clone(&peer), uses));
        Ok(peer)
    }

    /// The map is whole whatever happened to another holder.
    fn lock(&self) -> MutexGuard<'_, Origins> {
        self.origins.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn json_request(to: &Destination, target: &str, body: Bytes) -> Result<Request<Body>, Cause> {
    let mut request = Request::new(Full::new(body).map_err(|never| match never {}).boxed_unsync());
    *request.method_mut() = Method::POST;
    *request.uri_mut() = target.parse().map_err(|_| Cause::Config(format!("invalid URL {:?}", to.shown(target))))?;
    let headers = request.headers_mut();
    headers.insert(HOST, header(&to.origin.authority())?);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(ACCEPT, HeaderValue::from_static("application/json, */*"));
    headers.insert(USER_AGENT, HeaderValue::from_static("kube-apiserver-admission"));
    if let Some(authorization) = &to.authorization {
        headers.insert(AUTHORIZATION, authorization.clone());
    }
    Ok(request)
}

fn header(text: &str) -> Result<HeaderValue, Cause> {
    HeaderValue::from_str(text).map_err(|_| Cause::Config(format!("invalid host {text:?}")))
}

/// The whole answer, or what a refusal says of itself.
async fn read(response: Response<Incoming>, max: usize) -> Result<Result<Bytes, Refusal>, Cause> {
    let (parts, body) = response.into_parts();
    let max = if parts.status.is_success() { max } else { REFUSAL_MAX };
    let bytes = match Limited::new(body, max).collect().await {
        Ok(collected) => collected.to_bytes(),
        Err(error) if error.is::<LengthLimitError>() && parts.status.is_success() => return Err(Cause::TooLarge(max)),
        Err(error) if error.is::<LengthLimitError>() => Bytes::new(),
        Err(error) => return Err(Cause::Body(error)),
    };
    if parts.status.is_success() && parts.status != StatusCode::NO_CONTENT {
        return Ok(Ok(bytes));
    }
    let is_text = parts.headers.get(CONTENT_TYPE).is_none_or(|t| t.as_bytes().starts_with(b"text/"));
    Ok(Err(Refusal::new(parts.status.as_u16(), &bytes, is_text)))
}
