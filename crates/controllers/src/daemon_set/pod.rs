//! A DaemonSet's pod: bound to its node by affinity, and tolerant of what befalls nodes.

use k8s_openapi::api::core::v1::{Pod, Toleration};
use serde_json::{Value, json};

use super::World;
use crate::meta::{self, Meta};
use crate::pods;
use crate::revisions::HASH;

/// The template's generation, which old clients still look at.
const GENERATION: &str = "pod-template-generation";

/// The node a pod is on or meant for; empty if it cannot be told.
pub(super) fn node(pod: &Pod) -> &str {
    let placed = pods::node(pod);
    if placed.is_empty() { meant_for(pod).unwrap_or_default() } else { placed }
}

fn meant_for(pod: &Pod) -> Option<&str> {
    let affinity = pod.spec.as_ref()?.affinity.as_ref()?.node_affinity.as_ref()?;
    let terms = &affinity.required_during_scheduling_ignored_during_execution.as_ref()?.node_selector_terms;
    let fields = terms.iter().flat_map(|t| t.match_fields.iter().flatten());
    let mut names = fields.filter(|f| f.key == "metadata.name").flat_map(|f| f.values.iter().flatten());
    names.next().map(String::as_str)
}

/// What daemon pods tolerate beyond their template: nodes in trouble need their daemons most.
pub(super) fn tolerations(host_network: bool) -> Vec<Toleration> {
    let one = |key: &str, effect: &str| Toleration {
        key: Some(format!("node.kubernetes.io/{key}")),
        operator: Some("Exists".into()),
        effect: Some(effect.into()),
        ..Toleration::default()
    };
    let mut all = vec![one("not-ready", "NoExecute"), one("unreachable", "NoExecute")];
    let no_schedule = ["disk-pressure", "memory-pressure", "pid-pressure", "unschedulable"];
    all.extend(no_schedule.map(|key| one(key, "NoSchedule")));
    if host_network {
        all.push(one("network-unavailable", "NoSchedule"));
    }
    all
}

/// A new pod for a node.
pub(super) fn new(world: &World<'_>, node: &str) -> Value {
    let set = &**world.set;
    let mut pod = pods::skeleton(set, &world.spec.template);
    let count = world.pods_on(node).iter().map(|p| p.uid()).collect::<Vec<_>>().join(",");
    // Each pod that was here before changes the name, so that a pod is never named as the one it replaces.
    let before = set.version();
    let hash = &world.history.update_hash;
    let moment = world.now.as_millisecond().to_le_bytes();
    let parts = [set.uid().as_bytes(), node.as_bytes(), hash.as_bytes(), before.as_bytes(), count.as_bytes(), &moment];
    let prefix = format!("{}-", set.name().get(..57).unwrap_or(set.name()));
    let metadata = &mut pod["metadata"];
    metadata["name"] = format!("{prefix}{}", meta::suffix(&parts)).into();
    metadata["generateName"] = prefix.into();
    metadata["labels"][HASH] = hash.clone().into();
    metadata["labels"][GENERATION] = set.metadata.generation.unwrap_or(1).to_string().into();
    let spec = &mut pod["spec"];
    bind(spec, node);
    let host_network = spec["hostNetwork"] == true;
    let known: Vec<Value> = spec["tolerations"].as_array().cloned().unwrap_or_default();
    let extra = tolerations(host_network).into_iter().map(|t| json!(t)).filter(|t| !known.contains(t));
    let all: Vec<Value> = known.iter().cloned().chain(extra).collect();
    spec["tolerations"] = all.into();
    pod
}

/// Replaces the required terms by the one node: they held for it when it was chosen.
fn bind(spec: &mut Value, node: &str) {
    let term = json!({"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]});
    if !spec["affinity"].is_object() {
        spec["affinity"] = json!({});
    }
    if !spec["affinity"]["nodeAffinity"].is_object() {
        spec["affinity"]["nodeAffinity"] = json!({});
    }
    spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"] =
        json!({"nodeSelectorTerms": [term]});
}
