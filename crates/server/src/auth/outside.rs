//! Who is asked about credentials that this cluster did not issue, and whether requests may go without any.

use jiff::Timestamp;
use mizzen_store::Snapshot;

use super::oidc::{Anonymous, AuthenticationConfiguration, Issuers};
use super::{Identity, TokenWebhook};
use crate::callout::Callout;

/// Issuers of tokens, a webhook that knows tokens, and what of requests without credentials.
#[derive(Default)]
pub struct Outside {
    issuers: Option<Issuers>,
    webhook: Option<TokenWebhook>,
    anonymous: Anonymous,
}

impl Outside {
    /// As a configuration and a webhook say.
    pub fn new(configuration: &AuthenticationConfiguration, webhook: Option<TokenWebhook>) -> Self {
        let anonymous = configuration.anonymous.clone();
        Self { issuers: Issuers::new(configuration), webhook, anonymous }
    }

    /// There is someone to ask about tokens.
    pub(super) fn knows_tokens(&self) -> bool {
        self.issuers.is_some() || self.webhook.is_some()
    }

    /// Whether a request to a path may go without credentials.
    pub(super) fn takes_anonymous(&self, path: &str) -> bool {
        self.anonymous.takes(path)
    }

    /// Who a token speaks for: the issuers are asked first.
    pub(crate) async fn identity(
        &self,
        callout: &Callout,
        snapshot: &Snapshot,
        token: &str,
        now: Timestamp,
    ) -> Option<Identity> {
        if let Some(issuers) = &self.issuers
            && let Some(known) = issuers.identity(callout, token, now).await
        {
            return Some(known);
        }
        self.webhook.as_ref()?.identity(callout, snapshot, token).await
    }
}
