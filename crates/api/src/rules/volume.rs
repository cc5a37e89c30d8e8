//! core/v1 PersistentVolume and PersistentVolumeClaim, and the kinds of storage.k8s.io.

use serde_json::{Value, json};

use crate::kind::Rules;
use crate::rules::cells::text;
use crate::rules::fill::{self, Fields};
use crate::rules::plain::{self, PLAIN, WITH_STATUS};
use crate::rules::pod;

/// Rules of PersistentVolumes.
pub static VOLUME: Rules = Rules {
    default: default_volume,
    prepare_create: |object| plain::set_status(object, json!({"phase": "Pending"})),
    returns_deleted: true,
    ..WITH_STATUS
};

/// Rules of PersistentVolumeClaims.
pub static CLAIM: Rules = Rules {
    default: |object| {
        if let Some(object) = object.as_object_mut() {
            default_claim(object);
        }
    },
    prepare_create: |object| plain::set_status(object, json!({"phase": "Pending"})),
    returns_deleted: true,
    ..WITH_STATUS
};

/// Rules of StorageClasses.
pub static STORAGE_CLASS: Rules = Rules { default: default_class, returns_deleted: true, ..PLAIN };

/// Rules of CSIDrivers.
pub static CSI_DRIVER: Rules =
    Rules { default: default_driver, unconditional_update: false, returns_deleted: true, ..PLAIN };

/// Rules of CSINodes and CSIStorageCapacities.
pub static CSI_NODE: Rules = Rules { unconditional_update: false, returns_deleted: true, ..PLAIN };

/// Rules of VolumeAttachments. Create keeps no status.
pub static ATTACHMENT: Rules =
    Rules { unconditional_update: false, returns_deleted: true, ..WITH_STATUS };

/// Rules of VolumeAttributesClasses.
pub static ATTRIBUTES_CLASS: Rules = Rules { returns_deleted: true, ..PLAIN };

fn default_volume(object: &mut Value) {
    let Some(object) = object.as_object_mut() else { return };
    if let Some(status) = fill::child(object, "status") {
        fill::text(status, "phase", "Pending");
    }
    let Some(spec) = fill::child(object, "spec") else { return };
    fill::text(spec, "persistentVolumeReclaimPolicy", "Retain");
    fill::optional(spec, "volumeMode", "Filesystem");
    if let Some(host) = fill::existing(spec, "hostPath") {
        fill::optional(host, "type", "");
    }
    pod::defaults::network_volume(spec);
}

/// Defaults of a claim, also as a template in a StatefulSet.
pub fn default_claim(claim: &mut Fields) {
    if let Some(status) = fill::child(claim, "status") {
        fill::text(status, "phase", "Pending");
    }
    let Some(spec) = fill::child(claim, "spec") else { return };
    fill::optional(spec, "volumeMode", "Filesystem");
    data_source(spec);
}

/// `dataSource` and `dataSourceRef` say the same, as long as the source lives in the claim's namespace.
fn data_source(spec: &mut Fields) {
    let is_local = spec.get("dataSourceRef").is_none_or(|source| text(&source["namespace"]).is_empty());
    match (fill::is_unset(spec, "dataSource"), fill::is_unset(spec, "dataSourceRef")) {
        (false, true) => {
            let source = spec["dataSource"].clone();
            spec.insert("dataSourceRef".into(), source);
        }
        (true, false) if is_local => {
            let source = &spec["dataSourceRef"];
            let (group, kind) = (text(&source["apiGroup"]), text(&source["kind"]));
            let known = (group.is_empty() && kind == "PersistentVolumeClaim")
                || (group == "snapshot.storage.k8s.io" && kind == "VolumeSnapshot");
            if known {
                let source = source.clone();
                spec.insert("dataSource".into(), source);
            }
        }
        _ => {}
    }
}

fn default_class(object: &mut Value) {
    let Some(object) = object.as_object_mut() else { return };
    fill::optional(object, "reclaimPolicy", "Delete");
    fill::optional(object, "volumeBindingMode", "Immediate");
}

fn default_driver(object: &mut Value) {
    let Some(spec) = object.as_object_mut().and_then(|o| fill::child(o, "spec")) else { return };
    fill::optional(spec, "attachRequired", true);
    fill::optional(spec, "podInfoOnMount", false);
    fill::optional(spec, "storageCapacity", false);
    fill::optional(spec, "fsGroupPolicy", "ReadWriteOnceWithFSType");
    if fill::is_empty(spec, "volumeLifecycleModes") {
        spec.insert("volumeLifecycleModes".into(), json!(["Persistent"]));
    }
    fill::optional(spec, "requiresRepublish", false);
    fill::optional(spec, "seLinuxMount", false);
}
