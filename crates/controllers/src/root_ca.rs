//! Every namespace has a ConfigMap `kube-root-ca.crt` with the certificate that pods trust the API server by.
//!
//! Reads Namespaces and ConfigMaps. Writes the map where it is missing or was changed.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use mizzen_api::key;
use mizzen_store::Snapshot;
use serde_json::json;

use crate::meta::Meta;
use crate::plan::{ControllerError, Plan, Target, Write};

/// Name of the map.
pub const NAME: &str = "kube-root-ca.crt";
const DESCRIPTION: &str = "The certificate authority that pods check the API server's certificate by.";

/// Makes or restores the map of the namespace at `namespace_key` with the certificate `ca_pem`.
pub fn reconcile(
    snapshot: &Snapshot,
    namespace_key: &str,
    _now: Timestamp,
    ca_pem: &str,
) -> Result<Plan, ControllerError> {
    let mut plan = Plan::default();
    let Some(namespace) = snapshot.get_as::<Namespace>(namespace_key).filter(|n| !n.is_deleting()) else {
        return Ok(plan);
    };
    let annotations = json!({"kubernetes.io/description": DESCRIPTION});
    match snapshot.get_as::<ConfigMap>(&key::of::<ConfigMap>(namespace.name(), NAME)) {
        None => plan.write(Write::Create {
            object: json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"ca.crt": ca_pem},
                "metadata": {"name": NAME, "namespace": namespace.name(), "annotations": annotations}}),
        }),
        Some(map) if !is_right(&map, ca_pem) => {
            let mut data = serde_json::Map::new();
            for name in map.data.iter().flatten().map(|(name, _)| name) {
                data.insert(name.clone(), serde_json::Value::Null);
            }
            data.insert("ca.crt".into(), ca_pem.into());
            plan.write(Write::Merge {
                target: Target::of::<ConfigMap>(namespace.name(), NAME),
                subresource: "",
                patch: json!({"data": data, "binaryData": null,
                    "metadata": {"annotations": annotations, "resourceVersion": map.version()}}),
            });
        }
        Some(_) => {}
    }
    Ok(plan)
}

fn is_right(map: &ConfigMap, ca_pem: &str) -> bool {
    let exactly = map.data.as_ref().is_some_and(|d| d.len() == 1 && d.get("ca.crt").is_some_and(|v| v == ca_pem));
    exactly && map.binary_data.as_ref().is_none_or(std::collections::BTreeMap::is_empty)
}

#[cfg(test)]
mod tests {
    use crate::testing::check;

    #[test]
    fn the_certificate_is_published_and_restored() {
        for (case, before, writes) in [
            ("new namespace", "namespace/a", "create ConfigMap a/kube-root-ca.crt"),
            ("changed", "namespace/a; configmap/a/kube-root-ca.crt", "patch configmaps a/kube-root-ca.crt"),
            ("deleting", "namespace/a deleting", ""),
        ] {
            check(case, before, "core/namespaces//a", |s, k, t| super::reconcile(s, k, t, "pem"), writes);
        }
    }
}
