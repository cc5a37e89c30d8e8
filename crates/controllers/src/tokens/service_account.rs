//! A Secret that asks for the token of a ServiceAccount gets it, with what is needed to use it; without its account it
//! goes.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use mizzen_api::key;
use mizzen_store::Snapshot;
use serde_json::{Map, Value, json};

use super::{ACCOUNT_TOKEN, Issuer, clean, is_of, text};
use crate::meta::Meta;
use crate::plan::{ControllerError, Plan, Target, Write};

const ACCOUNT: &str = "kubernetes.io/service-account.name";
const ACCOUNT_UID: &str = "kubernetes.io/service-account.uid";

/// Completes or removes the Secret at `key`.
pub fn reconcile(snapshot: &Snapshot, key: &str, issuer: &dyn Issuer, ca: &str) -> Result<Plan, ControllerError> {
    let mut plan = Plan::default();
    let Some(secret) = snapshot.get_as::<Secret>(key) else { return Ok(plan) };
    let name = secret.annotation(ACCOUNT).unwrap_or_default();
    if !is_of(&secret, ACCOUNT_TOKEN) || secret.is_deleting() || name.is_empty() {
        return Ok(plan);
    }
    let account = snapshot.get_as::<ServiceAccount>(&key::of::<ServiceAccount>(secret.namespace(), name));
    let named = secret.annotation(ACCOUNT_UID).unwrap_or_default();
    let Some(account) = account.filter(|account| named.is_empty() || account.uid() == named) else {
        plan.write(clean::delete(&secret));
        return Ok(plan);
    };
    let mut data = Map::new();
    let mut set = |field: &str, value: &str| data.insert(field.into(), Value::from(STANDARD.encode(value)));
    if text(&secret, "token").is_empty()
        && let Some(token) = issuer.token(secret.namespace(), secret.name(), name, account.uid())
    {
        set("token", &token);
    }
    for (field, wanted) in [("ca.crt", ca), ("namespace", secret.namespace())] {
        if text(&secret, field) != wanted {
            set(field, wanted);
        }
    }
    if !data.is_empty() || named.is_empty() {
        plan.write(Write::Merge {
            target: Target::of::<Secret>(secret.namespace(), secret.name()),
            subresource: "",
            patch: json!({
                "metadata": {
                    "annotations": {ACCOUNT_UID: account.uid()},
                    "resourceVersion": secret.version(), "uid": secret.uid(),
                },
                "data": data,
            }),
        });
    }
    Ok(plan)
}
