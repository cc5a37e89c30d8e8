//! Netlink messages: a writer for what is sent, readers for what comes back.

use super::Error;

/// `struct nlmsghdr`.
pub const HEADER_LEN: usize = 16;
const ATTRIBUTE_HEADER_LEN: usize = 4;
const NESTED: u16 = libc::NLA_F_NESTED as u16;
const TYPE_MASK: u16 = libc::NLA_TYPE_MASK as u16;

/// Several messages in one buffer, sent in one go.
#[derive(Debug, Default)]
pub struct Batch {
    buffer: Vec<u8>,
    /// What each message asks for, by position, for error texts.
    operations: Vec<String>,
    too_long: Option<String>,
}

impl Batch {
    /// An empty batch.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a message: `body` writes the family header and the attributes. Its sequence number is its position.
    pub fn message(&mut self, kind: u16, flags: i32, operation: impl Into<String>, body: impl FnOnce(&mut Writer<'_>)) {
        let start = self.buffer.len();
        let sequence = self.operations.len() as u32;
        self.buffer.extend_from_slice(&[0; 4]);
        self.buffer.extend_from_slice(&kind.to_ne_bytes());
        self.buffer.extend_from_slice(&((libc::NLM_F_REQUEST | flags) as u16).to_ne_bytes());
        self.buffer.extend_from_slice(&sequence.to_ne_bytes());
        self.buffer.extend_from_slice(&0u32.to_ne_bytes());
        let operation = operation.into();
        let mut writer = Writer { buffer: &mut self.buffer, too_long: false };
        body(&mut writer);
        if writer.too_long {
            self.too_long.get_or_insert_with(|| operation.clone());
        }
        let length = (self.buffer.len() - start) as u32;
        self.buffer[start..start + 4].copy_from_slice(&length.to_ne_bytes());
        self.operations.push(operation);
    }

    /// How many messages it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.operations.len()
    }

    /// Whether there is nothing to send.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.operations.is_empty()
    }

    /// The bytes to send.
    ///
    /// # Errors
    /// An attribute did not fit into its 16-bit length.
    pub fn bytes(&self) -> Result<&[u8], Error> {
        match &self.too_long {
            Some(what) => Err(Error::TooLong { what: what.clone() }),
            None => Ok(&self.buffer),
        }
    }

    /// What the message with this sequence number asked for.
    #[must_use]
    pub fn operation(&self, sequence: u32) -> &str {
        self.operations.get(sequence as usize).map_or("carry out a request", String::as_str)
    }
}

/// Writes the body of one message.
#[derive(Debug)]
pub struct Writer<'a> {
    buffer: &'a mut Vec<u8>,
    too_long: bool,
}

impl Writer<'_> {
    /// Bytes as they are (family headers, whose sizes are multiples of four).
    pub fn raw(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
        self.pad();
    }

    /// An attribute.
    pub fn bytes(&mut self, kind: u16, value: &[u8]) {
        self.attribute(kind, |w| w.buffer.extend_from_slice(value));
    }

    /// An attribute that holds a text ending with a zero byte.
    pub fn text(&mut self, kind: u16, value: &str) {
        self.attribute(kind, |w| {
            w.buffer.extend_from_slice(value.as_bytes());
            w.buffer.push(0);
        });
    }

    /// An attribute of one byte.
    pub fn u8(&mut self, kind: u16, value: u8) {
        self.bytes(kind, &[value]);
    }

    /// A number in the machine's byte order (rtnetlink).
    pub fn u32(&mut self, kind: u16, value: u32) {
        self.bytes(kind, &value.to_ne_bytes());
    }

    /// A number in network byte order (nfnetlink).
    pub fn be32(&mut self, kind: u16, value: u32) {
        self.bytes(kind, &value.to_be_bytes());
    }

    /// An attribute that holds attributes.
    pub fn nested(&mut self, kind: u16, body: impl FnOnce(&mut Self)) {
        self.attribute(kind | NESTED, body);
    }

    fn attribute(&mut self, kind: u16, body: impl FnOnce(&mut Self)) {
        let start = self.buffer.len();
        self.buffer.extend_from_slice(&[0; 2]);
        self.buffer.extend_from_slice(&kind.to_ne_bytes());
        body(self);
        match u16::try_from(self.buffer.len() - start) {
            Ok(length) => self.buffer[start..start + 2].copy_from_slice(&length.to_ne_bytes()),
            Err(_) => self.too_long = true,
        }
        self.pad();
    }

    fn pad(&mut self) {
        let padded = self.buffer.len().next_multiple_of(4);
        self.buffer.resize(padded, 0);
    }
}

