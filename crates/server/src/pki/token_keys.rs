//! The keys that sign ServiceAccount tokens: ES256 (RFC 7518, 3.4).

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest::{SHA256, digest};
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, UnparsedPublicKey,
};
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::PemObject;
use serde_json::{Value, json};

use super::{PkiError, files};

/// More keys than any rotation needs; each is tried only by its id.
const KEYS_MAX: usize = 8;
/// An uncompressed P-256 point: 4, then x and y of 32 bytes each.
const POINT_BYTES: usize = 65;

/// The keys of tokens. `tokens.pem` holds one or more private keys: the first signs, all of them verify, so a key is
/// replaced by putting a new one before it.
pub struct TokenKeys {
    signing: EcdsaKeyPair,
    random: SystemRandom,
    public: Vec<PublicKey>,
}

struct PublicKey {
    id: String,
    point: [u8; POINT_BYTES],
}

impl TokenKeys {
    /// Loads `tokens.pem` from `dir`, or makes it with a fresh key.
    pub fn open(dir: &Path) -> Result<Self, PkiError> {
        let path = dir.join("tokens.pem");
        let damaged = |problem| PkiError::Damaged { path: path.clone(), problem, dir: dir.into() };
        let text = match files::read(&path)? {
            Some(text) => text,
            None => {
                let key = rcgen::KeyPair::generate().map_err(|source| PkiError::Issue { name: "tokens", source })?;
                let text = key.serialize_pem();
                files::write(&path, &text)?;
                text
            }
        };
        let mut keys = Vec::new();
        for der in PrivatePkcs8KeyDer::pem_slice_iter(text.as_bytes()).take(KEYS_MAX) {
            let der = der.map_err(|_| damaged("it is not readable as PEM"))?;
            let key =
                Self::key(der.secret_pkcs8_der()).ok_or_else(|| damaged("a key in it is not an ECDSA P-256 key"))?;
            keys.push(key);
        }
        let public = keys.iter().filter_map(public).collect();
        let signing = keys.into_iter().next().ok_or_else(|| damaged("it holds no private key"))?;
        Ok(Self { signing, random: SystemRandom::new(), public })
    }

    fn key(pkcs8: &[u8]) -> Option<EcdsaKeyPair> {
        EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8, &SystemRandom::new()).ok()
    }

    /// The id of the key that signs, for the header of tokens.
    pub fn signing_id(&self) -> &str {
        // `open` refuses a file without keys.
        self.public.first().map_or("", |key| &key.id)
    }

    /// Signs; 64 bytes. `None` if the system has no random numbers.
    pub fn sign(&self, message: &[u8]) -> Option<Vec<u8>> {
        self.signing.sign(&self.random, message).ok().map(|signature| signature.as_ref().to_vec())
    }

    /// Whether the key named `id` made this signature.
    pub fn verify(&self, id: &str, message: &[u8], signature: &[u8]) -> bool {
        let key = self.public.iter().find(|key| key.id == id);
        key.is_some_and(|key| {
            UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &key.point).verify(message, signature).is_ok()
        })
    }

    /// The public keys as a JWK set (RFC 7517).
    pub fn jwks(&self) -> Value {
        let keys = self.public.iter().map(|key| {
            let (x, y) = key.point[1..].split_at(32);
            json!({
                "use": "sig", "kty": "EC", "kid": key.id, "crv": "P-256", "alg": "ES256",
                "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y),
            })
        });
        json!({"keys": keys.collect::<Vec<_>>()})
    }
}

fn public(key: &EcdsaKeyPair) -> Option<PublicKey> {
    let point: [u8; POINT_BYTES] = key.public_key().as_ref().try_into().ok()?;
    Some(PublicKey { id: URL_SAFE_NO_PAD.encode(digest(&SHA256, &point)), point })
}
