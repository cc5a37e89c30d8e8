//! core/v1 Node.

use serde_json::Value;

use crate::kind::{Column, Rules, SelectableField};
use crate::rules::cells::{self, NONE, flag, list, text, text_or};
use crate::rules::fill;
use crate::rules::plain::{PLAIN, WITH_STATUS};

/// Rules of Nodes. A node agent registers its node together with its status, so create keeps it.
pub static RULES: Rules = Rules {
    default,
    prepare_create: PLAIN.prepare_create,
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
    if flag(&object["spec"]["unschedulable"]) {
        format!("{ready},SchedulingDisabled")
    } else {
        ready.into()
    }
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
    addresses
        .iter()
        .find(|address| address["type"] == kind)
        .map_or(NONE, |address| text(&address["address"]))
}

#[cfg(test)]
mod tests {
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
}
