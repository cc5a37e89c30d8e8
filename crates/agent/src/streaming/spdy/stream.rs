//! A stream that a client has opened, as a reader and a writer.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncWrite, DuplexStream};
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, PollSender};

use super::super::process::CHUNK;
use super::flow::Flow;
use super::frame::{Out, ResetStatus};
use super::headers::Headers;

/// A stream that a client has opened.
pub(in super::super) struct Opened {
    pub(in super::super) id: u32,
    pub(in super::super) headers: Headers,
    pub(in super::super) reader: DuplexStream,
    pub(in super::super) writer: StreamWriter,
    /// Cancelled when the client breaks the stream off.
    pub(in super::super) broken: CancellationToken,
}

/// Sends to the client on one stream.
pub(in super::super) struct StreamWriter {
    stream: u32,
    sender: PollSender<Out>,
    flow: Arc<Flow>,
    /// Taken from the window and not sent yet.
    granted: usize,
    finished: Arc<AtomicBool>,
}

impl StreamWriter {
    pub(super) fn new(stream: u32, sender: mpsc::Sender<Out>, flow: Arc<Flow>, finished: Arc<AtomicBool>) -> Self {
        Self { stream, sender: PollSender::new(sender), flow, granted: 0, finished }
    }

    /// Breaks the stream off in both directions.
    pub(in super::super) async fn reset(mut self, status: ResetStatus) {
        self.finished.store(true, Ordering::Relaxed);
        let Some(sender) = self.sender.get_ref().cloned() else { return };
        self.sender.close();
        // A connection that is gone has no streams any more.
        let _ = sender.send(Out::Reset { stream: self.stream, status }).await;
    }
}

fn gone() -> io::Error {
    io::ErrorKind::BrokenPipe.into()
}

impl AsyncWrite for StreamWriter {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        // The window comes first: whoever waits for it must not hold a place in the queue.
        if self.granted == 0 {
            let wanted = bytes.len().min(CHUNK);
            self.granted = ready!(self.flow.poll_take(self.stream, wanted, cx)).ok_or_else(gone)?;
        }
        ready!(self.sender.poll_reserve(cx)).map_err(|_| gone())?;
        let count = bytes.len().min(self.granted);
        self.granted -= count;
        let out = Out::Data { stream: self.stream, fin: false, data: bytes[..count].to_vec() };
        self.sender.send_item(out).map_err(|_| gone())?;
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.finished.load(Ordering::Relaxed) {
            return Poll::Ready(Ok(()));
        }
        ready!(self.sender.poll_reserve(cx)).map_err(|_| gone())?;
        let out = Out::Data { stream: self.stream, fin: true, data: Vec::new() };
        self.sender.send_item(out).map_err(|_| gone())?;
        self.finished.store(true, Ordering::Relaxed);
        Poll::Ready(Ok(()))
    }
}

impl Drop for StreamWriter {
    fn drop(&mut self) {
        self.finished.store(true, Ordering::Relaxed);
    }
}
