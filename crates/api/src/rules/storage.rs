//! storage.k8s.io: StorageClass, VolumeAttributesClass, VolumeAttachment, and what CSI drivers publish.

use serde_json::{Value, json};

use crate::field::FieldError;
use crate::kind::{Column, Rules};
use crate::names;
use crate::rules::cells::{self, NONE, UNSET, flag, list, scalar_or, text, text_or};
use crate::rules::check::{At, Errors};
use crate::rules::fill;
use crate::rules::plain::{PLAIN, WITH_STATUS};

/// Rules of StorageClasses.
pub static STORAGE_CLASS: Rules = Rules {
    validate: validate_class,
    validate_update: update_class,
    default: default_class,
    returns_deleted: true,
    columns: CLASS_COLUMNS,
    row: class_row,
    ..PLAIN
};

/// Rules of VolumeAttributesClasses.
pub static ATTRIBUTES_CLASS: Rules = Rules {
    returns_deleted: true,
    columns: ATTRIBUTES_COLUMNS,
    row: |object, now| vec![cells::name(object), text(&object["driverName"]).into(), cells::age(object, now)],
    ..PLAIN
};

/// Rules of CSIDrivers.
pub static CSI_DRIVER: Rules = Rules {
    default: default_driver,
    unconditional_update: false,
    returns_deleted: true,
    columns: DRIVER_COLUMNS,
    row: driver_row,
    ..PLAIN
};

/// Rules of CSINodes.
pub static CSI_NODE: Rules =
    Rules { unconditional_update: false, returns_deleted: true, columns: NODE_COLUMNS, row: node_row, ..PLAIN };

/// Rules of CSIStorageCapacities.
pub static CSI_CAPACITY: Rules =
    Rules { unconditional_update: false, returns_deleted: true, columns: CAPACITY_COLUMNS, row: capacity_row, ..PLAIN };

/// Rules of VolumeAttachments. Create keeps no status.
pub static ATTACHMENT: Rules = Rules {
    unconditional_update: false,
    returns_deleted: true,
    columns: ATTACHMENT_COLUMNS,
    row: attachment_row,
    ..WITH_STATUS
};

fn default_class(object: &mut Value) {
    let Some(object) = object.as_object_mut() else { return };
    fill::optional(object, "reclaimPolicy", "Delete");
    fill::optional(object, "volumeBindingMode", "Immediate");
}

