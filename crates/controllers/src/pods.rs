//! What pod-owning controllers share: which pods are theirs, new pods from a template, and the order of leaving.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod, PodCondition, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};
use k8s_openapi::{Metadata, Resource};
use mizzen_api::key;
use mizzen_api::pod::{is_active, is_ready, phase};
use mizzen_api::selector::LabelSelector;
use mizzen_store::Snapshot;
use serde_json::{Value, json};

use crate::meta::{self, Meta};
use crate::plan::{Plan, Target, Write};

/// Annotation that says how cheap it is to delete a pod; lower goes first.
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// The objects of kind `K` that `owner` controls, after planning to adopt matching orphans and to release those that no
/// longer match. An owner on its way out adopts nothing.
pub fn claim<O, K>(snapshot: &Snapshot, owner: &O, selector: &LabelSelector, plan: &mut Plan) -> Vec<Arc<K>>
where
    O: Resource + Metadata<Ty = ObjectMeta>,
    K: Resource + Metadata<Ty = ObjectMeta> + serde::de::DeserializeOwned + Send + Sync + 'static,
{
    let mut mine = Vec::new();
    for object in snapshot.list_as::<K>(&key::in_namespace::<K>(owner.namespace())) {
        let matches = selector.matches_labels(object.metadata().labels.as_ref());
        match object.controller() {
            Some(controller) if controller.uid != owner.uid() => {}
            Some(_) if matches => mine.push(object),
            Some(_) => release(&*object, owner.uid(), plan),
            None if matches && !owner.is_deleting() && !object.is_deleting() => {
                adopt(&*object, meta::owner_of(owner), plan);
                mine.push(object);
            }
            None => {}
        }
    }
    mine
}

fn adopt<K: Resource + Metadata<Ty = ObjectMeta>>(object: &K, owner: OwnerReference, plan: &mut Plan) {
    let mut owners = object.metadata().owner_references.clone().unwrap_or_default();
    owners.push(owner);
    owners_patch(object, owners, plan);
}

fn release<K: Resource + Metadata<Ty = ObjectMeta>>(object: &K, owner_uid: &str, plan: &mut Plan) {
    let mut owners = object.metadata().owner_references.clone().unwrap_or_default();
    owners.retain(|o| o.uid != owner_uid);
    owners_patch(object, owners, plan);
}

fn owners_patch<K: Resource + Metadata<Ty = ObjectMeta>>(object: &K, owners: Vec<OwnerReference>, plan: &mut Plan) {
    plan.write(Write::Merge {
        target: Target::of::<K>(object.namespace(), object.name()),
        subresource: "",
        patch: json!({"metadata": {"uid": object.uid(), "resourceVersion": object.version(), "ownerReferences": owners}}),
    });
}

/// A pod from a template, owned by `owner`. The name follows from the owner, the revision and the ordinal, so that the
/// same plan made twice makes the pod once.
pub fn from_template<O>(owner: &O, template: &PodTemplateSpec, snapshot: &Snapshot, ordinal: usize) -> Value
where
    O: Resource + Metadata<Ty = ObjectMeta>,
{
    let (revision, ordinal) = (snapshot.revision().0.to_le_bytes(), ordinal.to_le_bytes());
    let suffix = meta::suffix(&[owner.uid().as_bytes(), &revision, &ordinal]);
    let prefix = format!("{}-", cut(owner.name(), 57));
    let mut pod = skeleton(owner, template);
    pod["metadata"]["name"] = format!("{prefix}{suffix}").into();
    pod["metadata"]["generateName"] = prefix.into();
    pod
}

/// A pod from a template without a name.
pub fn skeleton<O: Resource + Metadata<Ty = ObjectMeta>>(owner: &O, template: &PodTemplateSpec) -> Value {
    let meta = template.metadata.clone().unwrap_or_default();
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "namespace": owner.namespace(),
            "labels": meta.labels.unwrap_or_default(),
            "annotations": meta.annotations.unwrap_or_default(),
            "finalizers": meta.finalizers.unwrap_or_default(),
            "ownerReferences": [meta::owner_of(owner)],
        },
        "spec": template.spec,
    })
}

/// The first `length` bytes of a name, which is ASCII.
fn cut(name: &str, length: usize) -> &str {
    name.get(..length).unwrap_or(name)
}

/// Is a pod ready, and has been for `min_ready_seconds`? If it is a matter of time, the plan looks again by then.
pub fn is_available(pod: &Pod, min_ready_seconds: Option<i32>, now: Timestamp, plan: &mut Plan) -> bool {
    let seconds = i64::from(min_ready_seconds.unwrap_or(0));
    if !is_ready(pod) || seconds <= 0 {
        return is_ready(pod);
    }
    let Some(since) = ready_since(pod) else { return false };
    let missing = seconds - now.duration_since(since).as_secs();
    if missing > 0 {
        plan.again(Duration::from_secs(missing.cast_unsigned()));
    }
    missing <= 0
}

