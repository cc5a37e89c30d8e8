//! StatefulSet: pods with a name, an order and storage of their own (apps/v1 StatefulSet; api-facts §9.4).
//!
//! Reads StatefulSets, Pods, ControllerRevisions and PersistentVolumeClaims. Writes all of them, and the status.
//! Leaves to others: binding claims, placing and stopping pods.

mod claims;
mod identity;
mod steps;

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetSpec, StatefulSetStatus};
use k8s_openapi::api::core::v1::Pod;
use mizzen_api::pod::{is_ready, is_terminating, phase};
use mizzen_api::selector::LabelSelector;
use mizzen_store::Snapshot;

use crate::meta::Meta;
use crate::plan::{ControllerError, Plan};
use crate::pods;
use crate::revisions::{self, HASH, History};

/// The writes that bring the pods of the StatefulSet at `set_key` nearer to its spec.
///
/// # Errors
/// [`ControllerError::Unreadable`], before anything is planned.
pub fn reconcile(snapshot: &Snapshot, set_key: &str, now: Timestamp) -> Result<Plan, ControllerError> {
    let mut plan = Plan::default();
    let Some(set) = snapshot.get_as::<StatefulSet>(set_key) else { return Ok(plan) };
    let Some(spec) = &set.spec else { return Ok(plan) };
    let selector = LabelSelector::from_typed(Some(&spec.selector)).map_err(|e| ControllerError::Unreadable {
        object: set_key.to_string(),
        field: "spec.selector",
        message: e.to_string(),
    })?;
    let old = set.status.clone().unwrap_or_default();
    let subject = revisions::Subject {
        owner: &*set,
        template: &spec.template,
        selector: &selector,
        collisions: old.collision_count.unwrap_or(0),
    };
    let history = revisions::history(snapshot, &subject, &mut plan);
    let owned: Vec<Arc<Pod>> = pods::claim(snapshot, &*set, &selector, &mut plan);
    let mine = owned.into_iter().filter_map(|p| Some((identity::ordinal(set.name(), p.name())?, p)));
    let pods: BTreeMap<i32, Arc<Pod>> = mine.collect();
    let current = old.current_revision.clone().filter(|name| history.named(name).is_some());
    let current = current.unwrap_or_else(|| history.update.clone());
    let world = World { snapshot, set: &set, spec, history: &history, current, pods: &pods, now };
    claims::keep(&world, &mut plan);
    if !set.is_deleting() {
        steps::plan(&world, &mut plan);
        let all: Vec<Arc<Pod>> = pods.values().cloned().collect();
        history.truncate(spec.revision_history_limit, &[&world.current], &all, &mut plan);
    }
    set_status(&world, &old, &mut plan);
    Ok(plan)
}

/// A StatefulSet with its pods by ordinal.
struct World<'a> {
    snapshot: &'a Snapshot,
    set: &'a Arc<StatefulSet>,
    spec: &'a StatefulSetSpec,
    history: &'a History,
    /// The revision that pods below the partition have.
    current: String,
    pods: &'a BTreeMap<i32, Arc<Pod>>,
    now: Timestamp,
}

impl World<'_> {
    fn start(&self) -> i32 {
        self.spec.ordinals.as_ref().and_then(|o| o.start).unwrap_or(0)
    }

    /// The ordinals that should be there.
    fn ordinals(&self) -> std::ops::Range<i32> {
        self.start()..self.start().saturating_add(self.spec.replicas.unwrap_or(1))
    }

    fn is_ordered(&self) -> bool {
        self.spec.pod_management_policy.as_deref() != Some("Parallel")
    }

    fn is_rolling(&self) -> bool {
        let kind = self.spec.update_strategy.as_ref().and_then(|s| s.type_.as_deref());
        kind != Some("OnDelete")
    }

    /// Ordinals below stay at the current revision.
    fn partition(&self) -> i32 {
        let rolling = self.spec.update_strategy.as_ref().and_then(|s| s.rolling_update.as_ref());
        rolling.and_then(|r| r.partition).unwrap_or(0)
    }

    /// Running, ready for long enough, and not on its way out. Looks again when it is a matter of time.
    fn is_available(&self, pod: &Pod, plan: &mut Plan) -> bool {
        let runs = !is_terminating(pod) && phase(pod) == "Running";
        runs && pods::is_available(pod, self.spec.min_ready_seconds, self.now, plan)
    }
}

fn set_status(world: &World<'_>, old: &StatefulSetStatus, plan: &mut Plan) {
    let mut scratch = Plan::default();
    let count = |test: &mut dyn FnMut(&Pod) -> bool| {
        i32::try_from(world.pods.values().filter(|p| test(p)).count()).unwrap_or(i32::MAX)
    };
    let revision = |p: &Pod, name: &str| p.label(HASH) == Some(name) && !is_terminating(p);
    let replicas = count(&mut |p| !phase(p).is_empty());
    let ready = count(&mut |p| is_ready(p) && phase(p) == "Running" && !is_terminating(p));
    let available = count(&mut |p| world.is_available(p, &mut scratch));
    let updated = count(&mut |p| revision(p, &world.history.update));
    let same = world.current == world.history.update;
    let mut new = StatefulSetStatus {
        replicas,
        ready_replicas: Some(ready).filter(|n| *n > 0),
        available_replicas: Some(available),
        current_replicas: Some(count(&mut |p| revision(p, &world.current))).filter(|n| *n > 0),
        updated_replicas: Some(updated).filter(|n| *n > 0),
        current_revision: Some(world.current.clone()),
        update_revision: Some(world.history.update.clone()),
        collision_count: Some(world.history.collisions),
        observed_generation: world.set.metadata.generation,
        conditions: old.conditions.clone(),
    };
    if !same && world.is_rolling() && updated == replicas && ready == replicas {
        new.current_revision.clone_from(&new.update_revision);
        new.current_replicas = new.updated_replicas;
    }
    if let Some(after) = scratch.again_after {
        plan.again(after);
    }
    plan.status(&**world.set, old, &new);
}

#[cfg(test)]
mod tests;
