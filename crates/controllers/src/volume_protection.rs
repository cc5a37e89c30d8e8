//! Storage in use stays: takes the protecting finalizers off claims and volumes that nobody uses any more (core/v1).
//!
//! Reads PersistentVolumeClaims, PersistentVolumes and Pods. Writes their finalizers, which admission puts on.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::{Metadata, Resource};
use mizzen_api::key;
use mizzen_api::pod::is_terminal;
use mizzen_api::volumes::claims;
use mizzen_store::{Event, Snapshot};
use serde_json::{Value, json};

use crate::meta::Meta;
use crate::plan::{ControllerError, Plan, Target, Write};
use crate::shell::Wake;
use crate::wake::{head_of, versions};

const CLAIM: &str = "kubernetes.io/pvc-protection";
const VOLUME: &str = "kubernetes.io/pv-protection";

/// The writes about the claim at `claim_key`: it goes when no living pod names it.
///
/// # Errors
/// None: what cannot be read is left alone.
pub fn claim(snapshot: &Snapshot, claim_key: &str, _now: Timestamp) -> Result<Plan, ControllerError> {
    let mut plan = Plan::default();
    let Some(claim) = snapshot.get_as::<PersistentVolumeClaim>(claim_key).filter(|c| c.is_deleting()) else {
        return Ok(plan);
    };
    let prefix = key::in_namespace::<Pod>(claim.namespace());
    if !snapshot.list_as::<Pod>(&prefix).any(|pod| uses(&pod, claim.name())) {
        release(&*claim, CLAIM, &mut plan);
    }
    Ok(plan)
}

/// The writes about the volume at `volume_key`: it goes when it is not bound.
///
/// # Errors
/// None: what cannot be read is left alone.
pub fn volume(snapshot: &Snapshot, volume_key: &str, _now: Timestamp) -> Result<Plan, ControllerError> {
    let mut plan = Plan::default();
    let Some(volume) = snapshot.get_as::<PersistentVolume>(volume_key).filter(|v| v.is_deleting()) else {
        return Ok(plan);
    };
    if volume.status.as_ref().and_then(|s| s.phase.as_deref()) != Some("Bound") {
        release(&*volume, VOLUME, &mut plan);
    }
    Ok(plan)
}

fn uses(pod: &Pod, claim: &str) -> bool {
    !is_terminal(pod) && claims(pod).any(|name| name == claim)
}

/// Takes a finalizer off.
pub(crate) fn release<K: Resource + Metadata<Ty = ObjectMeta>>(object: &K, finalizer: &str, plan: &mut Plan) {
    let before = object.metadata().finalizers.clone().unwrap_or_default();
    let left: Vec<&String> = before.iter().filter(|f| *f != finalizer).collect();
    if left.len() == before.len() {
        return;
    }
    let left = if left.is_empty() { Value::Null } else { json!(left) };
    plan.write(Write::Merge {
        target: Target::of::<K>(object.namespace(), object.name()),
        subresource: "",
        patch: json!({"metadata": {"uid": object.uid(), "resourceVersion": object.version(), "finalizers": left}}),
    });
}

/// A pod wakes the claims it names.
pub(crate) fn woken_by_pods() -> (String, Wake) {
    let wake = |_: &Snapshot, event: &Event| {
        let Some(entry) = versions(event).into_iter().next() else { return Vec::new() };
        let pod = head_of::<Pod>(entry);
        claims(&pod).map(|name| key::of::<PersistentVolumeClaim>(pod.namespace(), &name)).collect()
    };
    (key::all::<Pod>(), Arc::new(wake))
}

#[cfg(test)]
mod tests {
    use crate::testing::check;

    #[test]
    fn storage_goes_when_nobody_uses_it() {
        let claim = "pvc/d/c deleting finalizer=kubernetes.io/pvc-protection";
        let pod = r#"pod/d/a spec.volumes=[{"name":"v","persistentVolumeClaim":{"claimName":"c"}}]"#;
        for (case, world, writes) in [
            ("unused", claim.to_string(), "patch persistentvolumeclaims d/c"),
            ("used", format!("{claim}; {pod}"), ""),
            ("used until the pod ended", format!("{claim}; {pod} phase=Failed"), "patch persistentvolumeclaims d/c"),
            ("not going", "pvc/d/c finalizer=kubernetes.io/pvc-protection".into(), ""),
        ] {
            check(case, &world, "core/persistentvolumeclaims/d/c", super::claim, writes);
        }
        let volume = "pv/v deleting finalizer=kubernetes.io/pv-protection";
        for (case, world, writes) in [
            ("bound", format!("{volume} status.phase=Bound"), ""),
            ("released", format!("{volume} status.phase=Released"), "patch persistentvolumes v"),
        ] {
            check(case, &world, "core/persistentvolumes//v", super::volume, writes);
        }
    }
}
