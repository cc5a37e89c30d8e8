//! Every namespace has a service account `default` (core/v1 ServiceAccount).
//!
//! Reads Namespaces and ServiceAccounts. Writes the account where it is missing.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use mizzen_api::key;
use mizzen_store::Snapshot;
use serde_json::json;

use crate::meta::Meta;
use crate::plan::{ControllerError, Plan, Write};

/// Makes the account of the namespace at `namespace_key`, unless it is there or the namespace is on its way out.
pub fn reconcile(snapshot: &Snapshot, namespace_key: &str, _now: Timestamp) -> Result<Plan, ControllerError> {
    let mut plan = Plan::default();
    let Some(namespace) = snapshot.get_as::<Namespace>(namespace_key) else {
        return Ok(plan);
    };
    let account = key::of::<ServiceAccount>(namespace.name(), "default");
    if !namespace.is_deleting() && snapshot.get(&account).is_none() {
        let metadata = json!({"name": "default", "namespace": namespace.name()});
        plan.write(Write::Create {
            object: json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata}),
        });
    }
    Ok(plan)
}

#[cfg(test)]
mod tests {
    use crate::testing::check;

    #[test]
    fn every_living_namespace_has_one() {
        for (case, before, writes) in [
            ("new namespace", "namespace/a", "create ServiceAccount a/default"),
            ("already there", "namespace/a; serviceaccount/a/default", ""),
            ("deleting", "namespace/a deleting", ""),
        ] {
            check(case, before, "core/namespaces//a", super::reconcile, writes);
        }
    }
}
