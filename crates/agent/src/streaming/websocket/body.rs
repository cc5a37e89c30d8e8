//! The body of an answer, as messages without channels.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::{SinkExt, StreamExt};
use http_body_util::BodyExt;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::kubelet::Body;

/// A client gets this long to close after everything is said.
const CLOSE_WITHIN: Duration = Duration::from_secs(5);

/// Sends the body until it or the client ends.
pub(in super::super) async fn serve<S: AsyncRead + AsyncWrite + Unpin>(io: S, base64: bool, mut body: Body) {
    let (mut sink, mut stream) = super::accept(io).await.split();
    let sending = async {
        while let Some(frame) = body.frame().await {
            // An error of the source ends the log; what was there is sent.
            let Some(data) = frame.ok().and_then(|frame| frame.into_data().ok()) else { break };
            let message = if base64 { Message::text(STANDARD.encode(&data)) } else { Message::binary(data) };
            sink.send(message).await?;
        }
        sink.send(super::farewell()).await?;
        tokio::time::sleep(CLOSE_WITHIN).await;
        Ok::<_, Error>(())
    };
    // Nothing is expected of the client, but its pings are answered and its end is noticed.
    let listening = async { while stream.next().await.is_some_and(|message| message.is_ok_and(|m| !m.is_close())) {} };
    tokio::select! {
        sent = sending => {
            if let Err(error) = sent {
                tracing::debug!(%error, "a WebSocket client has gone");
            }
        }
        () = listening => {}
    }
    if let Ok(mut whole) = stream.reunite(sink) {
        // The connection ends either way; this way the peer sees that nothing was cut off.
        let _ = tokio::time::timeout(CLOSE_WITHIN, whole.get_mut().shutdown()).await;
    }
}
