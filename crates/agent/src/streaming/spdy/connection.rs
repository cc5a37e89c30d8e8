//! Serves the streams of one connection.

use std::collections::HashMap;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader, DuplexStream, ReadHalf, WriteHalf};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::super::process::CHUNK;
use super::flow::Flow;
use super::frame::{Control, FrameError, HEAD, Head, Out, ResetStatus};
use super::headers::{Deflate, HeaderError, Inflate};
use super::stream::{Opened, StreamWriter};

/// Streams at the same time. A port-forward has two for each connection.
const STREAMS_MAX: usize = 1024;
/// Input of a stream that waits for whom it is for; beyond it the connection is not read. Clients keep no windows, so
/// one stream that is not read holds up the others then, as at every other server of Kubernetes.
const INPUT_MAX: usize = 256 << 10;
/// Frames that wait for the client.
const OUTPUT_MAX: usize = 16;
/// New streams that wait to be taken.
const OPENED_MAX: usize = 16;
/// While input waits nothing is read, not even the client's end: pings show whether it is still there.
const PING_EVERY: Duration = Duration::from_secs(5);
/// Windows are opened again in steps of this.
const UPDATE_STEP: u32 = 16 << 10;
/// A client gets this long to close after everything is said; what it sends meanwhile is read, as unread bytes would
/// make the kernel reset the connection and lose the end of the output.
const CLOSE_WITHIN: Duration = Duration::from_secs(5);

/// Why a connection is given up.
#[derive(Debug, thiserror::Error)]
enum ConnectionError {
    #[error("read")]
    Read(#[from] io::Error),
    #[error("understand a frame")]
    Frame(#[from] FrameError),
    #[error("understand headers")]
    Headers(#[from] HeaderError),
}

/// The streams that a client opens, as they come.
pub(in super::super) struct Accepted {
    opened: mpsc::Receiver<Opened>,
    /// Keeps the connection open while there are no streams.
    _sender: mpsc::Sender<Out>,
}

impl Accepted {
    /// The next stream; `None` when the client has closed.
    pub(in super::super) async fn next(&mut self) -> Option<Opened> {
        self.opened.recv().await
    }
}

/// Serves a connection: `session` gets its streams and is run until it ends, then the connection is closed. `gone` is
/// cancelled as soon as the client has closed.
pub(in super::super) async fn serve<S, F>(io: S, gone: CancellationToken, session: impl FnOnce(Accepted) -> F)
where
    S: AsyncRead + AsyncWrite + Unpin,
    F: Future<Output = ()>,
{
    let (read, mut write) = tokio::io::split(io);
    let (sender, receiver) = mpsc::channel(OUTPUT_MAX);
    let (opened, streams) = mpsc::channel(OPENED_MAX);
    let mut reader = Reader::new(sender.downgrade(), opened);
    let session = session(Accepted { opened: streams, _sender: sender });
    let over = CancellationToken::new();
    let speaking = async {
        let writing = async {
            tokio::select! {
                written = write_frames(&mut write, receiver) => match written {
                    Ok(End::Said) => {}
                    Ok(End::SentAway) => gone.cancel(),
                    Err(error) => {
                        tracing::debug!(%error, "a SPDY client has gone");
                        gone.cancel();
                    }
                },
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
            ended = reader.run(read) => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "a SPDY connection is given up");
                    if reader.complain(&error).await {
                        // The writer ends everything once it is said.
                        let _ = tokio::time::timeout(CLOSE_WITHIN, gone.cancelled()).await;
                    }
                }
                gone.cancel();
            }
            () = closed => {}
        }
        // No more streams come.
        drop(reader);
    };
    tokio::join!(speaking, listening);
    // The connection ends either way; this way the peer sees that nothing was cut off.
    let _ = tokio::time::timeout(CLOSE_WITHIN, write.shutdown()).await;
}

/// Why nothing more is written.
enum End {
    /// Everything is said.
    Said,
    /// The client was told that it broke the protocol.
    SentAway,
}

async fn write_frames<S: AsyncWrite>(to: &mut WriteHalf<S>, mut receiver: mpsc::Receiver<Out>) -> io::Result<End> {
    let mut deflate = Deflate::new();
    let mut buffer = BytesMut::new();
    while let Some(out) = receiver.recv().await {
        let mut next = Some(out);
        let mut last = false;
        while let Some(out) = next {
            out.encode(&mut buffer, || deflate.nothing());
            last |= matches!(out, Out::GoAway { .. });
            next = if buffer.len() < 2 * CHUNK && !last { receiver.try_recv().ok() } else { None };
        }
        to.write_all(&buffer).await?;
        to.flush().await?;
        buffer.clear();
        if last {
            return Ok(End::SentAway);
        }
    }
    Ok(End::Said)
}

/// The reading side of a stream.
struct Entry {
    /// `None` once the client has ended its half, or nobody reads any more.
    inlet: Option<DuplexStream>,
    /// The client has ended its half.
    ended: bool,
    /// Our half has ended.
    finished: Arc<AtomicBool>,
    broken: CancellationToken,
    /// Taken, and not given back to the window.
    taken: u32,
}

struct Reader {
    sender: mpsc::WeakSender<Out>,
    opened: mpsc::Sender<Opened>,
    flow: Arc<Flow>,
    inflate: Inflate,
    streams: HashMap<u32, Entry>,
    /// The newest stream.
    last: u32,
    taken: u32,
}

impl Reader {
    fn new(sender: mpsc::WeakSender<Out>, opened: mpsc::Sender<Opened>) -> Self {
        let (flow, inflate) = (Arc::new(Flow::new()), Inflate::new());
        Self { sender, opened, flow, inflate, streams: HashMap::new(), last: 0, taken: 0 }
    }

