//! Volume binder: brings PersistentVolumeClaims and PersistentVolumes together (core/v1).
//!
//! Reads claims, volumes and StorageClasses. Writes the volume's reference to
//! the claim, then the claim's to the volume, then the status of both: after each step the snapshot says what the next is.
//! Leaves to others: making volumes, which provisioners do when a claim names their class; and, for classes that wait for the
//! first pod, choosing the volume, which the scheduler does together with the node.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    PersistentVolume, PersistentVolumeClaim, PersistentVolumeClaimStatus, PersistentVolumeStatus,
};
use k8s_openapi::api::storage::v1::StorageClass;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use mizzen_api::volumes::{BIND_COMPLETED, BOUND_BY_CONTROLLER, NO_PROVISIONER, STORAGE_PROVISIONER};
use mizzen_api::{key, volumes};
use mizzen_store::{Event, Snapshot};
use serde_json::{Value, json};

use crate::meta::{self, Meta};
use crate::plan::{ControllerError, Plan, Target, Write};
use crate::shell::{Start, Wake};
use crate::wake::{head_of, versions};

/// Tells provisioners which of them is meant; the second is the older name.
const PROVISIONERS: [&str; 2] = [STORAGE_PROVISIONER, "volume.beta.kubernetes.io/storage-provisioner"];

/// The writes about the claim or volume at `object_key`.
///
/// # Errors
/// None: what cannot be read is bound to nothing.
pub fn reconcile(snapshot: &Snapshot, object_key: &str, now: Timestamp) -> Result<Plan, ControllerError> {
    let mut plan = Plan::default();
    if let Some(volume) = object_key
        .starts_with(&key::all::<PersistentVolume>())
        .then(|| snapshot.get_as::<PersistentVolume>(object_key))
        .flatten()
    {
        follow_volume(snapshot, &volume, now, &mut plan);
    } else if let Some(claim) = snapshot.get_as::<PersistentVolumeClaim>(object_key).filter(|c| !c.is_deleting()) {
        bind(snapshot, &claim, &mut plan);
    }
    Ok(plan)
}

/// The volume's phase follows from the claim that it refers to.
fn follow_volume(snapshot: &Snapshot, volume: &PersistentVolume, now: Timestamp, plan: &mut Plan) {
    let reference = volume.spec.as_ref().and_then(|s| s.claim_ref.as_ref());
    let phase = match reference.and_then(|r| r.uid.as_deref()).filter(|uid| !uid.is_empty()) {
        None => "Available",
        Some(uid) => match referred(snapshot, volume).filter(|c| c.uid() == uid) {
            Some(_) => "Bound",
            None => "Released",
        },
    };
    let old = volume.status.clone().unwrap_or_default();
    if old.phase.as_deref() != Some(phase) {
        let new = PersistentVolumeStatus {
            phase: Some(phase.into()),
            last_phase_transition_time: Some(Time(now)),
            ..old.clone()
        };
        plan.status(volume, &old, &new);
    }
}

fn referred(snapshot: &Snapshot, volume: &PersistentVolume) -> Option<Arc<PersistentVolumeClaim>> {
    snapshot.get_as(&referred_key(volume)?)
}

fn referred_key(volume: &PersistentVolume) -> Option<String> {
    let reference = volume.spec.as_ref()?.claim_ref.as_ref()?;
    Some(key::of::<PersistentVolumeClaim>(reference.namespace.as_deref()?, reference.name.as_deref()?))
}

fn volume_name(claim: &PersistentVolumeClaim) -> Option<&str> {
    claim.spec.as_ref()?.volume_name.as_deref().filter(|n| !n.is_empty())
}

/// The next step towards a bound claim.
fn bind(snapshot: &Snapshot, claim: &PersistentVolumeClaim, plan: &mut Plan) {
    let Some(name) = volume_name(claim) else {
        search(snapshot, claim, plan);
        return;
    };
    let volume = snapshot.get_as::<PersistentVolume>(&key::of::<PersistentVolume>("", name));
    let reference = volume.as_ref().and_then(|v| v.spec.as_ref()?.claim_ref.clone());
    match (volume, reference.and_then(|r| r.uid)) {
        (Some(volume), Some(uid)) if uid == claim.uid() => complete(claim, &volume, plan),
        // Named by people, and free or meant for this claim.
        (Some(volume), None) if volumes::is_free_for(&volume, claim) => take(claim, &volume, plan),
        _ if claim.annotation(BIND_COMPLETED).is_some() => set_phase(claim, "Lost", None, plan),
        _ => set_phase(claim, "Pending", None, plan),
    }
}

