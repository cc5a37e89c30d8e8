//! Credentials → identity: client certificates, ServiceAccount tokens, anonymous; impersonation.

use std::sync::Arc;

use jiff::Timestamp;
use mizzen_api::status::ApiError;
use mizzen_store::Snapshot;

use super::{Authorizer, Identity, tokens::TokenIssuer};

/// Finds out who is asking.
pub struct Authenticator {
    issuer: Arc<TokenIssuer>,
}

impl Authenticator {
    /// An authenticator that accepts the tokens of `issuer`.
    pub fn new(issuer: Arc<TokenIssuer>) -> Self {
        Self { issuer }
    }

    /// The identity in a client certificate that TLS has already verified against the CA; `None` without a common name.
    /// Ask once a connection.
    pub fn certificate(&self, der: &[u8]) -> Option<Arc<Identity>> {
        let _ = der;
        None
    }

    /// Who sends a request: `peer` is the connection's certificate identity, `authorization` the header.
    /// Wrong credentials are 401 even where anonymous would do.
    pub fn authenticate(
        &self,
        snapshot: &Snapshot,
        now: Timestamp,
        peer: Option<&Arc<Identity>>,
        authorization: Option<&str>,
    ) -> Result<Arc<Identity>, ApiError> {
        let _ = (&self.issuer, snapshot, now, peer, authorization);
        Err(ApiError::unauthorized())
    }

    /// Whom the request acts as: `identity` itself without `Impersonate-*` headers, else the impersonated one if allowed.
    pub fn impersonate(
        &self,
        snapshot: &Snapshot,
        authorizer: &Authorizer,
        identity: Arc<Identity>,
        headers: &http::HeaderMap,
    ) -> Result<Arc<Identity>, ApiError> {
        let _ = (snapshot, authorizer, headers);
        Ok(identity)
    }
}
