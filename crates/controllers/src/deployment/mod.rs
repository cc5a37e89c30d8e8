//! Deployment: rolls one template out over ReplicaSets (apps/v1 Deployment).
//!
//! Reads Deployments, ReplicaSets and Pods. Writes ReplicaSets (create, adopt, release, scale, delete old ones), the
//! Deployment's revision annotation and status. Leaves pods to the ReplicaSets.
//!
//! * [`sets`]: which ReplicaSets there are, which is the new one, what a new one looks like.
//! * [`rollout`]: how many pods each may have next, as numbers.
//! * [`status`]: conditions and counts.

mod rollout;
mod sets;
mod status;

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, ReplicaSet};
use k8s_openapi::api::core::v1::Pod;
use mizzen_api::key;
use mizzen_api::pod::is_terminal;
use mizzen_api::selector::LabelSelector;
use mizzen_store::{Change, Event, Snapshot};
use serde_json::json;

use crate::meta::Meta;
use crate::plan::{ControllerError, Plan, Target, Write};
use crate::pods;
use crate::shell::Wake;
use crate::wake::head;
use rollout::{Limits, Size};
use sets::Sets;

/// The writes that bring the Deployment at `key` nearer to its spec; empty when all is well.
///
/// # Errors
/// [`ControllerError::Unreadable`], before anything is planned.
pub fn reconcile(snapshot: &Snapshot, key: &str, now: Timestamp) -> Result<Plan, ControllerError> {
    let mut plan = Plan::default();
    let Some(deployment) = snapshot.get_as::<Deployment>(key) else {
        return Ok(plan);
    };
    let Some(spec) = &deployment.spec else { return Ok(plan) };
    let selector = LabelSelector::from_typed(Some(&spec.selector)).map_err(|e| ControllerError::Unreadable {
        object: key.to_string(),
        field: "spec.selector",
        message: e.to_string(),
    })?;
    if selector.is_everything() {
        return Ok(plan);
    }
    let owned: Vec<Arc<ReplicaSet>> = pods::claim(snapshot, &*deployment, &selector, &mut plan);
    let sets = Sets::sort(&spec.template, owned);
    let world = World { snapshot, deployment: &deployment, spec, limits: Limits::of(spec), sets };
    if deployment.is_deleting() {
        status::set(&world, now, &mut plan);
        return Ok(plan);
    }
    world.act(&mut plan);
    status::set(&world, now, &mut plan);
    Ok(plan)
}

/// What one decision looks at.
struct World<'a> {
    snapshot: &'a Snapshot,
    deployment: &'a Deployment,
    spec: &'a DeploymentSpec,
    limits: Limits,
    sets: Sets,
}

