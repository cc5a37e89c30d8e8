//! Local volumes: makes, grows and gives back the volumes of the built-in local storage (docs/storage.md).
//!
//! Reads PersistentVolumeClaims, PersistentVolumes, StorageClasses and Nodes. Writes volumes and the size of claims. Leaves to
//! others: the node, to the scheduler; the binding, to the volume binder; the directory, to the agent of the node, which
//! makes it at first use and takes the volume's finalizer off once it is removed.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;
use mizzen_api::key;
use mizzen_api::volumes::{self, PROVISIONED_BY, STORAGE_PROVISIONER, local};
use mizzen_store::{Event, Snapshot};
use serde_json::json;

use crate::meta::{self, Meta};
use crate::plan::{ControllerError, Note, Plan, Target, Write};
use crate::shell::Wake;
use crate::volume_protection::release;

/// The label by which a volume's node affinity names its node.
const HOSTNAME: &str = "kubernetes.io/hostname";
/// A directory belongs to one node, so only these modes can be kept.
const MODES: [&str; 2] = ["ReadWriteOnce", "ReadWriteOncePod"];

/// The writes about the claim at `claim_key`: its volume is made, or grows with it.
///
/// # Errors
/// None: what cannot be read is left alone.
pub fn claim(snapshot: &Snapshot, claim_key: &str, _now: Timestamp) -> Result<Plan, ControllerError> {
    let mut plan = Plan::default();
    let Some(claim) = snapshot.get_as::<PersistentVolumeClaim>(claim_key).filter(|c| !c.is_deleting()) else {
        return Ok(plan);
    };
    match volumes::bound_volume(&claim) {
        Some(volume) => grow(snapshot, &claim, volume, &mut plan),
        None if claim.annotation(STORAGE_PROVISIONER) == Some(local::DRIVER) => provision(snapshot, &claim, &mut plan),
        None => {}
    }
    Ok(plan)
}

fn provision(snapshot: &Snapshot, claim: &PersistentVolumeClaim, plan: &mut Plan) {
    let name = format!("pvc-{}", claim.uid());
    let named = claim.spec.as_ref().is_some_and(|s| s.volume_name.as_deref().is_some_and(|n| !n.is_empty()));
    if named || snapshot.get(&key::of::<PersistentVolume>("", &name)).is_some() {
        return;
    }
    let class = snapshot.get_as::<StorageClass>(&key::of::<StorageClass>("", volumes::class(claim)));
    let node = volumes::selected_node(claim).and_then(|n| snapshot.get_as::<Node>(&key::of::<Node>("", n)));
    let (Some(class), None) = (class, refusal(claim)) else {
        plan.notes.extend(refusal(claim).map(|why| failed(claim, why)));
        return;
    };
    let Some(node) = node else {
        let waits = class.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer");
        let why =
            "the class must have volumeBindingMode WaitForFirstConsumer: a local volume is made on the node of its pod";
        plan.notes.extend((!waits).then(|| failed(claim, why)));
        return; // The choice of a node wakes us.
    };
    plan.write(Write::Create { object: volume(claim, &class, &node, &name) });
}

/// Why no local volume can be what the claim asks for.
fn refusal(claim: &PersistentVolumeClaim) -> Option<&'static str> {
    let spec = claim.spec.as_ref()?;
    if spec.volume_mode.as_deref() == Some("Block") {
        return Some("local volumes are file systems: volumeMode Block cannot be had");
    }
    let kept = spec.access_modes.iter().flatten().all(|mode| MODES.contains(&mode.as_str()));
    (!kept).then_some("local volumes belong to one node: only ReadWriteOnce and ReadWriteOncePod can be had")
}

