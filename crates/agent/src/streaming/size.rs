//! Terminal sizes, as clients send them: `{"Width":80,"Height":24}`, one after the other.

use std::os::fd::AsFd;

use serde::Deserialize;

/// Longest text that may wait for its end.
const PENDING_MAX: usize = 4 << 10;

/// The size of a terminal in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(super) struct Size {
    #[serde(rename = "Width")]
    pub(super) width: u16,
    #[serde(rename = "Height")]
    pub(super) height: u16,
}

impl Size {
    /// Gives a terminal this size.
    pub(super) fn apply(self, terminal: impl AsFd) -> std::io::Result<()> {
        let size = rustix::termios::Winsize { ws_row: self.height, ws_col: self.width, ws_xpixel: 0, ws_ypixel: 0 };
        Ok(rustix::termios::tcsetwinsize(terminal, size)?)
    }
}

/// Takes sizes out of a stream of bytes.
#[derive(Debug, Default)]
pub(super) struct Sizes {
    pending: Vec<u8>,
}

impl Sizes {
    /// The last whole size that these bytes complete. What is no size is thrown away.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Option<Size> {
        if self.pending.len() + bytes.len() > PENDING_MAX {
            self.pending.clear();
        }
        if bytes.len() > PENDING_MAX {
            return None;
        }
        self.pending.extend_from_slice(bytes);
        let mut sizes = serde_json::Deserializer::from_slice(&self.pending).into_iter::<Size>();
        let (mut last, mut done, mut broken) = (None, 0, false);
        loop {
            match sizes.next() {
                Some(Ok(size)) => {
                    (last, done) = (Some(size), sizes.byte_offset());
                }
                Some(Err(error)) => {
                    broken = !error.is_eof();
                    break;
                }
                None => break,
            }
        }
        if broken {
            self.pending.clear();
        } else {
            self.pending.drain(..done);
        }
        last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size(width: u16, height: u16) -> Option<Size> {
        Some(Size { width, height })
    }

    #[test]
    fn sizes_come_whole_in_pieces_and_in_a_row() {
        let cases: [(&[&str], Option<Size>); 7] = [
            (&[r#"{"Width":80,"Height":24}"#], size(80, 24)),
            (&[r#"{"Width":80,"#, "\"Height\":24}\n"], size(80, 24)),
            (&["{\"Width\":80,\"Height\":24}\n{\"Width\":132,\"Height\":50}\n"], size(132, 50)),
            (&["{\"Width\":80,\"Height\":24}\n{\"Wid"], size(80, 24)),
            (&["nonsense", r#"{"Width":1,"Height":2}"#], size(1, 2)),
            (&[r#"{"Width":99999,"Height":2}"#], None),
            (&[""], None),
        ];
        for (pieces, expected) in cases {
            let mut sizes = Sizes::default();
            let last = pieces.iter().map(|p| sizes.push(p.as_bytes())).last().flatten();
            assert_eq!(last, expected, "{pieces:?}");
        }
    }

    #[test]
    fn what_waits_is_bounded() {
        let mut sizes = Sizes::default();
        for _ in 0..100 {
            sizes.push(&[b' '; 1000]);
            assert!(sizes.pending.len() <= PENDING_MAX);
        }
        assert_eq!(sizes.push(&[b'{'; 100_000]), None);
    }
}