fn ready_since(pod: &Pod) -> Option<Timestamp> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|c| c.type_ == "Ready").and_then(|c| c.last_transition_time.as_ref()).map(|t| t.0)
}

/// The pods placed on a node.
pub fn on_node<'a>(snapshot: &Snapshot, name: &'a str) -> impl Iterator<Item = Arc<Pod>> + 'a {
    let all = key::all::<Pod>();
    let pods: Vec<Arc<Pod>> = snapshot.list_as::<Pod>(&all).filter(|p| node(p) == name).collect();
    pods.into_iter()
}

/// Whether a node says that it is ready.
pub fn is_node_ready(node: &Node) -> bool {
    let conditions = node.status.as_ref().and_then(|s| s.conditions.as_ref());
    conditions.into_iter().flatten().any(|c| c.type_ == "Ready" && c.status == "True")
}

/// Why a pod is ended before its time.
#[derive(Debug)]
pub struct Disruption {
    /// `DeletionByTaintManager`.
    pub reason: &'static str,
    /// Words for people.
    pub message: String,
}

const DISRUPTION_TARGET: &str = "DisruptionTarget";

/// Marks a pod as disrupted, and as ended if a phase is given.
pub fn disrupt(pod: &Pod, why: Option<Disruption>, phase: Option<&str>, now: Timestamp) -> Write {
    let mut conditions = pod.status.as_ref().and_then(|s| s.conditions.clone()).unwrap_or_default();
    if let Some(why) = why {
        let known = conditions.iter().position(|c| c.type_ == DISRUPTION_TARGET);
        let before = known.map(|at| conditions.remove(at)).filter(|c| c.reason.as_deref() == Some(why.reason));
        conditions.push(PodCondition {
            type_: DISRUPTION_TARGET.into(),
            status: "True".into(),
            reason: Some(why.reason.into()),
            message: Some(why.message),
            last_transition_time: before.and_then(|c| c.last_transition_time).or(Some(Time(now))),
            observed_generation: pod.metadata.generation,
            ..PodCondition::default()
        });
    }
    let mut status = json!({"conditions": conditions});
    if let Some(phase) = phase {
        status["phase"] = phase.into();
    }
    Write::Merge {
        target: Target::of::<Pod>(pod.namespace(), pod.name()),
        subresource: "status",
        patch: json!({"metadata": {"uid": pod.uid(), "resourceVersion": pod.version()}, "status": status}),
    }
}

/// Since when a pod is marked as disrupted for a reason.
pub fn disrupted_since(pod: &Pod, reason: &str) -> Option<Timestamp> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let mark = conditions.iter().find(|c| c.type_ == DISRUPTION_TARGET && c.reason.as_deref() == Some(reason))?;
    mark.last_transition_time.as_ref().map(|t| t.0)
}

/// Pods that are neither finished nor on their way out.
pub fn active(pods: &[Arc<Pod>]) -> Vec<&Arc<Pod>> {
    pods.iter().filter(|p| is_active(p)).collect()
}

/// Puts pods into the order in which a surplus is deleted (api-facts §9.3).
pub fn sort_for_deletion(pods: &mut [&Arc<Pod>], now: Timestamp) {
    let mut per_node: BTreeMap<String, usize> = BTreeMap::new();
    for pod in pods.iter().filter(|p| is_ready(p)) {
        *per_node.entry(node(pod).to_string()).or_default() += 1;
    }
    pods.sort_by_cached_key(|pod| {
        let assigned = !node(pod).is_empty();
        let progress = match phase(pod) {
            "Pending" => 0,
            "Unknown" => 1,
            _ => 2,
        };
        let cost: i32 = pod.annotation(DELETION_COST).and_then(|c| c.parse().ok()).unwrap_or(0);
        let siblings = std::cmp::Reverse(per_node.get(node(pod)).copied().unwrap_or(0));
        let ready_age = ready_since(pod).map_or(0, |t| now.duration_since(t).as_secs().max(0));
        let ready_for = (ready_age + 1).ilog2();
        let restarts = std::cmp::Reverse(restarts(pod));
        let created = std::cmp::Reverse(pod.created());
        (assigned, progress, is_ready(pod), cost, siblings, ready_for, restarts, created, pod.name().to_string())
    });
}

/// The node a pod is placed on; empty if it is not.
pub fn node(pod: &Pod) -> &str {
    pod.spec.as_ref().and_then(|s| s.node_name.as_deref()).unwrap_or_default()
}

fn restarts(pod: &Pod) -> i32 {
    let statuses = pod.status.as_ref().and_then(|s| s.container_statuses.as_ref());
    statuses.into_iter().flatten().map(|s| s.restart_count).max().unwrap_or(0)
}
