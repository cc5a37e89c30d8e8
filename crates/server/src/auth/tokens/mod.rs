//! ServiceAccount tokens: signing, verification, the `token` sub-resource.

use std::sync::Arc;

use jiff::Timestamp;
use mizzen_api::status::ApiError;
use mizzen_store::Snapshot;
use serde_json::Value;

use super::Identity;
use crate::pki::TokenKeys;

/// Issues and verifies ServiceAccount tokens.
pub struct TokenIssuer {
    keys: Arc<TokenKeys>,
    issuer: String,
    audiences: Vec<String>,
}

impl TokenIssuer {
    /// `issuer` is the `iss` claim (`https://kubernetes.default.svc.cluster.local`), `audiences` those of the API server.
    pub fn new(keys: Arc<TokenKeys>, issuer: String, audiences: Vec<String>) -> Self {
        Self {
            keys,
            issuer,
            audiences,
        }
    }

    /// POST to `serviceaccounts/<name>/token`: the TokenRequest with its status filled. `jti` is a fresh UUID.
    pub fn create(
        &self,
        snapshot: &Snapshot,
        namespace: &str,
        name: &str,
        request: &Value,
        now: Timestamp,
        jti: &str,
    ) -> Result<Value, ApiError> {
        let _ = (
            snapshot,
            namespace,
            name,
            request,
            now,
            jti,
            &self.keys,
            &self.issuer,
            &self.audiences,
        );
        Err(ApiError::unavailable("tokens"))
    }

    /// Who a token speaks for, and for which of the wanted audiences (the API server's own if none are given).
    pub fn verify(
        &self,
        snapshot: &Snapshot,
        token: &str,
        audiences: &[String],
        now: Timestamp,
    ) -> Option<(Identity, Vec<String>)> {
        let _ = (snapshot, token, audiences, now);
        None
    }

    /// `GET /.well-known/openid-configuration`.
    pub fn openid_configuration(&self, jwks_uri: &str) -> Value {
        let _ = jwks_uri;
        Value::Null
    }

    /// `GET /openid/v1/jwks` (`application/jwk-set+json`).
    pub fn jwks(&self) -> Value {
        Value::Null
    }
}