impl World<'_> {
    fn act(&self, plan: &mut Plan) {
        self.sync_revision(plan);
        if self.is_paused() || self.scaled_meanwhile() {
            return self.spread(plan);
        }
        match self.is_recreate() {
            true => self.recreate(plan),
            false => self.roll(plan),
        }
        if plan.writes.is_empty() && status::is_complete(self) {
            self.clean_up(plan);
        }
    }

    fn is_paused(&self) -> bool {
        self.spec.paused == Some(true)
    }

    fn is_recreate(&self) -> bool {
        self.spec.strategy.as_ref().and_then(|s| s.type_.as_deref()) == Some("Recreate")
    }

    /// `spec.replicas` was changed since the sets were last sized.
    fn scaled_meanwhile(&self) -> bool {
        let sized_for = |set: &ReplicaSet| set.annotation(sets::DESIRED).and_then(|d| d.parse::<i32>().ok());
        let active = self.sets.all().filter(|s| replicas(s) > 0);
        active.filter_map(|s| sized_for(s)).any(|desired| desired != self.limits.replicas)
    }

    /// Gives the new set the newest revision, and the Deployment the new set's.
    fn sync_revision(&self, plan: &mut Plan) {
        let Some(new) = &self.sets.new else { return };
        let newest_old = self.sets.old.iter().map(|s| sets::revision(s)).max().unwrap_or(0);
        let revision = sets::revision(new).max(newest_old + 1);
        let annotations = sets::annotations(self.deployment, new, revision, &self.limits);
        if sets::differ(new, &annotations) {
            plan.write(Write::Merge {
                target: Target::of::<ReplicaSet>(new.namespace(), new.name()),
                subresource: "",
                patch: json!({"metadata": {"uid": new.uid(), "resourceVersion": new.version(), "annotations": annotations}}),
            });
        }
        self.annotate_revision(revision, plan);
    }

    fn annotate_revision(&self, revision: i64, plan: &mut Plan) {
        let revision = revision.to_string();
        if self.deployment.annotation(sets::REVISION) != Some(&revision) {
            plan.write(Write::Merge {
                target: Target::of::<Deployment>(self.deployment.namespace(), self.deployment.name()),
                subresource: "",
                patch: json!({"metadata": {"uid": self.deployment.uid(), "annotations": {sets::REVISION: revision}}}),
            });
        }
    }

    /// Paused, or scaled in the middle of a rollout: every set keeps its share.
    fn spread(&self, plan: &mut Plan) {
        let active: Vec<&Arc<ReplicaSet>> = self.sets.all().filter(|s| replicas(s) > 0).collect();
        let sizes: Vec<Size> = active.iter().map(|s| self.size(s)).collect();
        match active.as_slice() {
            [] | [_] => {
                let only = active.first().copied().or(self.sets.new.as_ref()).or(self.sets.old.last());
                if let Some(set) = only {
                    self.scale(set, self.limits.replicas, plan);
                }
            }
            _ if self.is_recreate() => {}
            _ => {
                for (set, size) in active.iter().zip(rollout::proportional(&sizes, &self.limits)) {
                    self.scale(set, size, plan);
                }
            }
        }
    }

    fn recreate(&self, plan: &mut Plan) {
        for set in self.sets.old.iter().filter(|s| replicas(s) > 0) {
            self.scale(set, 0, plan);
        }
        if plan.writes.is_empty() && !self.old_pods_remain() {
            match &self.sets.new {
                Some(new) => self.scale(new, self.limits.replicas, plan),
                None => self.create(self.limits.replicas, plan),
            }
        }
    }

    fn old_pods_remain(&self) -> bool {
        let new = self.sets.new.as_ref().map(|s| s.uid());
        let of_old = |pod: &Pod| {
            pod.controller()
                .is_some_and(|o| self.sets.old.iter().any(|s| s.uid() == o.uid) && Some(o.uid.as_str()) != new)
        };
        let prefix = key::in_namespace::<Pod>(self.deployment.namespace());
        self.snapshot.list_as::<Pod>(&prefix).any(|pod| of_old(&pod) && !is_terminal(&pod))
    }

    fn roll(&self, plan: &mut Plan) {
        let old: Vec<Size> = self.sets.old.iter().map(|s| self.size(s)).collect();
        let Some(new) = &self.sets.new else {
            return self.create(rollout::new_size(None, &old, &self.limits), plan);
        };
        let size = self.size(new);
        let next = rollout::new_size(Some(size), &old, &self.limits);
        self.scale(new, next, plan);
        if next > size.replicas {
            return; // Old pods leave when the status shows the new ones.
        }
        for (set, next) in self.sets.old.iter().zip(rollout::old_sizes(size, &old, &self.limits)) {
            self.scale(set, next, plan);
        }
    }

    fn create(&self, replicas: i32, plan: &mut Plan) {
        let newest = self.sets.old.iter().map(|s| sets::revision(s)).max().unwrap_or(0);
        let collisions = self.deployment.status.as_ref().and_then(|s| s.collision_count).unwrap_or(0);
        let set = sets::build(self.deployment, self.spec, newest + 1, replicas, &self.limits, collisions);
        let name = set["metadata"]["name"].as_str().unwrap_or_default().to_string();
        if self.snapshot.get(&key::of::<ReplicaSet>(self.deployment.namespace(), &name)).is_some() {
            return status::bump_collisions(self.deployment, collisions, plan);
        }
        plan.write(Write::Create { object: set });
        self.annotate_revision(newest + 1, plan);
        plan.say(self.deployment, "ScalingReplicaSet", format!("Scaled up replica set {name} from 0 to {replicas}"));
    }

    fn scale(&self, set: &ReplicaSet, size: i32, plan: &mut Plan) {
        let now = replicas(set);
        let desired = set.annotation(sets::DESIRED) == Some(&self.limits.replicas.to_string());
        if now == size && (desired || size == 0) {
            return;
        }
        let annotations = json!({
            sets::DESIRED: self.limits.replicas.to_string(),
            sets::MAX: (self.limits.replicas + self.limits.surge).to_string(),
        });
        plan.write(Write::Merge {
            target: Target::of::<ReplicaSet>(set.namespace(), set.name()),
            subresource: "",
            patch: json!({
                "metadata": {"uid": set.uid(), "annotations": annotations},
                "spec": {"replicas": size},
            }),
        });
        if now != size {
            let direction = if size > now { "up" } else { "down" };
            plan.say(
                self.deployment,
                "ScalingReplicaSet",
                format!("Scaled {direction} replica set {} from {now} to {size}", set.name()),
            );
        }
    }

    fn size(&self, set: &ReplicaSet) -> Size {
        let status = set.status.as_ref();
        Size {
            replicas: replicas(set),
            available: status.and_then(|s| s.available_replicas).unwrap_or(0),
            pods: status.map_or(0, |s| s.replicas),
            max: set.annotation(sets::MAX).and_then(|m| m.parse().ok()),
        }
    }

    /// Deletes the oldest sets beyond the history limit.
    fn clean_up(&self, plan: &mut Plan) {
        let keep = usize::try_from(self.spec.revision_history_limit.unwrap_or(10)).unwrap_or(0);
        let idle = |s: &&Arc<ReplicaSet>| {
            replicas(s) == 0 && s.status.as_ref().is_none_or(|t| t.replicas == 0) && !s.is_deleting()
        };
        let mut idle: Vec<_> = self.sets.old.iter().filter(idle).collect();
        idle.sort_by_key(|s| sets::revision(s));
        let surplus = idle.len().saturating_sub(keep);
        for set in idle.into_iter().take(surplus) {
            plan.write(Write::Delete {
                target: Target::of::<ReplicaSet>(set.namespace(), set.name()),
                uid: set.uid().to_string(),
                resource_version: Some(set.version().to_string()),
                propagation: Some("Background"),
                grace_seconds: None,
            });
        }
    }
}

