//! Images of containers: which policy, which credentials.

use k8s_openapi::api::core::v1::{Container, Pod, Secret};
use mizzen_runtime::images::{Credential, PullPolicy};
use serde::Deserialize;
use std::collections::BTreeMap;

use super::uses::Uses;
use crate::context::Context;

/// The policy of a container; the API filled it in at creation.
pub fn policy(container: &Container) -> PullPolicy {
    let image = container.image.as_deref().unwrap_or_default();
    match container.image_pull_policy.as_deref() {
        Some("Always") => PullPolicy::Always,
        Some("Never") => PullPolicy::Never,
        Some(_) => PullPolicy::IfNotPresent,
        None if image.contains('@') => PullPolicy::IfNotPresent,
        None => match image.rsplit('/').next().unwrap_or_default().split_once(':') {
            None | Some((_, "latest")) => PullPolicy::Always,
            Some(_) => PullPolicy::IfNotPresent,
        },
    }
}

/// Credentials from the pod's `imagePullSecrets`; secrets that are missing or unreadable are passed over, as the
/// registry may not ask for any.
pub async fn credentials(ctx: &Context, pod: &Pod, uses: &Uses) -> Vec<Credential> {
    let mut all = Vec::new();
    for reference in pod.spec.iter().flat_map(|s| s.image_pull_secrets.iter().flatten()) {
        match uses.secret(&ctx.objects, &reference.name).await {
            Some(secret) => all.extend(read(&secret)),
            None => tracing::warn!(secret = reference.name, "pull secret not found"),
        }
    }
    all
}

#[derive(Deserialize)]
struct DockerConfig {
    #[serde(default)]
    auths: BTreeMap<String, Auth>,
}

#[derive(Deserialize, Default)]
struct Auth {
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
    #[serde(default)]
    auth: String,
    identitytoken: Option<String>,
}

/// Reads a secret of type `kubernetes.io/dockerconfigjson` or `kubernetes.io/dockercfg`.
fn read(secret: &Secret) -> Vec<Credential> {
    use base64::Engine as _;
    let data = secret.data.as_ref();
    let auths = if let Some(json) = data.and_then(|d| d.get(".dockerconfigjson")) {
        serde_json::from_slice::<DockerConfig>(&json.0).map(|c| c.auths).unwrap_or_default()
    } else if let Some(json) = data.and_then(|d| d.get(".dockercfg")) {
        serde_json::from_slice(&json.0).unwrap_or_default()
    } else {
        BTreeMap::new()
    };
    let credential = |(registry, auth): (String, Auth)| {
        let decoded = base64::engine::general_purpose::STANDARD.decode(auth.auth.trim()).unwrap_or_default();
        let decoded = String::from_utf8(decoded).unwrap_or_default();
        let (username, password) = match decoded.split_once(':') {
            Some((user, password)) if auth.username.is_empty() => (user.to_string(), password.to_string()),
            _ => (auth.username, auth.password),
        };
        Credential { registry, username, password, identity_token: auth.identitytoken.filter(|t| !t.is_empty()) }
    };
    auths.into_iter().map(credential).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn policy_by_tag() {
        for (image, policy_field, want) in [
            ("nginx", None, PullPolicy::Always),
            ("nginx:latest", None, PullPolicy::Always),
            ("reg:5000/nginx", None, PullPolicy::Always),
            ("reg:5000/nginx:1", None, PullPolicy::IfNotPresent),
            ("nginx@sha256:0", None, PullPolicy::IfNotPresent),
            ("nginx", Some("Never"), PullPolicy::Never),
        ] {
            let container = Container {
                image: Some(image.into()),
                image_pull_policy: policy_field.map(str::to_string),
                ..Container::default()
            };
            assert_eq!(policy(&container), want, "{image}");
        }
    }

    #[test]
    fn reads_both_forms_of_pull_secret() {
        let secret = |key: &str, text: serde_json::Value| -> Secret {
            let data = k8s_openapi::ByteString(text.to_string().into_bytes());
            Secret { data: Some([(key.to_string(), data)].into()), ..Secret::default() }
        };
        let auth = json!({"r.example": {"auth": "dTpwOng="}});
        for secret in [secret(".dockerconfigjson", json!({"auths": auth})), secret(".dockercfg", auth)] {
            let got = read(&secret);
            assert_eq!(
                (got[0].registry.as_str(), got[0].username.as_str(), got[0].password.as_str()),
                ("r.example", "u", "p:x")
            );
        }
    }
}
