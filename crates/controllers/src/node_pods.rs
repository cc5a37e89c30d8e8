//! Pods of a node that is not ready are not ready either (core/v1 Node; api-facts §9.10).
//!
//! Reads Nodes and Pods. Sets the condition `Ready` of pods to False while their node does not say that it is well, so
//! that Services stop sending to them.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use mizzen_api::pod::{is_ready, is_terminal};
use mizzen_store::Snapshot;
use serde_json::json;

use crate::meta::Meta;
use crate::plan::{ControllerError, Plan, Target, Write};
use crate::pods;

/// The writes about the pods of the Node at `node_key`.
///
/// # Errors
/// None: what cannot be read is left alone.
pub fn reconcile(snapshot: &Snapshot, node_key: &str, now: Timestamp) -> Result<Plan, ControllerError> {
    let mut plan = Plan::default();
    let Some(node) = snapshot.get_as::<Node>(node_key).filter(|n| has_said(n) && !pods::is_node_ready(n)) else {
        return Ok(plan);
    };
    for pod in pods::on_node(snapshot, node.name()).filter(|p| is_ready(p) && !is_terminal(p)) {
        plan.write(unready(&pod, now));
    }
    Ok(plan)
}

/// A node that has never said anything has no pods to speak of.
fn has_said(node: &Node) -> bool {
    let conditions = node.status.as_ref().and_then(|s| s.conditions.as_ref());
    conditions.into_iter().flatten().any(|c| c.type_ == "Ready")
}

fn unready(pod: &Pod, now: Timestamp) -> Write {
    let mut conditions = pod.status.as_ref().and_then(|s| s.conditions.clone()).unwrap_or_default();
    for condition in conditions.iter_mut().filter(|c| c.type_ == "Ready") {
        condition.status = "False".into();
        condition.reason = Some("NodeNotReady".into());
        condition.message = Some("Node is not ready".into());
        condition.last_transition_time = Some(Time(now));
    }
    Write::Merge {
        target: Target::of::<Pod>(pod.namespace(), pod.name()),
        subresource: "status",
        patch: json!({"metadata": {"uid": pod.uid(), "resourceVersion": pod.version()}, "status": {"conditions": conditions}}),
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::check;

    #[test]
    fn pods_share_the_fate_of_their_node() {
        let lost = r#"node/n status.conditions=[{"type":"Ready","status":"Unknown"}]"#;
        for (case, world, writes) in [
            ("the node is well", "node/n ready; pod/d/a node=n ready".to_string(), ""),
            (
                "the node is lost",
                format!("{lost}; pod/d/a node=n ready; pod/d/b node=m ready"),
                "patch pods/status d/a",
            ),
            ("told already", format!("{lost}; pod/d/a node=n"), ""),
            ("the node is new", "node/n; pod/d/a node=n ready".into(), ""),
        ] {
            check(case, &world, "core/nodes//n", super::reconcile, writes);
        }
    }
}