fn replicas(set: &ReplicaSet) -> i32 {
    set.spec.as_ref().and_then(|s| s.replicas).unwrap_or(1)
}

/// A deleted pod wakes the Deployment behind its set: `Recreate` waits for the last one.
pub(crate) fn woken_by_pods() -> (String, Wake) {
    let wake = |snapshot: &Snapshot, event: &Event| {
        let Change::Delete { previous } = &event.change else {
            return Vec::new();
        };
        let meta = head(previous).metadata;
        let namespace = meta.namespace.unwrap_or_default();
        let sets = meta.owner_references.into_iter().flatten().filter(|o| o.kind == "ReplicaSet");
        let set = sets.filter_map(|o| snapshot.get_as::<ReplicaSet>(&key::of::<ReplicaSet>(&namespace, &o.name)));
        let owners = set.flat_map(|s| s.metadata.owner_references.clone().unwrap_or_default());
        owners.filter(|o| o.kind == "Deployment").map(|o| key::of::<Deployment>(&namespace, &o.name)).collect()
    };
    (key::all::<Pod>(), Arc::new(wake))
}

#[cfg(test)]
mod tests {
    use crate::testing::check;

    const WEB: &str = "deployment/d/web replicas=4 image=v2";

    #[test]
    fn rolls_within_its_limits() {
        for (case, sets, writes) in [
            ("first", "", "create ReplicaSet d/web-; patch deployments d/web; patch deployments/status d/web"),
            (
                "surge, then wait",
                "rs/d/web-1 of=web replicas=4 image=v1 revision=1 available=4",
                "create ReplicaSet d/web-; patch deployments d/web; patch deployments/status d/web",
            ),
            (
                "old leaves as new becomes available",
                "rs/d/web-1 of=web replicas=4 image=v1 revision=1 available=4; rs/d/web-2 of=web replicas=1 image=v2 revision=2 available=1",
                "patch deployments d/web; patch replicasets d/web-1; patch deployments/status d/web",
            ),
        ] {
            check(case, &format!("{WEB}; {sets}"), "apps/deployments/d/web", super::reconcile, writes);
        }
    }
}
