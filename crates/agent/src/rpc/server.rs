//! Calls from plugins, over a Unix socket.

use std::convert::Infallible;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::UnixListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::wire::Message;
use super::{frame, unframe};

/// Most bytes of a question.
const MAX_QUESTION: usize = 64 << 10;
/// Connections at a time.
const MAX_CONNECTIONS: usize = 64;

/// Answers a method (`package.Service/Method`); `Err`: gRPC's number and words for people.
pub type Handler = Arc<dyn Fn(String, Bytes) -> BoxFuture<'static, Result<Message, (u32, String)>> + Send + Sync>;

/// Listens at `path`, whoever listened there before; what of it only root may use.
///
/// # Errors
/// The socket cannot be made.
pub fn listen(path: &Path) -> io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let (_directory, short) = super::short(path)?;
    let listener = UnixListener::bind(short)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Serves until `stop`.
pub async fn run(listener: UnixListener, handler: Handler, stop: CancellationToken) {
    let mut connections = JoinSet::new();
    loop {
        let stream = tokio::select! {
            () = stop.cancelled() => return,
            Some(_) = connections.join_next(), if !connections.is_empty() => continue,
            accepted = listener.accept(), if connections.len() < MAX_CONNECTIONS => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "a plugin's connection could not be taken");
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                    continue;
                }
            },
        };
        let handler = Arc::clone(&handler);
        connections.spawn(async move {
            let service = service_fn(move |request| answer(Arc::clone(&handler), request));
            let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service);
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a plugin's connection ended");
            }
        });
    }
}

type Body = http_body_util::combinators::BoxBody<Bytes, Infallible>;

async fn answer(handler: Handler, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let method = request.uri().path().trim_start_matches('/').to_string();
    let result = match Limited::new(request.into_body(), MAX_QUESTION).collect().await {
        Ok(body) => match unframe(&mut BytesMut::from(&body.to_bytes()[..])) {
            Ok(Some(message)) => handler(method, message).await,
            _ => Err((3, "the request is not one message".to_string())),
        },
        Err(error) => Err((8, error.to_string())),
    };
    let mut trailers = HeaderMap::new();
    let (code, bytes) = match result {
        Ok(message) => (0, frame(&message.0)),
        Err((code, message)) => {
            let words: String = message.chars().filter(|c| (' '..='~').contains(c) && *c != '%').collect();
            if let Ok(words) = HeaderValue::from_str(&words) {
                trailers.insert("grpc-message", words);
            }
            (code, Bytes::new())
        }
    };
    trailers.insert("grpc-status", HeaderValue::from(code));
    let body = Full::new(bytes).with_trailers(async move { Some(Ok(trailers)) }).boxed();
    let mut response = Response::new(body);
    response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    Ok(response)
}
