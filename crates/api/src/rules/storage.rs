//! storage.k8s.io: StorageClass, VolumeAttributesClass, VolumeAttachment.

use serde_json::Value;

use crate::field::FieldError;
use crate::kind::{Column, Rules};
use crate::names;
use crate::rules::cells::{self, flag, list, text, text_or};
use crate::rules::check::{At, Errors, same};
use crate::rules::plain::{PLAIN, WITH_STATUS};
use crate::rules::{csi, fill};

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
    validate: validate_attributes,
    validate_update: update_attributes,
    returns_deleted: true,
    columns: ATTRIBUTES_COLUMNS,
    row: |object, now| vec![cells::name(object), text(&object["driverName"]).into(), cells::age(object, now)],
    ..PLAIN
};

/// Rules of VolumeAttachments. Create keeps no status.
pub static ATTACHMENT: Rules = Rules {
    validate: validate_attachment,
    validate_update: |new, old| {
        let mut errors = Errors::default();
        errors.immutable(&At::ROOT.field("spec"), &new["spec"], &old["spec"]);
        errors.0
    },
    validate_status_update: |new, _| {
        let mut errors = Errors::default();
        attachment_status(&new["status"], &mut errors);
        errors.0
    },
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
    provisioner(&object["provisioner"], &At::ROOT.field("provisioner"), &mut errors);
    parameters(&object["parameters"], &At::ROOT.field("parameters"), &mut errors);
    errors.one_of(&At::ROOT.field("reclaimPolicy"), &object["reclaimPolicy"], &["Delete", "Retain"]);
    let modes = ["Immediate", "WaitForFirstConsumer"];
    errors.required_one_of(&At::ROOT.field("volumeBindingMode"), &object["volumeBindingMode"], &modes);
    topologies(&object["allowedTopologies"], &At::ROOT.field("allowedTopologies"), &mut errors);
    errors.0
}

fn provisioner(value: &Value, at: &At<'_>, errors: &mut Errors) {
    errors.required_form(at, value, |name| names::qualified_name(&name.to_lowercase()));
}

fn parameters(parameters: &Value, at: &At<'_>, errors: &mut Errors) {
    /// Most parameters, and bytes of all together.
    const MAX: (usize, usize) = (512, 256 << 10);
    let Some(parameters) = parameters.as_object() else { return };
    if parameters.len() > MAX.0 {
        errors.too_long(at, MAX.0);
        return;
    }
    if parameters.contains_key("") {
        errors.invalid(at, "", "field can not be empty.");
    }
    if parameters.iter().map(|(name, value)| name.len() + text(value).len()).sum::<usize>() > MAX.1 {
        errors.too_long(at, MAX.1);
    }
}

fn topologies(terms: &Value, at: &At<'_>, errors: &mut Errors) {
    let terms = list(terms);
    for (i, term) in terms.iter().enumerate() {
        let at = at.index(i);
        let at = at.field("matchLabelExpressions");
        let expressions = list(&term["matchLabelExpressions"]);
        for (j, expression) in expressions.iter().enumerate() {
            let at = at.index(j);
            let (values, values_at) = (list(&expression["values"]), at.field("values"));
            if values.is_empty() {
                errors.required(&values_at, "");
            }
            for (k, value) in values.iter().enumerate().filter(|(k, value)| values[..*k].contains(value)) {
                errors.duplicate(&values_at.index(k), value);
            }
            errors.all(&at.field("key"), &expression["key"], names::qualified_name(text(&expression["key"])));
            if expressions[..j].iter().any(|before| before["key"] == expression["key"]) {
                errors.duplicate(&at.field("key"), &expression["key"]);
            }
        }
        if terms[..i].iter().any(|before| same(before, term)) {
            errors.duplicate(&at, "");
        }
    }
}

fn validate_attributes(object: &Value) -> Vec<FieldError> {
    let mut errors = Errors::default();
    provisioner(&object["driverName"], &At::ROOT.field("driverName"), &mut errors);
    let at = At::ROOT.field("parameters");
    parameters(&object["parameters"], &at, &mut errors);
    if object["parameters"].as_object().is_none_or(serde_json::Map::is_empty) {
        errors.required(&at, "must contain at least one key/value pair");
    }
    errors.0
}

fn update_attributes(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = Errors::default();
    for (field, detail) in
        [("driverName", "updates to driverName are forbidden."), ("parameters", "updates to parameters are forbidden.")]
    {
        if !same(&new[field], &old[field]) {
            errors.forbidden(&At::ROOT.field(field), detail);
        }
    }
    errors.0
}

