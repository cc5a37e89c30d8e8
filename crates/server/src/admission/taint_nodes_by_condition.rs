//! TaintNodesByCondition: a new node takes no pods before it reported to be ready.

use mizzen_api::status::ApiError;
use serde_json::{Value, json};

use super::plugin::Plugin;
use super::pods::{items, push, text};
use super::{Admitted, Operation, Request};

pub const PLUGIN: Plugin = Plugin { resources: &[("", "nodes")], mutate: Some(admit), validate: None };

const NOT_READY: &str = "node.kubernetes.io/not-ready";

fn admit(request: &Request<'_>, node: &mut Value, _: Option<&Value>, _: &mut Admitted) -> Result<(), ApiError> {
    if request.operation != Operation::Create || !request.subresource.is_empty() || !node.is_object() {
        return Ok(());
    }
    if !node["spec"].is_object() {
        node["spec"] = json!({});
    }
    let spec = &mut node["spec"];
    let tainted = |taint: &Value| text(taint, "key") == NOT_READY && text(taint, "effect") == "NoSchedule";
    if !items(spec, "taints").iter().any(tainted) {
        push(spec, "taints", json!({"key": NOT_READY, "effect": "NoSchedule"}));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::testing::Case;

    #[test]
    fn new_nodes_are_not_ready() {
        let taint = json!({"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"});
        let other = json!({"key": "a", "effect": "NoExecute"});
        for (operation, node, taints) in [
            ("create", json!({}), json!([taint])),
            ("create", json!({"spec": {"taints": [other]}}), json!([other, taint])),
            ("create", json!({"spec": {"taints": [taint]}}), json!([taint])),
            ("update", json!({"spec": {"taints": []}}), json!([])),
        ] {
            let admitted = Case::new(vec![]).of(operation, "nodes", "n1").admitted(node);
            assert_eq!(admitted["spec"]["taints"], taints, "{operation}");
        }
    }
}
