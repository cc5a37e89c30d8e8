//! Secrets at rest: what the files of the store hold of Secrets, and of whatever else is chosen, is encrypted.
//!
//! Each value has a key of its own, derived from a *seed* and fresh salt, and is bound to its place in the store. The seed
//! is made at start, lives in memory only, and goes with every value in a form that only its keeper can open:
//! [`KeyFile`], keys in a file beside the data, or [`Kms`], a plugin of KMS v2. Values of all keepers that are there can
//! be read, whichever seals new ones.

use std::sync::Arc;

mod envelope;
mod key_file;
mod kms;
mod resources;
#[cfg(test)]
mod tests;

pub use envelope::Envelope;
pub use key_file::KeyFile;
pub use kms::{Kms, KmsOptions};
pub use resources::{BadResource, Resources};

use mizzen_store::SealError;

/// Bytes of a seed.
const SEED_BYTES: usize = 32;

/// What keys are derived from.
type Seed = [u8; SEED_BYTES];

/// Who can open seeds.
trait Keeper: std::fmt::Debug + Send + Sync {
    /// The first byte of what it wraps.
    fn mark(&self) -> u8;
    /// A seed in a form that only this keeper opens.
    fn wrap(&self, seed: &Seed) -> Result<Vec<u8>, SealError>;
    /// The seed again.
    fn unwrap(&self, wrapped: &[u8]) -> Result<Seed, SealError>;
}

/// Everyone who may have wrapped a seed; the first wraps new ones.
#[derive(Debug)]
pub struct Keepers(Vec<Arc<dyn Keeper>>);

impl Keepers {
    /// Keys in a file alone.
    pub fn file(file: KeyFile) -> Self {
        Self(vec![Arc::new(file)])
    }

    /// A plugin wraps; what the file's keys wrapped before can still be opened.
    pub fn kms(kms: Arc<Kms>, file: Option<KeyFile>) -> Self {
        let file = file.map(|file| Arc::new(file) as Arc<dyn Keeper>);
        Self(std::iter::once(kms as Arc<dyn Keeper>).chain(file).collect())
    }

    fn wrap(&self, seed: &Seed) -> Result<Vec<u8>, SealError> {
        let keeper = self.0.first().ok_or(SealError::NoKeys)?;
        let mut wrapped = vec![keeper.mark()];
        wrapped.extend(keeper.wrap(seed)?);
        Ok(wrapped)
    }

    fn unwrap(&self, wrapped: &[u8]) -> Result<Seed, SealError> {
        let (mark, rest) = wrapped.split_first().ok_or(SealError::Broken)?;
        let keeper = self.0.iter().find(|keeper| keeper.mark() == *mark);
        keeper.ok_or_else(|| SealError::UnknownKey(format!("of a keeper of kind {}", *mark as char)))?.unwrap(rest)
    }
}
