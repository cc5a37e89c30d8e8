//! Connections to kubelets and pods, and requests passed on over them.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use http::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HOST, LOCATION,
    TRANSFER_ENCODING, UPGRADE,
};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Uri};
use http_body::Body;
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use mizzen_api::status::ApiError;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::answer::{Answer, Payload};
use crate::server::Core;

use super::rewrite::{self, Place};

/// How long a node or pod may take to accept a connection, TLS included.
const CONNECT: Duration = Duration::from_secs(10);
/// How much of a kubelet's refusal is read; it is a sentence.
const WORDS_MAX: usize = 50_000;
/// Headers that concern one connection only.
const HOP: [HeaderName; 3] = [CONNECTION, TRANSFER_ENCODING, UPGRADE];

/// Connects to kubelets with the API server's client certificate.
#[derive(Clone)]
pub(crate) struct NodeClient {
    tls: TlsConnector,
}

impl NodeClient {
    /// A client with this TLS configuration.
    pub fn new(tls: Arc<rustls::ClientConfig>) -> Self {
        Self { tls: TlsConnector::from(tls) }
    }

    /// A connection to a kubelet.
    pub async fn connect<B>(&self, core: &Core, address: &str, port: u16) -> Result<SendRequest<B>, ApiError>
    where
        B: Body<Data: Send, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + 'static,
    {
        let name = ServerName::try_from(address.to_string()).map_err(|e| unreachable_host(address, port, &e))?;
        let connecting = async {
            let stream = TcpStream::connect((address, port)).await?;
            stream.set_nodelay(true)?;
            self.tls.connect(name, stream).await
        };
        let stream = within(address, port, connecting).await?;
        open(core, stream).await
    }
}

/// A connection to a pod.
pub(super) async fn connect_pod(
    core: &Core,
    tls: bool,
    address: &str,
    port: u16,
) -> Result<SendRequest<Incoming>, ApiError> {
    let stream = within(address, port, TcpStream::connect((address, port))).await?;
    if !tls {
        return open(core, stream).await;
    }
    let name = ServerName::try_from(address.to_string()).map_err(|e| unreachable_host(address, port, &e))?;
    let connector = TlsConnector::from(mizzen_client::unverified_tls());
    open(core, within(address, port, connector.connect(name, stream)).await?).await
}

async fn within<T>(
    address: &str,
    port: u16,
    connecting: impl Future<Output = std::io::Result<T>>,
) -> Result<T, ApiError> {
    match tokio::time::timeout(CONNECT, connecting).await {
        Ok(connected) => connected.map_err(|e| unreachable_host(address, port, &e)),
        Err(elapsed) => Err(unreachable_host(address, port, &elapsed)),
    }
}

fn unreachable_host(address: &str, port: u16, error: &dyn std::fmt::Display) -> ApiError {
    ApiError::unavailable(format!("error dialing backend: dial tcp {address}:{port}: {error}"))
}

async fn open<S, B>(core: &Core, stream: S) -> Result<SendRequest<B>, ApiError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    B: Body<Data: Send, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + 'static,
{
    let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(ApiError::internal)?;
    let closing = core.closing.clone();
    core.tasks.spawn(async move {
        tokio::select! {
            // An error is seen by whoever waits for the answer.
            _ = connection.with_upgrades() => {}
            () = closing.cancelled() => {}
        }
    });
    Ok(sender)
}

/// A client's request that is to be sent on.
pub(super) struct Link<'a> {
    pub core: &'a Core,
    pub parts: &'a Parts,
    pub upgrade: Option<OnUpgrade>,
    pub body: Incoming,
}

impl Link<'_> {
    /// Sends the request on with another path and answers what comes back; an upgrade is copied in both directions.
    pub async fn send(self, mut sender: SendRequest<Incoming>, path: &str, host: &str) -> Result<Answer, ApiError> {
        let Self { core, parts, upgrade, body } = self;
        let mut request = Request::new(body);
        *request.method_mut() = parts.method.clone();
        *request.uri_mut() = path.parse::<Uri>().map_err(|e| ApiError::bad_request(format!("{path}: {e}")))?;
        *request.headers_mut() = outgoing(&parts.headers, host);
        let upgrading = parts.headers.get(UPGRADE).filter(|_| upgrade.is_some()).cloned();
        if let Some(protocol) = &upgrading {
            request.headers_mut().insert(CONNECTION, HeaderValue::from_static("Upgrade"));
            request.headers_mut().insert(UPGRADE, protocol.clone());
        }
        let sent = sender.send_request(request).await;
        let mut response = sent.map_err(|e| ApiError::unavailable(format!("error dialing backend: {e}")))?;
        if response.status() == StatusCode::SWITCHING_PROTOCOLS
            && let Some(client) = upgrade
        {
            let backend = hyper::upgrade::on(&mut response);
            copy(core, client, backend);
            return Ok(switched(&response));
        }
        Ok(returned(response))
    }
}

