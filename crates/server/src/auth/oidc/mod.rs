//! Tokens of other issuers (OpenID Connect) and anonymous requests, as an AuthenticationConfiguration of
//! apiserver.config.k8s.io/v1 says.
//!
//! What a token says is checked without waiting whenever its issuer's keys are known. A token signed with a key that is not
//! makes the keys be fetched, now and then and by one request at a time.

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http::header::ACCEPT;
use http_body_util::{BodyExt, Empty, Limited};
use jiff::Timestamp;
use mizzen_store::Snapshot;
use serde_json::Value;
use tokio::time::Instant;

mod claims;
mod config;
mod keys;
#[cfg(test)]
mod tests;

pub use config::{Anonymous, AuthenticationConfiguration, ConfigError};

use super::Identity;
use crate::callout::{Callout, Destination, Trust};
use config::Issuer;
use keys::KeySet;

/// Longer tokens are not looked at; those with many groups are a few KB.
const TOKEN_BYTES_MAX: usize = 64 << 10;
/// The discovery document and the keys.
const DOCUMENT_BYTES_MAX: usize = 1 << 20;
/// Fetching both.
const FETCH_MAX: Duration = Duration::from_secs(10);
/// Tokens of unknown keys make the keys be fetched no more often than this.
const FETCH_EVERY: Duration = Duration::from_secs(10);

/// The issuers of a configuration, with the keys they are known by.
pub struct Issuers {
    known: Vec<Known>,
}

struct Known {
    issuer: Issuer,
    keys: arc_swap::ArcSwap<KeySet>,
    /// When the keys were last asked for. Held while they are fetched.
    fetched: tokio::sync::Mutex<Option<Instant>>,
}

/// Why a token of a known issuer is not taken; for the log.
#[derive(Debug, thiserror::Error)]
enum TokenError {
    #[error("its signature is by none of the issuer's keys")]
    Signature,
    #[error("{0}")]
    Claims(String),
    #[error("the issuer's keys cannot be had: {0}")]
    Keys(String),
}

impl Issuers {
    /// Those of a configuration; `None` if it names none.
    pub fn new(configuration: &AuthenticationConfiguration) -> Option<Self> {
        let known = configuration.issuers.iter().map(|issuer| Known {
            issuer: issuer.clone(),
            keys: arc_swap::ArcSwap::default(),
            fetched: tokio::sync::Mutex::default(),
        });
        let known: Vec<Known> = known.collect();
        (!known.is_empty()).then_some(Self { known })
    }

    /// Who a token speaks for; `None` if it is of no known issuer, or not valid.
    pub(crate) async fn identity(&self, callout: &Callout, token: &str, now: Timestamp) -> Option<Identity> {
        if token.len() > TOKEN_BYTES_MAX {
            return None;
        }
        let parsed = keys::Token::parse(token)?;
        let issuer = parsed.claims["iss"].as_str()?;
        let known = self.known.iter().find(|known| known.issuer.url == issuer)?;
        match known.check(callout, &parsed, now).await {
            Ok(identity) => Some(identity),
            Err(error) => {
                tracing::debug!(issuer, %error, "a token is not taken");
                None
            }
        }
    }
}

impl Known {
    async fn check(&self, callout: &Callout, token: &keys::Token<'_>, now: Timestamp) -> Result<Identity, TokenError> {
        if !self.keys.load().verify(token) {
            self.fetch(callout).await?;
            if !self.keys.load().verify(token) {
                return Err(TokenError::Signature);
            }
        }
        claims::identity(&self.issuer, &token.claims, now).map_err(TokenError::Claims)
    }

    /// Fetches the keys, unless someone just did.
    async fn fetch(&self, callout: &Callout) -> Result<(), TokenError> {
        let mut fetched = self.fetched.lock().await;
        if fetched.is_some_and(|at| at.elapsed() < FETCH_EVERY) {
            return Ok(());
        }
        *fetched = Some(Instant::now());
        let fetch = tokio::time::timeout(FETCH_MAX, self.documents(callout)).await;
        let keys = fetch.unwrap_or_else(|_| Err("no answer in time".into())).map_err(TokenError::Keys)?;
        self.keys.store(std::sync::Arc::new(keys));
        Ok(())
    }

    async fn documents(&self, callout: &Callout) -> Result<KeySet, String> {
        let trust = match self.issuer.authority.as_ref() {
            Some(pem) => Trust::Bundle(Bytes::from(pem.clone())),
            None => Trust::System,
        };
        let discovery = get(callout, &self.issuer.discovery_url, trust.clone()).await?;
        if discovery["issuer"] != self.issuer.url.as_str() {
            return Err(format!("the discovery document is of the issuer {}", discovery["issuer"]));
        }
        let url = discovery["jwks_uri"].as_str().ok_or("the discovery document names no jwks_uri")?;
        Ok(KeySet::parse(&get(callout, url, trust).await?))
    }
}

/// A JSON document.
async fn get(callout: &Callout, url: &str, trust: Trust) -> Result<Value, String> {
    let text = |error: &dyn std::fmt::Display| format!("{url}: {error}");
    let to = Destination::url(url, trust).map_err(|error| text(&error))?;
    let body = Empty::new().map_err(|never| match never {}).boxed_unsync();
    let request = Request::get(&to.path).header(ACCEPT, "application/json").body(body).map_err(|error| text(&error))?;
    let answer = callout.open(&Snapshot::default(), &to, request).await.map_err(|error| text(&error))?;
    if answer.status() != http::StatusCode::OK {
        return Err(text(&answer.status()));
    }
    let body = Limited::new(answer.into_body(), DOCUMENT_BYTES_MAX).collect().await.map_err(|error| text(&error))?;
    serde_json::from_slice(&body.to_bytes()).map_err(|error| text(&error))
}