fn volume(claim: &PersistentVolumeClaim, class: &StorageClass, node: &Node, name: &str) -> serde_json::Value {
    let spec = claim.spec.as_ref();
    let host = node.label(HOSTNAME).unwrap_or(node.name());
    json!({
        "apiVersion": "v1", "kind": "PersistentVolume",
        "metadata": {"name": name, "annotations": {PROVISIONED_BY: local::DRIVER},
            "labels": {local::NODE_LABEL: node.name()}, "finalizers": [local::FINALIZER]},
        "spec": {
            "capacity": {"storage": volumes::requested(claim).map(|q| q.to_string())},
            "accessModes": spec.and_then(|s| s.access_modes.clone()),
            "volumeMode": "Filesystem",
            "persistentVolumeReclaimPolicy": class.reclaim_policy.as_deref().unwrap_or("Delete"),
            "storageClassName": class.name(),
            "claimRef": meta::reference(claim),
            "csi": {"driver": local::DRIVER, "volumeHandle": name},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [
                {"matchExpressions": [{"key": HOSTNAME, "operator": "In", "values": [host]}]}]}},
        },
    })
}

/// A directory has no size of its own: the volume says what the claim asks for, and the claim what the volume says.
fn grow(snapshot: &Snapshot, claim: &PersistentVolumeClaim, volume: &str, plan: &mut Plan) {
    let volume = snapshot.get_as::<PersistentVolume>(&key::of::<PersistentVolume>("", volume));
    let Some(volume) = volume.filter(|v| local::node(v).is_some()) else { return };
    let (Some(asked), Some(has)) = (volumes::requested(claim), volumes::capacity(&volume)) else { return };
    if asked > has {
        plan.write(Write::Merge {
            target: Target::of::<PersistentVolume>("", volume.name()),
            subresource: "",
            patch: json!({"metadata": {"uid": volume.uid(), "resourceVersion": volume.version()},
                "spec": {"capacity": {"storage": asked.to_string()}}}),
        });
        return; // The volume's change wakes us.
    }
    let old = claim.status.clone().unwrap_or_default();
    let mut new = old.clone();
    let known = old.capacity.as_ref().and_then(|c| c.get("storage")?.0.parse::<mizzen_api::quantity::Quantity>().ok());
    if known.is_some_and(|known| known < has) {
        new.capacity = volume.spec.as_ref().and_then(|s| s.capacity.clone());
        plan.status(claim, &old, &new);
    }
}

/// The writes about the volume at `volume_key`: it goes with its claim if its class says so; its directory with its node.
///
/// # Errors
/// None: what cannot be read is left alone.
pub fn give_back(snapshot: &Snapshot, volume_key: &str, _now: Timestamp) -> Result<Plan, ControllerError> {
    let mut plan = Plan::default();
    let Some(volume) = snapshot.get_as::<PersistentVolume>(volume_key) else { return Ok(plan) };
    let Some(node) = local::node(&volume) else { return Ok(plan) };
    if volume.is_deleting() {
        if snapshot.get(&key::of::<Node>("", node)).is_none() {
            release(&*volume, local::FINALIZER, &mut plan);
        }
        return Ok(plan);
    }
    let policy = volume.spec.as_ref().and_then(|s| s.persistent_volume_reclaim_policy.as_deref());
    let released = volume.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Released");
    if released && policy == Some("Delete") {
        plan.write(Write::Delete {
            target: Target::of::<PersistentVolume>("", volume.name()),
            uid: volume.uid().into(),
            resource_version: Some(volume.version().into()),
            propagation: None,
            grace_seconds: None,
        });
    }
    Ok(plan)
}

fn failed(claim: &PersistentVolumeClaim, why: &str) -> Note {
    Note { about: meta::reference(claim), warning: true, reason: "ProvisioningFailed", message: why.into() }
}

/// A volume wakes the claim it is bound to, which may have asked for more.
pub(crate) fn woken_by_volumes() -> (String, Wake) {
    let wake = |snapshot: &Snapshot, event: &Event| {
        let volume = snapshot.get_as::<PersistentVolume>(event.key());
        let reference = volume.as_ref().and_then(|v| v.spec.as_ref()?.claim_ref.as_ref());
        let claim = |r: &k8s_openapi::api::core::v1::ObjectReference| {
            Some(key::of::<PersistentVolumeClaim>(r.namespace.as_deref()?, r.name.as_deref()?))
        };
        reference.and_then(claim).into_iter().collect()
    };
    (key::all::<PersistentVolume>(), std::sync::Arc::new(wake))
}

