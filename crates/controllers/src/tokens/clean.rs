//! Bootstrap tokens are removed when their time is over.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use mizzen_store::Snapshot;

use super::{BOOTSTRAP_TOKEN, SYSTEM, end, is_of};
use crate::meta::Meta;
use crate::plan::{ControllerError, Plan, Target, Write};

/// Removes the token at `key` once it has ended.
pub fn reconcile(snapshot: &Snapshot, key: &str, now: Timestamp) -> Result<Plan, ControllerError> {
    let mut plan = Plan::default();
    let Some(token) = snapshot.get_as::<Secret>(key) else { return Ok(plan) };
    if token.namespace() != SYSTEM || !is_of(&token, BOOTSTRAP_TOKEN) {
        return Ok(plan);
    }
    match end(&token) {
        Some(end) if end > now => plan.again(Duration::try_from(end.duration_since(now)).unwrap_or_default()),
        Some(_) => plan.write(delete(&token)),
        None => {}
    }
    Ok(plan)
}

/// Removes a Secret as it was seen.
pub fn delete(secret: &Secret) -> Write {
    Write::Delete {
        target: Target::of::<Secret>(secret.namespace(), secret.name()),
        uid: secret.uid().into(),
        resource_version: Some(secret.version().into()),
        propagation: None,
        grace_seconds: None,
    }
}
