//! Replacing a DaemonSet's old pods within `maxUnavailable`, or beside them within `maxSurge`.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::RollingUpdateDaemonSet;
use k8s_openapi::api::core::v1::Pod;
use mizzen_api::int_or_string::{Round, scaled};
use mizzen_api::pod::{is_active, is_terminating};

use super::World;
use super::fit::Fit;
use crate::plan::Plan;

fn rolling<'a>(world: &'a World<'_>) -> Option<&'a RollingUpdateDaemonSet> {
    world.spec.update_strategy.as_ref()?.rolling_update.as_ref()
}

fn desired(world: &World<'_>) -> i64 {
    i64::try_from(world.fits.values().filter(|f| **f == Fit::Run).count()).unwrap_or(i64::MAX)
}

/// How many new pods may come up beside old ones; percentages are rounded up.
pub(super) fn surge(world: &World<'_>) -> i64 {
    let value = rolling(world).and_then(|r| r.max_surge.as_ref());
    value.and_then(|v| scaled(v, desired(world), Round::Up)).unwrap_or(0)
}

fn unavailable(world: &World<'_>) -> i64 {
    let value = rolling(world).and_then(|r| r.max_unavailable.as_ref());
    let given = value.and_then(|v| scaled(v, desired(world), Round::Up));
    let default = i64::from(surge(world) == 0);
    // Neither would never get anywhere.
    given.filter(|n| *n > 0 || surge(world) > 0).unwrap_or(default)
}

/// The pods of one node during a roll-out.
struct Here<'a> {
    node: &'a str,
    old: Option<&'a Arc<Pod>>,
    new: Option<&'a Arc<Pod>>,
}

/// Plans the next replacements.
pub(super) fn plan(world: &World<'_>, plan: &mut Plan) {
    let kind = world.spec.update_strategy.as_ref().and_then(|s| s.type_.as_deref());
    if kind == Some("OnDelete") {
        return;
    }
    let nodes: Vec<Here<'_>> =
        world.fits.iter().filter(|(_, f)| **f == Fit::Run).map(|(n, _)| here(world, n)).collect();
    if surge(world) > 0 { beside(world, &nodes, plan) } else { instead(world, &nodes, plan) }
}

fn here<'a>(world: &'a World<'_>, node: &'a str) -> Here<'a> {
    let mut living = world.pods_on(node).iter().filter(|p| is_active(p));
    let (old, new) = (living.clone().find(|p| !world.is_new(p)), living.find(|p| world.is_new(p)));
    Here { node, old, new }
}

/// Old pods go first; those that are not available anyway cost nothing.
fn instead(world: &World<'_>, nodes: &[Here<'_>], plan: &mut Plan) {
    let (mut away, mut candidates) = (0, Vec::new());
    for here in nodes {
        match (here.old, here.new) {
            (None, None) => away += 1,
            (None, Some(new)) => away += i64::from(!world.is_available(new, plan)),
            (Some(old), _) if world.is_available(old, plan) => candidates.push(old),
            (Some(old), _) => {
                away += 1;
                world.delete(old, plan);
            }
        }
    }
    let left = usize::try_from(unavailable(world) - away).unwrap_or(0);
    for pod in candidates.into_iter().take(left) {
        world.delete(pod, plan);
    }
}

/// New pods come up beside old ones, which go when the new ones are available.
fn beside(world: &World<'_>, nodes: &[Here<'_>], plan: &mut Plan) {
    let (mut surging, mut candidates) = (0, Vec::new());
    for here in nodes {
        match (here.old, here.new) {
            (Some(old), Some(new)) if world.is_available(new, plan) => world.delete(old, plan),
            (Some(_), Some(_)) => surging += 1,
            (Some(old), None) if world.is_available(old, plan) => candidates.push(here.node),
            // It is of no use: its successor need not wait.
            (Some(_), None) if is_free(world, here.node) => world.create(here.node, plan),
            (Some(_), None) | (None, _) => {}
        }
    }
    let left = usize::try_from(surge(world) - surging).unwrap_or(0);
    for node in candidates.into_iter().filter(|n| is_free(world, n)).take(left) {
        world.create(node, plan);
    }
}

/// No pod on the node is on its way out.
fn is_free(world: &World<'_>, node: &str) -> bool {
    !world.pods_on(node).iter().any(|p| is_terminating(p))
}
