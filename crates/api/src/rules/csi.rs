//! What CSI drivers publish: storage.k8s.io/v1 CSIDriver, CSINode, CSIStorageCapacity.

use serde_json::{Value, json};

use crate::field::FieldError;
use crate::kind::{Column, Rules};
use crate::names;
use crate::rules::cells::{self, NONE, UNSET, flag, list, scalar_or, text};
use crate::rules::check::{At, Errors, same};
use crate::rules::fill;
use crate::rules::plain::PLAIN;
use crate::rules::{resources, selector};

/// Longest name of a driver, bytes.
const DRIVER_NAME_MAX: usize = 63;
/// Longest name that a driver gives a node, bytes.
const NODE_ID_MAX: usize = 256;
/// Bounds of a token's life, seconds.
const TOKEN_SECONDS: (i64, i64) = (600, 1 << 32);
/// Shortest time between two looks at a node's limits, seconds.
const PERIOD_MIN: i64 = 10;

/// Rules of CSIDrivers.
pub static CSI_DRIVER: Rules = Rules {
    default: default_driver,
    validate: validate_driver,
    validate_update: update_driver,
    unconditional_update: false,
    returns_deleted: true,
    columns: DRIVER_COLUMNS,
    row: driver_row,
    ..PLAIN
};

/// Rules of CSINodes.
pub static CSI_NODE: Rules = Rules {
    validate: validate_node,
    validate_update: update_node,
    unconditional_update: false,
    returns_deleted: true,
    columns: NODE_COLUMNS,
    row: node_row,
    ..PLAIN
};

/// Rules of CSIStorageCapacities.
pub static CSI_CAPACITY: Rules = Rules {
    validate: validate_capacity,
    validate_update: update_capacity,
    unconditional_update: false,
    returns_deleted: true,
    columns: CAPACITY_COLUMNS,
    row: capacity_row,
    ..PLAIN
};