/// A pod's answer with its addresses as the client must see them: the one it redirects to, and those in a page.
pub(super) fn seen_from_outside(mut answer: Answer, place: Place) -> Answer {
    for (_, value) in answer.headers.iter_mut().filter(|(name, _)| *name == LOCATION) {
        let new = value.to_str().ok().and_then(|address| place.rewritten(address));
        if let Some(new) = new.and_then(|new| HeaderValue::from_str(&new).ok()) {
            *value = new;
        }
    }
    if !answer.content_type.starts_with("text/html") || answer.headers.iter().any(|(name, _)| *name == CONTENT_ENCODING)
    {
        return answer;
    }
    let payload = match answer.payload {
        Payload::Proxied(body) => Payload::Stream(rewrite::page(body, place).boxed()),
        other => other,
    };
    Answer { payload, ..answer }
}

/// A kubelet refuses logs in plain words; clients read a `Status`.
pub(super) async fn refused(answer: Answer) -> Result<Answer, ApiError> {
    let refusal: fn(String) -> ApiError = match answer.code {
        400 => |words| ApiError::bad_request(words),
        500.. => |words| ApiError::internal(words),
        _ => return Ok(answer),
    };
    let Payload::Proxied(body) = answer.payload else { return Ok(answer) };
    let words = Limited::new(body, WORDS_MAX).collect().await.map(|read| read.to_bytes()).unwrap_or_default();
    Err(refusal(String::from_utf8_lossy(&words).trim_end().to_string()))
}

/// The headers that go on: all but the connection's own, the credentials, which are meant for this server, and the
/// wish for compression, since a page must be read to be rewritten.
fn outgoing(headers: &HeaderMap, host: &str) -> HeaderMap {
    let mut out = HeaderMap::with_capacity(headers.len());
    for (name, value) in headers {
        let impersonates = name.as_str().starts_with("impersonate-");
        let ours = [HOST, AUTHORIZATION, CONTENT_LENGTH, ACCEPT_ENCODING].contains(name);
        if !HOP.contains(name) && !ours && !impersonates {
            out.append(name.clone(), value.clone());
        }
    }
    if let Ok(host) = HeaderValue::from_str(host) {
        out.insert(HOST, host);
    }
    out
}

/// The headers that go on to an aggregated server, which answers the client as it is asked to.
pub(crate) fn passed_on(headers: &HeaderMap) -> HeaderMap {
    let passes = |name: &HeaderName| {
        !HOP.contains(name) && ![HOST, AUTHORIZATION].contains(name) && !name.as_str().starts_with("impersonate-")
    };
    headers.iter().filter(|(name, _)| passes(name)).map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// Copies bytes between client and backend until one of them ends, or the server does.
pub(crate) fn copy(core: &Core, client: OnUpgrade, backend: OnUpgrade) {
    let closing = core.closing.clone();
    core.tasks.spawn(async move {
        let copied = async {
            let (client, backend) = tokio::try_join!(client, backend)?;
            let (mut client, mut backend) = (TokioIo::new(client), TokioIo::new(backend));
            // How a stream ended is told inside of its protocol; a broken connection is seen by both sides.
            let _ = tokio::io::copy_bidirectional(&mut client, &mut backend).await;
            Ok::<_, hyper::Error>(())
        };
        tokio::select! {
            done = copied => if let Err(error) = done {
                tracing::debug!(%error, "stream was not taken over");
            },
            () = closing.cancelled() => {}
        }
    });
}

pub(crate) fn switched(response: &Response<Incoming>) -> Answer {
    let mut answer = Answer::bytes(101, "", "");
    answer.headers = response.headers().iter().map(|(name, value)| (name.clone(), value.clone())).collect();
    answer
}

pub(crate) fn returned(response: Response<Incoming>) -> Answer {
    let (parts, body) = response.into_parts();
    let content_type = parts.headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default().to_string();
    let passed = |name: &HeaderName| !HOP.contains(name) && *name != CONTENT_TYPE && *name != CONTENT_LENGTH;
    let headers = parts.headers.iter().filter(|(name, _)| passed(name)).map(|(n, v)| (n.clone(), v.clone())).collect();
    Answer { headers, payload: Payload::Proxied(body), ..Answer::bytes(parts.status.as_u16(), content_type, "") }
}
