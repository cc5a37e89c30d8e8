//! Messages on channels: a byte (or digit) that names the channel, then the payload.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{BufMut, Bytes, BytesMut};
use tokio_tungstenite::tungstenite::Message;

use super::super::status::Wording;

/// The channel on which other channels are closed.
const CLOSE: u8 = 255;

/// How a subprotocol writes its messages. The default is that of clients that offer no subprotocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) struct Format {
    /// Text messages: an ASCII digit, then base64.
    pub(in super::super) base64: bool,
    /// How the end is worded.
    pub(in super::super) wording: Wording,
    /// Channels can be closed one by one.
    pub(in super::super) closes: bool,
}

impl Default for Format {
    fn default() -> Self {
        Self { base64: false, wording: Wording::Text, closes: false }
    }
}

/// What a message says.
#[derive(Debug, PartialEq, Eq)]
pub(in super::super) enum Frame {
    /// Payload of a channel.
    Data(u8, Bytes),
    /// The client has ended a channel.
    Close(u8),
    /// Nothing that concerns channels.
    Nothing,
}

/// A message that breaks the subprotocol.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("a message breaks the subprotocol")]
pub(in super::super) struct Malformed;

impl Format {
    /// The format of a subprotocol; `None` if it is unknown.
    pub(in super::super) fn of(subprotocol: &str) -> Option<Self> {
        let (base64, wording, closes) = match subprotocol {
            "" | "channel.k8s.io" => (false, Wording::Text, false),
            "base64.channel.k8s.io" => (true, Wording::Text, false),
            "v4.channel.k8s.io" => (false, Wording::Status, false),
            "v4.base64.channel.k8s.io" => (true, Wording::Status, false),
            "v5.channel.k8s.io" => (false, Wording::Status, true),
            _ => return None,
        };
        Some(Self { base64, wording, closes })
    }

    /// The message that carries `payload` on `channel`.
    pub(in super::super) fn encode(self, channel: u8, payload: &[u8]) -> Message {
        if self.base64 {
            let mut text = String::with_capacity(1 + payload.len().div_ceil(3) * 4);
            text.push(char::from(b'0' + channel));
            STANDARD.encode_string(payload, &mut text);
            return Message::text(text);
        }
        let mut message = BytesMut::with_capacity(1 + payload.len());
        message.put_u8(channel);
        message.put_slice(payload);
        Message::binary(message.freeze())
    }

    /// What a message says. A binary subprotocol takes text too, byte by byte, as clients in browsers send it.
    pub(in super::super) fn decode(self, message: Message) -> Result<Frame, Malformed> {
        let data = match message {
            Message::Binary(data) => data,
            Message::Text(text) => text.into(),
            _ => return Ok(Frame::Nothing),
        };
        let Some(&first) = data.first() else { return Ok(Frame::Nothing) };
        if self.base64 {
            let channel = first.checked_sub(b'0').ok_or(Malformed)?;
            let payload = STANDARD.decode(&data[1..]).map_err(|_| Malformed)?;
            return Ok(Frame::Data(channel, payload.into()));
        }
        if self.closes && first == CLOSE {
            return match data[1..] {
                [channel] => Ok(Frame::Close(channel)),
                _ => Err(Malformed),
            };
        }
        Ok(Frame::Data(first, data.slice(1..)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn format(name: &str) -> Format {
        Format::of(name).unwrap()
    }

    #[test]
    fn messages_are_read() {
        let (v5, v4, b64) = (format("v5.channel.k8s.io"), format("v4.channel.k8s.io"), format("base64.channel.k8s.io"));
        let binary = |bytes: &'static [u8]| Message::binary(bytes);
        let data = |channel, bytes: &'static [u8]| Ok(Frame::Data(channel, Bytes::from_static(bytes)));
        let cases = [
            (v5, binary(b"\x00hello"), data(0, b"hello")),
            (v5, binary(b"\x00"), data(0, b"")),
            (v5, binary(b""), Ok(Frame::Nothing)),
            (v5, binary(b"\xff\x00"), Ok(Frame::Close(0))),
            (v5, binary(b"\xff"), Err(Malformed)),
            (v5, binary(b"\xff\x00\x01"), Err(Malformed)),
            (v4, binary(b"\xff\x00"), data(255, b"\x00")),
            (v4, Message::text("\u{4}{}"), data(4, b"{}")),
            (v4, Message::Ping(Bytes::new()), Ok(Frame::Nothing)),
            (b64, Message::text("0aGk="), data(0, b"hi")),
            (b64, Message::text("0"), data(0, b"")),
            (b64, Message::text("0a"), Err(Malformed)),
            (b64, Message::text("!aGk="), Err(Malformed)),
        ];
        for (format, message, expected) in cases {
            assert_eq!(format.decode(message.clone()), expected, "{message:?}");
        }
    }

    #[test]
    fn messages_are_written() {
        assert_eq!(format("v5.channel.k8s.io").encode(1, b"hi"), Message::binary(&b"\x01hi"[..]));
        assert_eq!(format("v4.base64.channel.k8s.io").encode(2, b"hi"), Message::text("2aGk="));
        assert_eq!(format("").encode(1, b""), Message::binary(&b"\x01"[..]));
        assert_eq!(Format::of("v3.channel.k8s.io"), None);
        assert_eq!(Format::of(""), Some(Format::default()));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(channel in 0u8..=4, payload: Vec<u8>, which in 0usize..5) {
            let names = ["", "base64.channel.k8s.io", "v4.channel.k8s.io", "v4.base64.channel.k8s.io", "v5.channel.k8s.io"];
            let format = format(names[which]);
            prop_assert_eq!(format.decode(format.encode(channel, &payload)), Ok(Frame::Data(channel, payload.into())));
        }
    }
}
