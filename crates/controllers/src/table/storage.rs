//! Controllers of claims and volumes.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};

use crate::shell::Controller;
use crate::wake::{every, itself};
use crate::{ephemeral_volume, local_volume, volume_binder, volume_protection};

pub(super) fn controllers() -> Vec<Controller> {
    vec![
        Controller {
            name: "persistentvolume-binder-controller",
            identity: "persistent-volume-binder",
            start: volume_binder::everything(),
            wakes: vec![volume_binder::woken_by_volumes(), volume_binder::woken_by_claims()],
            reconcile: Arc::new(volume_binder::reconcile),
        },
        Controller {
            name: "local-volume-provisioner",
            identity: "persistent-volume-binder",
            start: every::<PersistentVolumeClaim>(),
            wakes: vec![itself::<PersistentVolumeClaim>(), local_volume::woken_by_volumes()],
            reconcile: Arc::new(local_volume::claim),
        },
        Controller {
            name: "local-volume-reclaimer",
            identity: "persistent-volume-binder",
            start: every::<PersistentVolume>(),
            wakes: vec![itself::<PersistentVolume>(), local_volume::woken_by_nodes()],
            reconcile: Arc::new(local_volume::give_back),
        },
        Controller {
            name: "ephemeral-volume-controller",
            identity: "ephemeral-volume-controller",
            start: every::<Pod>(),
            wakes: vec![itself::<Pod>()],
            reconcile: Arc::new(ephemeral_volume::reconcile),
        },
        Controller {
            name: "persistentvolumeclaim-protection-controller",
            identity: "pvc-protection-controller",
            start: every::<PersistentVolumeClaim>(),
            wakes: vec![itself::<PersistentVolumeClaim>(), volume_protection::woken_by_pods()],
            reconcile: Arc::new(volume_protection::claim),
        },
        Controller {
            name: "persistentvolume-protection-controller",
            identity: "pv-protection-controller",
            start: every::<PersistentVolume>(),
            wakes: vec![itself::<PersistentVolume>()],
            reconcile: Arc::new(volume_protection::volume),
        },
    ]
}