    /// Reads until the client closes.
    async fn run<S: AsyncRead>(&mut self, from: ReadHalf<S>) -> Result<(), ConnectionError> {
        let mut from = BufReader::with_capacity(2 * CHUNK, from);
        let mut buffer = vec![0; CHUNK];
        loop {
            let mut head = [0; HEAD];
            match from.read_exact(&mut head).await {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
                read => drop(read?),
            }
            match Head::parse(head)? {
                Head::Data { stream, fin, length } => {
                    let mut left = length;
                    while left > 0 {
                        let part = &mut buffer[..left.min(CHUNK)];
                        from.read_exact(part).await?;
                        left -= part.len();
                        self.data(stream, part).await;
                    }
                    if fin {
                        self.end(stream);
                    }
                }
                Head::Control { kind, flags, length } => {
                    let mut payload = vec![0; length];
                    from.read_exact(&mut payload).await?;
                    self.control(Control::parse(kind, flags, &payload)?).await?;
                }
            }
        }
    }

    /// Does what a frame says.
    async fn control(&mut self, control: Control<'_>) -> Result<(), ConnectionError> {
        match control {
            Control::SynStream { stream, fin, block } => self.open(stream, fin, block).await?,
            Control::Headers { stream, fin, block } => {
                self.inflate.headers(block)?;
                if fin {
                    self.end(stream);
                }
            }
            Control::Reset { stream } => {
                self.flow.close(stream);
                if let Some(entry) = self.streams.remove(&stream) {
                    entry.broken.cancel();
                }
            }
            Control::InitialWindow(size) => self.flow.set_initial(size),
            // Even numbers are answers to our own.
            Control::Ping(id) if id % 2 == 1 => self.send(Out::Ping(id)).await,
            Control::WindowUpdate { stream, delta } => self.flow.update(stream, delta),
            // It opens no more streams, but those that are open go on until it closes.
            Control::GoAway | Control::Ping(_) | Control::Other => {}
        }
        Ok(())
    }

    async fn open(&mut self, id: u32, fin: bool, block: &[u8]) -> Result<(), ConnectionError> {
        let headers = self.inflate.headers(block)?;
        if id.is_multiple_of(2) || id <= self.last {
            self.send(Out::Reset { stream: id, status: ResetStatus::ProtocolError }).await;
            return Ok(());
        }
        self.last = id;
        self.forget_ended();
        if self.streams.len() >= STREAMS_MAX {
            self.send(Out::Reset { stream: id, status: ResetStatus::RefusedStream }).await;
            return Ok(());
        }
        // Without a sender the session is over.
        let Some(sender) = self.sender.upgrade() else { return Ok(()) };
        self.flow.open(id);
        let (inlet, reader) = tokio::io::duplex(INPUT_MAX);
        let finished = Arc::new(AtomicBool::new(false));
        let broken = CancellationToken::new();
        let entry = Entry {
            inlet: (!fin).then_some(inlet),
            ended: fin,
            finished: Arc::clone(&finished),
            broken: broken.clone(),
            taken: 0,
        };
        self.streams.insert(id, entry);
        self.send(Out::Reply { stream: id }).await;
        let writer = StreamWriter::new(id, sender, Arc::clone(&self.flow), finished);
        // A session that takes no more streams drops them.
        let _ = self.opened.send(Opened { id, headers, reader, writer, broken }).await;
        Ok(())
    }