fn default_driver(object: &mut Value) {
    let Some(spec) = object.as_object_mut().and_then(|o| fill::child(o, "spec")) else {
        return;
    };
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

const CLASS_COLUMNS: &[Column] = &[
    Column::NAME,
    Column::text("Provisioner", "What makes its volumes."),
    Column::text("ReclaimPolicy", "What happens to volumes when their claims are gone."),
    Column::text("VolumeBindingMode", "When volumes are made and bound."),
    Column::text("AllowVolumeExpansion", "Whether volumes can grow."),
    Column::AGE,
];

fn class_row(object: &Value, now: i64) -> Vec<Value> {
    vec![
        cells::name_or_default(object, "storageclass.kubernetes.io/is-default-class"),
        text(&object["provisioner"]).into(),
        text_or(&object["reclaimPolicy"], "Delete").into(),
        text_or(&object["volumeBindingMode"], "Immediate").into(),
        flag(&object["allowVolumeExpansion"]).into(),
        cells::age(object, now),
    ]
}

const DRIVER_COLUMNS: &[Column] = &[
    Column::NAME,
    Column::boolean("AttachRequired", "Whether volumes are attached before they are mounted."),
    Column::boolean("PodInfoOnMount", "Whether the driver learns of the pod."),
    Column::boolean("StorageCapacity", "Whether the driver publishes its capacity."),
    Column::text("TokenRequests", "Audiences of the tokens the driver gets."),
    Column::boolean("RequiresRepublish", "Whether volumes are published again and again."),
    Column::text("Modes", "Kinds of volumes it has."),
    Column::AGE,
];

fn driver_row(object: &Value, now: i64) -> Vec<Value> {
    let spec = &object["spec"];
    let joined = |values: &Value, field: Option<&str>| {
        let each = |value: &Value| text(field.map_or(value, |field| &value[field])).to_string();
        list(values).iter().map(each).collect::<Vec<_>>().join(",")
    };
    let modes = joined(&spec["volumeLifecycleModes"], None);
    let tokens =
        if spec["tokenRequests"].is_null() { UNSET.into() } else { joined(&spec["tokenRequests"], Some("audience")) };
    vec![
        cells::name(object),
        spec["attachRequired"].as_bool().unwrap_or(true).into(),
        flag(&spec["podInfoOnMount"]).into(),
        flag(&spec["storageCapacity"]).into(),
        tokens.into(),
        flag(&spec["requiresRepublish"]).into(),
        (if modes.is_empty() { NONE.into() } else { modes }).into(),
        cells::age(object, now),
    ]
}

const NODE_COLUMNS: &[Column] =
    &[Column::NAME, Column::integer("Drivers", "Number of drivers on the node."), Column::AGE];

fn node_row(object: &Value, now: i64) -> Vec<Value> {
    vec![cells::name(object), list(&object["spec"]["drivers"]).len().into(), cells::age(object, now)]
}

const CAPACITY_COLUMNS: &[Column] = &[
    Column::NAME,
    Column::text("StorageClassName", "Storage class the capacity is of."),
    Column::text("Capacity", "Space for volumes."),
];

fn capacity_row(object: &Value, _now: i64) -> Vec<Value> {
    let capacity = scalar_or(&object["capacity"], UNSET);
    vec![cells::name(object), text(&object["storageClassName"]).into(), capacity.into()]
}

const ATTACHMENT_COLUMNS: &[Column] = &[
    Column::NAME,
    Column { format: "name", ..Column::text("Attacher", "The driver that attaches.") },
    Column::text("PV", "The volume."),
    Column::text("Node", "The node it is attached to."),
    Column::boolean("Attached", "Whether it is attached."),
    Column::AGE,
];

fn attachment_row(object: &Value, now: i64) -> Vec<Value> {
    let spec = &object["spec"];
    vec![
        cells::name(object),
        text(&spec["attacher"]).into(),
        text(&spec["source"]["persistentVolumeName"]).into(),
        text(&spec["nodeName"]).into(),
        flag(&object["status"]["attached"]).into(),
        cells::age(object, now),
    ]
}

const ATTRIBUTES_COLUMNS: &[Column] =
    &[Column::NAME, Column::text("DriverName", "The driver that knows the attributes."), Column::AGE];

fn validate_class(object: &Value) -> Vec<FieldError> {
    let mut errors = Errors::default();
    errors.required_form(&At::ROOT.field("provisioner"), &object["provisioner"], |name| {
        names::qualified_name(&name.to_lowercase())
    });
    errors.one_of(&At::ROOT.field("reclaimPolicy"), &object["reclaimPolicy"], &["Delete", "Retain"]);
    let modes = ["Immediate", "WaitForFirstConsumer"];
    errors.required_one_of(&At::ROOT.field("volumeBindingMode"), &object["volumeBindingMode"], &modes);
    errors.0
}

fn update_class(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = Errors::default();
    for field in ["parameters", "provisioner", "reclaimPolicy", "volumeBindingMode"] {
        errors.immutable(&At::ROOT.field(field), &new[field], &old[field]);
    }
    errors.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::check::testing::check;

    #[test]
    fn classes_stay() {
        let class = |provisioner: &str| {
            let mut class = json!({"provisioner": provisioner});
            default_class(&mut class);
            class
        };
        check("good", &validate_class(&class("example.com/disk")), &[]);
        check("none", &validate_class(&class("")), &["provisioner: Required value"]);
        check(
            "changed",
            &update_class(&class("a/b"), &class("a/c")),
            &["provisioner: Invalid value: \"a/b\": field is immutable"],
        );
    }
}
