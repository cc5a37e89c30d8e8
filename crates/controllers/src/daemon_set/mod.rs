//! DaemonSet: one pod on every node that fits (apps/v1 DaemonSet; api-facts §9.5).
//!
//! Reads DaemonSets, Nodes, Pods and ControllerRevisions. Writes Pods, ControllerRevisions and the status.
//! Leaves to others: binding the pod to the node it is meant for (scheduler).

mod fit;
mod pod;
mod rollout;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::{DaemonSet, DaemonSetSpec, DaemonSetStatus};
use k8s_openapi::api::core::v1::{Node, Pod};
use mizzen_api::key;
use mizzen_api::pod::{is_ready, is_terminal, is_terminating, phase};
use mizzen_api::selector::LabelSelector;
use mizzen_store::{Change, Event, Snapshot};

use crate::meta::Meta;
use crate::plan::{ControllerError, Plan, Write};
use crate::pods;
use crate::revisions::{self, HASH, History};
use crate::shell::Wake;
use crate::wake::head_of;
use fit::Fit;

/// A failed pod stays this long, so that a pod that always fails does not keep its node busy.
const RETRY_AFTER: SignedDuration = SignedDuration::from_secs(5);
/// Most pods one plan creates or deletes; its commit wakes us again.
const BURST: usize = 250;

/// The writes that bring the pods of the DaemonSet at `set_key` nearer to its spec.
///
/// # Errors
/// [`ControllerError::Unreadable`], before anything is planned.
pub fn reconcile(snapshot: &Snapshot, set_key: &str, now: Timestamp) -> Result<Plan, ControllerError> {
    let mut plan = Plan::default();
    let Some(set) = snapshot.get_as::<DaemonSet>(set_key) else { return Ok(plan) };
    let Some(spec) = &set.spec else { return Ok(plan) };
    let selector = LabelSelector::from_typed(Some(&spec.selector)).map_err(|e| ControllerError::Unreadable {
        object: set_key.to_string(),
        field: "spec.selector",
        message: e.to_string(),
    })?;
    if selector.is_everything() {
        return Ok(plan);
    }
    let old = set.status.clone().unwrap_or_default();
    let subject = revisions::Subject {
        owner: &*set,
        template: &spec.template,
        selector: &selector,
        collisions: old.collision_count.unwrap_or(0),
    };
    let history = revisions::history(snapshot, &subject, &mut plan);
    let owned: Vec<Arc<Pod>> = pods::claim(snapshot, &*set, &selector, &mut plan);
    let mut by_node: BTreeMap<String, Vec<Arc<Pod>>> = BTreeMap::new();
    for pod in &owned {
        by_node.entry(pod::node(pod).to_string()).or_default().push(Arc::clone(pod));
    }
    let nodes: Vec<Arc<Node>> = snapshot.list_as::<Node>(&key::all::<Node>()).collect();
    let fits = nodes.iter().map(|n| (n.name().to_string(), fit::fit(spec, n))).collect();
    let world = World { set: &set, spec, history: &history, fits, by_node: &by_node, now };
    if !set.is_deleting() {
        place(&world, &mut plan);
        rollout::plan(&world, &mut plan);
        history.truncate(spec.revision_history_limit, &[], &owned, &mut plan);
    }
    set_status(&world, &old, &mut plan);
    Ok(plan)
}

/// A DaemonSet with its pods by the node they are meant for.
struct World<'a> {
    set: &'a Arc<DaemonSet>,
    spec: &'a DaemonSetSpec,
    history: &'a History,
    fits: BTreeMap<String, Fit>,
    by_node: &'a BTreeMap<String, Vec<Arc<Pod>>>,
    now: Timestamp,
}

impl World<'_> {
    fn pods_on(&self, node: &str) -> &[Arc<Pod>] {
        self.by_node.get(node).map(Vec::as_slice).unwrap_or_default()
    }

    fn is_new(&self, pod: &Pod) -> bool {
        pod.label(HASH) == Some(self.history.update_hash.as_str())
    }

    fn is_available(&self, pod: &Pod, plan: &mut Plan) -> bool {
        pods::is_available(pod, self.spec.min_ready_seconds, self.now, plan)
    }

    fn delete(&self, pod: &Pod, plan: &mut Plan) {
        plan.say(&**self.set, "SuccessfulDelete", format!("Deleted pod: {}", pod.name()));
        plan.write(Write::delete(pod));
    }

    fn create(&self, node: &str, plan: &mut Plan) {
        let pod = pod::new(self, node);
        let name = pod["metadata"]["name"].as_str().unwrap_or_default();
        plan.say(&**self.set, "SuccessfulCreate", format!("Created pod: {name}"));
        plan.write(Write::Create { object: pod });
        plan.warn_if_refused(&**self.set, "Error creating");
    }
}

