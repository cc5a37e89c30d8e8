//! Merging an applied configuration into the live object, and taking out what the applier no longer wants.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value};

use super::set::FieldSet;
use super::walk::{Shape, list_step, member, shape, value_step};
use crate::kind::Name;
use crate::patch::remove_member;

/// Puts `config` over `live`.
pub(super) fn merge(live: &mut Value, config: Value, shape_of: Shape<'_>) {
    match (live, config, shape_of) {
        (Value::Object(live), Value::Object(config), Shape::Struct(_) | Shape::Fields(_) | Shape::Entries(_)) => {
            for (name, value) in config {
                let below = member(shape_of, &name).shape();
                match live.get_mut(&name) {
                    Some(there) => merge(there, value, below),
                    None => drop(live.insert(name, value)),
                }
            }
        }
        (Value::Array(live), Value::Array(config), Shape::Set) => {
            *live = merge_lists(std::mem::take(live), config, |item, _| value_step(item), Shape::Whole);
        }
        (Value::Array(live), Value::Array(config), Shape::Items(keys, node)) => {
            let step = |item: &Value, at: usize| list_step(item, at, keys, node);
            *live = merge_lists(std::mem::take(live), config, step, shape(node, false));
        }
        (live, config, _) => *live = config,
    }
}

/// The items of both lists: those of the configuration in its order, live ones between them where they stood.
fn merge_lists(
    live: Vec<Value>,
    config: Vec<Value>,
    step: impl Fn(&Value, usize) -> Box<str>,
    item: Shape<'_>,
) -> Vec<Value> {
    let steps = |items: &[Value]| items.iter().enumerate().map(|(at, i)| step(i, at)).collect::<Vec<_>>();
    let (live_steps, config_steps) = (steps(&live), steps(&config));
    let wanted: HashSet<&str> = config_steps.iter().map(|s| &**s).collect();
    let mut shared: HashMap<&str, Value> = HashMap::new();
    // For each live item that only lives: after which shared item of the live list it stood.
    let mut following: HashMap<Option<&str>, Vec<Value>> = HashMap::new();
    let mut last_shared = None;
    for (step, value) in live_steps.iter().zip(live) {
        if wanted.contains(&**step) {
            last_shared = Some(&**step);
            shared.entry(step).or_insert(value);
        } else {
            following.entry(last_shared).or_default().push(value);
        }
    }
    let mut out = following.remove(&None).unwrap_or_default();
    for (step, value) in config_steps.iter().zip(config) {
        match shared.remove(&**step) {
            Some(mut there) => {
                merge(&mut there, value, item);
                out.push(there);
            }
            None => out.push(value),
        }
        out.extend(following.remove(&Some(&**step)).into_iter().flatten());
    }
    out
}

/// Removes from `value` what `last` owned and none of `owners` owns now.
pub(super) fn prune(value: &mut Value, shape_of: Shape<'_>, last: &FieldSet, owners: &[&FieldSet]) {
    match (value, shape_of) {
        (Value::Object(map), Shape::Struct(_) | Shape::Fields(_) | Shape::Entries(_)) => {
            prune_map(map, shape_of, last, owners, &[])
        }
        (Value::Array(items), Shape::Set) => items.retain(|item| {
            let step = value_step(item);
            last.get(&step).is_none() || owners.iter().any(|o| o.get(&step).is_some())
        }),
        (Value::Array(items), Shape::Items(keys, node)) => {
            let mut at = 0;
            items.retain_mut(|item| {
                let step = list_step(item, at, keys, node);
                at += 1;
                let Some(gone) = last.get(&step) else { return true };
                let still: Vec<&FieldSet> = owners.iter().filter_map(|o| o.get(&step)).collect();
                if still.is_empty() && gone.member {
                    return false;
                }
                match (item, shape(node, false)) {
                    // The keys stay as long as the item does, or nobody could name it.
                    (Value::Object(map), below @ (Shape::Struct(_) | Shape::Fields(_))) => {
                        prune_map(map, below, gone, &still, keys)
                    }
                    (item, below) => prune(item, below, gone, &still),
                }
                true
            });
        }
        _ => {}
    }
}

fn prune_map(map: &mut Map<String, Value>, shape_of: Shape<'_>, last: &FieldSet, owners: &[&FieldSet], keep: &[Name]) {
    for (step, gone) in last.children() {
        let Some(name) = step.strip_prefix("f:").filter(|name| !keep.iter().any(|k| k == name)) else {
            continue;
        };
        let Some(child) = map.get_mut(name) else { continue };
        let still: Vec<&FieldSet> = owners.iter().filter_map(|o| o.get(step)).collect();
        if still.is_empty() {
            remove_member(map, name);
        } else {
            prune(child, member(shape_of, name).shape(), gone, &still);
        }
    }
}
