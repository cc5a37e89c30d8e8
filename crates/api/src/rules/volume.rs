//! core/v1: PersistentVolume, PersistentVolumeClaim.

use serde_json::{Value, json};

use crate::field::FieldError;
use crate::kind::{Column, Rules};
use crate::names;
use crate::rules::cells::{self, UNSET, list, scalar_or, text, text_or};
use crate::rules::check::{At, Errors, same};
use crate::rules::fill::{self, Fields};
use crate::rules::plain::{self, WITH_STATUS};
use crate::rules::{pod, resources, selector};

/// Rules of PersistentVolumes.
pub static VOLUME: Rules = Rules {
    validate: validate_volume,
    validate_update: update_volume,
    default: default_volume,
    prepare_create: |object| plain::set_status(object, json!({"phase": "Pending"})),
    returns_deleted: true,
    columns: VOLUME_COLUMNS,
    row: volume_row,
    ..WITH_STATUS
};

/// Rules of PersistentVolumeClaims.
pub static CLAIM: Rules = Rules {
    validate: validate_claim,
    validate_update: update_claim,
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
        errors.invalid(&resources_at.key("storage"), storage, "must be greater than zero");
    }
    errors.form(&at.field("storageClassName"), &spec["storageClassName"], names::dns1123_subdomain);
    errors.one_of(&at.field("volumeMode"), &spec["volumeMode"], &["Block", "Filesystem"]);
    errors.form(&at.field("volumeAttributesClassName"), &spec["volumeAttributesClassName"], names::dns1123_subdomain);
}

