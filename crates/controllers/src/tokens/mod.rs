//! Secrets that are credentials: tokens of ServiceAccounts that people ask for, and tokens of new nodes (core/v1 Secret
//! types `kubernetes.io/service-account-token` and `bootstrap.kubernetes.io/token`; api-facts §6.1, §6.2).

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use mizzen_api::key;
use mizzen_store::{Event, Snapshot};

use crate::meta::Meta;
use crate::shell::{Controller, Start, Wake};
use crate::wake::{head_of, versions};

mod clean;
mod cluster_info;
mod service_account;

/// Signs tokens: the key is not here.
pub trait Issuer: std::fmt::Debug + Send + Sync {
    /// The token of a Secret: it speaks for the account with this UID as long as the Secret is there.
    fn token(&self, namespace: &str, secret: &str, account: &str, uid: &str) -> Option<String>;
}

/// What a cluster tells new nodes.
#[derive(Debug, Clone)]
pub struct Cluster {
    /// PEM of its certificate authority.
    pub ca_pem: String,
    /// `https://address:port` of its API.
    pub server: String,
}

const ACCOUNT_TOKEN: &str = "kubernetes.io/service-account-token";
const BOOTSTRAP_TOKEN: &str = "bootstrap.kubernetes.io/token";
/// Where bootstrap tokens are.
const SYSTEM: &str = "kube-system";
const PREFIX: &str = "bootstrap-token-";

/// The controllers of tokens.
pub fn controllers(issuer: Arc<dyn Issuer>, cluster: Cluster) -> [Controller; 3] {
    let ca = cluster.ca_pem.clone();
    [
        Controller {
            name: "serviceaccount-token-controller",
            identity: "token-controller",
            start: of_type(ACCOUNT_TOKEN),
            wakes: vec![woken_by_secrets(ACCOUNT_TOKEN), woken_by_accounts()],
            reconcile: Arc::new(move |snapshot, key, _| service_account::reconcile(snapshot, key, &*issuer, &ca)),
        },
        Controller {
            name: "token-cleaner-controller",
            identity: "token-cleaner",
            start: of_type(BOOTSTRAP_TOKEN),
            wakes: vec![woken_by_secrets(BOOTSTRAP_TOKEN)],
            reconcile: Arc::new(clean::reconcile),
        },
        Controller {
            name: "bootstrap-signer-controller",
            identity: "bootstrap-signer",
            start: Arc::new(|_| vec![cluster_info::key()]),
            wakes: vec![cluster_info::woken_by_tokens(), cluster_info::woken_by_itself()],
            reconcile: Arc::new(move |snapshot, _, now| cluster_info::reconcile(snapshot, now, &cluster)),
        },
    ]
}

fn is_of(secret: &Secret, type_: &str) -> bool {
    secret.type_.as_deref() == Some(type_)
}

fn of_type(type_: &'static str) -> Start {
    Arc::new(move |snapshot| {
        let prefix = key::all::<Secret>();
        let secrets = snapshot.prefix(&prefix);
        secrets.filter(|entry| is_of(&head_of(entry), type_)).map(|entry| entry.key.to_string()).collect()
    })
}

fn woken_by_secrets(type_: &'static str) -> (String, Wake) {
    let wake = move |_: &Snapshot, event: &Event| {
        let any = versions(event).into_iter().any(|entry| is_of(&head_of(entry), type_));
        any.then(|| event.key().to_string()).into_iter().collect()
    };
    (key::all::<Secret>(), Arc::new(wake))
}

/// Accounts that come and go decide about the tokens that name them.
fn woken_by_accounts() -> (String, Wake) {
    let wake = |snapshot: &Snapshot, event: &Event| {
        let Some((_, _, namespace, _)) = key::parse(event.key()) else { return Vec::new() };
        let prefix = key::of::<Secret>(namespace, "");
        let secrets = snapshot.prefix(&prefix);
        secrets.filter(|entry| is_of(&head_of(entry), ACCOUNT_TOKEN)).map(|entry| entry.key.to_string()).collect()
    };
    (key::all::<ServiceAccount>(), Arc::new(wake))
}

/// A field of a Secret as text, empty if it is not there.
fn text<'a>(secret: &'a Secret, field: &str) -> &'a str {
    let bytes = secret.data.as_ref().and_then(|data| data.get(field)).map(|bytes| &*bytes.0).unwrap_or_default();
    std::str::from_utf8(bytes).unwrap_or_default()
}

/// When a bootstrap token ends; one whose time cannot be read has ended.
fn end(token: &Secret) -> Option<Timestamp> {
    match text(token, "expiration") {
        "" => None,
        time => Some(time.parse().unwrap_or(Timestamp::MIN)),
    }
}

/// Id and secret of a bootstrap token that is named as it must be and has not ended.
fn bootstrap(token: &Secret, now: Timestamp) -> Option<(&str, &str)> {
    let (id, secret) = (text(token, "token-id"), text(token, "token-secret"));
    let right = token.name().strip_prefix(PREFIX) == Some(id) && !secret.is_empty();
    (right && !token.is_deleting() && end(token).is_none_or(|end| end > now)).then_some((id, secret))
}

#[cfg(test)]
mod tests;
