//! The wire format: tags, varints, lengths.

/// Bytes that are no object.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProtobufError {
    /// Not in Kubernetes' envelope.
    #[error("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]")]
    NoMagic,
    /// The bytes end within a field.
    #[error("unexpected EOF")]
    Truncated,
    /// A field has another form than its type.
    #[error("proto: wrong wireType = {wire_type}")]
    WireType {
        /// The form.
        wire_type: u8,
    },
    /// Text that is not UTF-8.
    #[error("proto: string field contains invalid UTF-8")]
    Utf8,
    /// Messages within messages without end.
    #[error("exceeded max depth")]
    TooDeep,
    /// Raw JSON that is none.
    #[error("raw JSON in a protobuf message cannot be read")]
    Json,
    /// A time beyond all calendars.
    #[error("a time is out of range")]
    Time,
    /// The content is compressed or otherwise encoded.
    #[error("the object has an unsupported content encoding")]
    Encoded,
    /// No such kind.
    #[error("no kind {kind:?} is registered for version {api_version:?}")]
    UnknownKind {
        /// Its version.
        api_version: String,
        /// Its name.
        kind: String,
    },
}

/// The content of a field.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Content<'a> {
    Varint(u64),
    Fixed64(u64),
    Fixed32,
    Bytes(&'a [u8]),
}

impl<'a> Content<'a> {
    fn wire_type(self) -> u8 {
        match self {
            Content::Varint(_) => 0,
            Content::Fixed64(_) => 1,
            Content::Bytes(_) => 2,
            Content::Fixed32 => 5,
        }
    }

    fn wrong(self) -> ProtobufError {
        ProtobufError::WireType { wire_type: self.wire_type() }
    }

    pub fn bytes(self) -> Result<&'a [u8], ProtobufError> {
        if let Content::Bytes(bytes) = self { Ok(bytes) } else { Err(self.wrong()) }
    }

    pub fn text(self) -> Result<&'a str, ProtobufError> {
        std::str::from_utf8(self.bytes()?).map_err(|_| ProtobufError::Utf8)
    }

    pub fn varint(self) -> Result<u64, ProtobufError> {
        if let Content::Varint(value) = self { Ok(value) } else { Err(self.wrong()) }
    }

    pub fn double(self) -> Result<f64, ProtobufError> {
        if let Content::Fixed64(bits) = self { Ok(f64::from_bits(bits)) } else { Err(self.wrong()) }
    }
}

/// Reads the fields of a message.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], ProtobufError> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(ProtobufError::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    pub fn varint(&mut self) -> Result<u64, ProtobufError> {
        let mut value = 0u64;
        for shift in (0..70).step_by(7) {
            let byte = self.take(1)?[0];
            if shift < 64 {
                value |= u64::from(byte & 0x7f) << shift;
            }
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(ProtobufError::Truncated)
    }

    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next field and its number.
    pub fn next(&mut self) -> Result<Option<(u32, Content<'a>)>, ProtobufError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let content = match tag & 7 {
            0 => Content::Varint(self.varint()?),
            1 => {
                let mut bits = [0; 8];
                bits.copy_from_slice(self.take(8)?);
                Content::Fixed64(u64::from_le_bytes(bits))
            }
            2 => {
                let length = usize::try_from(self.varint()?).map_err(|_| ProtobufError::Truncated)?;
                Content::Bytes(self.take(length)?)
            }
            5 => {
                self.take(4)?;
                Content::Fixed32
            }
            // Groups are not in use anywhere in Kubernetes.
            other => return Err(ProtobufError::WireType { wire_type: u8::try_from(other).unwrap_or(u8::MAX) }),
        };
        Ok(Some((u32::try_from(tag >> 3).map_err(|_| ProtobufError::Truncated)?, content)))
    }
}

pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        // The mask leaves seven bits.
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn put_tag(out: &mut Vec<u8>, number: u32, wire_type: u64) {
    put_varint(out, u64::from(number) << 3 | wire_type);
}

pub(crate) fn put_number(out: &mut Vec<u8>, number: u32, value: i64) {
    put_tag(out, number, 0);
    // Negative numbers take ten bytes, as in Go.
    put_varint(out, value.cast_unsigned());
}

pub(crate) fn put_double(out: &mut Vec<u8>, number: u32, value: f64) {
    put_tag(out, number, 1);
    out.extend_from_slice(&value.to_bits().to_le_bytes());
}

pub(crate) fn put_bytes(out: &mut Vec<u8>, number: u32, bytes: &[u8]) {
    put_tag(out, number, 2);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}
