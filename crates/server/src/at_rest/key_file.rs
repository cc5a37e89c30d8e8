//! Keys in a file: one a line, `<id> <32 bytes in base64>`, mode 0600. The first wraps, all of them open.

use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use mizzen_store::SealError;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};

use super::{Keeper, SEED_BYTES, Seed};
use crate::pki::{PkiError, files};

const ID_CHARACTERS: usize = 8;
const NONCE_BYTES: usize = 12;
const PURPOSE: &[u8] = b"mizzen seed 1";
/// More than any rotation leaves.
const KEYS_MAX: usize = 64;

/// The keys of a file.
pub struct KeyFile {
    path: PathBuf,
    keys: Vec<Key>,
    random: SystemRandom,
}

struct Key {
    id: String,
    secret: [u8; 32],
}

impl std::fmt::Debug for KeyFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyFile").field("path", &self.path).finish_non_exhaustive()
    }
}

impl KeyFile {
    /// The keys in `path`; a missing file is made, with a fresh key.
    pub fn open(path: &Path) -> Result<Self, PkiError> {
        match Self::read(path)? {
            Some(file) => Ok(file),
            None => {
                if let Some(dir) = path.parent() {
                    files::make_dir(dir)?;
                }
                let mut file = Self { path: path.into(), keys: Vec::new(), random: SystemRandom::new() };
                file.add()?;
                Ok(file)
            }
        }
    }

    /// The keys in `path`, if it is there.
    pub fn read(path: &Path) -> Result<Option<Self>, PkiError> {
        let damaged = |problem| PkiError::Damaged {
            path: path.into(),
            problem,
            dir: path.parent().unwrap_or(Path::new("/")).into(),
        };
        let Some(text) = files::read(path)? else { return Ok(None) };
        let mut keys = Vec::new();
        for line in text.lines().filter(|line| !line.trim().is_empty()).take(KEYS_MAX) {
            let (id, secret) = line.trim().split_once(' ').ok_or_else(|| damaged("a line is not an id and a key"))?;
            let secret = STANDARD.decode(secret.trim()).ok().and_then(|bytes| bytes.try_into().ok());
            let secret = secret.ok_or_else(|| damaged("a key in it is not 32 bytes in base64"))?;
            if id.len() != ID_CHARACTERS {
                return Err(damaged("the id of a key is not eight characters long"));
            }
            keys.push(Key { id: id.into(), secret });
        }
        if keys.is_empty() {
            return Err(damaged("it holds no key"));
        }
        Ok(Some(Self { path: path.into(), keys, random: SystemRandom::new() }))
    }

    /// The id of the key that wraps.
    pub fn current(&self) -> &str {
        self.keys.first().map_or("", |key| &key.id)
    }

    /// Puts a fresh key before the others, in the file first.
    pub fn add(&mut self) -> Result<(), PkiError> {
        let (mut secret, mut id) = ([0; 32], [0; ID_CHARACTERS / 2]);
        self.random.fill(&mut secret).and_then(|()| self.random.fill(&mut id)).map_err(|_| PkiError::Random)?;
        let id = id.iter().map(|byte| format!("{byte:02x}")).collect();
        self.keys.insert(0, Key { id, secret });
        self.write()
    }

    /// Forgets all keys but the first, and says how many. Only once nothing is left that they wrapped.
    pub fn drop_old(&mut self) -> Result<usize, PkiError> {
        let old = self.keys.len().saturating_sub(1);
        self.keys.truncate(1);
        self.write().map(|()| old)
    }

    fn write(&self) -> Result<(), PkiError> {
        let line = |key: &Key| format!("{} {}\n", key.id, STANDARD.encode(key.secret));
        files::write(&self.path, &self.keys.iter().map(line).collect::<String>())
    }
}

fn cipher(key: &Key) -> Result<LessSafeKey, SealError> {
    UnboundKey::new(&AES_256_GCM, &key.secret).map(LessSafeKey::new).map_err(|_| SealError::Broken)
}

/// `id · nonce · ciphertext with tag`. A key wraps one seed a start: random nonces do not meet.
impl Keeper for KeyFile {
    fn mark(&self) -> u8 {
        b'f'
    }

    fn wrap(&self, seed: &Seed) -> Result<Vec<u8>, SealError> {
        let key = self.keys.first().ok_or(SealError::NoKeys)?;
        let mut nonce = [0; NONCE_BYTES];
        self.random.fill(&mut nonce).map_err(|_| SealError::Random)?;
        let mut wrapped = seed.to_vec();
        let nonce_once = Nonce::assume_unique_for_key(nonce);
        let sealed = cipher(key)?.seal_in_place_append_tag(nonce_once, Aad::from(PURPOSE), &mut wrapped);
        sealed.map_err(|_| SealError::Broken)?;
        Ok([key.id.as_bytes(), &nonce, &wrapped].concat())
    }

    fn unwrap(&self, wrapped: &[u8]) -> Result<Seed, SealError> {
        let (id, rest) = wrapped.split_at_checked(ID_CHARACTERS).ok_or(SealError::Broken)?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_BYTES>().ok_or(SealError::Broken)?;
        let key = self.keys.iter().find(|key| key.id.as_bytes() == id);
        let key = key.ok_or_else(|| SealError::UnknownKey(String::from_utf8_lossy(id).into_owned()))?;
        let mut seed = sealed.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let opened = cipher(key)?.open_in_place(nonce, Aad::from(PURPOSE), &mut seed).map_err(|_| SealError::Broken)?;
        <[u8; SEED_BYTES]>::try_from(&*opened).map_err(|_| SealError::Broken)
    }
}
