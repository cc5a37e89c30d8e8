//! core/v1 Node.

use serde_json::Value;

use crate::field::FieldError;
use crate::kind::{Column, Rules, SelectableField};
use crate::names;
use crate::rules::cells::{self, NONE, flag, list, text, text_or};
use crate::rules::check::{At, Errors, same};
use crate::rules::fill;
use crate::rules::plain::{PLAIN, WITH_STATUS};
use crate::rules::resources;

/// Rules of Nodes. A node agent registers its node together with its status, so create keeps it.
pub static RULES: Rules = Rules {
    default,
    prepare_create: PLAIN.prepare_create,
    validate,
    validate_update,
    validate_status_update: |new, _| resources_of(new).0,
    selectable: &[SelectableField {
        label: "spec.unschedulable",
        value: |node| node["spec"]["unschedulable"].as_bool().unwrap_or_default().to_string(),
    }],
    columns: COLUMNS,
    row,
    ..WITH_STATUS
};

/// All capacity is allocatable unless the agent says otherwise.
fn default(object: &mut Value) {
    let Some(status) = object.as_object_mut().and_then(|o| fill::existing(o, "status")) else {
        return;
    };
    if let Some(capacity) = status.get("capacity").filter(|c| c.is_object()).cloned() {
        fill::optional(status, "allocatable", capacity);
    }
}

/// Labels that name a role: this prefix and the role.
const ROLE_PREFIX: &str = "node-role.kubernetes.io/";
/// An older label whose value is the role.
const ROLE_LABEL: &str = "kubernetes.io/role";

const COLUMNS: &[Column] = &[
    Column::NAME,
    Column::text("Status", "Whether the node is ready, and takes new pods."),
    Column::text("Roles", "What the node is for."),
    Column::AGE,
    Column::text("Version", "Version of the node agent."),
    Column::text("Internal-IP", "Address inside the cluster.").wide(),
    Column::text("External-IP", "Address outside the cluster.").wide(),
    Column::text("OS-Image", "Operating system.").wide(),
    Column::text("Kernel-Version", "Version of the kernel.").wide(),
    Column::text("Container-Runtime", "What runs containers.").wide(),
];

fn row(object: &Value, now: i64) -> Vec<Value> {
    let info = &object["status"]["nodeInfo"];
    let or_unknown = |field: &str| text_or(&info[field], "<unknown>").to_string();
    let mut kernel = or_unknown("kernelVersion");
    if let Some(architecture) = info["architecture"].as_str().filter(|a| !a.is_empty()) {
        kernel = format!("{kernel} ({architecture})");
    }
    vec![
        cells::name(object),
        status(object).into(),
        roles(object).into(),
        cells::age(object, now),
        text(&info["kubeletVersion"]).into(),
        address(object, "InternalIP").into(),
        address(object, "ExternalIP").into(),
        or_unknown("osImage").into(),
        kernel.into(),
        or_unknown("containerRuntimeVersion").into(),
    ]
}

fn status(object: &Value) -> String {
    let ready = match cells::condition(object, "Ready") {
        Some(condition) if condition["status"] == "True" => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    };
    if flag(&object["spec"]["unschedulable"]) { format!("{ready},SchedulingDisabled") } else { ready.into() }
}

fn roles(object: &Value) -> String {
    let labels = object["metadata"]["labels"].as_object().into_iter().flatten();
    let mut roles: Vec<&str> = labels
        .filter_map(|(key, value)| match key.strip_prefix(ROLE_PREFIX) {
            Some(role) => Some(role),
            None => (key == ROLE_LABEL).then(|| text(value)),
        })
        .filter(|role| !role.is_empty())
        .collect();
    roles.sort_unstable();
    roles.dedup();
    if roles.is_empty() { NONE.into() } else { roles.join(",") }
}

fn address<'a>(object: &'a Value, kind: &str) -> &'a str {
    let addresses = list(&object["status"]["addresses"]);
    addresses.iter().find(|address| address["type"] == kind).map_or(NONE, |address| text(&address["address"]))
}

fn validate(object: &Value) -> Vec<FieldError> {
    let mut errors = resources_of(object);
    taints(&object["spec"]["taints"], &mut errors);
    let at = At::ROOT.field("spec");
    let (cidrs, at) = (list(&object["spec"]["podCIDRs"]), at.field("podCIDRs"));
    for (i, cidr) in cidrs.iter().enumerate() {
        errors.all(&at.index(i), cidr, names::cidr(text(cidr)));
    }
    let of_family = |six: bool| cidrs.iter().filter(|cidr| text(cidr).contains(':') == six).count();
    if of_family(false) > 1 || of_family(true) > 1 {
        errors.invalid(&at, cidrs, "may specify no more than one CIDR for each IP family");
    }
    errors.0
}

