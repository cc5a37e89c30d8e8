//! Port-forward over plain WebSocket channels: port number `i` of the request has channel `2i` for data and `2i + 1` for
//! errors. The first message on each is the port, as two bytes, least significant first.

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio_util::sync::CancellationToken;

use super::super::websocket::format::Format;
use super::super::websocket::{ChannelWriter, Channels};
use super::{Pod, carry};

/// One port's channels.
struct Forward {
    port: u16,
    input: tokio::io::DuplexStream,
    data: ChannelWriter,
    error: ChannelWriter,
}

impl Forward {
    fn new(channels: &mut Channels, index: usize, port: u16) -> Self {
        // `check` admits no more ports than channels can be numbered.
        let channel = (2 * index) as u8;
        Self {
            port,
            input: channels.reader(channel),
            data: channels.writer(channel),
            error: channels.writer(channel + 1),
        }
    }

    async fn run(mut self, pod: &Pod) {
        let announced = self.port.to_le_bytes();
        if self.data.message(&announced).await.is_err() || self.error.message(&announced).await.is_err() {
            return;
        }
        let failure = match pod.connect(self.port).await {
            Ok(tcp) => carry(tcp, self.input, self.data).await.err().map(|error| pod.failure(self.port, &error)),
            Err(message) => Some(message),
        };
        if let Some(message) = failure {
            tracing::debug!(%message, "port-forward");
            // A client that has gone need not be told.
            let _ = self.error.write_all(message.as_bytes()).await;
        }
    }
}

/// Serves an upgraded connection until the connections to all ports have ended.
pub(in super::super) async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    io: S,
    format: Format,
    pod: &Pod,
    ports: &[u16],
    gone: CancellationToken,
) {
    super::super::websocket::serve(io, format, gone.clone(), |channels| {
        let forwards: Vec<Forward> =
            ports.iter().enumerate().map(|(index, port)| Forward::new(channels, index, *port)).collect();
        async move {
            let all = futures_util::future::join_all(forwards.into_iter().map(|forward| forward.run(pod)));
            tokio::select! {
                _ = all => {}
                () = gone.cancelled() => {}
            }
        }
    })
    .await;
}
