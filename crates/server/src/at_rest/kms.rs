//! A plugin of KMS v2: gRPC (`v2.KeyManagementService`) over a unix socket, spoken directly over HTTP/2.
//!
//! It wraps one seed a start, and one more whenever it says that it has another key; values never reach it. Asking blocks
//! the thread that asks: all of it happens while the store is opened, or on a thread of its own.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::{TokioExecutor, TokioIo};
use mizzen_store::SealError;
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::{Envelope, Keeper, SEED_BYTES, Seed};
use crate::health::Check;

/// Largest answer of a plugin.
const ANSWER_MAX: usize = 64 << 10;
/// How often a plugin is asked for its state, as Kubernetes does.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// Questions that may wait.
const WAITING: usize = 16;

/// How a plugin is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KmsOptions {
    /// Its name, for people.
    pub name: String,
    /// Its socket.
    pub socket: PathBuf,
    /// How long it may take to answer.
    pub timeout: Duration,
}

/// A plugin.
#[derive(Debug)]
pub struct Kms {
    options: KmsOptions,
    questions: mpsc::Sender<Question>,
}

/// What a plugin says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Status {
    /// It works: `ok`.
    pub health: String,
    /// The key that it wraps with.
    pub key_id: String,
    version: String,
}

struct Question {
    method: &'static str,
    body: Vec<u8>,
    answer: oneshot::Sender<Result<Bytes, String>>,
}

impl Kms {
    /// Starts the thread that talks to the plugin; it ends with this value.
    pub fn new(options: KmsOptions) -> std::io::Result<Self> {
        let (questions, mut asked) = mpsc::channel::<Question>(WAITING);
        let (socket, timeout) = (options.socket.clone(), options.timeout);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let talk = async move {
            while let Some(Question { method, body, answer }) = asked.recv().await {
                let call = tokio::time::timeout(timeout, call(&socket, method, body));
                let answered = call.await.unwrap_or_else(|_| Err(format!("no answer within {timeout:?}")));
                // Who asked may have gone away.
                let _ = answer.send(answered);
            }
        };
        std::thread::Builder::new().name("mizzen-kms".into()).spawn(move || runtime.block_on(talk))?;
        Ok(Self { options, questions })
    }

    /// Its state and the key it wraps with.
    pub async fn status(&self) -> Result<Status, SealError> {
        let (answer, answered) = oneshot::channel();
        let question = Question { method: "Status", body: Vec::new(), answer };
        self.questions.send(question).await.map_err(|_| self.gone())?;
        let body = answered.await.map_err(|_| self.gone())?.map_err(|why| self.failed(&why))?;
        let mut status = Status::default();
        for (field, value) in wire::fields(&body).ok_or_else(|| self.failed("its answer is no message"))? {
            let text = String::from_utf8_lossy(value).into_owned();
            match field {
                1 => status.version = text,
                2 => status.health = text,
                3 => status.key_id = text,
                _ => {}
            }
        }
        if !matches!(status.version.as_str(), "v2" | "v2beta1") {
            return Err(self.failed(&format!("it speaks version {:?}, not v2", status.version)));
        }
        Ok(status)
    }

    /// Looks after the plugin until told to stop: is it well, and has it another key? Then new values get another seed.
    pub async fn follow(self: Arc<Self>, envelope: &Arc<Envelope>, check: &Check, stop: CancellationToken) {
        let mut known: Option<String> = None;
        loop {
            let status = self.status().await;
            check.set(status.as_ref().is_ok_and(|status| status.health == "ok"));
            match status {
                Ok(Status { key_id, .. }) if known.as_ref().is_some_and(|known| *known != key_id) => {
                    let envelope = Arc::clone(envelope);
                    let renewed = tokio::task::spawn_blocking(move || envelope.renew()).await;
                    match renewed {
                        Ok(Ok(())) => known = Some(key_id),
                        Ok(Err(error)) => tracing::warn!(%error, "a new key could not be taken into use"),
                        Err(error) => tracing::warn!(%error, "a new key could not be taken into use"),
                    }
                }
                Ok(Status { key_id, .. }) => known = Some(key_id),
                Err(error) => tracing::warn!(%error, "values are encrypted with the key from before"),
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        }
    }

    /// Asks and waits.
    fn ask(&self, method: &'static str, body: Vec<u8>) -> Result<Bytes, SealError> {
        let (answer, answered) = oneshot::channel();
        let question = Question { method, body, answer };
        self.questions.try_send(question).map_err(|_| self.failed("too many questions wait for it"))?;
        // Callers may be threads of a runtime, which must not block on a future of theirs; this one is another's.
        wait_for(answered).map_err(|()| self.gone())?.map_err(|why| self.failed(&why))
    }

    fn failed(&self, why: &str) -> SealError {
        SealError::Keeper(format!("the KMS plugin {} at {}: {why}", self.options.name, self.options.socket.display()))
    }

    fn gone(&self) -> SealError {
        self.failed("its thread has ended")
    }
}

/// Waits for an answer on this thread, whatever runtime it belongs to.
fn wait_for<T: Send>(answered: oneshot::Receiver<T>) -> Result<T, ()> {
    std::thread::scope(|scope| scope.spawn(|| answered.blocking_recv().map_err(|_| ())).join().unwrap_or(Err(())))
}

/// What is kept is the plugin's own DecryptRequest, without its uid.
impl Keeper for Kms {
    fn mark(&self) -> u8 {
        b'k'
    }

