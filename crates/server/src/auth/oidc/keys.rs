//! JSON Web Tokens signed by others, and the keys to check them by (RFC 7515, 7517, 7518).

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{self, RsaPublicKeyComponents, UnparsedPublicKey};
use serde_json::Value;

/// More keys than any issuer has at a time.
const KEYS_MAX: usize = 64;

/// A token, taken apart and not yet believed.
pub struct Token<'a> {
    algorithm: String,
    key: String,
    signed: &'a str,
    signature: Vec<u8>,
    /// What it says.
    pub claims: Value,
}

impl<'a> Token<'a> {
    /// `None` if it is none.
    pub fn parse(token: &'a str) -> Option<Self> {
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).ok();
        let header: Value = serde_json::from_slice(&decode(header)?).ok()?;
        if header.get("crit").is_some() {
            return None;
        }
        Some(Self {
            algorithm: header["alg"].as_str()?.to_string(),
            key: header["kid"].as_str().unwrap_or_default().to_string(),
            signed,
            signature: decode(signature)?,
            claims: serde_json::from_slice(&decode(claims)?).ok().filter(Value::is_object)?,
        })
    }
}

/// The keys of an issuer.
#[derive(Debug, Default)]
pub struct KeySet(Vec<Key>);

#[derive(Debug)]
struct Key {
    id: String,
    algorithm: Option<String>,
    public: Public,
}

#[derive(Debug)]
enum Public {
    Rsa { n: Vec<u8>, e: Vec<u8> },
    P256(Vec<u8>),
    P384(Vec<u8>),
}

impl KeySet {
    /// Reads a JWK set; keys of unknown kinds, or not for signatures, are left out.
    pub fn parse(document: &Value) -> Self {
        let keys = document["keys"].as_array().map(Vec::as_slice).unwrap_or_default();
        Self(keys.iter().filter_map(Key::parse).take(KEYS_MAX).collect())
    }

    /// Whether one of them signed a token. One that names its key is tried with that key alone.
    pub fn verify(&self, token: &Token<'_>) -> bool {
        let named = |key: &&Key| token.key.is_empty() || key.id == token.key;
        self.0.iter().filter(named).any(|key| key.verify(token))
    }
}

impl Key {
    fn parse(jwk: &Value) -> Option<Self> {
        let bytes = |field: &str| jwk[field].as_str().and_then(|text| URL_SAFE_NO_PAD.decode(text).ok());
        if jwk["use"].as_str().is_some_and(|purpose| purpose != "sig") {
            return None;
        }
        // An uncompressed point: 4, x, y.
        let point = |bytes_each: usize| {
            let (x, y) = (bytes("x")?, bytes("y")?);
            (x.len() == bytes_each && y.len() == bytes_each).then(|| [&[4][..], &x, &y].concat())
        };
        let public = match (jwk["kty"].as_str()?, jwk["crv"].as_str().unwrap_or_default()) {
            ("RSA", _) => Public::Rsa { n: bytes("n")?, e: bytes("e")? },
            ("EC", "P-256") => Public::P256(point(32)?),
            ("EC", "P-384") => Public::P384(point(48)?),
            _ => return None,
        };
        let text = |field: &str| jwk[field].as_str().map(String::from);
        Some(Self { id: text("kid").unwrap_or_default(), algorithm: text("alg"), public })
    }

    fn verify(&self, token: &Token<'_>) -> bool {
        if self.algorithm.as_ref().is_some_and(|algorithm| *algorithm != token.algorithm) {
            return false;
        }
        let (message, mark) = (token.signed.as_bytes(), &token.signature);
        let rsa = |parameters: &signature::RsaParameters| match &self.public {
            Public::Rsa { n, e } => RsaPublicKeyComponents { n, e }.verify(parameters, message, mark).is_ok(),
            _ => false,
        };
        match (token.algorithm.as_str(), &self.public) {
            ("RS256", _) => rsa(&signature::RSA_PKCS1_2048_8192_SHA256),
            ("RS384", _) => rsa(&signature::RSA_PKCS1_2048_8192_SHA384),
            ("RS512", _) => rsa(&signature::RSA_PKCS1_2048_8192_SHA512),
            ("PS256", _) => rsa(&signature::RSA_PSS_2048_8192_SHA256),
            ("PS384", _) => rsa(&signature::RSA_PSS_2048_8192_SHA384),
            ("PS512", _) => rsa(&signature::RSA_PSS_2048_8192_SHA512),
            ("ES256", Public::P256(point)) => {
                UnparsedPublicKey::new(&signature::ECDSA_P256_SHA256_FIXED, point).verify(message, mark).is_ok()
            }
            ("ES384", Public::P384(point)) => {
                UnparsedPublicKey::new(&signature::ECDSA_P384_SHA384_FIXED, point).verify(message, mark).is_ok()
            }
            // Whatever else there is, `none` before all, is no signature.
            _ => false,
        }
    }
}
