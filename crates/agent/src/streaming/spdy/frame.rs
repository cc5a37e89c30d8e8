//! Frames on the wire. Pure: bytes in, values out, and back.

use bytes::{BufMut, BytesMut};

/// Bytes before a frame's payload.
pub(super) const HEAD: usize = 8;
/// Longest payload of a control frame that is taken.
pub(super) const CONTROL_MAX: usize = 64 << 10;
/// Set in a frame that is its sender's last of a stream.
const FIN: u8 = 1;
const VERSION: u16 = 3;
const INITIAL_WINDOW_SIZE: u32 = 7;

const SYN_STREAM: u16 = 1;
const SYN_REPLY: u16 = 2;
const RST_STREAM: u16 = 3;
const SETTINGS: u16 = 4;
const PING: u16 = 6;
const GOAWAY: u16 = 7;
const HEADERS: u16 = 8;
const WINDOW_UPDATE: u16 = 9;

/// Why a stream is reset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum ResetStatus {
    ProtocolError = 1,
    RefusedStream = 3,
    Cancel = 5,
}

/// A frame that breaks the protocol.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum FrameError {
    /// Another version.
    #[error("a frame of SPDY/{0}")]
    Version(u16),
    /// A length that its type does not allow.
    #[error("a frame of type {kind} with {length} bytes")]
    Length {
        /// Its type.
        kind: u16,
        /// Its length.
        length: usize,
    },
}

/// The head of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Head {
    Data { stream: u32, fin: bool, length: usize },
    Control { kind: u16, flags: u8, length: usize },
}

impl Head {
    /// Reads a head.
    pub(super) fn parse(bytes: [u8; HEAD]) -> Result<Self, FrameError> {
        let [a, b, c, d, flags, x, y, z] = bytes;
        let length = u32::from_be_bytes([0, x, y, z]) as usize;
        if a & 0x80 == 0 {
            return Ok(Head::Data { stream: u32::from_be_bytes([a, b, c, d]), fin: flags & FIN != 0, length });
        }
        let (version, kind) = (u16::from_be_bytes([a & 0x7f, b]), u16::from_be_bytes([c, d]));
        if version != VERSION {
            return Err(FrameError::Version(version));
        }
        if length > CONTROL_MAX {
            return Err(FrameError::Length { kind, length });
        }
        Ok(Head::Control { kind, flags, length })
    }
}

/// A control frame from a client. Header blocks are still compressed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Control<'a> {
    SynStream {
        stream: u32,
        fin: bool,
        block: &'a [u8],
    },
    /// Headers that are of no use here, but keep the compression in step.
    Headers {
        stream: u32,
        fin: bool,
        block: &'a [u8],
    },
    Reset {
        stream: u32,
    },
    InitialWindow(u32),
    Ping(u32),
    GoAway,
    WindowUpdate {
        stream: u32,
        delta: u32,
    },
    /// Nothing of concern.
    Other,
}

impl<'a> Control<'a> {
    /// Reads a payload. Types that are not known are to be ignored.
    pub(super) fn parse(kind: u16, flags: u8, payload: &'a [u8]) -> Result<Self, FrameError> {
        let wrong = FrameError::Length { kind, length: payload.len() };
        let number = |at: usize| -> Result<u32, FrameError> {
            let bytes = payload.get(at..at + 4).and_then(|b| b.try_into().ok());
            bytes.map(u32::from_be_bytes).ok_or_else(|| wrong.clone())
        };
        let id = |at: usize| number(at).map(|n| n & 0x7fff_ffff);
        let after = |at: usize| payload.get(at..).ok_or_else(|| wrong.clone());
        let fin = flags & FIN != 0;
        Ok(match kind {
            SYN_STREAM => Control::SynStream { stream: id(0)?, fin, block: after(10)? },
            SYN_REPLY | HEADERS => Control::Headers { stream: id(0)?, fin, block: after(4)? },
            RST_STREAM => Control::Reset { stream: id(0)? },
            SETTINGS => {
                let count = number(0)? as usize;
                let entries = after(4)?;
                if entries.len() != count.saturating_mul(8) {
                    return Err(wrong);
                }
                let is_window = |e: &&[u8]| u32::from_be_bytes([0, e[1], e[2], e[3]]) == INITIAL_WINDOW_SIZE;
                let window = entries.chunks_exact(8).find(is_window);
                window.map_or(Control::Other, |e| Control::InitialWindow(u32::from_be_bytes([e[4], e[5], e[6], e[7]])))
            }
            PING => Control::Ping(number(0)?),
            GOAWAY => Control::GoAway,
            WINDOW_UPDATE => Control::WindowUpdate { stream: id(0)?, delta: id(4)? },
            _ => Control::Other,
        })
    }
}

/// What is sent to a client.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Out {
    /// Accepts a stream, without headers.
    Reply {
        stream: u32,
    },
    Data {
        stream: u32,
        fin: bool,
        data: Vec<u8>,
    },
    Reset {
        stream: u32,
        status: ResetStatus,
    },
    Ping(u32),
    /// A protocol error.
    GoAway {
        last: u32,
    },
    WindowUpdate {
        stream: u32,
        delta: u32,
    },
}

