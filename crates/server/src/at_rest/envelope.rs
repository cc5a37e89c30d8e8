//! The sealed form of a value:
//!
//! `1` · length of the wrapped seed (2 bytes, little-endian) · wrapped seed · salt (32) · AES-256-GCM ciphertext with tag
//!
//! The key is HKDF-SHA256 of seed and salt and never used again, so its nonce is zero. The place in the store is
//! authenticated with the value: what is sealed for one Secret does not open as another.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use mizzen_store::{SEAL_OVERHEAD_MAX, Seal, SealError};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, Salt};
use ring::rand::{SecureRandom, SystemRandom};

use super::{Keepers, Resources, SEED_BYTES, Seed};

const VERSION: u8 = 1;
const SALT_BYTES: usize = 32;
const CONTEXT: &[&[u8]] = &[b"mizzen value at rest 1"];
/// Version, length, salt, tag.
const FRAME_BYTES: usize = 1 + 2 + SALT_BYTES + 16;
/// Seeds opened and kept; one a start of the server, until everything is written anew.
const OPENED_MAX: usize = 4096;

/// Seals the values of some resources.
#[derive(Debug)]
pub struct Envelope {
    resources: Resources,
    keepers: Keepers,
    current: ArcSwap<Current>,
    opened: Mutex<HashMap<Box<[u8]>, Seed>>,
    random: SystemRandom,
}

/// The seed of new values.
struct Current {
    seed: Seed,
    wrapped: Vec<u8>,
}

impl std::fmt::Debug for Current {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a seed")
    }
}

impl Envelope {
    /// With a fresh seed. Asks the first keeper to wrap it, and waits for that.
    pub fn new(resources: Resources, keepers: Keepers) -> Result<Self, SealError> {
        let random = SystemRandom::new();
        let current = ArcSwap::from_pointee(fresh(&random, &keepers)?);
        Ok(Self { resources, keepers, current, opened: Mutex::default(), random })
    }

    /// Takes a fresh seed, because the keeper has another key. Waits for the keeper.
    pub fn renew(&self) -> Result<(), SealError> {
        self.current.store(Arc::new(fresh(&self.random, &self.keepers)?));
        Ok(())
    }

    fn seed(&self, wrapped: &[u8]) -> Result<Seed, SealError> {
        let current = self.current.load();
        if current.wrapped == wrapped {
            return Ok(current.seed);
        }
        // A panic elsewhere leaves the map whole.
        if let Some(seed) = self.opened.lock().unwrap_or_else(PoisonError::into_inner).get(wrapped) {
            return Ok(*seed);
        }
        let seed = self.keepers.unwrap(wrapped)?;
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        if opened.len() >= OPENED_MAX {
            opened.clear();
        }
        opened.insert(wrapped.into(), seed);
        Ok(seed)
    }
}

fn fresh(random: &SystemRandom, keepers: &Keepers) -> Result<Current, SealError> {
    let mut seed = [0; SEED_BYTES];
    random.fill(&mut seed).map_err(|_| SealError::Random)?;
    let wrapped = keepers.wrap(&seed)?;
    if wrapped.len() + FRAME_BYTES > SEAL_OVERHEAD_MAX {
        let why = format!("a wrapped key of {} bytes is more than can be kept with every value", wrapped.len());
        return Err(SealError::Keeper(why));
    }
    Ok(Current { seed, wrapped })
}

/// The key of one value.
fn key(seed: &Seed, salt: &[u8]) -> Result<LessSafeKey, SealError> {
    let broken = |_| SealError::Broken;
    let derived = Salt::new(HKDF_SHA256, salt).extract(seed);
    let key = derived.expand(CONTEXT, &AES_256_GCM).map_err(broken)?;
    Ok(LessSafeKey::new(UnboundKey::from(key)))
}

fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; 12])
}

impl Seal for Envelope {
    fn seals(&self, key: &str) -> bool {
        self.resources.hold(key)
    }

    fn seal(&self, place: &str, value: &[u8]) -> Result<Vec<u8>, SealError> {
        let current = self.current.load();
        let mut salt = [0; SALT_BYTES];
        self.random.fill(&mut salt).map_err(|_| SealError::Random)?;
        let mut out = Vec::with_capacity(value.len() + current.wrapped.len() + FRAME_BYTES);
        out.push(VERSION);
        // `fresh` holds it below the limit.
        out.extend_from_slice(&(current.wrapped.len() as u16).to_le_bytes());
        out.extend_from_slice(&current.wrapped);
        out.extend_from_slice(&salt);
        let at = out.len();
        out.extend_from_slice(value);
        let sealed = key(&current.seed, &salt)?.seal_in_place_separate_tag(nonce(), Aad::from(place), &mut out[at..]);
        out.extend_from_slice(sealed.map_err(|_| SealError::Broken)?.as_ref());
        Ok(out)
    }

    fn open(&self, place: &str, sealed: &[u8]) -> Result<Vec<u8>, SealError> {
        let rest = sealed.strip_prefix(&[VERSION]).ok_or(SealError::Broken)?;
        let (length, rest) = rest.split_first_chunk::<2>().ok_or(SealError::Broken)?;
        let (wrapped, rest) = rest.split_at_checked(u16::from_le_bytes(*length).into()).ok_or(SealError::Broken)?;
        let (salt, value) = rest.split_first_chunk::<SALT_BYTES>().ok_or(SealError::Broken)?;
        let key = key(&self.seed(wrapped)?, salt)?;
        let mut value = value.to_vec();
        let length = key.open_in_place(nonce(), Aad::from(place), &mut value).map_err(|_| SealError::Broken)?.len();
        value.truncate(length);
        Ok(value)
    }
}