/// Access modes: at least one, and ReadWriteOncePod only alone.
fn modes(modes: &Value, at: &At<'_>, errors: &mut Errors) {
    let modes = list(modes);
    if modes.is_empty() {
        errors.required(at, "");
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

/// Fields of a volume's spec that say nothing of where its data is.
const NOT_SOURCES: [&str; 9] = [
    "accessModes",
    "capacity",
    "claimRef",
    "mountOptions",
    "nodeAffinity",
    "persistentVolumeReclaimPolicy",
    "storageClassName",
    "volumeAttributesClassName",
    "volumeMode",
];

fn sources(spec: &Value) -> Vec<(&str, &Value)> {
    let fields = spec.as_object().into_iter().flatten();
    let is_source = |name: &str, value: &Value| !NOT_SOURCES.contains(&name) && !value.is_null();
    fields.filter(|(name, value)| is_source(name, value)).map(|(name, value)| (name.as_str(), value)).collect()
}

fn validate_volume(object: &Value) -> Vec<FieldError> {
    let (spec, at, mut errors) = (&object["spec"], At::ROOT.field("spec"), Errors::default());
    modes(&spec["accessModes"], &at.field("accessModes"), &mut errors);
    let (capacity, capacity_at) = (&spec["capacity"], at.field("capacity"));
    if cells::len(capacity) == 0 {
        errors.required(&capacity_at, "");
    } else if capacity["storage"].is_null() || cells::len(capacity) > 1 {
        errors.0.push(FieldError::not_supported(capacity_at.to_string(), capacity, &["storage"]));
    } else if resources::quantity(&capacity["storage"]).is_none_or(|size| size.is_zero() || size.is_negative()) {
        errors.invalid(&capacity_at.key("storage"), &capacity["storage"], "must be greater than zero");
    }
    let policies = ["Delete", "Recycle", "Retain"];
    errors.one_of(&at.field("persistentVolumeReclaimPolicy"), &spec["persistentVolumeReclaimPolicy"], &policies);
    if !spec["nodeAffinity"]["required"].is_null() {
        let affinity = at.field("nodeAffinity");
        selector::node_selector(&spec["nodeAffinity"]["required"], &affinity.field("required"), &mut errors);
    }
    let sources = sources(spec);
    if sources.is_empty() {
        errors.required(&at, "must specify a volume type");
    }
    for (name, _) in sources.iter().skip(1) {
        errors.forbidden(&at.field(name), "may not specify more than 1 volume type");
    }
    if sources.iter().any(|(name, _)| *name == "local") && spec["nodeAffinity"].is_null() {
        errors.required(&at.field("nodeAffinity"), "Local volume requires node affinity");
    }
    errors.form(&at.field("storageClassName"), &spec["storageClassName"], names::dns1123_subdomain);
    errors.one_of(&at.field("volumeMode"), &spec["volumeMode"], &["Block", "Filesystem"]);
    errors.0
}

fn update_volume(new: &Value, old: &Value) -> Vec<FieldError> {
    if same(&new["spec"], &old["spec"]) {
        return Vec::new();
    }
    let (mut errors, at) = (Errors(validate_volume(new)), At::ROOT.field("spec"));
    if sources(&new["spec"]) != sources(&old["spec"]) {
        let detail = "spec.persistentvolumesource is immutable after creation";
        errors.forbidden(&at.field("persistentvolumesource"), detail);
    }
    errors.immutable(&At::ROOT.field("volumeMode"), &new["spec"]["volumeMode"], &old["spec"]["volumeMode"]);
    errors.0
}

fn validate_claim(object: &Value) -> Vec<FieldError> {
    let mut errors = Errors::default();
    claim_spec(&object["spec"], &At::ROOT.field("spec"), &mut errors);
    errors.0
}

/// A claim keeps its spec; once bound it may grow and change its attributes.
fn update_claim(new: &Value, old: &Value) -> Vec<FieldError> {
    if same(&new["spec"], &old["spec"]) {
        return Vec::new();
    }
    let (mut errors, at) = (Errors(validate_claim(new)), At::ROOT.field("spec"));
    let is_bound = old["status"]["phase"] == "Bound";
    let (spec, stored) = (&new["spec"], &old["spec"]);
    let names = spec.as_object().into_iter().chain(stored.as_object()).flatten().map(|(name, _)| name.as_str());
    let may_change = |name: &str| match name {
        "volumeName" => text(&stored["volumeName"]).is_empty(),
        "storageClassName" => stored["storageClassName"].is_null(),
        "volumeAttributesClassName" => is_bound,
        "resources" => is_bound && same(&spec["resources"]["limits"], &stored["resources"]["limits"]),
        _ => false,
    };
    if names.into_iter().any(|name| !may_change(name) && !same(&spec[name], &stored[name])) {
        let detail =
            "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims";
        errors.forbidden(&at, detail);
    }
    let size = |object: &Value, part: &str| resources::quantity(&object[part]["storage"]);
    let (wanted, had) = (size(&spec["resources"], "requests"), size(&stored["resources"], "requests"));
    if wanted < had && wanted <= size(&old["status"], "capacity") {
        let resources = at.field("resources");
        let requests = resources.field("requests");
        errors.forbidden(&requests.field("storage"), "field can not be less than status.capacity");
    }
    errors.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::check::testing::check;

    fn claim(size: &str) -> Value {
        let mut claim =
            json!({"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}}});
        (CLAIM.default)(&mut claim);
        claim
    }

    #[test]
    fn claims_grow_once_bound() {
        check("good", &validate_claim(&claim("1Gi")), &[]);
        let none = ["spec.resources[storage]: Invalid value: \"0\": must be greater than zero"];
        check("none", &validate_claim(&claim("0")), &none);
        check(
            "nothing",
            &validate_claim(&json!({"spec": {}})),
            &["spec.accessModes: Required value", "spec.resources[storage]: Required value"],
        );
        check(
            "unbound",
            &update_claim(&claim("2Gi"), &claim("1Gi")),
            &["spec: Forbidden: spec is immutable after creation"],
        );
        let mut bound = claim("1Gi");
        bound["status"] = json!({"phase": "Bound", "capacity": {"storage": "1Gi"}});
        check("grow", &update_claim(&claim("2Gi"), &bound), &[]);
        check(
            "shrink",
            &update_claim(&claim("1Mi"), &bound),
            &["spec.resources.requests.storage: Forbidden: field can not be less than status.capacity"],
        );
    }

    #[test]
    fn volumes_have_one_source() {
        for (case, source, errors) in [
            ("good", json!({"hostPath": {"path": "/tmp"}}), &[][..]),
            ("none", json!({}), &["spec: Required value: must specify a volume type"]),
            (
                "two",
                json!({"hostPath": {"path": "/tmp"}, "nfs": {}}),
                &["spec.nfs: Forbidden: may not specify more than 1 volume type"],
            ),
            (
                "local",
                json!({"local": {"path": "/tmp"}}),
                &["spec.nodeAffinity: Required value: Local volume requires node affinity"],
            ),
        ] {
            let mut volume = json!({"spec": {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}}});
            if let (Some(spec), Some(source)) = (volume["spec"].as_object_mut(), source.as_object()) {
                spec.extend(source.clone());
            }
            check(case, &validate_volume(&volume), errors);
        }
    }

    #[test]
    fn a_claim_in_a_row() {
        let mut claim = claim("1Gi");
        claim["metadata"] = json!({"name": "c"});
        claim["spec"]["volumeName"] = json!("v");
        claim["status"] =
            json!({"phase": "Bound", "capacity": {"storage": "1Gi"}, "accessModes": ["ReadOnlyMany", "ReadWriteOnce"]});
        let row = claim_row(&claim, 0);
        let cells: Vec<&str> = row.iter().filter_map(Value::as_str).collect();
        assert_eq!(cells, ["c", "Bound", "v", "1Gi", "RWO,ROX", "", "<unset>", "<unknown>", "Filesystem"]);
    }
}
