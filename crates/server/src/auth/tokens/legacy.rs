//! Tokens kept in Secrets of type `kubernetes.io/service-account-token`: they last as long as their Secret and account.

use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use mizzen_api::key;
use mizzen_store::Snapshot;
use serde::{Deserialize, Serialize};

use crate::auth::bootstrap_token::same;
use crate::auth::{Identity, SERVICE_ACCOUNT_USER};

const ISSUER: &str = "kubernetes/serviceaccount";
/// Kubernetes' mark of a token that must no longer be taken.
const INVALID_SINCE: &str = "kubernetes.io/legacy-token-invalid-since";

/// What such a token says.
#[derive(Debug, Serialize, Deserialize)]
pub struct Claims {
    iss: String,
    #[serde(rename = "kubernetes.io/serviceaccount/namespace")]
    namespace: String,
    #[serde(rename = "kubernetes.io/serviceaccount/secret.name")]
    secret: String,
    #[serde(rename = "kubernetes.io/serviceaccount/service-account.name")]
    account: String,
    #[serde(rename = "kubernetes.io/serviceaccount/service-account.uid")]
    uid: String,
    sub: String,
}

impl Claims {
    /// For the account with this UID, kept in this Secret.
    pub fn new(namespace: &str, secret: &str, account: &str, uid: &str) -> Self {
        Self {
            iss: ISSUER.into(),
            namespace: namespace.into(),
            secret: secret.into(),
            account: account.into(),
            uid: uid.into(),
            sub: format!("{SERVICE_ACCOUNT_USER}{namespace}:{account}"),
        }
    }

    /// The account, if the Secret still holds this token.
    pub fn identity(&self, snapshot: &Snapshot, token: &str) -> Option<Identity> {
        let Self { iss, namespace, secret, account, uid, sub } = self;
        if iss != ISSUER || sub.strip_prefix(SERVICE_ACCOUNT_USER) != Some(&format!("{namespace}:{account}")) {
            return None;
        }
        let stored = snapshot.get_as::<Secret>(&key::of::<Secret>(namespace, secret))?;
        let meta = &stored.metadata;
        let revoked = meta.labels.as_ref().is_some_and(|labels| labels.contains_key(INVALID_SINCE));
        let held = stored.data.as_ref()?.get("token")?;
        if meta.deletion_timestamp.is_some() || revoked || !same(std::str::from_utf8(&held.0).ok()?, token) {
            return None;
        }
        let owner = snapshot.get_as::<ServiceAccount>(&key::of::<ServiceAccount>(namespace, account))?;
        if owner.metadata.uid.as_deref() != Some(uid) || owner.metadata.deletion_timestamp.is_some() {
            return None;
        }
        let mut identity = Identity::service_account(namespace, account);
        identity.uid.clone_from(uid);
        Some(identity)
    }
}
