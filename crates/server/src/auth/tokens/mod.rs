//! ServiceAccount tokens: signing, verification, the `token` sub-resource (api-facts §6.2).

use std::sync::Arc;

use jiff::Timestamp;
use mizzen_api::status::ApiError;
use mizzen_store::Snapshot;
use serde_json::{Value, json};

mod claims;
mod legacy;
mod request;
#[cfg(test)]
mod tests;

pub use claims::Claims;

use super::{Identity, jwt};
use crate::pki::TokenKeys;

/// Issues and verifies ServiceAccount tokens.
pub struct TokenIssuer {
    keys: Arc<TokenKeys>,
    issuer: String,
    audiences: Vec<String>,
}

impl TokenIssuer {
    /// `issuer` is the `iss` claim (`https://kubernetes.default.svc.cluster.local`), `audiences` those of the API server;
    /// none means the issuer itself.
    pub fn new(keys: Arc<TokenKeys>, issuer: String, audiences: Vec<String>) -> Self {
        let audiences = if audiences.is_empty() { vec![issuer.clone()] } else { audiences };
        Self { keys, issuer, audiences }
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
        let draft = request::Draft::new(snapshot, namespace, name, request, &self.audiences)?;
        let claims = draft.claims(&self.issuer, now, jti);
        let token = jwt::sign(&self.keys, &claims).ok_or_else(|| ApiError::internal("failed to sign the token"))?;
        Ok(draft.answer(request, now, token))
    }

    /// Who a token speaks for, and for which of the wanted audiences (the API server's own if none are given).
    pub fn verify(
        &self,
        snapshot: &Snapshot,
        token: &str,
        audiences: &[String],
        now: Timestamp,
    ) -> Option<(Identity, Vec<String>)> {
        if let Some(identity) = self.legacy(snapshot, token).filter(|_| self.is_asked(audiences)) {
            return Some((identity, self.shared(audiences)));
        }
        let claims = self.claims(token, audiences, now).filter(|claims| claims.bound_objects_exist(snapshot, now))?;
        let wanted = self.wanted(audiences);
        let shared = wanted.iter().filter(|audience| claims.aud.contains(audience)).cloned().collect();
        Some((claims.identity(), shared))
    }

    /// The claims of a token that is signed by us, valid now and meant for one of `audiences` (the API server's own if
    /// none are given). Whether its ServiceAccount still exists is another question.
    pub(super) fn claims(&self, token: &str, audiences: &[String], now: Timestamp) -> Option<Claims> {
        let claims: Claims = jwt::verify(&self.keys, token)?;
        let for_us = self.wanted(audiences).iter().any(|audience| claims.aud.contains(audience));
        (claims.iss == self.issuer && for_us && claims.is_consistent() && claims.valid_at(now)).then_some(claims)
    }

    /// The token of a Secret, as [`TokenIssuer::legacy`] takes it; it has no end.
    pub fn for_secret(&self, namespace: &str, secret: &str, account: &str, uid: &str) -> Option<String> {
        jwt::sign(&self.keys, &legacy::Claims::new(namespace, secret, account, uid))
    }

    /// Who the token of a Secret speaks for. It is meant for the API server.
    pub(super) fn legacy(&self, snapshot: &Snapshot, token: &str) -> Option<Identity> {
        jwt::verify::<legacy::Claims>(&self.keys, token)?.identity(snapshot, token)
    }

    /// The API server's own audience is among those asked for; none asked for means it.
    pub(super) fn is_asked(&self, audiences: &[String]) -> bool {
        !self.shared(audiences).is_empty()
    }

    /// Those asked for that are the API server's own.
    pub(super) fn shared(&self, audiences: &[String]) -> Vec<String> {
        self.wanted(audiences).iter().filter(|audience| self.audiences.contains(audience)).cloned().collect()
    }

    fn wanted<'a>(&'a self, audiences: &'a [String]) -> &'a [String] {
        if audiences.is_empty() { &self.audiences } else { audiences }
    }

    /// `GET /.well-known/openid-configuration`. `jwks_uri` is where clients find [`TokenIssuer::jwks`].
    pub fn openid_configuration(&self, jwks_uri: &str) -> Value {
        json!({
            "issuer": self.issuer,
            "jwks_uri": jwks_uri,
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["ES256"],
        })
    }

    /// `GET /openid/v1/jwks` (`application/jwk-set+json`).
    pub fn jwks(&self) -> Value {
        self.keys.jwks()
    }
}
