//! Credentials → identity: client certificates, ServiceAccount tokens, anonymous; impersonation.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};
use mizzen_api::status::ApiError;
use mizzen_store::Snapshot;

use super::tokens::{Claims, TokenIssuer};
use super::{Attributes, Authorizer, Identity, Outside, bootstrap_token, certificate_identity, impersonation};

/// Tokens whose signature was checked lately; a token is about 1 KB. Whether its ServiceAccount and pod still exist is
/// asked of the snapshot every time.
const CACHED_TOKENS: usize = 1024;
/// A signature does not change, but the memory of tokens that nobody sends any more is given back.
const CACHED_FOR: SignedDuration = SignedDuration::from_mins(10);

/// Finds out who is asking.
pub struct Authenticator {
    issuer: Arc<TokenIssuer>,
    anonymous: Arc<Identity>,
    verified: Mutex<HashMap<Box<str>, Verified>>,
    outside: Option<Outside>,
}

struct Verified {
    claims: Arc<Claims>,
    identity: Arc<Identity>,
    until: Timestamp,
}

impl Authenticator {
    /// An authenticator that accepts the tokens of `issuer`.
    pub fn new(issuer: Arc<TokenIssuer>) -> Self {
        Self { issuer, anonymous: Arc::new(Identity::anonymous()), verified: Mutex::default(), outside: None }
    }

    /// One that asks others about tokens it does not know, and takes requests without credentials as they say.
    #[must_use]
    pub fn with_outside(self, outside: Outside) -> Self {
        Self { outside: Some(outside), ..self }
    }

    /// Who is to be asked about a token that is not known here; `None` if there is nobody, as mostly.
    pub(crate) fn outside(&self) -> Option<&Outside> {
        self.outside.as_ref().filter(|outside| outside.knows_tokens())
    }

    /// 401 for a request without credentials to a path where that is not taken.
    pub(crate) fn check_anonymous(&self, who: &Arc<Identity>, path: &str) -> Result<(), ApiError> {
        match &self.outside {
            Some(outside) if Arc::ptr_eq(who, &self.anonymous) && !outside.takes_anonymous(path) => {
                Err(ApiError::unauthorized())
            }
            _ => Ok(()),
        }
    }

    /// The token in an `Authorization` header. As in Kubernetes another scheme (Basic, …) is no credential at all, and
    /// neither is an empty token.
    pub(crate) fn bearer(authorization: Option<&str>) -> Option<&str> {
        let (scheme, token) = authorization?.split_once(' ')?;
        Some(token.trim()).filter(|token| scheme.eq_ignore_ascii_case("bearer") && !token.is_empty())
    }

    /// The identity in a client certificate that TLS has already verified against the CA; `None` without a common name.
    /// Ask once a connection.
    pub fn certificate(&self, der: &[u8]) -> Option<Arc<Identity>> {
        certificate_identity(der).map(Arc::new)
    }

    /// Who sends a request: `peer` is the connection's certificate identity, `authorization` the header.
    /// A certificate counts before a token. Wrong credentials are 401 even where anonymous would do.
    pub fn authenticate(
        &self,
        snapshot: &Snapshot,
        now: Timestamp,
        peer: Option<&Arc<Identity>>,
        authorization: Option<&str>,
    ) -> Result<Arc<Identity>, ApiError> {
        if let Some(peer) = peer {
            return Ok(Arc::clone(peer));
        }
        match Self::bearer(authorization) {
            Some(token) => self.token(snapshot, now, token).ok_or_else(ApiError::unauthorized),
            None => Ok(Arc::clone(&self.anonymous)),
        }
    }

    fn token(&self, snapshot: &Snapshot, now: Timestamp, token: &str) -> Option<Arc<Identity>> {
        if let Some((claims, identity)) = self.cached(token, now) {
            let valid = claims.valid_at(now) && claims.bound_objects_exist(snapshot, now);
            return valid.then_some(identity);
        }
        let Some(claims) = self.issuer.claims(token, &[], now) else {
            return self.stored(snapshot, now, token).map(Arc::new);
        };
        if !claims.bound_objects_exist(snapshot, now) {
            return None;
        }
        let identity = Arc::new(claims.identity());
        let verified = Verified { claims: Arc::new(claims), identity: Arc::clone(&identity), until: now + CACHED_FOR };
        self.remember(token, verified, now);
        Some(identity)
    }

    /// Who a token speaks for that is kept in a Secret: of a new node, or of an account.
    pub(crate) fn stored(&self, snapshot: &Snapshot, now: Timestamp, token: &str) -> Option<Identity> {
        bootstrap_token::identity(snapshot, now, token).or_else(|| self.issuer.legacy(snapshot, token))
    }

    fn cached(&self, token: &str, now: Timestamp) -> Option<(Arc<Claims>, Arc<Identity>)> {
        // A panic elsewhere leaves the map whole: each change to it is one insert or retain.
        let verified = self.verified.lock().unwrap_or_else(PoisonError::into_inner);
        let found = verified.get(token).filter(|found| found.until > now)?;
        Some((Arc::clone(&found.claims), Arc::clone(&found.identity)))
    }

    fn remember(&self, token: &str, found: Verified, now: Timestamp) {
        let mut verified = self.verified.lock().unwrap_or_else(PoisonError::into_inner);
        if verified.len() >= CACHED_TOKENS {
            verified.retain(|_, found| found.until > now);
        }
        if verified.len() >= CACHED_TOKENS {
            verified.clear();
        }
        verified.insert(token.into(), found);
    }

    /// Whom a request for `what` acts as: `identity` itself without `Impersonate-*` headers, else the impersonated one if allowed.
    pub fn impersonate(
        &self,
        snapshot: &Snapshot,
        authorizer: &Authorizer,
        identity: Arc<Identity>,
        headers: &http::HeaderMap,
        what: &Attributes<'_>,
    ) -> Result<Arc<Identity>, ApiError> {
        let wanted = impersonation::impersonated(snapshot, authorizer, &identity, headers, what)?;
        Ok(wanted.map_or(identity, Arc::new))
    }
}
