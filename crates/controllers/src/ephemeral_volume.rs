//! Ephemeral volumes: a claim for each, that lives and goes with its pod (core/v1 EphemeralVolumeSource).
//!
//! Reads Pods and PersistentVolumeClaims. Creates the claims; the garbage collector removes them.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use mizzen_api::key;
use mizzen_api::pod::is_active;
use mizzen_store::Snapshot;
use serde_json::json;

use crate::meta::{self, Meta};
use crate::plan::{ControllerError, Note, Plan, Write};

/// The writes that make the claims of the pod at `pod_key`.
///
/// # Errors
/// None: a pod that cannot be read has no volumes.
pub fn reconcile(snapshot: &Snapshot, pod_key: &str, _now: Timestamp) -> Result<Plan, ControllerError> {
    let mut plan = Plan::default();
    let Some(pod) = snapshot.get_as::<Pod>(pod_key).filter(|p| is_active(p)) else { return Ok(plan) };
    for volume in pod.spec.iter().flat_map(|s| s.volumes.iter().flatten()) {
        let template = volume.ephemeral.as_ref().and_then(|e| e.volume_claim_template.as_ref());
        let Some(template) = template else { continue };
        let name = format!("{}-{}", pod.name(), volume.name);
        let known = snapshot.get_as::<PersistentVolumeClaim>(&key::of::<PersistentVolumeClaim>(pod.namespace(), &name));
        if let Some(known) = known {
            if !known.is_controlled_by(pod.uid()) {
                plan.notes.push(foreign(&pod, &name));
            }
            continue;
        }
        let meta = template.metadata.clone().unwrap_or_default();
        plan.write(Write::Create {
            object: json!({
                "apiVersion": "v1", "kind": "PersistentVolumeClaim",
                "metadata": {"name": name, "namespace": pod.namespace(), "labels": meta.labels.unwrap_or_default(),
                    "annotations": meta.annotations.unwrap_or_default(), "ownerReferences": [meta::owner_of(&*pod)]},
                "spec": template.spec,
            }),
        });
    }
    Ok(plan)
}

/// A claim of that name that is not the pod's is never used in its place.
fn foreign(pod: &Pod, claim: &str) -> Note {
    Note {
        about: meta::reference(pod),
        warning: true,
        reason: "FailedBinding",
        message: format!("ephemeral volume: PVC {}/{claim} was not created for this pod", pod.namespace()),
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::check;

    #[test]
    fn every_ephemeral_volume_has_a_claim() {
        let pod = r#"pod/d/p spec.volumes=[{"name":"v","ephemeral":{"volumeClaimTemplate":{"spec":{}}}},{"name":"w"}]"#;
        for (case, world, writes) in [
            ("missing", pod.to_string(), "create PersistentVolumeClaim d/p-v"),
            ("there", format!("{pod}; pvc/d/p-v"), ""),
            ("the pod is going", format!("{pod} deleting"), ""),
        ] {
            check(case, &world, "core/pods/d/p", super::reconcile, writes);
        }
    }
}
