//! Streams over WebSocket messages.

pub(super) mod body;
mod channels;
pub(super) mod format;
pub(super) mod program;
pub(super) mod tunnel;

pub(super) use channels::{ChannelWriter, Channels, serve};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};

/// Largest message that is taken. kubectl sends 32 KiB, other clients whole buffers.
const MESSAGE_MAX: usize = 1 << 20;

/// A connection whose handshake is done.
async fn accept<S: AsyncRead + AsyncWrite + Unpin>(io: S) -> WebSocketStream<S> {
    let config = WebSocketConfig::default()
        .max_message_size(Some(MESSAGE_MAX))
        .max_frame_size(Some(MESSAGE_MAX))
        .max_write_buffer_size(2 * MESSAGE_MAX);
    WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await
}

/// The message that ends a connection on which everything was said.
fn farewell() -> Message {
    Message::Close(Some(CloseFrame { code: CloseCode::Normal, reason: "".into() }))
}
