//! Service-account tokens for projected volumes: asked for through TokenRequest, renewed before they expire.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, ServiceAccount, ServiceAccountTokenProjection};
use mizzen_client::{Client, ClientError};
use serde_json::{Value, json};

/// The shortest time after which a token is renewed, seconds, whatever its life.
const MIN_REFRESH: i64 = 60;
/// A token older than this is renewed even if it lives longer, seconds (kubelet: a day).
const MAX_REFRESH: i64 = 24 * 3600;

/// A token.
#[derive(Debug, Clone)]
pub struct Token {
    /// The text.
    pub text: String,
    /// When to ask for the next.
    pub refresh_at: Timestamp,
}

/// Asks for a token bound to the pod.
pub async fn request(
    client: &Client,
    pod: &Pod,
    projection: &ServiceAccountTokenProjection,
    now: Timestamp,
) -> Result<Token, ClientError> {
    let meta = &pod.metadata;
    let account = pod.spec.as_ref().and_then(|s| s.service_account_name.as_deref()).filter(|n| !n.is_empty());
    let seconds = projection.expiration_seconds.unwrap_or(3600);
    let audiences: Vec<&str> = projection.audience.as_deref().into_iter().filter(|a| !a.is_empty()).collect();
    let body = json!({
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenRequest",
        "spec": {
            "audiences": audiences,
            "expirationSeconds": seconds,
            "boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": meta.name, "uid": meta.uid},
        },
    });
    let namespace = meta.namespace.as_deref().unwrap_or_default();
    let answer = client.create_in::<ServiceAccount>(namespace, account.unwrap_or("default"), "token", &body).await?;
    Ok(read(&answer, seconds, now))
}

/// The token in an answer; it is renewed after four fifths of its life.
fn read(answer: &Value, asked_seconds: i64, now: Timestamp) -> Token {
    let expires = answer["status"]["expirationTimestamp"].as_str().and_then(|t| t.parse::<Timestamp>().ok());
    let life = expires.map_or(asked_seconds, |e| e.duration_since(now).as_secs());
    let wait = (life * 4 / 5).clamp(MIN_REFRESH, MAX_REFRESH);
    Token {
        text: answer["status"]["token"].as_str().unwrap_or_default().to_string(),
        refresh_at: crate::pod::backoff::later(now, wait),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renewed_after_four_fifths() {
        let now = Timestamp::from_second(1_000_000).unwrap();
        let expires = Timestamp::from_second(1_003_600).unwrap();
        let answer = json!({"status": {"token": "t", "expirationTimestamp": expires.to_string()}});
        let token = read(&answer, 3600, now);
        assert_eq!((token.text.as_str(), token.refresh_at.as_second()), ("t", 1_002_880));
    }
}
