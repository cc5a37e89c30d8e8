//! The next step of a StatefulSet: make, replace, remove or update pods, one after the other unless it may go in parallel.

use k8s_openapi::api::core::v1::Pod;
use mizzen_api::pod::{is_terminal, is_terminating};

use super::{World, claims, identity};
use crate::meta::Meta;
use crate::plan::{Plan, Write};
use crate::revisions::HASH;

/// Plans the next step, or several where the set allows it.
pub(super) fn plan(world: &World<'_>, plan: &mut Plan) {
    if fill(world, plan).is_none() {
        return;
    }
    if shrink(world, plan).is_none() {
        return;
    }
    update(world, plan);
}

/// From the lowest ordinal up: pods that are missing or have ended. `None` if the rest has to wait.
fn fill(world: &World<'_>, plan: &mut Plan) -> Option<()> {
    for ordinal in world.ordinals() {
        let healthy = match world.pods.get(&ordinal) {
            None => {
                create(world, ordinal, plan);
                false
            }
            Some(pod) if is_terminal(pod) && !is_terminating(pod) => {
                let (set, name) = (world.set.name(), pod.name());
                let message = format!("StatefulSet {}/{set} is recreating failed Pod {name}", world.set.namespace());
                plan.warn(&**world.set, "RecreatingFailedPod", message);
                delete(world, pod, plan);
                false
            }
            Some(pod) => world.is_available(pod, plan),
        };
        if !healthy && world.is_ordered() {
            return None;
        }
    }
    Some(())
}

/// From the highest ordinal down: pods beyond the number of replicas.
fn shrink(world: &World<'_>, plan: &mut Plan) -> Option<()> {
    let wanted = world.ordinals();
    let surplus: Vec<&std::sync::Arc<Pod>> =
        world.pods.iter().rev().filter(|(n, _)| !wanted.contains(n)).map(|(_, p)| p).collect();
    for (at, pod) in surplus.iter().enumerate() {
        if is_terminating(pod) {
            if world.is_ordered() {
                return None;
            }
            continue;
        }
        // In order, an unhealthy pod that is not the lowest unhealthy one waits for those below to become healthy.
        let below_healthy = surplus[at + 1..].iter().all(|p| world.is_available(p, plan));
        if world.is_ordered() && !world.is_available(pod, plan) && !below_healthy {
            return None;
        }
        delete(world, pod, plan);
        if world.is_ordered() {
            return None;
        }
    }
    Some(())
}

/// From the highest ordinal down to the partition: one pod of an old revision, once all above are well.
fn update(world: &World<'_>, plan: &mut Plan) {
    if !world.is_rolling() {
        return;
    }
    let first = world.start().saturating_add(world.partition());
    for ordinal in world.ordinals().rev().take_while(|n| *n >= first) {
        let Some(pod) = world.pods.get(&ordinal) else { return };
        let is_new = pod.label(HASH) == Some(world.history.update.as_str());
        if !is_new && !is_terminating(pod) {
            delete(world, pod, plan);
            return;
        }
        if !world.is_available(pod, plan) {
            return;
        }
    }
}

fn create(world: &World<'_>, ordinal: i32, plan: &mut Plan) {
    claims::create(world, ordinal, plan);
    let pod = identity::pod(world, ordinal);
    let (set, name) = (world.set.name(), pod["metadata"]["name"].as_str().unwrap_or_default());
    let message = format!("create Pod {name} in StatefulSet {set} successful");
    plan.say(&**world.set, "SuccessfulCreate", message);
    plan.write(Write::Create { object: pod });
    plan.warn_if_refused(&**world.set, "create Pod failed error");
}

fn delete(world: &World<'_>, pod: &Pod, plan: &mut Plan) {
    let message = format!("delete Pod {} in StatefulSet {} successful", pod.name(), world.set.name());
    plan.say(&**world.set, "SuccessfulDelete", message);
    plan.write(Write::delete(pod));
}