/// A received message.
#[derive(Debug, Clone, Copy)]
pub struct Received<'a> {
    /// `nlmsg_type`.
    pub kind: u16,
    /// `nlmsg_flags`.
    pub flags: u16,
    /// `nlmsg_seq`.
    pub sequence: u32,
    /// What follows the header.
    pub payload: &'a [u8],
}

/// The messages in a received buffer; stops at the first that is cut short.
pub fn messages(mut buffer: &[u8]) -> impl Iterator<Item = Received<'_>> {
    std::iter::from_fn(move || {
        let length = u32_at(buffer, 0)? as usize;
        if length < HEADER_LEN || length > buffer.len() {
            return None;
        }
        let message = Received {
            kind: u16_at(buffer, 4)?,
            flags: u16_at(buffer, 6)?,
            sequence: u32_at(buffer, 8)?,
            payload: &buffer[HEADER_LEN..length],
        };
        buffer = buffer.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(message)
    })
}

/// The attributes in a piece of a message: (type without flags, value).
pub fn attributes(mut buffer: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16_at(buffer, 0)?);
        let kind = u16_at(buffer, 2)? & TYPE_MASK;
        if length < ATTRIBUTE_HEADER_LEN || length > buffer.len() {
            return None;
        }
        let value = &buffer[ATTRIBUTE_HEADER_LEN..length];
        buffer = buffer.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// The first attribute of this type.
#[must_use]
pub fn attribute(buffer: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(buffer).find(|(k, _)| *k == kind).map(|(_, value)| value)
}

/// A number in the machine's byte order.
#[must_use]
pub fn u16_at(buffer: &[u8], at: usize) -> Option<u16> {
    buffer.get(at..at + 2)?.try_into().ok().map(u16::from_ne_bytes)
}

/// A number in the machine's byte order.
#[must_use]
pub fn u32_at(buffer: &[u8], at: usize) -> Option<u32> {
    buffer.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes)
}

/// A text up to its zero byte.
#[must_use]
pub fn text(value: &[u8]) -> String {
    let end = value.iter().position(|b| *b == 0).unwrap_or(value.len());
    String::from_utf8_lossy(&value[..end]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back() {
        let mut batch = Batch::new();
        batch.message(7, libc::NLM_F_ACK, "first", |m| {
            m.raw(&[1, 2, 3, 4]);
            m.text(1, "eth0");
            m.nested(2, |m| m.be32(3, 9));
        });
        batch.message(8, 0, "second", |m| m.u8(4, 5));
        let bytes = batch.bytes().unwrap().to_vec();
        let read: Vec<_> = messages(&bytes).collect();
        assert_eq!(read.iter().map(|m| (m.kind, m.sequence)).collect::<Vec<_>>(), [(7, 0), (8, 1)]);
        let body = &read[0].payload[4..];
        assert_eq!(text(attribute(body, 1).unwrap()), "eth0");
        assert_eq!(attribute(attribute(body, 2).unwrap(), 3), Some(&[0, 0, 0, 9][..]));
        assert_eq!(attribute(read[1].payload, 4), Some(&[5][..]));
        assert_eq!(batch.operation(1), "second");
    }

    #[test]
    fn an_attribute_that_does_not_fit_is_an_error() {
        let mut batch = Batch::new();
        batch.message(7, 0, "add a huge list", |m| m.bytes(1, &vec![0; 70_000]));
        assert!(matches!(batch.bytes(), Err(Error::TooLong { what }) if what == "add a huge list"));
    }

    proptest::proptest! {
        #[test]
        fn reading_never_panics(bytes: Vec<u8>) {
            for message in messages(&bytes) {
                for (_, value) in attributes(message.payload) {
                    let _ = attributes(value).count();
                }
            }
        }
    }
}