fn validate_attachment(object: &Value) -> Vec<FieldError> {
    let (spec, at, mut errors) = (&object["spec"], At::ROOT.field("spec"), Errors::default());
    csi::driver_name(&spec["attacher"], &at.field("attacher"), &mut errors);
    let (source, source_at) = (&spec["source"], at.field("source"));
    let (name, inline) = (&source["persistentVolumeName"], &source["inlineVolumeSpec"]);
    let one = "must specify exactly one of inlineVolumeSpec and persistentVolumeName";
    match (name.is_null(), inline.is_null()) {
        (true, true) => errors.required(&source_at, one),
        (false, false) => errors.forbidden(&source_at, one),
        (false, true) => {
            let at = source_at.field("persistentVolumeName");
            match text(name) {
                "" => errors.required(&at, "must specify non empty persistentVolumeName"),
                name => errors.all(&at, name, names::dns1123_subdomain(name)),
            }
        }
        (true, false) => {}
    }
    let node = text(&spec["nodeName"]);
    errors.all(&at.field("nodeName"), node, names::dns1123_subdomain(node));
    attachment_status(&object["status"], &mut errors);
    errors.0
}

fn attachment_status(status: &Value, errors: &mut Errors) {
    /// Most bytes of what a driver says of an attachment.
    const MAX: usize = 256 << 10;
    let at = At::ROOT.field("status");
    let metadata = status["attachmentMetadata"].as_object();
    if metadata.is_some_and(|m| m.iter().map(|(name, value)| name.len() + text(value).len()).sum::<usize>() > MAX) {
        errors.too_long(&at.field("attachmentMetadata"), MAX);
    }
    for field in ["attachError", "detachError"] {
        let (error, at) = (&status[field], at.field(field));
        if text(&error["message"]).len() > MAX {
            errors.too_long(&at.field("message"), MAX);
        }
        let code = &error["errorCode"];
        if code.as_i64().is_some_and(|code| code < 0) {
            let detail = format!("must be between 0 and {}, inclusive", i32::MAX);
            errors.invalid(&at.field("errorCode"), code, detail);
        }
    }
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
    use serde_json::json;

    #[test]
    fn classes_stay() {
        let class = |provisioner: &str| {
            let mut class = json!({"provisioner": provisioner});
            default_class(&mut class);
            class
        };
        check("good", &validate_class(&class("example.com/disk")), &[]);
        check("none", &validate_class(&class("")), &["provisioner: Required value"]);
        let mut class_with = class("example.com/disk");
        class_with["allowedTopologies"] = json!([{"matchLabelExpressions": [{"key": "zone", "values": []}]}]);
        class_with["parameters"] = json!({"": "x"});
        check(
            "where and how",
            &validate_class(&class_with),
            &[
                "parameters: Invalid value: \"\": field can not be empty.",
                "allowedTopologies[0].matchLabelExpressions[0].values: Required value",
            ],
        );
        check(
            "changed",
            &update_class(&class("a/b"), &class("a/c")),
            &["provisioner: Invalid value: \"a/b\": field is immutable"],
        );
    }

    #[test]
    fn attachments_name_one_volume() {
        let attachment =
            |source: Value| json!({"spec": {"attacher": "d.example.com", "nodeName": "n", "source": source}});
        for (case, source, errors) in [
            ("good", json!({"persistentVolumeName": "v"}), &[][..]),
            ("none", json!({}), &["spec.source: Required value: must specify exactly one"]),
            (
                "both",
                json!({"persistentVolumeName": "v", "inlineVolumeSpec": {}}),
                &["spec.source: Forbidden: must specify exactly one"],
            ),
            ("empty", json!({"persistentVolumeName": ""}), &["spec.source.persistentVolumeName: Required value"]),
        ] {
            check(case, &validate_attachment(&attachment(source)), errors);
        }
    }

    #[test]
    fn attributes_are_there_and_stay() {
        let class = |parameters: Value| json!({"driverName": "d.example.com", "parameters": parameters});
        check("good", &validate_attributes(&class(json!({"a": "b"}))), &[]);
        check(
            "none",
            &validate_attributes(&class(json!({}))),
            &["parameters: Required value: must contain at least one"],
        );
        check(
            "changed",
            &update_attributes(&class(json!({"a": "c"})), &class(json!({"a": "b"}))),
            &["parameters: Forbidden: updates to parameters are forbidden."],
        );
    }
}
