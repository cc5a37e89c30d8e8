//! The binary form of what is written to disk: little-endian numbers, byte strings with their length before them.
//!
//! Everything read here has passed a checksum, so an error means a bug or another version, never a torn write; it is
//! still an error and not a panic.

use bytes::Bytes;

use crate::seal::{MaybeSeal, SealError, from_files, to_files};
use crate::{Expect, Operation, Revision, Txn, Value};

/// Bytes that do not decode.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DecodeError {
    #[error("ends in the middle of a value")]
    Short,
    #[error("text is not UTF-8")]
    Utf8,
    #[error("unknown tag {0}")]
    Tag(u8),
    #[error("an unreadable membership")]
    Membership,
    #[error("entry {found} does not follow entry {before}")]
    Gap { before: u64, found: u64 },
    #[error("the value of {key}: {error}")]
    Sealed { key: String, error: SealError },
}

pub(crate) fn put_u32(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_le_bytes());
}

pub(crate) fn put_u64(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(&value.to_le_bytes());
}

/// Lengths are below 4 GiB: every caller has been held to [`crate::Options::txn_bytes`].
pub(crate) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_u32(out, bytes.len() as u32);
    out.extend_from_slice(bytes);
}

/// Reads what the functions above wrote.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(rest: &'a [u8]) -> Self {
        Self { rest }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(crate) fn take(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(DecodeError::Short)?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or(DecodeError::Short)?;
        self.rest = rest;
        Ok(*taken)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, DecodeError> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, DecodeError> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, DecodeError> {
        self.array().map(u64::from_le_bytes)
    }

    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], DecodeError> {
        let len = self.u32()?;
        self.take(len as usize)
    }

    pub(crate) fn text(&mut self) -> Result<&'a str, DecodeError> {
        std::str::from_utf8(self.bytes()?).map_err(|_| DecodeError::Utf8)
    }
}

/// An upper bound of what [`put_txn`] writes.
pub(crate) fn txn_len(txn: &Txn) -> usize {
    let operation = |operation: &Operation| match operation {
        Operation::Put { key, value } => 18 + key.len() + value.bytes.len(),
        Operation::Delete { key } => 5 + key.len(),
    };
    let expects: usize = txn.expect.iter().map(|(key, _)| 13 + key.len()).sum();
    8 + expects + txn.operations.iter().map(operation).sum::<usize>()
}

/// What a put is: its value plain or sealed, with or without a place for the revision.
const DELETE: u8 = 0;
const PUT: u8 = 1;
const PUT_REVISED: u8 = 2;
const PUT_SEALED: u8 = 3;
const PUT_SEALED_REVISED: u8 = 4;

pub(crate) fn put_txn(out: &mut Vec<u8>, txn: &Txn, seal: &MaybeSeal) -> Result<(), SealError> {
    put_u32(out, txn.expect.len() as u32);
    for (key, expect) in &txn.expect {
        put_bytes(out, key.as_bytes());
        match expect {
            Expect::Absent => out.push(0),
            Expect::Present => out.push(1),
            Expect::At(revision) => {
                out.push(2);
                put_u64(out, revision.0);
            }
        }
    }
    put_u32(out, txn.operations.len() as u32);
    for operation in &txn.operations {
        match operation {
            Operation::Delete { key } => {
                out.push(DELETE);
                put_bytes(out, key.as_bytes());
            }
            Operation::Put { key, value } => {
                let (bytes, sealed) = to_files(seal, key, &value.bytes)?;
                out.push(match (sealed, value.revision_at.is_some()) {
                    (false, false) => PUT,
                    (false, true) => PUT_REVISED,
                    (true, false) => PUT_SEALED,
                    (true, true) => PUT_SEALED_REVISED,
                });
                put_bytes(out, key.as_bytes());
                put_u32(out, value.revision_at.unwrap_or(0));
                put_bytes(out, &bytes);
            }
        }
    }
    Ok(())
}

/// Whether sealed values are opened while they are read.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Sealed<'a> {
    /// With these keys.
    Open(&'a MaybeSeal),
    /// They are not wanted, and their keys may be gone.
    Leave,
}

pub(crate) fn read_txn(reader: &mut Reader<'_>, sealed: Sealed<'_>) -> Result<Txn, DecodeError> {
    let mut txn = Txn::default();
    for _ in 0..reader.u32()? {
        let key = reader.text()?.to_owned();
        let expect = match reader.u8()? {
            0 => Expect::Absent,
            1 => Expect::Present,
            2 => Expect::At(Revision(reader.u64()?)),
            tag => return Err(DecodeError::Tag(tag)),
        };
        txn.expect.push((key, expect));
    }
    for _ in 0..reader.u32()? {
        let tag = reader.u8()?;
        let key = reader.text()?.to_owned();
        txn.operations.push(match tag {
            DELETE => Operation::Delete { key },
            PUT..=PUT_SEALED_REVISED => {
                let at = reader.u32()?;
                let bytes = reader.bytes()?;
                let bytes = match sealed {
                    Sealed::Open(seal) if tag >= PUT_SEALED => from_files(seal, &key, bytes)?,
                    _ => Bytes::copy_from_slice(bytes),
                };
                let revised = matches!(tag, PUT_REVISED | PUT_SEALED_REVISED);
                Operation::Put { key, value: Value { bytes, revision_at: revised.then_some(at) } }
            }
            tag => return Err(DecodeError::Tag(tag)),
        });
    }
    Ok(txn)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_txn() -> impl Strategy<Value = Txn> {
        let expect = prop_oneof![
            Just(Expect::Absent),
            Just(Expect::Present),
            any::<u64>().prop_map(|revision| Expect::At(Revision(revision))),
        ];
        let value = (proptest::collection::vec(any::<u8>(), 0..200), proptest::option::of(any::<u32>()))
            .prop_map(|(bytes, revision_at)| Value { bytes: bytes.into(), revision_at });
        let operation = prop_oneof![
            ".{0,20}".prop_map(|key| Operation::Delete { key }),
            (".{0,20}", value).prop_map(|(key, value)| Operation::Put { key, value }),
        ];
        let expects = proptest::collection::vec((".{0,20}", expect), 0..4);
        (expects, proptest::collection::vec(operation, 0..4))
            .prop_map(|(expect, operations)| Txn { expect, operations })
    }

    proptest! {
        #[test]
        fn a_transaction_reads_back_as_written(txn in any_txn()) {
            let mut out = Vec::new();
            put_txn(&mut out, &txn, &None).expect("nothing is sealed");
            prop_assert!(out.len() <= txn_len(&txn));
            let mut reader = Reader::new(&out);
            let read = read_txn(&mut reader, Sealed::Open(&None)).expect("decodes");
            prop_assert!(reader.is_empty());
            prop_assert_eq!(format!("{txn:?}"), format!("{read:?}"));
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = read_txn(&mut Reader::new(&bytes), Sealed::Open(&None));
        }
    }
}
