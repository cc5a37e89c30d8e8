//! Tokens that a webhook knows: asked by TokenReview (authentication.k8s.io/v1), its answers kept for a while.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use mizzen_store::Snapshot;
use ring::digest::{SHA256, digest};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{AUTHENTICATED, Identity};
use crate::callout::{Bounds, Callout, Destination};

/// One question.
const CALL_MAX: Duration = Duration::from_secs(30);
const ANSWER_MAX: usize = 1 << 20;
/// As long as Kubernetes keeps answers.
const KEPT_FOR: Duration = Duration::from_secs(120);
const KEPT_MAX: usize = 4096;

/// What was answered, and until when it counts.
type Known = HashMap<[u8; 32], (Option<Identity>, Instant)>;

/// A webhook for tokens.
pub struct TokenWebhook {
    to: Destination,
    /// By the digest of the token: a token that nobody could use is not kept.
    known: Mutex<Known>,
}

impl TokenWebhook {
    /// The server that a kubeconfig names.
    pub fn from_kubeconfig(text: &str) -> Result<Self, String> {
        let to = Destination::from_kubeconfig(text).map_err(|error| error.to_string())?;
        Ok(Self { to, known: Mutex::default() })
    }

    /// Who a token speaks for; `None` if the webhook does not know it, or does not answer.
    pub(crate) async fn identity(&self, callout: &Callout, snapshot: &Snapshot, token: &str) -> Option<Identity> {
        let mut key = [0; 32];
        key.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
        if let Some((known, until)) = self.lock().get(&key)
            && *until > Instant::now()
        {
            return known.clone();
        }
        let review = json!({
            "kind": "TokenReview", "apiVersion": "authentication.k8s.io/v1", "metadata": {}, "spec": {"token": token},
        });
        let bounds = Bounds::within(CALL_MAX, ANSWER_MAX);
        let answer = match callout.post(snapshot, &self.to, "", Bytes::from(review.to_string()), bounds).await {
            Ok(answer) => answer,
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "the token webhook does not answer");
                return None;
            }
        };
        let known = read(&serde_json::from_slice(&answer).unwrap_or_default());
        let mut all = self.lock();
        if all.len() >= KEPT_MAX {
            all.clear();
        }
        all.insert(key, (known.clone(), Instant::now() + KEPT_FOR));
        known
    }

    /// The map is whole whatever happened to another holder.
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The user of a review's answer.
fn read(review: &Value) -> Option<Identity> {
    let status = &review["status"];
    if review["kind"] != "TokenReview" || status["authenticated"] != json!(true) {
        return None;
    }
    let user = &status["user"];
    let name = user["username"].as_str().filter(|name| !name.is_empty())?;
    let texts = |list: &Value| {
        let items = list.as_array().map(Vec::as_slice).unwrap_or_default();
        items.iter().filter_map(Value::as_str).map(String::from).collect::<Vec<_>>()
    };
    let mut groups = texts(&user["groups"]);
    if !groups.iter().any(|group| group == AUTHENTICATED) {
        groups.push(AUTHENTICATED.into());
    }
    let extra = user["extra"].as_object().into_iter().flatten();
    Some(Identity {
        user: name.into(),
        uid: user["uid"].as_str().unwrap_or_default().into(),
        groups,
        extra: extra.map(|(key, values)| (key.clone(), texts(values))).collect(),
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use base64::Engine;
    use tokio_util::sync::CancellationToken;
    use tokio_util::task::TaskTracker;

    use super::*;
    use crate::callout::testing::Https;

    #[tokio::test]
    async fn a_webhook_knows_tokens_and_is_asked_once() {
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        let https = Https::start(move |_, _, body| {
            count.fetch_add(1, Ordering::SeqCst);
            let review: Value = serde_json::from_slice(body).unwrap();
            let status = match review["spec"]["token"].as_str().unwrap() {
                "good" => json!({"authenticated": true, "user": {"username": "ann", "uid": "7", "groups": ["dev"],
                    "extra": {"a": ["b"]}}}),
                "nameless" => json!({"authenticated": true, "user": {}}),
                _ => json!({"authenticated": false}),
            };
            (
                200,
                json!({"kind": "TokenReview", "apiVersion": "authentication.k8s.io/v1", "status": status}).to_string(),
            )
        })
        .await;
        let ca = base64::engine::general_purpose::STANDARD.encode(&https.pem);
        let config = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: c\ncontexts: [{{name: c, context: {{cluster: c, user: u}}}}]\n\
             clusters: [{{name: c, cluster: {{server: 'https://localhost:{}/review', certificate-authority-data: {ca}}}}}]\n\
             users: [{{name: u, user: {{}}}}]\n",
            https.port
        );
        let webhook = TokenWebhook::from_kubeconfig(&config).unwrap();
        let callout = Callout::new(None, TaskTracker::new(), CancellationToken::new());
        for _ in 0..3 {
            let who = webhook.identity(&callout, &Snapshot::default(), "good").await.unwrap();
            assert_eq!((who.user.as_str(), who.uid.as_str()), ("ann", "7"));
            assert_eq!((who.groups.join(","), &who.extra["a"]), ("dev,system:authenticated".into(), &vec!["b".into()]));
            for bad in ["bad", "nameless"] {
                assert!(webhook.identity(&callout, &Snapshot::default(), bad).await.is_none());
            }
        }
        assert_eq!(asked.load(Ordering::SeqCst), 3);
        drop(https);
        assert!(webhook.identity(&callout, &Snapshot::default(), "another").await.is_none(), "gone is not known");
    }
}
