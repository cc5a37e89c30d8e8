//! The answer to a request, before it is put on a connection or handed to a caller in this process.

use std::borrow::Cow;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::Stream;
use futures_util::stream::BoxStream;
use http::{HeaderName, HeaderValue};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use mizzen_api::status::ApiError;
use serde_json::Value;
use tokio::sync::oneshot;

/// What is answered.
#[derive(Debug)]
pub struct Answer {
    /// HTTP status code.
    pub code: u16,
    /// `Content-Type`.
    pub content_type: Cow<'static, str>,
    /// Further headers.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The body.
    pub payload: Payload,
    /// Set by answers that are still being made when they begin to be sent.
    pub hold: Option<Hold>,
}

/// What keeps the request's seats while its answer is made: put in by whoever has the seats, dropped by the body.
pub type Hold = Arc<OnceLock<oneshot::Sender<()>>>;

/// The error type of bodies: only a proxied body can fail.
pub type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// A body.
pub enum Payload {
    /// Known as a whole; `None` once sent.
    Whole(Option<Bytes>),
    /// A long list, produced while it is sent.
    List(BoxStream<'static, Bytes>),
    /// A stream without a foreseeable end.
    Stream(BoxStream<'static, Bytes>),
    /// Passed on from a kubelet or service.
    Proxied(Incoming),
}

impl std::fmt::Debug for Payload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Payload::Whole(Some(bytes)) => write!(f, "{} bytes", bytes.len()),
            Payload::Whole(None) => f.write_str("sent"),
            Payload::List(_) => f.write_str("a list"),
            Payload::Stream(_) => f.write_str("a stream"),
            Payload::Proxied(_) => f.write_str("a proxied body"),
        }
    }
}

impl Answer {
    /// An answer whose body is known.
    pub fn bytes(code: u16, content_type: impl Into<Cow<'static, str>>, body: impl Into<Bytes>) -> Self {
        let payload = Payload::Whole(Some(body.into()));
        Self { code, content_type: content_type.into(), headers: Vec::new(), payload, hold: None }
    }

    /// An answer produced while it is sent.
    pub fn stream(content_type: impl Into<Cow<'static, str>>, body: BoxStream<'static, Bytes>) -> Self {
        Self { payload: Payload::Stream(body), ..Self::bytes(200, content_type, Bytes::new()) }
    }

    /// Compact JSON.
    pub fn json(code: u16, body: &Value) -> Self {
        Self::bytes(code, "application/json", body.to_string())
    }

    /// Plain text.
    pub fn text(code: u16, body: impl Into<Bytes>) -> Self {
        let nosniff = (http::header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        let mut answer = Self::bytes(code, "text/plain; charset=utf-8", body);
        answer.headers.push(nosniff);
        answer
    }

    /// The `Status` of an error, with its `Retry-After`.
    pub fn error(error: &ApiError) -> Self {
        let mut answer = Self::json(error.code, &error.to_status());
        if let Some(seconds) = error.details.as_ref().and_then(|d| d.retry_after_seconds) {
            answer.headers.push((http::header::RETRY_AFTER, HeaderValue::from(seconds)));
        }
        answer
    }

    /// Adds a header; a value that headers cannot carry is left out.
    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.push((name, value));
        }
        self
    }
}

impl Body for Payload {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Payload::Whole(bytes) => Poll::Ready(bytes.take().filter(|b| !b.is_empty()).map(|b| Ok(Frame::data(b)))),
            Payload::List(stream) | Payload::Stream(stream) => {
                Pin::new(stream).poll_next(cx).map(|next| next.map(|b| Ok(Frame::data(b))))
            }
            Payload::Proxied(body) => Pin::new(body).poll_frame(cx).map_err(Into::into),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Payload::Whole(bytes) => bytes.as_ref().is_none_or(Bytes::is_empty),
            Payload::List(_) | Payload::Stream(_) => false,
            Payload::Proxied(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Payload::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |b| b.len() as u64)),
            Payload::List(_) | Payload::Stream(_) => SizeHint::default(),
            Payload::Proxied(body) => body.size_hint(),
        }
    }
}
