//! One webhook: asked by SubjectAccessReview (authorization.k8s.io/v1), its answers kept for a while.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use mizzen_cel::{Activation, Budget, MATCH_CONDITIONS_BUDGET, Program, Slot, Value as CelValue};
use mizzen_store::Snapshot;
use ring::digest::{SHA256, digest};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::Verdict;
use crate::auth::{Attributes, Identity};
use crate::callout::{Bounds, Callout, Destination};

const ANSWER_MAX: usize = 1 << 20;
const KEPT_MAX: usize = 8192;

/// What counts when a webhook does not answer, or its conditions cannot be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    NoOpinion,
    Deny,
}

/// A webhook that decides access.
pub struct Webhook {
    name: String,
    to: Destination,
    timeout: Duration,
    failure: Failure,
    conditions: Vec<Program>,
    allowed_for: Duration,
    refused_for: Duration,
    /// By the digest of the question.
    known: Mutex<HashMap<[u8; 32], (Verdict, Instant)>>,
}

impl std::fmt::Debug for Webhook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name)
    }
}

impl Webhook {
    pub fn new(name: &str, to: Destination, timeout: Duration, failure: Failure, conditions: Vec<Program>) -> Self {
        let (allowed_for, refused_for) = (Duration::ZERO, Duration::ZERO);
        Self { name: name.into(), to, timeout, failure, conditions, allowed_for, refused_for, known: Mutex::default() }
    }

    /// Answers are kept for so long: a yes, and anything else.
    pub fn keeping(self, allowed_for: Duration, refused_for: Duration) -> Self {
        Self { allowed_for, refused_for, ..self }
    }

    /// What it says.
    pub async fn decide(
        &self,
        callout: &Callout,
        snapshot: &Snapshot,
        who: &Identity,
        what: &Attributes<'_>,
    ) -> Verdict {
        let spec = question(who, what);
        match self.applies(&spec) {
            Ok(true) => {}
            Ok(false) => return Verdict::NoOpinion(String::new()),
            Err(error) => return self.failed(&error),
        }
        let review = json!({
            "kind": "SubjectAccessReview", "apiVersion": "authorization.k8s.io/v1", "metadata": {}, "spec": spec,
        });
        let body = review.to_string();
        let mut key = [0; 32];
        key.copy_from_slice(digest(&SHA256, body.as_bytes()).as_ref());
        if let Some((known, until)) = self.lock().get(&key)
            && *until > Instant::now()
        {
            return known.clone();
        }
        let bounds = Bounds::within(self.timeout, ANSWER_MAX);
        let answer = match callout.post(snapshot, &self.to, "", Bytes::from(body), bounds).await {
            Ok(answer) => answer,
            Err(error) => return self.failed(&error.to_string()),
        };
        let Some(verdict) = read(&serde_json::from_slice(&answer).unwrap_or_default()) else {
            return self.failed("its answer is no SubjectAccessReview with a status");
        };
        let keep = if matches!(verdict, Verdict::Allow(_)) { self.allowed_for } else { self.refused_for };
        let mut known = self.lock();
        if known.len() >= KEPT_MAX {
            known.clear();
        }
        known.insert(key, (verdict.clone(), Instant::now() + keep));
        verdict
    }

    /// All conditions hold; one that does not counts more than one that cannot be told.
    fn applies(&self, spec: &Value) -> Result<bool, String> {
        let mut failed = None;
        for condition in &self.conditions {
            let mut activation = Activation::new(vec![Slot::Value(CelValue::untyped(spec))]);
            match condition.eval(&mut activation, &mut Budget::new(MATCH_CONDITIONS_BUDGET)) {
                Ok(value) => match value.as_bool() {
                    Some(true) => {}
                    Some(false) => return Ok(false),
                    None => failed = Some("a match condition gives no bool".to_string()),
                },
                Err(error) => failed = Some(format!("a match condition: {error}")),
            }
        }
        failed.map_or(Ok(true), Err)
    }

    fn failed(&self, why: &str) -> Verdict {
        tracing::warn!(webhook = self.name, why, "an authorization webhook failed");
        match self.failure {
            Failure::NoOpinion => Verdict::NoOpinion(String::new()),
            Failure::Deny => Verdict::Deny(format!("the authorization webhook {} failed", self.name)),
        }
    }

    /// The map is whole whatever happened to another holder.
    fn lock(&self) -> MutexGuard<'_, HashMap<[u8; 32], (Verdict, Instant)>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `spec` of the review.
fn question(who: &Identity, what: &Attributes<'_>) -> Value {
    let mut spec = json!({"user": who.user, "groups": who.groups});
    if !who.uid.is_empty() {
        spec["uid"] = who.uid.as_str().into();
    }
    if !who.extra.is_empty() {
        spec["extra"] = json!(who.extra);
    }
    if !what.resource_request {
        spec["nonResourceAttributes"] = json!({"path": what.path, "verb": what.verb});
        return spec;
    }
    let mut wanted = serde_json::Map::new();
    for (name, value) in [
        ("namespace", what.namespace),
        ("verb", what.verb),
        ("group", what.group),
        ("version", what.version),
        ("resource", what.resource),
        ("subresource", what.subresource),
        ("name", what.name),
    ] {
        if !value.is_empty() {
            wanted.insert(name.into(), value.into());
        }
    }
    for (name, selector) in [("fieldSelector", what.field_selector), ("labelSelector", what.label_selector)] {
        if !selector.is_empty() {
            wanted.insert(name.into(), json!({"rawSelector": selector}));
        }
    }
    spec["resourceAttributes"] = wanted.into();
    spec
}

fn read(review: &Value) -> Option<Verdict> {
    let status = review.get("status").filter(|status| status.is_object() && review["kind"] == "SubjectAccessReview")?;
    let reason = status["reason"].as_str().unwrap_or_default().to_string();
    let is = |field: &str| status[field] == json!(true);
    Some(match (is("allowed"), is("denied")) {
        (true, true) => return None,
        (true, false) => Verdict::Allow(reason),
        (false, true) => Verdict::Deny(reason),
        (false, false) => Verdict::NoOpinion(reason),
    })
}
