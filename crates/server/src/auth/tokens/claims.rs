//! What a ServiceAccount token says, and whether it still holds.

use jiff::Timestamp;
use k8s_openapi::Metadata;
use k8s_openapi::api::core::v1::{Node, Pod, Secret, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use mizzen_api::key;
use mizzen_store::Snapshot;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::auth::Identity;

/// Clocks of others may differ by this much; an object that is being deleted keeps its tokens for as long.
const LEEWAY_SECONDS: i64 = 60;

/// The claims of a token.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Claims {
    /// Audiences.
    pub aud: Vec<String>,
    /// Expiry, Unix seconds.
    pub exp: i64,
    /// When it was issued.
    pub iat: i64,
    /// The issuer.
    pub iss: String,
    /// Its id.
    pub jti: String,
    /// Whose it is, and what it is bound to.
    #[serde(rename = "kubernetes.io")]
    pub private: Private,
    /// Not valid before.
    pub nbf: i64,
    /// `system:serviceaccount:<namespace>:<name>`.
    pub sub: String,
}

/// The claim `kubernetes.io`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Private {
    /// Namespace of the ServiceAccount.
    pub namespace: String,
    /// The node of the pod, or the node it is bound to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<Reference>,
    /// The pod it is bound to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<Reference>,
    /// The Secret it is bound to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<Reference>,
    /// The ServiceAccount.
    pub serviceaccount: Reference,
    /// From then on, in Unix seconds, its use is worth a warning: the client should have taken a newer one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warnafter: Option<i64>,
}

/// One object.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Reference {
    /// Its name.
    pub name: String,
    /// Its UID; empty only for a node that was not registered when the token was made.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub uid: String,
}

impl Claims {
    /// Within its time.
    pub fn valid_at(&self, now: Timestamp) -> bool {
        let now = now.as_second();
        now >= self.nbf.saturating_sub(LEEWAY_SECONDS) && now <= self.exp.saturating_add(LEEWAY_SECONDS)
    }

    /// The subject is the ServiceAccount of the private claims.
    pub fn is_consistent(&self) -> bool {
        let Private { namespace, serviceaccount, .. } = &self.private;
        let subject = self.sub.strip_prefix("system:serviceaccount:").and_then(|rest| rest.split_once(':'));
        subject == Some((namespace, &serviceaccount.name)) && !serviceaccount.uid.is_empty()
    }

    /// The ServiceAccount and the object that the token is bound to are still those of when it was made.
    pub fn bound_objects_exist(&self, snapshot: &Snapshot, now: Timestamp) -> bool {
        let Private { namespace, node, pod, secret, serviceaccount, .. } = &self.private;
        // A pod's token names its node for information only: the pod decides.
        let node = node.as_ref().filter(|_| pod.is_none());
        exists::<ServiceAccount>(snapshot, namespace, serviceaccount, now)
            && pod.as_ref().is_none_or(|pod| exists::<Pod>(snapshot, namespace, pod, now))
            && secret.as_ref().is_none_or(|secret| exists::<Secret>(snapshot, namespace, secret, now))
            && node.is_none_or(|node| exists::<Node>(snapshot, "", node, now))
    }

    /// The user.
    pub fn identity(&self) -> Identity {
        let Private { namespace, node, pod, serviceaccount, .. } = &self.private;
        let mut identity = Identity::service_account(namespace, &serviceaccount.name);
        identity.uid.clone_from(&serviceaccount.uid);
        let mut add = |field: &str, value: &str| {
            if !value.is_empty() {
                identity.extra.insert(format!("authentication.kubernetes.io/{field}"), vec![value.to_string()]);
            }
        };
        if !self.jti.is_empty() {
            add("credential-id", &format!("JTI={}", self.jti));
        }
        for (kind, reference) in [("pod", pod), ("node", node)] {
            if let Some(reference) = reference {
                add(&format!("{kind}-name"), &reference.name);
                add(&format!("{kind}-uid"), &reference.uid);
            }
        }
        identity
    }
}

fn exists<K>(snapshot: &Snapshot, namespace: &str, reference: &Reference, now: Timestamp) -> bool
where
    K: k8s_openapi::Resource + Metadata<Ty = ObjectMeta> + DeserializeOwned + Send + Sync + 'static,
{
    let Some(object) = snapshot.get_as::<K>(&key::of::<K>(namespace, &reference.name)) else {
        return false;
    };
    let metadata = object.metadata();
    let going = metadata.deletion_timestamp.as_ref().map(|time| time.0.as_second());
    metadata.uid.as_deref() == Some(&reference.uid)
        && going.is_none_or(|time| time >= now.as_second().saturating_sub(LEEWAY_SECONDS))
}
