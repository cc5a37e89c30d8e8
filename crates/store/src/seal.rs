//! Sealing: what some keys hold is encrypted on its way to the files and opened on its way back.
//!
//! In memory every value is plain, so reading costs nothing more. What sealing is, the store does not know: it hands keys
//! and values to a [`Seal`], and writes what comes back, marked as sealed.

use std::sync::Arc;

use bytes::Bytes;

use crate::codec::DecodeError;

/// No sealed value is larger than its plain one by more than this.
pub const SEAL_OVERHEAD_MAX: usize = 4096;

/// Seals and opens values. It is asked for every write of the keys it wants, on the thread of the log: it must be quick and
/// wait for nobody.
pub trait Seal: std::fmt::Debug + Send + Sync + 'static {
    /// Values of this key are to be sealed.
    fn seals(&self, key: &str) -> bool;

    /// Seals a value; at most [`SEAL_OVERHEAD_MAX`] bytes are added.
    fn seal(&self, key: &str, value: &[u8]) -> Result<Vec<u8>, SealError>;

    /// Opens what [`Seal::seal`] made for the same key, with whatever key of its own it was made.
    fn open(&self, key: &str, sealed: &[u8]) -> Result<Vec<u8>, SealError>;
}

/// Why a value cannot be sealed or opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// It was sealed with a key that is not there.
    #[error("sealed with the key {0}, which is not there")]
    UnknownKey(String),
    /// It was changed, or sealed for another key.
    #[error("its seal is broken")]
    Broken,
    /// The system gave no random numbers.
    #[error("there are no random numbers")]
    Random,
    /// The keeper of the keys does not answer.
    #[error("the keeper of the keys: {0}")]
    Keeper(String),
    /// There is nobody to open it.
    #[error("it is sealed, and no keys were given")]
    NoKeys,
}

/// The seal of a store, or none.
pub(crate) type MaybeSeal = Option<Arc<dyn Seal>>;

/// A value as the files hold it, and whether it is sealed.
pub(crate) fn to_files(seal: &MaybeSeal, key: &str, value: &Bytes) -> Result<(Bytes, bool), SealError> {
    match seal {
        Some(seal) if seal.seals(key) => Ok((seal.seal(key, value)?.into(), true)),
        _ => Ok((value.clone(), false)),
    }
}

/// A sealed value as memory holds it.
pub(crate) fn from_files(seal: &MaybeSeal, key: &str, sealed: &[u8]) -> Result<Bytes, DecodeError> {
    let opened = seal.as_ref().map_or(Err(SealError::NoKeys), |seal| seal.open(key, sealed));
    opened.map(Bytes::from).map_err(|error| DecodeError::Sealed { key: key.into(), error })
}
