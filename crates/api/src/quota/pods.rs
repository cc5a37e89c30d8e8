//! What pods use, and what they must say where it is limited.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{Container, Pod, ResourceRequirements};

use super::Usage;
use crate::pod;
use crate::quantity::{Format, Quantity};

/// Resources that quotas also limit under their bare name.
const BARE: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];
/// What containers must say if a quota limits it.
const REQUIRED: [&str; 6] = ["cpu", "memory", "requests.cpu", "requests.memory", "limits.cpu", "limits.memory"];

/// Whether a limited name is about what pods use.
pub fn counts(name: &str) -> bool {
    BARE.contains(&name)
        || name.starts_with("hugepages-")
        || name.starts_with("requests.")
        || name.starts_with("limits.")
}

/// What a pod uses, its count as an object aside: nothing once it has ended, or should have.
pub fn usage(pod: &Pod, now_seconds: i64) -> Usage {
    let deadline = pod.metadata.deletion_timestamp.as_ref().map(|time| time.0.as_second());
    if pod::is_terminal(pod) || deadline.is_some_and(|deadline| now_seconds > deadline) {
        return Usage::new();
    }
    let mut usage = Usage::from([("pods".to_string(), Quantity::from_units(1, Format::DecimalSi))]);
    let Some(spec) = &pod.spec else { return usage };
    for (name, millis) in pod::requests(spec) {
        let amount = amount(&name, millis);
        if BARE.contains(&name.as_str()) || name.starts_with("hugepages-") {
            usage.insert(name.clone(), amount);
        }
        usage.insert(format!("requests.{name}"), amount);
    }
    for (name, millis) in pod::limits(spec) {
        if BARE.contains(&name.as_str()) {
            usage.insert(format!("limits.{name}"), amount(&name, millis));
        }
    }
    usage
}

/// Bytes are shown as bytes, all else in decimal.
fn amount(name: &str, millis: i64) -> Quantity {
    let bytes = name == "memory" || name == "ephemeral-storage" || name.starts_with("hugepages-");
    if bytes { Quantity::from_units(millis / 1000, Format::BinarySi) } else { Quantity::from_millis(millis) }
}

/// `must specify cpu for: a,b; memory for: a`, if containers leave out what is limited.
pub fn unspecified(pod: &Pod, limited: &[&str]) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let whole = spec.resources.as_ref().map(names).unwrap_or_default();
    let mut missing: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    for container in containers {
        let Container { resources, .. } = container;
        let given = resources.as_ref().map(names).unwrap_or_default();
        for name in limited.iter().filter(|name| REQUIRED.contains(name)) {
            if !given.contains(*name) && !whole.contains(*name) {
                missing.entry(name).or_default().insert(&container.name);
            }
        }
    }
    if missing.is_empty() {
        return None;
    }
    let each = missing.into_iter().map(|(name, containers)| {
        let containers: Vec<&str> = containers.into_iter().collect();
        format!("{name} for: {}", containers.join(","))
    });
    Some(format!("must specify {}", each.collect::<Vec<_>>().join("; ")))
}

/// What is given, by the names of quotas.
fn names(resources: &ResourceRequirements) -> BTreeSet<String> {
    let requests = resources.requests.iter().flatten().flat_map(|(name, _)| [name.clone(), format!("requests.{name}")]);
    let limits = resources.limits.iter().flatten().map(|(name, _)| format!("limits.{name}"));
    requests.chain(limits).collect()
}
