//! Calls to a plugin behind a Unix socket.

use std::path::Path;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Request};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::UnixStream;
use tokio_util::task::AbortOnDropHandle;

use super::wire::Message;
use super::{RpcError, frame, unframe};

/// A connection to a plugin. It ends when the last clone is dropped.
pub struct Connection {
    sender: SendRequest<Full<Bytes>>,
    _driver: AbortOnDropHandle<()>,
}

/// Answers that come one after the other.
pub struct Answers {
    body: Incoming,
    buffer: BytesMut,
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// Nobody listens, or does not speak HTTP/2.
    pub async fn open(path: &Path) -> Result<Self, RpcError> {
        let connect = |source| RpcError::Connect { path: path.to_path_buf(), source };
        let (_directory, short) = super::short(path).map_err(connect)?;
        let stream = UnixStream::connect(short).await.map_err(connect)?;
        let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
        let driver = tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to a plugin ended");
            }
        });
        Ok(Self { sender, _driver: AbortOnDropHandle::new(driver) })
    }

    /// One question, one answer.
    ///
    /// # Errors
    /// See [`RpcError`].
    pub async fn call(&self, method: &str, request: &Message, limit: Duration) -> Result<Bytes, RpcError> {
        let one = async {
            let mut answers = self.stream(method, request).await?;
            answers.next().await?.ok_or(RpcError::Frame)
        };
        tokio::time::timeout(limit, one).await.unwrap_or(Err(RpcError::Timeout))
    }

    /// One question, many answers.
    ///
    /// # Errors
    /// See [`RpcError`].
    pub async fn stream(&self, method: &str, request: &Message) -> Result<Answers, RpcError> {
        let request = Request::post(format!("http://localhost/{method}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(Full::new(frame(&request.0)))
            .map_err(|_| RpcError::Frame)?; // Methods are written in this program.
        let answer = self.sender.clone().send_request(request).await?;
        if answer.status() != http::StatusCode::OK {
            return Err(RpcError::NotGrpc { code: answer.status().as_u16() });
        }
        refused(answer.headers())?;
        Ok(Answers { body: answer.into_body(), buffer: BytesMut::new() })
    }
}

impl Answers {
    /// The next answer; `None` at the end.
    ///
    /// # Errors
    /// See [`RpcError`].
    pub async fn next(&mut self) -> Result<Option<Bytes>, RpcError> {
        loop {
            if let Some(message) = unframe(&mut self.buffer)? {
                return Ok(Some(message));
            }
            match self.body.frame().await {
                None => return Ok(None),
                Some(frame) => match frame?.into_data() {
                    Ok(data) => self.buffer.extend_from_slice(&data),
                    Err(frame) => {
                        if let Some(trailers) = frame.trailers_ref() {
                            refused(trailers)?;
                        }
                    }
                },
            }
        }
    }
}

fn refused(headers: &HeaderMap) -> Result<(), RpcError> {
    let text = |name: &str| headers.get(name).and_then(|v| v.to_str().ok());
    match text("grpc-status").map(|s| s.parse().unwrap_or(2)) {
        None | Some(0) => Ok(()),
        Some(code) => Err(RpcError::Refused { code, message: text("grpc-message").unwrap_or_default().to_string() }),
    }
}
