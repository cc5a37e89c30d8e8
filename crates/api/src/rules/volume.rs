//! core/v1: PersistentVolume, PersistentVolumeClaim.

use serde_json::{Value, json};

use crate::kind::{Column, Rules};
use crate::names;
use crate::rules::cells::{self, UNSET, list, scalar_or, text, text_or};
use crate::rules::check::{At, Errors};
use crate::rules::fill::{self, Fields};
use crate::rules::plain::{self, WITH_STATUS};
use crate::rules::{pod, resources, selector};

/// Rules of PersistentVolumes.
pub static VOLUME: Rules = Rules {
    default: default_volume,
    prepare_create: |object| plain::set_status(object, json!({"phase": "Pending"})),
    returns_deleted: true,
    columns: VOLUME_COLUMNS,
    row: volume_row,
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
    columns: CLAIM_COLUMNS,
    row: claim_row,
    ..WITH_STATUS
};

fn default_volume(object: &mut Value) {
    let Some(object) = object.as_object_mut() else { return };
    if let Some(status) = fill::child(object, "status") {
        fill::text(status, "phase", "Pending");
    }
    let Some(spec) = fill::child(object, "spec") else {
        return;
    };
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

/// Errors of a claim's spec, also inside pods and StatefulSets.
pub fn claim_spec(spec: &Value, at: &At<'_>, errors: &mut Errors) {
    modes(&spec["accessModes"], &at.field("accessModes"), errors);
    selector::label_selector(&spec["selector"], &at.field("selector"), errors);
    let storage = &spec["resources"]["requests"]["storage"];
    let resources_at = at.field("resources");
    if storage.is_null() {
        errors.required(&resources_at.key("storage"), "");
    } else if resources::quantity(storage).is_none_or(|size| size.is_negative() || size.is_zero()) {
        errors.invalid(&resources_at.field("requests").key("storage"), storage, "must be greater than zero");
    }
    errors.form(&at.field("storageClassName"), &spec["storageClassName"], names::dns1123_subdomain);
    errors.one_of(&at.field("volumeMode"), &spec["volumeMode"], &["Block", "Filesystem"]);
    errors.form(&at.field("volumeAttributesClassName"), &spec["volumeAttributesClassName"], names::dns1123_subdomain);
}

/// Access modes: at least one, and ReadWriteOncePod only alone.
fn modes(modes: &Value, at: &At<'_>, errors: &mut Errors) {
    let modes = list(modes);
    if modes.is_empty() {
        errors.required(at, "at least 1 access mode is required");
    }
    for mode in modes {
        errors.one_of(at, mode, &["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"]);
    }
    if modes.len() > 1 && modes.iter().any(|mode| mode == "ReadWriteOncePod") {
        errors.forbidden(at, "may not use ReadWriteOncePod with other access modes");
    }
}

const VOLUME_COLUMNS: &[Column] = &[
    Column::NAME,
    Column::text("Capacity", "Size of the volume."),
    Column::text("Access Modes", "How it can be mounted."),
    Column::text("Reclaim Policy", "What happens to it when its claim is gone."),
    Column::text("Status", "Whether it is bound."),
    Column::text("Claim", "The claim it is bound to."),
    Column::text("StorageClass", "Its storage class."),
    Column::text("VolumeAttributesClass", "Its volume attributes class."),
    Column::text("Reason", "Why it is in this status."),
    Column::AGE,
    Column::text("VolumeMode", "File system or block device.").wide(),
];

fn volume_row(object: &Value, now: i64) -> Vec<Value> {
    let (spec, status) = (&object["spec"], &object["status"]);
    let claim = match &spec["claimRef"] {
        Value::Null => String::new(),
        claim => format!("{}/{}", text(&claim["namespace"]), text(&claim["name"])),
    };
    vec![
        cells::name(object),
        scalar_or(&spec["capacity"]["storage"], "0").into(),
        access_modes(&spec["accessModes"]).into(),
        text(&spec["persistentVolumeReclaimPolicy"]).into(),
        phase(object).into(),
        claim.into(),
        class(object).into(),
        text_or(&spec["volumeAttributesClassName"], UNSET).into(),
        text(&status["reason"]).into(),
        cells::age(object, now),
        text_or(&spec["volumeMode"], UNSET).into(),
    ]
}

const CLAIM_COLUMNS: &[Column] = &[
    Column::NAME,
    Column::text("Status", "Whether it is bound."),
    Column::text("Volume", "The volume it is bound to."),
    Column::text("Capacity", "Size of the volume."),
    Column::text("Access Modes", "How the volume can be mounted."),
    Column::text("StorageClass", "Its storage class."),
    Column::text("VolumeAttributesClass", "Its volume attributes class."),
    Column::AGE,
    Column::text("VolumeMode", "File system or block device.").wide(),
];

fn claim_row(object: &Value, now: i64) -> Vec<Value> {
    let (spec, status) = (&object["spec"], &object["status"]);
    let volume = text(&spec["volumeName"]);
    let (capacity, modes) = if volume.is_empty() {
        (String::new(), String::new())
    } else {
        (scalar_or(&status["capacity"]["storage"], "0"), access_modes(&status["accessModes"]))
    };
    vec![
        cells::name(object),
        phase(object).into(),
        volume.into(),
        capacity.into(),
        modes.into(),
        class(object).into(),
        text_or(&spec["volumeAttributesClassName"], UNSET).into(),
        cells::age(object, now),
        text_or(&spec["volumeMode"], UNSET).into(),
    ]
}

fn phase(object: &Value) -> &str {
    if cells::is_terminating(object) { "Terminating" } else { text(&object["status"]["phase"]) }
}

/// The storage class of a volume or claim; an annotation was its place before the field.
fn class(object: &Value) -> &str {
    let annotation = &object["metadata"]["annotations"]["volume.beta.kubernetes.io/storage-class"];
    annotation.as_str().unwrap_or(text(&object["spec"]["storageClassName"]))
}

/// Access modes by their initials, in fixed order, each once.
fn access_modes(modes: &Value) -> String {
    let initials =
        [("ReadWriteOnce", "RWO"), ("ReadOnlyMany", "ROX"), ("ReadWriteMany", "RWX"), ("ReadWriteOncePod", "RWOP")];
    let present = initials.into_iter().filter(|(mode, _)| list(modes).iter().any(|m| m == mode));
    present.map(|(_, short)| short).collect::<Vec<_>>().join(",")
}