    /// Drops what is known of streams that both sides have ended.
    fn forget_ended(&mut self) {
        let flow = &self.flow;
        self.streams.retain(|id, entry| {
            let over = entry.ended && entry.finished.load(Ordering::Relaxed);
            if over {
                flow.close(*id);
            }
            !over
        });
    }

    fn end(&mut self, stream: u32) {
        if let Some(entry) = self.streams.get_mut(&stream) {
            (entry.inlet, entry.ended) = (None, true);
        }
    }

    async fn data(&mut self, stream: u32, payload: &[u8]) {
        let count = payload.len() as u32;
        if let Some(entry) = self.streams.get_mut(&stream) {
            if let Some(inlet) = &mut entry.inlet
                && !deliver(inlet, payload, &self.sender).await
            {
                entry.inlet = None;
            }
            entry.taken += count;
            if entry.taken >= UPDATE_STEP {
                let delta = std::mem::take(&mut entry.taken);
                self.send(Out::WindowUpdate { stream, delta }).await;
            }
        }
        self.taken += count;
        if self.taken >= UPDATE_STEP {
            let delta = std::mem::take(&mut self.taken);
            self.send(Out::WindowUpdate { stream: 0, delta }).await;
        }
    }

    async fn send(&self, out: Out) {
        if let Some(sender) = self.sender.upgrade() {
            // The writer ends only when the client has gone, which is noticed by itself.
            let _ = sender.send(out).await;
        }
    }

    /// Tells a client that broke the protocol; `false` if there is none to be told.
    async fn complain(&self, error: &ConnectionError) -> bool {
        let listens = !matches!(error, ConnectionError::Read(_));
        if listens {
            self.send(Out::GoAway { last: self.last }).await;
        }
        listens
    }
}

/// Delivers payload, however long it takes; `false` if nobody wants it.
async fn deliver(inlet: &mut DuplexStream, payload: &[u8], sender: &mpsc::WeakSender<Out>) -> bool {
    let mut writing = pin!(inlet.write_all(payload));
    let mut ping = 0;
    loop {
        match tokio::time::timeout(PING_EVERY, &mut writing).await {
            Ok(written) => return written.is_ok(),
            Err(_) => {
                ping += 2;
                if let Some(sender) = sender.upgrade() {
                    // If the queue is full, the client is being written to anyway.
                    let _ = sender.try_send(Out::Ping(ping));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::headers::Deflate;
    use super::*;

    /// What a client might write: frames, some of them sound, some not.
    fn frames() -> impl Strategy<Value = Vec<u8>> {
        let data = (0u32..8, 0u8..2, prop::collection::vec(any::<u8>(), 0..40)).prop_map(|(stream, fin, payload)| {
            let head = [&stream.to_be_bytes()[..], &[fin, 0, 0, payload.len() as u8]].concat();
            [head, payload].concat()
        });
        let control =
            (1u16..10, 0u8..2, prop::collection::vec(any::<u8>(), 0..20)).prop_map(|(kind, flags, payload)| {
                let head = [&[0x80, 3][..], &kind.to_be_bytes(), &[flags, 0, 0, payload.len() as u8]].concat();
                [head, payload].concat()
            });
        let open = (0u32..8).prop_map(|stream| {
            let block = Deflate::new().headers(&[("streamtype", "stdin")]);
            let payload = [&stream.to_be_bytes()[..], &[0; 6], &block].concat();
            [&[0x80, 3, 0, 1, 0, 0, 0, payload.len() as u8][..], &payload].concat()
        });
        let junk = prop::collection::vec(any::<u8>(), 0..20);
        prop::collection::vec(prop_oneof![4 => data, 2 => control, 2 => open, 1 => junk], 0..20)
            .prop_map(|all| all.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]
        #[test]
        fn no_client_breaks_or_holds_a_connection(bytes in frames()) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            runtime.block_on(async move {
                let (mut client, ours) = tokio::io::duplex(64 << 10);
                client.write_all(&bytes).await.unwrap();
                client.shutdown().await.unwrap();
                let session = |mut accepted: Accepted| async move { while accepted.next().await.is_some() {} };
                let serving = serve(ours, CancellationToken::new(), session);
                tokio::time::timeout(Duration::from_secs(4), serving).await.expect("it ends with its client");
            });
        }
    }
}