/// Looks for a volume: one that has been taken for the claim, or one that fits.
fn search(snapshot: &Snapshot, claim: &PersistentVolumeClaim, plan: &mut Plan) {
    let all = key::all::<PersistentVolume>();
    let found: Vec<Arc<PersistentVolume>> =
        snapshot.list_as::<PersistentVolume>(&all).filter(|v| !v.is_deleting()).collect();
    let taken = |v: &&Arc<PersistentVolume>| {
        let reference = v.spec.as_ref().and_then(|s| s.claim_ref.as_ref());
        reference.and_then(|r| r.uid.as_deref()) == Some(claim.uid())
    };
    if let Some(volume) = found.iter().find(taken) {
        plan.write(Write::Merge {
            target: Target::of::<PersistentVolumeClaim>(claim.namespace(), claim.name()),
            subresource: "",
            patch: json!({
                "metadata": {"uid": claim.uid(), "resourceVersion": claim.version(),
                    "annotations": {BIND_COMPLETED: "yes", BOUND_BY_CONTROLLER: "yes"}},
                "spec": {"volumeName": volume.name()},
            }),
        });
        return;
    }
    let class = volumes::class(claim);
    let class = snapshot.get_as::<StorageClass>(&key::of::<StorageClass>("", class));
    let provisioned = class.as_ref().filter(|c| c.provisioner != NO_PROVISIONER);
    let waits = class.as_ref().is_some_and(|c| c.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer"));
    if let Some(class) = provisioned.filter(|_| waits && volumes::selected_node(claim).is_some()) {
        ask(claim, class, plan);
    } else if waits {
        let why = "waiting for first consumer to be created before binding";
        pend(claim, "WaitForFirstConsumer", why.into(), plan);
    } else if let Some(volume) = volumes::best(&found, claim, |_| true) {
        take(claim, volume, plan);
    } else if let Some(class) = provisioned {
        ask(claim, class, plan);
    } else {
        let why = "no persistent volumes available for this claim and no storage class is set";
        pend(claim, "FailedBinding", why.into(), plan);
    }
}

/// The volume refers to the claim, so that no other claim takes it.
fn take(claim: &PersistentVolumeClaim, volume: &PersistentVolume, plan: &mut Plan) {
    plan.write(Write::Merge {
        target: Target::of::<PersistentVolume>("", volume.name()),
        subresource: "",
        patch: json!({
            "metadata": {"uid": volume.uid(), "resourceVersion": volume.version(), "annotations": {BOUND_BY_CONTROLLER: "yes"}},
            "spec": {"claimRef": meta::reference(claim)},
        }),
    });
}

/// A provisioner is asked for a volume by its name on the claim.
fn ask(claim: &PersistentVolumeClaim, class: &StorageClass, plan: &mut Plan) {
    if claim.annotation(PROVISIONERS[0]) == Some(&class.provisioner) {
        set_phase(claim, "Pending", None, plan);
        return;
    }
    let names: Value =
        PROVISIONERS.iter().map(|p| ((*p).to_string(), Value::from(class.provisioner.clone()))).collect();
    let why = format!(
        "Waiting for a volume to be created either by the external provisioner '{}' or manually by the system administrator. If volume creation is delayed, please verify that the provisioner is running and correctly registered.",
        class.provisioner
    );
    plan.say(claim, "ExternalProvisioning", why);
    plan.write(Write::Merge {
        target: Target::of::<PersistentVolumeClaim>(claim.namespace(), claim.name()),
        subresource: "",
        patch: json!({"metadata": {"uid": claim.uid(), "resourceVersion": claim.version(), "annotations": names}}),
    });
}

fn complete(claim: &PersistentVolumeClaim, volume: &PersistentVolume, plan: &mut Plan) {
    if claim.annotation(BIND_COMPLETED).is_none() {
        plan.write(Write::Merge {
            target: Target::of::<PersistentVolumeClaim>(claim.namespace(), claim.name()),
            subresource: "",
            patch: json!({"metadata": {"uid": claim.uid(), "resourceVersion": claim.version(), "annotations": {BIND_COMPLETED: "yes"}}}),
        });
        return; // The commit wakes us again.
    }
    set_phase(claim, "Bound", Some(volume), plan);
}

fn pend(claim: &PersistentVolumeClaim, reason: &'static str, message: String, plan: &mut Plan) {
    plan.say(claim, reason, message);
    set_phase(claim, "Pending", None, plan);
}

fn set_phase(claim: &PersistentVolumeClaim, phase: &str, volume: Option<&PersistentVolume>, plan: &mut Plan) {
    let old = claim.status.clone().unwrap_or_default();
    let mut new = PersistentVolumeClaimStatus { phase: Some(phase.into()), ..old.clone() };
    if let Some(spec) = volume.and_then(|v| v.spec.as_ref())
        && old.phase.as_deref() != Some("Bound")
    {
        new.access_modes.clone_from(&spec.access_modes);
        new.capacity.clone_from(&spec.capacity);
    }
    plan.status(claim, &old, &new);
}

/// All claims and volumes are looked at first.
pub(crate) fn everything() -> Start {
    Arc::new(|snapshot| {
        let keys = |prefix: String| snapshot.prefix(&prefix).map(|e| e.key.to_string()).collect::<Vec<_>>();
        let mut all = keys(key::all::<PersistentVolume>());
        all.extend(keys(key::all::<PersistentVolumeClaim>()));
        all
    })
}

/// A volume wakes itself and its claim; while it is free, all claims that look for one.
pub(crate) fn woken_by_volumes() -> (String, Wake) {
    let wake = |snapshot: &Snapshot, event: &Event| {
        let mut keys = vec![event.key().to_string()];
        keys.extend(versions(event).into_iter().filter_map(|e| referred_key(&head_of(e))));
        let free = |v: &Arc<PersistentVolume>| v.spec.as_ref().is_some_and(|s| s.claim_ref.is_none());
        if snapshot.get_as::<PersistentVolume>(event.key()).is_some_and(|v| free(&v)) {
            let all = key::all::<PersistentVolumeClaim>();
            let looking = snapshot.list_as::<PersistentVolumeClaim>(&all).filter(|c| volume_name(c).is_none());
            keys.extend(looking.map(|c| key::of::<PersistentVolumeClaim>(c.namespace(), c.name())));
        }
        keys
    };
    (key::all::<PersistentVolume>(), Arc::new(wake))
}

/// A claim wakes itself and its volume.
pub(crate) fn woken_by_claims() -> (String, Wake) {
    let wake = |_: &Snapshot, event: &Event| {
        let mut keys = vec![event.key().to_string()];
        for entry in versions(event) {
            let claim = head_of::<PersistentVolumeClaim>(entry);
            keys.extend(volume_name(&claim).map(|name| key::of::<PersistentVolume>("", name)));
        }
        keys
    };
    (key::all::<PersistentVolumeClaim>(), Arc::new(wake))
}

#[cfg(test)]
mod tests {
    use crate::testing::check;

    #[test]
    fn claims_and_volumes_find_each_other_step_by_step() {
        let claim = r#"pvc/d/c spec.accessModes=["ReadWriteOnce"] spec.resources.requests.storage=1Gi"#;
        let volume = |name: &str, size: &str| {
            format!(r#"pv/{name} spec.accessModes=["ReadWriteOnce"] spec.capacity.storage={size}"#)
        };
        let taken = r#"spec.claimRef={"namespace":"d","name":"c","uid":"uid-c"}"#;
        let named = r#"spec.volumeName=v metadata.annotations={"pv.kubernetes.io/bind-completed":"yes"}"#;
        for (case, world, writes) in [
            ("none fits", format!("{claim}; {}", volume("v", "1Mi")), "patch persistentvolumeclaims/status d/c"),
            (
                "the smallest that fits",
                format!("{claim}; {}; {}", volume("a", "9Gi"), volume("v", "2Gi")),
                "patch persistentvolumes v",
            ),
            (
                "another class",
                format!("{claim} spec.storageClassName=x; {}", volume("v", "2Gi")),
                "patch persistentvolumeclaims/status d/c",
            ),
            (
                "taken by another",
                format!("{claim}; {} {}", volume("v", "2Gi"), taken.replace("uid-c", "other")),
                "patch persistentvolumeclaims/status d/c",
            ),
            ("taken for it", format!("{claim}; {} {taken}", volume("v", "2Gi")), "patch persistentvolumeclaims d/c"),
            (
                "both know",
                format!("{claim} {named}; {} {taken}", volume("v", "2Gi")),
                "patch persistentvolumeclaims/status d/c",
            ),
            (
                "the volume is lost",
                format!("{claim} {named} status.phase=Bound"),
                "patch persistentvolumeclaims/status d/c",
            ),
            (
                "a provisioner is asked",
                format!("{claim} spec.storageClassName=x; sc/x .provisioner=p"),
                "patch persistentvolumeclaims d/c",
            ),
            (
                "it waits for a pod",
                format!(
                    "{claim} spec.storageClassName=x; sc/x .volumeBindingMode=WaitForFirstConsumer; {} spec.storageClassName=x",
                    volume("v", "2Gi")
                ),
                "patch persistentvolumeclaims/status d/c",
            ),
            (
                "a provisioner is asked once a node is chosen",
                format!(
                    r#"{claim} spec.storageClassName=x metadata.annotations={{"volume.kubernetes.io/selected-node":"n"}}; sc/x .provisioner=p .volumeBindingMode=WaitForFirstConsumer"#
                ),
                "patch persistentvolumeclaims d/c",
            ),
        ] {
            check(case, &world, "core/persistentvolumeclaims/d/c", super::reconcile, writes);
        }
        for (case, world, writes) in [
            ("free", volume("v", "1Gi"), "patch persistentvolumes/status v"),
            ("bound", format!("{} {taken} status.phase=Bound; {claim}", volume("v", "1Gi")), ""),
            (
                "released",
                format!("{} {taken} status.phase=Bound", volume("v", "1Gi")),
                "patch persistentvolumes/status v",
            ),
        ] {
            check(case, &world, "core/persistentvolumes//v", super::reconcile, writes);
        }
    }
}