fn resources_of(object: &Value) -> Errors {
    let (at, mut errors) = (At::ROOT.field("status"), Errors::default());
    for list in ["capacity", "allocatable"] {
        let at = at.field(list);
        for (resource, value) in object["status"][list].as_object().into_iter().flatten() {
            resources::amount(resource, value, &at.field(resource), &mut errors);
        }
    }
    errors
}

fn taints(taints: &Value, errors: &mut Errors) {
    let at = At::ROOT.field("metadata");
    let (at, taints) = (at.field("taints"), list(taints));
    for (i, taint) in taints.iter().enumerate() {
        let (at, key) = (at.index(i), text(&taint["key"]));
        errors.all(&at.field("key"), key, names::qualified_name(key));
        let wrong = names::label_value(text(&taint["value"]));
        if !wrong.is_empty() {
            errors.invalid(&at.field("value"), &taint["value"], wrong.join(";"));
        }
        let effects = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
        errors.required_one_of(&at.field("effect"), &taint["effect"], &effects);
        let like = |other: &Value| text(&other["key"]) == key && other["effect"] == taint["effect"];
        if taints[..i].iter().any(like) {
            let mut error = FieldError::duplicate(at.to_string(), taint);
            error.detail = "taints must be unique by key and effect pair".into();
            errors.0.push(error);
        }
    }
}

/// What a node was given once it keeps.
fn validate_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let (at, mut errors) = (At::ROOT.field("spec"), Errors::default());
    taints(&new["spec"]["taints"], &mut errors);
    for (field, shown) in [("podCIDRs", "podCIDR"), ("providerID", "providerID")] {
        let (new, old) = (&new["spec"][field], &old["spec"][field]);
        let was_set = !same(old, &Value::Null) && *old != "";
        if was_set && !same(new, old) {
            let detail = format!("node updates may not change {shown} except from \"\" to valid");
            errors.forbidden(&at.field(field), &detail);
        }
    }
    errors.0
}

#[cfg(test)]
mod tests {
    use crate::rules::check::testing::check;
    use serde_json::json;

    #[test]
    fn a_node_shows_its_state_and_roles() {
        let node = json!({"metadata": {"name": "n", "labels": {"node-role.kubernetes.io/control-plane": "", "kubernetes.io/role": "db"}},
            "spec": {"unschedulable": true}, "status": {"conditions": [{"type": "Ready", "status": "True"}],
            "addresses": [{"type": "InternalIP", "address": "10.0.0.1"}],
            "nodeInfo": {"kubeletVersion": "v1.36.0", "kernelVersion": "6.18", "architecture": "amd64"}}});
        let row = super::row(&node, 0);
        let text: Vec<&str> = row.iter().filter_map(|cell| cell.as_str()).collect();
        assert_eq!(
            text,
            [
                "n",
                "Ready,SchedulingDisabled",
                "control-plane,db",
                "<unknown>",
                "v1.36.0",
                "10.0.0.1",
                "<none>",
                "<unknown>",
                "6.18 (amd64)",
                "<unknown>"
            ]
        );
    }

    #[test]
    fn taints_are_checked() {
        let taint = |effect: &str| json!({"key": "a", "effect": effect});
        for (case, taints, errors) in [
            ("good", json!([taint("NoSchedule"), taint("NoExecute")]), &[][..]),
            ("twice", json!([taint("NoSchedule"), taint("NoSchedule")]), &["metadata.taints[1]: Duplicate value: {"]),
            ("effect", json!([taint("Never")]), &["metadata.taints[0].effect: Unsupported value: \"Never\""]),
        ] {
            check(case, &super::validate(&json!({"spec": {"taints": taints}})), errors);
        }
        let old = json!({"spec": {"podCIDRs": ["10.0.0.0/24"]}});
        let errors = ["spec.podCIDRs: Forbidden: node updates may not change podCIDR"];
        check("range", &super::validate_update(&json!({"spec": {"podCIDRs": ["10.0.1.0/24"]}}), &old), &errors);
        check("first range", &super::validate_update(&old, &json!({"spec": {}})), &[]);
    }
}
