//! `kube-public/cluster-info`: how a new node finds the cluster, signed with each bootstrap token that may sign, so that who
//! knows a token can tell that the cluster wrote it (a detached JWS, RFC 7515 appendix F).

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use mizzen_api::key;
use mizzen_store::{Event, Snapshot};
use serde_json::{Map, Value, json};

use super::{BOOTSTRAP_TOKEN, Cluster, PREFIX, SYSTEM, bootstrap, end, is_of, text};
use crate::meta::Meta;
use crate::plan::{ControllerError, Plan, Target, Write};
use crate::shell::Wake;
use crate::wake::itself;

const NAMESPACE: &str = "kube-public";
const NAME: &str = "cluster-info";
const DOCUMENT: &str = "kubeconfig";
const SIGNATURE: &str = "jws-kubeconfig-";

/// Key of the map.
pub fn key() -> String {
    key::of::<ConfigMap>(NAMESPACE, NAME)
}

/// Every token is a reason to look.
pub fn woken_by_tokens() -> (String, Wake) {
    (key::of::<Secret>(SYSTEM, PREFIX), Arc::new(|_: &Snapshot, _: &Event| vec![key()]))
}

/// Who changes the map is corrected.
pub fn woken_by_itself() -> (String, Wake) {
    let (_, wake) = itself::<ConfigMap>();
    (key(), wake)
}

/// Writes the map once there is a token to sign it with, and keeps its signatures those of the tokens.
pub fn reconcile(snapshot: &Snapshot, now: Timestamp, cluster: &Cluster) -> Result<Plan, ControllerError> {
    let mut plan = Plan::default();
    let map = snapshot.get_as::<ConfigMap>(&key());
    let stored = map.as_ref().and_then(|map| map.data.as_ref());
    let document = stored.and_then(|data| data.get(DOCUMENT)).cloned().unwrap_or_else(|| kubeconfig(cluster));
    let mut wanted = Map::new();
    for entry in snapshot.prefix(&key::of::<Secret>(SYSTEM, PREFIX)) {
        let Some(token) = snapshot.get_as::<Secret>(&entry.key) else { continue };
        let signs = is_of(&token, BOOTSTRAP_TOKEN) && text(&token, "usage-bootstrap-signing") == "true";
        let Some((id, secret)) = bootstrap(&token, now).filter(|_| signs) else { continue };
        if let Some(end) = end(&token) {
            plan.again(end.duration_since(now).try_into().unwrap_or_default());
        }
        wanted.insert(format!("{SIGNATURE}{id}"), sign(&document, id, secret).into());
    }
    match &map {
        None if wanted.is_empty() => {}
        None => {
            wanted.insert(DOCUMENT.into(), document.into());
            let metadata = json!({"namespace": NAMESPACE, "name": NAME});
            plan.write(Write::Create {
                object: json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": wanted}),
            });
        }
        Some(map) => {
            let mut data = Map::new();
            if stored.is_none_or(|data| !data.contains_key(DOCUMENT)) {
                data.insert(DOCUMENT.into(), document.into());
            }
            let present = |name: &str| stored.and_then(|data| data.get(name));
            for old in stored.into_iter().flatten().map(|(name, _)| name) {
                if old.starts_with(SIGNATURE) && !wanted.contains_key(old) {
                    data.insert(old.clone(), Value::Null);
                }
            }
            data.extend(wanted.into_iter().filter(|(name, value)| present(name).is_none_or(|now| value != now)));
            if !data.is_empty() {
                plan.write(Write::Merge {
                    target: Target::of::<ConfigMap>(NAMESPACE, NAME),
                    subresource: "",
                    patch: json!({"metadata": {"resourceVersion": map.version(), "uid": map.uid()}, "data": data}),
                });
            }
        }
    }
    Ok(plan)
}

/// Server and authority, and no credentials. JSON is YAML.
fn kubeconfig(cluster: &Cluster) -> String {
    let data = STANDARD.encode(&cluster.ca_pem);
    let document = json!({
        "apiVersion": "v1", "kind": "Config", "preferences": {}, "current-context": "", "contexts": [], "users": [],
        "clusters": [{"name": "", "cluster": {"certificate-authority-data": data, "server": cluster.server}}],
    });
    document.to_string()
}

/// HS256 over the document, which itself is left out.
fn sign(document: &str, id: &str, secret: &str) -> String {
    let header = URL_SAFE_NO_PAD.encode(json!({"alg": "HS256", "kid": id}).to_string());
    let signed = format!("{header}.{}", URL_SAFE_NO_PAD.encode(document));
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret.as_bytes());
    let signature = ring::hmac::sign(&key, signed.as_bytes());
    format!("{header}..{}", URL_SAFE_NO_PAD.encode(signature))
}

#[cfg(test)]
mod tests {
    #[test]
    fn signatures_are_those_of_other_implementations() {
        // Header, then HMAC of header and payload, as `openssl dgst -sha256 -hmac` computes it.
        let signature = super::sign("content", "joshua", "my little pony");
        let (header, rest) = signature.split_once("..").unwrap();
        assert_eq!(header, "eyJhbGciOiJIUzI1NiIsImtpZCI6Impvc2h1YSJ9");
        assert_eq!(rest, "ie6U4QAcRQUbOImHA3tk142K2GgZNJ0w6jK42KCsuzk");
    }
}