/// The name of a driver (CSI `GetPluginInfo`).
pub fn driver_name(value: &Value, at: &At<'_>, errors: &mut Errors) {
    let name = text(value);
    if name.is_empty() {
        errors.required(at, "");
    } else {
        if name.len() > DRIVER_NAME_MAX {
            errors.too_long(at, DRIVER_NAME_MAX);
        }
        errors.all(at, name, names::dns1123_subdomain(&name.to_lowercase()));
    }
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

fn validate_driver(object: &Value) -> Vec<FieldError> {
    let (spec, at, mut errors) = (&object["spec"], At::ROOT.field("spec"), Errors::default());
    for field in ["attachRequired", "podInfoOnMount", "storageCapacity"] {
        if spec[field].is_null() {
            errors.required(&at.field(field), "");
        }
    }
    let policies = ["File", "None", "ReadWriteOnceWithFSType"];
    errors.one_of(&at.field("fsGroupPolicy"), &spec["fsGroupPolicy"], &policies);
    token_requests(&spec["tokenRequests"], &at.field("tokenRequests"), &mut errors);
    let modes_at = at.field("volumeLifecycleModes");
    for mode in list(&spec["volumeLifecycleModes"]) {
        errors.one_of(&modes_at, mode, &["Ephemeral", "Persistent"]);
    }
    if spec["seLinuxMount"].is_null() {
        errors.required(&at.field("seLinuxMount"), "");
    }
    let period = &spec["nodeAllocatableUpdatePeriodSeconds"];
    if period.as_i64().is_some_and(|seconds| seconds < PERIOD_MIN) {
        let detail = format!("must be greater than or equal to {PERIOD_MIN} seconds");
        errors.invalid(&at.field("nodeAllocatableUpdatePeriodSeconds"), period, detail);
    }
    let in_secrets = &spec["serviceAccountTokenInSecrets"];
    if !in_secrets.is_null() && list(&spec["tokenRequests"]).is_empty() {
        let detail = "serviceAccountTokenInSecrets is set but no tokenRequests are specified";
        errors.invalid(&at.field("serviceAccountTokenInSecrets"), in_secrets, detail);
    }
    errors.0
}

fn token_requests(requests: &Value, at: &At<'_>, errors: &mut Errors) {
    let requests = list(requests);
    for (i, request) in requests.iter().enumerate() {
        let (at, audience, seconds) = (at.index(i), text(&request["audience"]), &request["expirationSeconds"]);
        if requests[..i].iter().any(|before| text(&before["audience"]) == audience) {
            errors.duplicate(&at.field("audience"), audience);
            continue;
        }
        let at = at.field("expirationSeconds");
        if seconds.as_i64().is_some_and(|n| n < TOKEN_SECONDS.0) {
            errors.invalid(&at, seconds, "may not specify a duration less than 10 minutes");
        }
        if seconds.as_i64().is_some_and(|n| n > TOKEN_SECONDS.1) {
            errors.invalid(&at, seconds, "may not specify a duration larger than 2^32 seconds");
        }
    }
}

fn update_driver(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = Errors(validate_driver(new));
    let (at, new, old) = (At::ROOT.field("spec"), &new["spec"], &old["spec"]);
    errors.immutable(&at.field("attachedRequired"), &new["attachRequired"], &old["attachRequired"]);
    errors.immutable(&at.field("volumeLifecycleModes"), &new["volumeLifecycleModes"], &old["volumeLifecycleModes"]);
    errors.0
}

fn validate_node(object: &Value) -> Vec<FieldError> {
    let (spec, mut errors) = (At::ROOT.field("spec"), Errors::default());
    let (drivers, at) = (list(&object["spec"]["drivers"]), spec.field("drivers"));
    for (i, driver) in drivers.iter().enumerate() {
        let at = at.index(i);
        driver_name(&driver["name"], &at.field("name"), &mut errors);
        let id = text(&driver["nodeID"]);
        errors.required_text(&at.field("nodeID"), &driver["nodeID"], "");
        if id.len() > NODE_ID_MAX {
            errors.invalid(&at.field("nodeID"), id, format!("must be {NODE_ID_MAX} characters or less"));
        }
        let allocatable = at.field("allocatable");
        errors.not_negative(&allocatable.field("count"), &driver["allocatable"]["count"]);
        if drivers[..i].iter().any(|before| before["name"] == driver["name"]) {
            errors.duplicate(&at.field("name"), &driver["name"]);
        }
        topology_keys(&driver["topologyKeys"], &at, &mut errors);
    }
    errors.0
}

fn topology_keys(keys: &Value, at: &At<'_>, errors: &mut Errors) {
    let keys = list(keys);
    for (i, key) in keys.iter().enumerate() {
        if text(key).is_empty() {
            errors.required(at, "");
        }
        if keys[..i].contains(key) {
            errors.duplicate(at, key);
        }
        errors.all(at, key, names::qualified_name(text(key)));
    }
}

/// What a driver said of a node stays, save how many volumes it takes.
fn update_node(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = Errors(validate_node(new));
    let spec = At::ROOT.field("spec");
    let without_count = |driver: &Value| {
        let mut driver = driver.clone();
        driver.as_object_mut().map(|fields| fields.shift_remove("allocatable"));
        driver
    };
    for before in list(&old["spec"]["drivers"]) {
        let after = list(&new["spec"]["drivers"]).iter().find(|driver| driver["name"] == before["name"]);
        if let Some(after) = after {
            errors.immutable(&spec.field("drivers"), &without_count(after), &without_count(before));
        }
    }
    errors.0
}

fn validate_capacity(object: &Value) -> Vec<FieldError> {
    let mut errors = Errors::default();
    selector::label_selector(&object["nodeTopology"], &At::ROOT.field("nodeTopology"), &mut errors);
    let class = text(&object["storageClassName"]);
    errors.all(&At::ROOT.field("storageClassName"), class, names::dns1123_subdomain(class));
    let capacity = &object["capacity"];
    if resources::quantity(capacity).is_some_and(|amount| amount.is_negative()) {
        errors.invalid(&At::ROOT.field("capacity"), capacity, "must be greater than or equal to 0");
    }
    errors.0
}

fn update_capacity(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = Errors::default();
    for field in ["nodeTopology", "storageClassName"] {
        if !same(&new[field], &old[field]) {
            errors.immutable(&At::ROOT.field(field), &new[field], &old[field]);
        }
    }
    errors.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::check::testing::{Case, check};

    #[test]
    fn drivers_say_what_they_do() {
        let cases: [Case; 5] = [
            ("good", |_| {}, &[]),
            (
                "policy",
                |s| s["fsGroupPolicy"] = json!("Sometimes"),
                &["spec.fsGroupPolicy: Unsupported value: \"Sometimes\": supported values"],
            ),
            (
                "tokens",
                |s| s["tokenRequests"] = json!([{"audience": "a", "expirationSeconds": 5}, {"audience": "a"}]),
                &[
                    "spec.tokenRequests[0].expirationSeconds: Invalid value: 5: may not specify a duration less",
                    "spec.tokenRequests[1].audience: Duplicate value: \"a\"",
                ],
            ),
            (
                "modes",
                |s| s["volumeLifecycleModes"] = json!(["Eternal"]),
                &["spec.volumeLifecycleModes: Unsupported value: \"Eternal\""],
            ),
            (
                "tokens in secrets",
                |s| s["serviceAccountTokenInSecrets"] = json!(true),
                &["spec.serviceAccountTokenInSecrets: Invalid value: true"],
            ),
        ];
        for (case, change, errors) in cases {
            let mut driver = json!({"metadata": {"name": "d.example.com"}, "spec": {}});
            default_driver(&mut driver);
            let old = driver.clone();
            change(&mut driver["spec"]);
            check(case, &validate_driver(&driver), errors);
            assert_eq!(update_driver(&old, &old), vec![], "{case}");
        }
    }

    #[test]
    fn nodes_keep_what_drivers_said() {
        let node = |id: &str, count: i64| json!({"spec": {"drivers": [{"name": "d", "nodeID": id, "topologyKeys": ["a/b"], "allocatable": {"count": count}}]}});
        check("good", &validate_node(&node("n", 3)), &[]);
        check(
            "bad",
            &validate_node(&node("", -1)),
            &["spec.drivers[0].nodeID: Required value", "spec.drivers[0].allocatable.count: Invalid value: -1"],
        );
        check("another limit", &update_node(&node("n", 4), &node("n", 3)), &[]);
        check("another id", &update_node(&node("m", 3), &node("n", 3)), &["spec.drivers: Invalid value"]);
    }

    #[test]
    fn capacities_stay_with_their_class() {
        let capacity = |class: &str, amount: &str| json!({"storageClassName": class, "capacity": amount});
        check("good", &validate_capacity(&capacity("fast", "1Gi")), &[]);
        check(
            "bad",
            &validate_capacity(&capacity("Fast", "-1")),
            &["storageClassName: Invalid value: \"Fast\"", "capacity: Invalid value: \"-1\": must be greater"],
        );
        let (new, old) = (capacity("slow", "1"), capacity("fast", "1"));
        check(
            "moved",
            &update_capacity(&new, &old),
            &["storageClassName: Invalid value: \"slow\": field is immutable"],
        );
    }
}
