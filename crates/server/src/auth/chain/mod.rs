//! Authorization that others decide: webhooks before or after Node and RBAC, as an AuthorizationConfiguration of
//! apiserver.config.k8s.io/v1 says.
//!
//! Requests over HTTP and access reviews ask the whole chain. What the server asks itself while it answers one (may this
//! user approve, escalate, bind?) is answered by Node and RBAC alone, for it cannot wait.

use mizzen_api::status::ApiError;
use mizzen_store::Snapshot;

mod config;
#[cfg(test)]
mod tests;
mod webhook;

pub use config::{AuthorizationConfiguration, ConfigError};

use super::{Attributes, Authorizer, Decision, Identity, MASTERS, authorizer};
use crate::callout::Callout;
use webhook::Webhook;

/// What an authorizer of a chain says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Yes.
    Allow(String),
    /// No, whatever others would say.
    Deny(String),
    /// Others may say yes.
    NoOpinion(String),
}

/// One link.
#[derive(Debug)]
enum Step {
    /// Node and RBAC.
    Local,
    Webhook(Box<Webhook>),
}

/// Who is asked, in turn, until someone decides.
#[derive(Debug)]
pub struct Chain(Vec<Step>);

impl Chain {
    /// As a configuration says; the kubeconfigs that it names are read with `read`.
    pub fn new(
        configuration: &AuthorizationConfiguration,
        read: &dyn Fn(&str) -> Result<String, String>,
    ) -> Result<Self, ConfigError> {
        configuration.steps(read).map(Self)
    }

    /// The decision of the chain.
    pub(crate) async fn decide(
        &self,
        local: &Authorizer,
        callout: &Callout,
        snapshot: &Snapshot,
        who: &Identity,
        what: &Attributes<'_>,
    ) -> Verdict {
        if who.is_in(MASTERS) {
            return Verdict::Allow(String::new());
        }
        let mut reasons: Vec<String> = Vec::new();
        for step in &self.0 {
            let verdict = match step {
                Step::Local => match local.decide(snapshot, who, what) {
                    Decision::Allow(reason) => Verdict::Allow(reason),
                    Decision::NoOpinion(reason) => Verdict::NoOpinion(reason),
                },
                Step::Webhook(webhook) => webhook.decide(callout, snapshot, who, what).await,
            };
            match verdict {
                Verdict::NoOpinion(reason) => reasons.extend(Some(reason).filter(|reason| !reason.is_empty())),
                decided => return decided,
            }
        }
        Verdict::NoOpinion(reasons.join(", "))
    }

    /// 403 unless the chain allows it.
    pub(crate) async fn authorize(
        &self,
        local: &Authorizer,
        callout: &Callout,
        snapshot: &Snapshot,
        who: &Identity,
        what: &Attributes<'_>,
    ) -> Result<(), ApiError> {
        match self.decide(local, callout, snapshot, who, what).await {
            Verdict::Allow(_) => Ok(()),
            Verdict::Deny(reason) | Verdict::NoOpinion(reason) => Err(authorizer::forbidden(who, what, &reason)),
        }
    }
}