/// A pod on every node that fits, and none elsewhere.
fn place(world: &World<'_>, plan: &mut Plan) {
    let before = plan.writes.len();
    for (node, fit) in &world.fits {
        if plan.writes.len() - before >= BURST {
            return;
        }
        let pods = world.pods_on(node);
        match fit {
            Fit::Never => pods.iter().filter(|p| !is_terminating(p)).for_each(|p| world.delete(p, plan)),
            Fit::Run | Fit::Stay => tidy(world, node, pods, *fit == Fit::Run, plan),
        }
    }
    // Pods of, or meant for, a node that is gone.
    for (node, pods) in world.by_node.iter().filter(|(node, _)| !world.fits.contains_key(*node)) {
        if !node.is_empty() {
            pods.iter().filter(|p| !is_terminating(p)).for_each(|p| world.delete(p, plan));
        }
    }
}

/// At most one living pod on a node, and one if there should be any.
fn tidy(world: &World<'_>, node: &str, pods: &[Arc<Pod>], wanted: bool, plan: &mut Plan) {
    let mut living: Vec<&Arc<Pod>> = Vec::new();
    let mut holds = false;
    for pod in pods {
        if is_terminating(pod) {
            holds = true;
        } else if is_terminal(pod) {
            holds = true;
            retry(world, node, pod, plan);
        } else {
            living.push(pod);
        }
    }
    if living.is_empty() {
        if wanted && !holds {
            world.create(node, plan);
        }
        return;
    }
    // While a new pod comes up beside the old one there are two.
    let (new, old): (Vec<&Arc<Pod>>, Vec<&Arc<Pod>>) = living.into_iter().partition(|p| world.is_new(p));
    let groups = if rollout::surge(world) > 0 { vec![new, old] } else { vec![new.into_iter().chain(old).collect()] };
    for mut group in groups {
        group.sort_by_cached_key(|p| (pods::node(p).is_empty(), p.created(), p.name().to_string()));
        group.iter().skip(1).for_each(|p| world.delete(p, plan));
    }
}

fn retry(world: &World<'_>, node: &str, pod: &Pod, plan: &mut Plan) {
    let status = pod.status.as_ref().and_then(|s| s.container_statuses.as_ref()).into_iter().flatten();
    let ended = status.filter_map(|c| Some(c.state.as_ref()?.terminated.as_ref()?.finished_at.as_ref()?.0)).max();
    let due = ended.or(pod.created()).and_then(|t| t.checked_add(RETRY_AFTER).ok()).unwrap_or(world.now);
    if due > world.now {
        plan.again(Duration::try_from(due.duration_since(world.now)).unwrap_or_default());
        return;
    }
    let (namespace, name) = (pod.namespace(), pod.name());
    let (reason, what) =
        if phase(pod) == "Failed" { ("FailedDaemonPod", "failed") } else { ("SucceededDaemonPod", "succeeded") };
    let message = format!("Found {what} daemon pod {namespace}/{name} on node {node}, will try to kill it");
    if reason == "FailedDaemonPod" {
        plan.warn(&**world.set, reason, message);
    } else {
        plan.say(&**world.set, reason, message);
    }
    world.delete(pod, plan);
}

fn set_status(world: &World<'_>, old: &DaemonSetStatus, plan: &mut Plan) {
    let mut new = DaemonSetStatus {
        collision_count: (world.history.collisions > 0).then_some(world.history.collisions).or(old.collision_count),
        conditions: old.conditions.clone(),
        observed_generation: world.set.metadata.generation,
        ..DaemonSetStatus::default()
    };
    let (mut updated, mut available) = (0, 0);
    for (node, fit) in &world.fits {
        let mut here: Vec<&Arc<Pod>> = world.pods_on(node).iter().filter(|p| !is_terminating(p)).collect();
        if *fit != Fit::Run {
            new.number_misscheduled += i32::from(!here.is_empty());
            continue;
        }
        new.desired_number_scheduled += 1;
        here.sort_by_key(|p| p.created());
        let Some(pod) = here.iter().find(|p| is_ready(p)).or(here.first()) else { continue };
        new.current_number_scheduled += 1;
        new.number_ready += i32::from(is_ready(pod));
        available += i32::from(is_ready(pod) && world.is_available(pod, plan));
        updated += i32::from(world.is_new(pod));
    }
    let shown = |n: i32| Some(n).filter(|n| *n > 0);
    new.updated_number_scheduled = shown(updated);
    new.number_available = shown(available);
    new.number_unavailable = shown(new.desired_number_scheduled - available);
    plan.status(&**world.set, old, &new);
}

/// A node whose labels, taints or being there changed wakes all DaemonSets.
pub(crate) fn woken_by_nodes() -> (String, Wake) {
    let wake = |snapshot: &Snapshot, event: &Event| {
        if let Change::Put { entry, previous: Some(previous) } = &event.change {
            let (new, old) = (head_of::<Node>(entry), head_of::<Node>(previous));
            if new.metadata.labels == old.metadata.labels && new.spec == old.spec {
                return Vec::new();
            }
        }
        snapshot.prefix(&key::all::<DaemonSet>()).map(|e| e.key.to_string()).collect()
    };
    (key::all::<Node>(), Arc::new(wake))
}

#[cfg(test)]
mod tests;
