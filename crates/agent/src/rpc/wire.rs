//! Protobuf on the wire: numbers, strings and messages by field number. Pure.

/// Bytes that are no protobuf.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("a message is not protobuf")]
pub struct WireError;

/// A field's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value<'a> {
    /// A number.
    Number(u64),
    /// A string or a message.
    Bytes(&'a [u8]),
}

impl<'a> Value<'a> {
    /// As a string; empty if it is none.
    pub fn text(self) -> String {
        String::from_utf8_lossy(self.bytes()).into_owned()
    }

    /// As bytes; empty if it is a number.
    pub fn bytes(self) -> &'a [u8] {
        if let Value::Bytes(bytes) = self { bytes } else { &[] }
    }

    /// As a flag.
    pub fn flag(self) -> bool {
        matches!(self, Value::Number(n) if n != 0)
    }
}

/// The fields of a message, in order.
///
/// # Errors
/// It is cut off, or has field types that nobody sends.
pub fn fields(mut rest: &[u8]) -> Result<Vec<(u64, Value<'_>)>, WireError> {
    let mut fields = Vec::new();
    while !rest.is_empty() {
        let tag = number(&mut rest)?;
        let value = match tag & 7 {
            0 => Value::Number(number(&mut rest)?),
            1 => Value::Bytes(take(&mut rest, 8)?),
            2 => {
                let length = number(&mut rest)?;
                Value::Bytes(take(&mut rest, length)?)
            }
            5 => Value::Bytes(take(&mut rest, 4)?),
            _ => return Err(WireError),
        };
        fields.push((tag >> 3, value));
    }
    Ok(fields)
}

fn number(rest: &mut &[u8]) -> Result<u64, WireError> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (byte, tail) = rest.split_first().ok_or(WireError)?;
        *rest = tail;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(WireError)
}

fn take<'a>(rest: &mut &'a [u8], length: u64) -> Result<&'a [u8], WireError> {
    let length = usize::try_from(length).map_err(|_| WireError)?;
    let (taken, tail) = rest.split_at_checked(length).ok_or(WireError)?;
    *rest = tail;
    Ok(taken)
}

/// A message being written.
#[derive(Debug, Default, Clone)]
pub struct Message(pub Vec<u8>);

impl Message {
    /// Adds a number; 0 is what is left out.
    #[must_use]
    pub fn number(mut self, field: u64, value: u64) -> Self {
        if value != 0 {
            self.put(field << 3);
            self.put(value);
        }
        self
    }

    /// Adds a string.
    #[must_use]
    pub fn text(self, field: u64, value: &str) -> Self {
        self.bytes(field, value.as_bytes())
    }

    /// Adds several strings.
    #[must_use]
    pub fn texts<'a>(self, field: u64, values: impl IntoIterator<Item = &'a String>) -> Self {
        values.into_iter().fold(self, |message, value| message.text(field, value))
    }

    /// Adds a message.
    #[must_use]
    pub fn message(self, field: u64, value: &Message) -> Self {
        self.bytes(field, &value.0)
    }

    fn bytes(mut self, field: u64, value: &[u8]) -> Self {
        self.put(field << 3 | 2);
        self.put(value.len() as u64);
        self.0.extend_from_slice(value);
        self
    }

    fn put(&mut self, mut value: u64) {
        while value >= 0x80 {
            // Truncation is meant: seven bits at a time.
            self.0.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let inner = Message::default().text(1, "a");
        let message = Message::default().number(1, 300).text(2, "").message(16, &inner).number(4, 0);
        assert_eq!(
            fields(&message.0),
            Ok(vec![(1, Value::Number(300)), (2, Value::Bytes(b"")), (16, Value::Bytes(&[0x0a, 1, b'a']))])
        );
        for bad in [&[0x0a, 5, 1][..], &[0x80], &[0x0b], &[0xff; 11]] {
            assert_eq!(fields(bad), Err(WireError), "{bad:?}");
        }
    }
}