/// A node that goes wakes the volumes on it.
pub(crate) fn woken_by_nodes() -> (String, Wake) {
    let wake = |snapshot: &Snapshot, event: &Event| {
        if snapshot.get(event.key()).is_some() {
            return Vec::new();
        }
        let Some((_, _, _, gone)) = key::parse(event.key()) else { return Vec::new() };
        let prefix = key::all::<PersistentVolume>();
        let there = snapshot.list_as::<PersistentVolume>(&prefix).filter(|v| local::node(v) == Some(gone));
        there.map(|v| key::of::<PersistentVolume>("", v.name())).collect()
    };
    (key::all::<Node>(), std::sync::Arc::new(wake))
}

#[cfg(test)]
mod tests {
    use crate::testing::check;

    #[test]
    fn claims_get_their_directory() {
        let class = "sc/x .provisioner=mizzen.dev/local .volumeBindingMode=WaitForFirstConsumer";
        let claim = |modes: &str, annotations: &str| {
            format!(
                r#"pvc/d/c spec.storageClassName=x spec.accessModes=["{modes}"] spec.resources.requests.storage=1Gi metadata.annotations={{"volume.kubernetes.io/storage-provisioner":"mizzen.dev/local"{annotations}}}"#
            )
        };
        let on = r#","volume.kubernetes.io/selected-node":"n""#;
        let bound = r#","pv.kubernetes.io/bind-completed":"yes""#;
        let volume = |size: &str| {
            format!(
                r#"pv/v metadata.labels={{"mizzen.dev/node":"n"}} spec.csi={{"driver":"mizzen.dev/local","volumeHandle":"v"}} spec.capacity.storage={size}"#
            )
        };
        for (case, world, writes) in [
            ("made", format!("{class}; node/n; {}", claim("ReadWriteOnce", on)), "create PersistentVolume pvc-uid-c"),
            ("made once", format!("{class}; node/n; pv/pvc-uid-c; {}", claim("ReadWriteOnce", on)), ""),
            ("no node yet", format!("{class}; node/n; {}", claim("ReadWriteOnce", "")), ""),
            ("for many nodes", format!("{class}; node/n; {}", claim("ReadWriteMany", on)), ""),
            (
                "grows",
                format!("{}; {} spec.volumeName=v", volume("500Mi"), claim("ReadWriteOnce", bound)),
                "patch persistentvolumes v",
            ),
            (
                "has grown",
                format!(
                    "{}; {} spec.volumeName=v status.capacity.storage=500Mi",
                    volume("1Gi"),
                    claim("ReadWriteOnce", bound)
                ),
                "patch persistentvolumeclaims/status d/c",
            ),
        ] {
            check(case, &world, "core/persistentvolumeclaims/d/c", super::claim, writes);
        }
        let policy = "spec.persistentVolumeReclaimPolicy";
        for (case, world, writes) in [
            (
                "released",
                format!("{} {policy}=Delete status.phase=Released", volume("1Gi")),
                "delete persistentvolumes v",
            ),
            ("kept", format!("{} {policy}=Retain status.phase=Released", volume("1Gi")), ""),
            ("in use", format!("{} {policy}=Delete status.phase=Bound", volume("1Gi")), ""),
            (
                "its node is gone",
                format!(r#"{} metadata.finalizers=["mizzen.dev/local-volume"] deleting"#, volume("1Gi")),
                "patch persistentvolumes v",
            ),
            (
                "its node removes it",
                format!(r#"node/n; {} metadata.finalizers=["mizzen.dev/local-volume"] deleting"#, volume("1Gi")),
                "",
            ),
            ("another driver's", "pv/v status.phase=Released spec.persistentVolumeReclaimPolicy=Delete".into(), ""),
        ] {
            check(case, &world, "core/persistentvolumes//v", super::give_back, writes);
        }
    }
}
