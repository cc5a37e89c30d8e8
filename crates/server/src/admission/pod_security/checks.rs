//! How checks look at a pod, and how they say what they found.

use std::collections::BTreeSet;

use serde_json::Value;

use super::super::pods::{items, text};

/// One check of a level.
pub struct Check {
    /// The restricted level has a stricter one instead.
    pub refined: bool,
    /// Metadata and spec of a pod → what is forbidden in it.
    pub run: fn(&Value, &Value) -> Option<Broken>,
}

/// Something forbidden.
pub struct Broken {
    /// In a word.
    pub reason: String,
    /// Where, and what to do.
    pub detail: String,
}

impl Broken {
    pub fn new(reason: impl Into<String>, detail: String) -> Option<Self> {
        Some(Self { reason: reason.into(), detail })
    }
}

/// `reason (detail), …`
pub fn details(broken: &[Broken]) -> String {
    broken.iter().map(|one| format!("{} ({})", one.reason, one.detail)).collect::<Vec<_>>().join(", ")
}

/// `reason, …`
pub fn reasons(broken: &[Broken]) -> String {
    broken.iter().map(|one| one.reason.as_str()).collect::<Vec<_>>().join(", ")
}

/// All containers, those that only run at the start or for debugging included.
pub fn containers(spec: &Value) -> impl Iterator<Item = &Value> {
    ["initContainers", "containers", "ephemeralContainers"].into_iter().flat_map(|list| items(spec, list))
}

/// The names of the containers for which `bad` holds.
pub fn named(spec: &Value, bad: impl Fn(&Value) -> bool) -> Vec<&str> {
    containers(spec).filter(|container| bad(container)).map(|container| text(container, "name")).collect()
}

/// `"a", "b"`
pub fn quoted<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    names.into_iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ")
}

/// `container "a"` or `containers "a", "b"`.
pub fn list(one: &str, names: &[&str]) -> String {
    let s = if names.len() == 1 { "" } else { "s" };
    format!("{one}{s} {}", quoted(names.iter().copied()))
}

/// A field of `securityContext` that must not have some values: who sets one, and which.
pub struct Setters {
    /// `pod`, `container "a"`, or both.
    pub who: String,
    /// The bad values, sorted.
    pub values: BTreeSet<String>,
}

/// Who sets a field of the security context (a JSON pointer below it) to a value that is bad. An absent field is not.
pub fn setters(spec: &Value, pointer: &str, bad: impl Fn(&Value) -> bool) -> Option<Setters> {
    let value = |part: &'_ Value| {
        part["securityContext"].pointer(pointer).filter(|value| !value.is_null() && bad(value)).cloned()
    };
    let of_pod = value(spec);
    let of_containers = named(spec, |container| value(container).is_some());
    let mut who = Vec::new();
    who.extend(of_pod.is_some().then(|| "pod".to_string()));
    who.extend((!of_containers.is_empty()).then(|| list("container", &of_containers)));
    let all = of_pod.into_iter().chain(containers(spec).filter_map(value));
    let values = all.map(|value| value.as_str().map_or_else(|| value.to_string(), String::from)).collect();
    (!who.is_empty()).then(|| Setters { who: who.join(" and "), values })
}

/// The pod's own users are not those of the node.
pub fn has_own_users(spec: &Value) -> bool {
    spec["hostUsers"] == false
}