impl Out {
    /// Writes a frame. `no_headers` is a compressed block without headers, made for each reply.
    pub(super) fn encode(&self, buffer: &mut BytesMut, no_headers: impl FnOnce() -> Vec<u8>) {
        match self {
            Out::Reply { stream } => {
                let block = no_headers();
                control(buffer, SYN_REPLY, 4 + block.len());
                buffer.put_u32(*stream);
                buffer.put_slice(&block);
            }
            Out::Data { stream, fin, data } => {
                buffer.put_u32(*stream);
                buffer.put_u8(u8::from(*fin));
                buffer.put_uint(data.len() as u64, 3);
                buffer.put_slice(data);
            }
            Out::Reset { stream, status } => pair(buffer, RST_STREAM, *stream, *status as u32),
            Out::Ping(id) => {
                control(buffer, PING, 4);
                buffer.put_u32(*id);
            }
            Out::GoAway { last } => pair(buffer, GOAWAY, *last, 1),
            Out::WindowUpdate { stream, delta } => pair(buffer, WINDOW_UPDATE, *stream, *delta),
        }
    }
}

fn control(buffer: &mut BytesMut, kind: u16, length: usize) {
    buffer.put_u16(0x8000 | VERSION);
    buffer.put_u16(kind);
    buffer.put_u8(0);
    buffer.put_uint(length as u64, 3);
}

fn pair(buffer: &mut BytesMut, kind: u16, first: u32, second: u32) {
    control(buffer, kind, 8);
    buffer.put_u32(first);
    buffer.put_u32(second);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn head(bytes: &[u8]) -> Result<Head, FrameError> {
        Head::parse(bytes[..HEAD].try_into().unwrap())
    }

    #[test]
    fn heads_are_read() {
        let cases = [
            ([0, 0, 0, 5, 1, 0, 1, 2], Ok(Head::Data { stream: 5, fin: true, length: 258 })),
            ([0x80, 3, 0, 1, 0, 0, 0, 10], Ok(Head::Control { kind: SYN_STREAM, flags: 0, length: 10 })),
            ([0x80, 2, 0, 1, 0, 0, 0, 10], Err(FrameError::Version(2))),
            ([0x80, 3, 0, 1, 0, 2, 0, 0], Err(FrameError::Length { kind: SYN_STREAM, length: 131_072 })),
            ([0x7f, 255, 255, 255, 0, 255, 255, 255], {
                Ok(Head::Data { stream: 0x7fff_ffff, fin: false, length: (1 << 24) - 1 })
            }),
        ];
        for (bytes, expected) in cases {
            assert_eq!(Head::parse(bytes), expected, "{bytes:?}");
        }
    }

    #[test]
    fn control_frames_are_read() {
        let cases: [(u16, u8, &[u8], Option<Control<'_>>); 12] = [
            (SYN_STREAM, 1, &[0x80, 0, 0, 3, 0, 0, 0, 0, 0, 0, 7], {
                Some(Control::SynStream { stream: 3, fin: true, block: &[7] })
            }),
            (SYN_STREAM, 0, &[0, 0, 0, 3, 0, 0, 0, 0, 0], None),
            (HEADERS, 0, &[0, 0, 0, 3, 9], Some(Control::Headers { stream: 3, fin: false, block: &[9] })),
            (RST_STREAM, 0, &[0, 0, 0, 3, 0, 0, 0, 5], Some(Control::Reset { stream: 3 })),
            (RST_STREAM, 0, &[0, 0], None),
            (SETTINGS, 0, &[0, 0, 0, 1, 0, 0, 0, 7, 0, 1, 0, 0], Some(Control::InitialWindow(65536))),
            (SETTINGS, 0, &[0, 0, 0, 1, 0, 0, 0, 4, 0, 1, 0, 0], Some(Control::Other)),
            (SETTINGS, 0, &[255, 255, 255, 255, 0, 0, 0, 4, 0, 1, 0, 0], None),
            (PING, 0, &[0, 0, 0, 9], Some(Control::Ping(9))),
            (GOAWAY, 0, &[], Some(Control::GoAway)),
            (WINDOW_UPDATE, 0, &[0, 0, 0, 3, 0x80, 0, 0, 5], Some(Control::WindowUpdate { stream: 3, delta: 5 })),
            (77, 0, &[], Some(Control::Other)),
        ];
        for (kind, flags, payload, expected) in cases {
            assert_eq!(Control::parse(kind, flags, payload).ok(), expected, "{kind} {payload:?}");
        }
    }

    #[test]
    fn frames_are_written() {
        let written = |out: Out| {
            let mut buffer = BytesMut::new();
            out.encode(&mut buffer, || vec![1, 2, 3]);
            let parsed = head(&buffer).unwrap();
            (parsed, buffer[HEAD..].to_vec())
        };
        let (parsed, payload) = written(Out::Data { stream: 7, fin: true, data: b"abc".to_vec() });
        assert_eq!((parsed, &payload[..]), (Head::Data { stream: 7, fin: true, length: 3 }, &b"abc"[..]));
        for (out, kind, expected) in [
            (Out::Reply { stream: 7 }, SYN_REPLY, &[0, 0, 0, 7, 1, 2, 3][..]),
            (Out::Reset { stream: 7, status: ResetStatus::Cancel }, RST_STREAM, &[0, 0, 0, 7, 0, 0, 0, 5]),
            (Out::Ping(4), PING, &[0, 0, 0, 4]),
            (Out::GoAway { last: 5 }, GOAWAY, &[0, 0, 0, 5, 0, 0, 0, 1]),
            (Out::WindowUpdate { stream: 1, delta: 2 }, WINDOW_UPDATE, &[0, 0, 0, 1, 0, 0, 0, 2]),
        ] {
            let (parsed, payload) = written(out);
            assert_eq!(parsed, Head::Control { kind, flags: 0, length: expected.len() });
            assert_eq!(payload, expected);
        }
    }

    proptest! {
        #[test]
        fn no_bytes_break_the_parser(bytes: [u8; HEAD], kind in 0u16..12, flags: u8, payload: Vec<u8>) {
            let _ = Head::parse(bytes);
            let _ = Control::parse(kind, flags, &payload);
        }
    }
}