    fn wrap(&self, seed: &Seed) -> Result<Vec<u8>, SealError> {
        let mut request = Vec::new();
        wire::put(&mut request, 1, seed);
        wire::put(&mut request, 2, uuid::Uuid::new_v4().to_string().as_bytes());
        let answer = self.ask("Encrypt", request)?;
        let fields = wire::fields(&answer).ok_or_else(|| self.failed("its answer is no message"))?;
        let (mut kept, mut ciphertext, mut key_id) = (Vec::new(), false, false);
        for (field, value) in fields {
            match field {
                1 if !value.is_empty() => {
                    ciphertext = true;
                    wire::put(&mut kept, 1, value);
                }
                2 if !value.is_empty() => {
                    key_id = true;
                    wire::put(&mut kept, 3, value);
                }
                3 => wire::put(&mut kept, 4, value),
                _ => {}
            }
        }
        if !ciphertext || !key_id {
            return Err(self.failed("its answer lacks the ciphertext or the id of the key"));
        }
        Ok(kept)
    }

    fn unwrap(&self, wrapped: &[u8]) -> Result<Seed, SealError> {
        let mut request = wrapped.to_vec();
        wire::put(&mut request, 2, uuid::Uuid::new_v4().to_string().as_bytes());
        let answer = self.ask("Decrypt", request)?;
        let fields = wire::fields(&answer).ok_or_else(|| self.failed("its answer is no message"))?;
        let seed = fields.into_iter().find(|(field, _)| *field == 1).map(|(_, value)| value).unwrap_or_default();
        <[u8; SEED_BYTES]>::try_from(seed).map_err(|_| self.failed("what it decrypted is no key of ours"))
    }
}

/// One unary call on a connection of its own: there are a handful a day.
async fn call(socket: &std::path::Path, method: &str, message: Vec<u8>) -> Result<Bytes, String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let stream = UnixStream::connect(socket).await.map_err(|e| text(&e))?;
    let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
    let (mut sender, connection) = handshake.await.map_err(|e| text(&e))?;
    let mut framed = vec![0];
    framed.extend(u32::try_from(message.len()).map_err(|e| text(&e))?.to_be_bytes());
    framed.extend(message);
    let request = Request::post(format!("http://localhost/v2.KeyManagementService/{method}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Full::new(Bytes::from(framed)))
        .map_err(|e| text(&e))?;
    let talk = async {
        let answer = sender.send_request(request).await.map_err(|e| text(&e))?;
        let early = grpc_error(answer.headers());
        let body = Limited::new(answer.into_body(), ANSWER_MAX).collect().await.map_err(|e| text(&e))?;
        if let Some(error) = early.or_else(|| body.trailers().and_then(grpc_error)) {
            return Err(error);
        }
        let bytes = body.to_bytes();
        if bytes.len() < 5 || bytes[0] != 0 {
            return Err("its answer is not framed as gRPC does".into());
        }
        Ok(bytes.slice(5..))
    };
    let (mut talk, mut connection) = (std::pin::pin!(talk), std::pin::pin!(connection));
    tokio::select! {
        biased;
        answer = &mut talk => answer,
        ended = &mut connection => match ended {
            Ok(()) => talk.await,
            Err(error) => Err(text(&error)),
        },
    }
}

fn grpc_error(headers: &http::HeaderMap) -> Option<String> {
    let text = |name| headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    let code = text("grpc-status").filter(|code| code != "0")?;
    Some(format!("rpc failed with status {code}: {}", text("grpc-message").unwrap_or_default()))
}

/// As much of protobuf as these messages need: fields of bytes.
pub(super) mod wire {
    /// Adds a field of bytes.
    pub fn put(out: &mut Vec<u8>, field: u8, value: &[u8]) {
        out.push(field << 3 | 2);
        let mut length = value.len();
        while length >= 0x80 {
            // Seven bits at a time.
            out.push((length & 0x7f) as u8 | 0x80);
            length >>= 7;
        }
        out.push(length as u8);
        out.extend_from_slice(value);
    }

    /// The fields of bytes of a message; numbers are skipped. `None` if it is no message.
    pub fn fields(mut rest: &[u8]) -> Option<Vec<(u64, &[u8])>> {
        let mut fields = Vec::new();
        while !rest.is_empty() {
            let tag = number(&mut rest)?;
            match tag & 7 {
                0 => {
                    number(&mut rest)?;
                }
                1 => rest = rest.get(8..)?,
                2 => {
                    let length = usize::try_from(number(&mut rest)?).ok()?;
                    let (value, after) = rest.split_at_checked(length)?;
                    fields.push((tag >> 3, value));
                    rest = after;
                }
                5 => rest = rest.get(4..)?,
                _ => return None,
            }
        }
        Some(fields)
    }

    fn number(rest: &mut &[u8]) -> Option<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let (byte, after) = rest.split_first()?;
            *rest = after;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }
}
