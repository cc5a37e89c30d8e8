//! A request to the API as a value, and the trait of those who can send it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use http::Method;

/// One request. The path is that of the public API, whoever answers it.
#[derive(Debug, Clone)]
pub struct Request {
    /// GET, POST, PUT, PATCH, DELETE.
    pub method: Method,
    /// `/api/v1/namespaces/default/pods/web`, without query.
    pub path: String,
    /// Query parameters, unescaped.
    pub query: Vec<(String, String)>,
    /// `Content-Type` of the body; empty means JSON.
    pub content_type: &'static str,
    /// The body; empty for none.
    pub body: Bytes,
}

/// The answer to a request.
#[derive(Debug, Clone)]
pub struct Response {
    /// HTTP status code.
    pub code: u16,
    /// The body as sent (JSON).
    pub body: Bytes,
}

/// Why there is no answer, or not the one asked for.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ClientError {
    /// The server answered with an error `Status`.
    #[error("{method} {path}: {code} {reason}: {message}")]
    Status {
        /// The request's method.
        method: Method,
        /// The request's path.
        path: String,
        /// HTTP status code.
        code: u16,
        /// `Status.reason`.
        reason: String,
        /// `Status.message`.
        message: String,
    },
    /// The server could not be reached, or the connection broke.
    #[error("{path}: the API server cannot be reached")]
    Transport {
        /// The request's path.
        path: String,
        /// The cause.
        #[source]
        source: Arc<dyn std::error::Error + Send + Sync>,
    },
    /// The answer is not what the API promises.
    #[error("{path}: unreadable answer")]
    Decode {
        /// The request's path.
        path: String,
        /// The cause.
        #[source]
        source: Arc<serde_json::Error>,
    },
    /// No answer within the time allowed.
    #[error("{path}: no answer within {after:?}")]
    Timeout {
        /// The request's path.
        path: String,
        /// How long was waited.
        after: Duration,
    },
}

impl ClientError {
    /// The HTTP status, if the server answered.
    pub fn code(&self) -> Option<u16> {
        match self {
            ClientError::Status { code, .. } => Some(*code),
            _ => None,
        }
    }
}

/// Watch events as sent: one JSON `{"type":…,"object":…}` an item.
pub type WatchStream = BoxStream<'static, Result<Bytes, ClientError>>;

/// Someone who can send requests to the API under one identity.
pub trait Api: Send + Sync + 'static {
    /// Sends a request and returns whatever is answered; an error `Status` is an `Ok` response with its code.
    fn send(&self, request: Request) -> BoxFuture<'_, Result<Response, ClientError>>;
    /// Sends a request with `watch=true` (the caller sets it) and returns the events.
    fn watch(&self, request: Request) -> BoxFuture<'_, Result<WatchStream, ClientError>>;
}
