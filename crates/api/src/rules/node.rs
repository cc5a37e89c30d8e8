//! core/v1 Node.

use serde_json::Value;

use crate::kind::{Rules, SelectableField};
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
    ..WITH_STATUS
};

/// All capacity is allocatable unless the agent says otherwise.
fn default(object: &mut Value) {
    let Some(status) = object.as_object_mut().and_then(|o| fill::existing(o, "status")) else { return };
    if let Some(capacity) = status.get("capacity").filter(|c| c.is_object()).cloned() {
        fill::optional(status, "allocatable", capacity);
    }
}
