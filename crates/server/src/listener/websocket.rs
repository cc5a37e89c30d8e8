//! Watches over WebSocket: any watch URL with an upgrade (api-facts §3.4). Each event is one frame: text for JSON, binary
//! for protobuf.

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, UPGRADE};
use http::{HeaderMap, HeaderValue};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use mizzen_api::protobuf;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_util::task::TaskTracker;

use crate::answer::{Answer, Payload};

/// Largest message of a client: it has nothing to say but that it closes.
const INCOMING: usize = 4 << 10;
/// What a slow client may leave unread here before no more events are made for it.
const OUTGOING: usize = 256 << 10;
/// A token in the place of a subprotocol, for browsers, which cannot send headers: it is never echoed.
const BEARER: &str = "base64url.bearer.authorization.k8s.io.";

/// The key of a handshake, if the request asks for a WebSocket.
pub(super) fn key(headers: &HeaderMap) -> Option<&HeaderValue> {
    let wanted = headers.get(UPGRADE).is_some_and(|upgrade| upgrade.as_bytes().eq_ignore_ascii_case(b"websocket"));
    headers.get(SEC_WEBSOCKET_KEY).filter(|_| wanted)
}

/// Turns the answer of a watch into that of a handshake, and sends the events once the connection is upgraded. Other
/// answers, refusals above all, stay as they are.
pub(super) fn accept(answer: Answer, headers: &HeaderMap, upgrade: OnUpgrade, tasks: &TaskTracker) -> Answer {
    let Some(key) = key(headers) else { return answer };
    let protobuf = answer.content_type.starts_with(protobuf::CONTENT_TYPE);
    let Payload::Stream(events) = answer.payload else { return answer };
    tasks.spawn(async move {
        let upgraded = match upgrade.await {
            Ok(upgraded) => upgraded,
            Err(error) => return tracing::debug!(%error, "a watch was not upgraded"),
        };
        let mut config = WebSocketConfig::default();
        config.max_message_size = Some(INCOMING);
        config.max_frame_size = Some(INCOMING);
        config.max_write_buffer_size = OUTGOING;
        let socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, Some(config)).await;
        if let Err(error) = send(socket, events, protobuf).await {
            tracing::debug!(%error, "a watch over WebSocket ended");
        }
    });
    let mut answer = Answer { headers: answer.headers, ..Answer::bytes(101, "", Bytes::new()) };
    answer.headers.push((CONNECTION, HeaderValue::from_static("Upgrade")));
    answer.headers.push((UPGRADE, HeaderValue::from_static("websocket")));
    answer = answer.with_header(SEC_WEBSOCKET_ACCEPT, &derive_accept_key(key.as_bytes()));
    match protocol(headers) {
        Some(protocol) => answer.with_header(SEC_WEBSOCKET_PROTOCOL, protocol),
        None => answer,
    }
}

/// The first subprotocol offered: events need none, but a browser that offers some wants to hear one.
fn protocol(headers: &HeaderMap) -> Option<&str> {
    let offered = headers.get(SEC_WEBSOCKET_PROTOCOL)?.to_str().ok()?;
    offered.split(',').map(str::trim).find(|protocol| !protocol.is_empty() && !protocol.starts_with(BEARER))
}

async fn send(
    socket: WebSocketStream<TokioIo<hyper::upgrade::Upgraded>>,
    mut events: futures_util::stream::BoxStream<'static, Bytes>,
    protobuf: bool,
) -> Result<(), Error> {
    let (mut sink, mut incoming) = socket.split();
    loop {
        tokio::select! {
            chunk = events.next() => {
                let Some(chunk) = chunk else { break };
                for event in split(&chunk, protobuf) {
                    sink.feed(event).await?;
                }
                sink.flush().await?;
            }
            // Pings are answered by the socket itself; what else a client says does not matter until it closes.
            message = incoming.next() => match message {
                Some(Ok(Message::Close(_))) | None => break,
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error),
            },
        }
    }
    sink.close().await
}

/// The events of a chunk, which holds whole events only.
fn split(chunk: &Bytes, protobuf: bool) -> Vec<Message> {
    let mut messages = Vec::new();
    let mut rest = chunk.clone();
    if protobuf {
        // Each is preceded by its length in four bytes, which a message has by itself.
        while let Some(head) = rest.first_chunk::<4>() {
            let length = u32::from_be_bytes(*head) as usize;
            if rest.len() < 4 + length {
                break;
            }
            messages.push(Message::Binary(rest.slice(4..4 + length)));
            rest = rest.slice(4 + length..);
        }
        return messages;
    }
    for line in chunk.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        // Stored objects are JSON, and so UTF-8.
        messages.extend(std::str::from_utf8(line).map(|text| Message::text(text.to_string())));
    }
    messages
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_split_into_events() {
        let text = |m: &Message| m.to_string();
        let lines = split(&Bytes::from_static(b"{\"a\":1}\n{\"b\":2}\n"), false);
        assert_eq!(lines.iter().map(text).collect::<Vec<_>>(), ["{\"a\":1}", "{\"b\":2}"]);
        let frames = split(&Bytes::from_static(b"\0\0\0\x02ab\0\0\0\x01c"), true);
        assert_eq!(frames, [Message::Binary(Bytes::from_static(b"ab")), Message::Binary(Bytes::from_static(b"c"))]);
        assert!(split(&Bytes::from_static(b"\0\0\0\x09ab"), true).is_empty());
    }

    #[test]
    fn subprotocols_are_echoed_and_tokens_are_not() {
        for (offered, expected) in [
            ("", None),
            ("v1.json", Some("v1.json")),
            ("base64url.bearer.authorization.k8s.io.abc, v1.json", Some("v1.json")),
            ("base64url.bearer.authorization.k8s.io.abc", None),
        ] {
            let headers = HeaderMap::from_iter([(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_str(offered).unwrap())]);
            assert_eq!(protocol(&headers), expected, "{offered}");
        }
    }
}
