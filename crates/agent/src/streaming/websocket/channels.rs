//! A WebSocket as a handful of byte streams.

use std::collections::BTreeMap;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio::sync::{mpsc, watch};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_util::sync::{CancellationToken, PollSender};

use super::super::process::CHUNK;
use super::super::size::{Size, Sizes};
use super::format::{Format, Frame};

/// Input that waits for the program; beyond it the client is not read.
const INPUT_MAX: usize = 256 << 10;
/// Messages that wait for the client.
const OUTPUT_MAX: usize = 8;
/// While input waits, nothing is read: neither the client's pings nor its end. Pongs go out unasked instead, which
/// keeps clients content (kubectl gives up after 61 s) and shows whether they are still there.
const PONG_EVERY: Duration = Duration::from_secs(5);
/// A client gets this long to close after everything is said. What it sends meanwhile is read, as unread bytes would
/// make the kernel reset the connection and lose the end of the output.
const CLOSE_WITHIN: Duration = Duration::from_secs(5);

/// Where a channel's payload goes.
enum Inlet {
    Bytes(DuplexStream),
    Sizes(Sizes, watch::Sender<Option<Size>>),
}

/// The channels of a connection that is being set up.
pub(in super::super) struct Channels {
    format: Format,
    sender: mpsc::Sender<Message>,
    inlets: BTreeMap<u8, Inlet>,
}

impl Channels {
    /// What the client sends on a channel.
    pub(in super::super) fn reader(&mut self, channel: u8) -> DuplexStream {
        let (ours, theirs) = tokio::io::duplex(INPUT_MAX);
        self.inlets.insert(channel, Inlet::Bytes(ours));
        theirs
    }

    /// Terminal sizes that the client sends on a channel.
    pub(in super::super) fn sizes(&mut self, channel: u8) -> watch::Receiver<Option<Size>> {
        let (sender, receiver) = watch::channel(None);
        self.inlets.insert(channel, Inlet::Sizes(Sizes::default(), sender));
        receiver
    }

    /// Sends to the client on a channel. The connection is closed when all writers are gone.
    pub(in super::super) fn writer(&self, channel: u8) -> ChannelWriter {
        ChannelWriter { channel, format: self.format, sender: PollSender::new(self.sender.clone()) }
    }
}

/// Serves a connection: `session` gets its channels and is run until it ends, then the connection is closed.
/// `gone` is cancelled as soon as the client has closed.
pub(in super::super) async fn serve<S, F>(
    io: S,
    format: Format,
    gone: CancellationToken,
    session: impl FnOnce(&mut Channels) -> F,
) where
    S: AsyncRead + AsyncWrite + Unpin,
    F: Future<Output = ()>,
{
    let (mut sink, mut stream) = super::accept(io).await.split();
    let (sender, receiver) = mpsc::channel(OUTPUT_MAX);
    let mut channels = Channels { format, sender, inlets: BTreeMap::new() };
    let session = session(&mut channels);
    let Channels { inlets, sender, .. } = channels;
    let pongs = sender.downgrade();
    drop(sender);
    let over = CancellationToken::new();
    let speaking = async {
        let writing = async {
            tokio::select! {
                () = write(&mut sink, receiver, &gone) => {}
                () = gone.cancelled() => {}
            }
        };
        tokio::join!(session, writing);
        over.cancel();
    };
    let listening = async {
        let closed = async {
            over.cancelled().await;
            // At the agent's end nobody is waited for.
            let _ = tokio::time::timeout(CLOSE_WITHIN, gone.cancelled()).await;
        };
        tokio::select! {
            () = read(&mut stream, inlets, format, &pongs) => gone.cancel(),
            () = closed => {}
        }
    };
    tokio::join!(speaking, listening);
    if let Ok(mut whole) = stream.reunite(sink) {
        // The connection ends either way; this way the peer sees that nothing was cut off.
        let _ = tokio::time::timeout(CLOSE_WITHIN, whole.get_mut().shutdown()).await;
    }
}

async fn write<S: AsyncRead + AsyncWrite + Unpin>(
    sink: &mut SplitSink<WebSocketStream<S>, Message>,
    mut receiver: mpsc::Receiver<Message>,
    gone: &CancellationToken,
) {
    let mut all = async || {
        while let Some(message) = receiver.recv().await {
            sink.feed(message).await?;
            while let Ok(message) = receiver.try_recv() {
                sink.feed(message).await?;
            }
            sink.flush().await?;
        }
        sink.send(super::farewell()).await
    };
    if let Err(error) = all().await {
        tracing::debug!(%error, "a WebSocket client has gone");
        gone.cancel();
    }
}

/// Hands what comes to its channel, until the client closes.
async fn read<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut SplitStream<WebSocketStream<S>>,
    mut inlets: BTreeMap<u8, Inlet>,
    format: Format,
    pongs: &mpsc::WeakSender<Message>,
) {
    // Pings are answered by the library as the next message is awaited.
    while let Some(Ok(message)) = stream.next().await {
        if message.is_close() {
            return;
        }
        match format.decode(message) {
            Ok(Frame::Data(channel, payload)) => {
                let wanted = match inlets.get_mut(&channel) {
                    Some(Inlet::Bytes(inlet)) => deliver(inlet, &payload, pongs).await,
                    Some(Inlet::Sizes(sizes, sender)) => {
                        if let Some(size) = sizes.push(&payload) {
                            sender.send_replace(Some(size));
                        }
                        true
                    }
                    None => true,
                };
                if !wanted {
                    inlets.remove(&channel); // Nobody reads it any more.
                }
            }
            Ok(Frame::Close(channel)) => drop(inlets.remove(&channel)),
            Ok(Frame::Nothing) => {}
            Err(error) => {
                tracing::debug!(%error, "a WebSocket is given up");
                return;
            }
        }
    }
}

/// Delivers payload, however long it takes; `false` if nobody wants it.
async fn deliver(inlet: &mut DuplexStream, payload: &[u8], pongs: &mpsc::WeakSender<Message>) -> bool {
    let mut writing = pin!(inlet.write_all(payload));
    loop {
        match tokio::time::timeout(PONG_EVERY, &mut writing).await {
            Ok(written) => return written.is_ok(),
            Err(_) => {
                if let Some(sender) = pongs.upgrade() {
                    // If the queue is full, the client is being written to anyway.
                    let _ = sender.try_send(Message::Pong(Bytes::new()));
                }
            }
        }
    }
}

/// Sends to the client on one channel.
pub(in super::super) struct ChannelWriter {
    channel: u8,
    format: Format,
    sender: PollSender<Message>,
}

impl ChannelWriter {
    /// Sends one message, even an empty one.
    pub(in super::super) async fn message(&mut self, payload: &[u8]) -> io::Result<()> {
        self.sender.send(self.format.encode(self.channel, payload)).await.map_err(|_| gone())
    }
}

fn gone() -> io::Error {
    io::ErrorKind::BrokenPipe.into()
}

impl AsyncWrite for ChannelWriter {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.sender.poll_reserve(cx)).map_err(|_| gone())?;
        let count = bytes.len().min(CHUNK);
        let message = self.format.encode(self.channel, &bytes[..count]);
        self.sender.send_item(message).map_err(|_| gone())?;
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Only the client closes single channels.
        Poll::Ready(Ok(()))
    }
}
