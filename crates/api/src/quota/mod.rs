//! How much an object uses of what a ResourceQuota limits, for the admission that holds quotas and the controller that counts.

mod pods;
mod scopes;

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use serde::Deserialize;
use serde_json::Value;

use crate::quantity::{Format, Quantity};
pub use pods::unspecified;
pub use scopes::match_object;

/// Amounts by the names that quotas limit.
pub type Usage = BTreeMap<String, Quantity>;

/// Kinds that quotas also count by their bare name.
const BARE: [&str; 7] =
    ["pods", "services", "persistentvolumeclaims", "replicationcontrollers", "resourcequotas", "secrets", "configmaps"];

/// An object as quotas see it.
#[derive(Debug, Clone)]
pub enum Counted {
    /// A pod.
    Pod(Arc<Pod>),
    /// Anything else.
    Other(Value),
}

impl Counted {
    /// Reads an object of a resource.
    pub fn read(group: &str, plural: &str, object: &Value) -> Self {
        let is_pod = group.is_empty() && plural == "pods";
        let pod = is_pod.then(|| Pod::deserialize(object).ok()).flatten();
        pod.map_or_else(|| Counted::Other(object.clone()), |pod| Counted::Pod(Arc::new(pod)))
    }

    /// What an object of a resource uses.
    pub fn usage(&self, group: &str, plural: &str, now_seconds: i64) -> Usage {
        let mut usage = Usage::from([(count_name(group, plural), one())]);
        if let Counted::Pod(pod) = self {
            usage.extend(pods::usage(pod, now_seconds));
            return usage;
        }
        let Counted::Other(object) = self else { return usage };
        if group.is_empty() && BARE.contains(&plural) {
            usage.insert(plural.into(), one());
        }
        match (group, plural) {
            ("", "services") => service(object, &mut usage),
            ("", "persistentvolumeclaims") => claim(object, &mut usage),
            _ => {}
        }
        usage
    }
}

/// A string field; empty if it is absent.
fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object.get(field).and_then(Value::as_str).unwrap_or_default()
}

fn one() -> Quantity {
    Quantity::from_units(1, Format::DecimalSi)
}

fn count_name(group: &str, plural: &str) -> String {
    if group.is_empty() { format!("count/{plural}") } else { format!("count/{plural}.{group}") }
}

fn service(service: &Value, usage: &mut Usage) {
    let spec = &service["spec"];
    let ports = spec["ports"].as_array().map_or(0, |ports| i64::try_from(ports.len()).unwrap_or(i64::MAX));
    let ports = Quantity::from_units(ports, Format::DecimalSi);
    match text(spec, "type") {
        "NodePort" => drop(usage.insert("services.nodeports".into(), ports)),
        "LoadBalancer" => {
            usage.insert("services.loadbalancers".into(), one());
            if spec["allocateLoadBalancerNodePorts"] != false {
                usage.insert("services.nodeports".into(), ports);
            }
        }
        _ => {}
    }
}

fn claim(claim: &Value, usage: &mut Usage) {
    let spec = &claim["spec"];
    let size = text(&spec["resources"]["requests"], "storage").parse().ok();
    let class = text(spec, "storageClassName");
    if !class.is_empty() {
        usage.insert(format!("{class}.storageclass.storage.k8s.io/persistentvolumeclaims"), one());
    }
    if let Some(size) = size {
        usage.insert("requests.storage".into(), size);
        if !class.is_empty() {
            usage.insert(format!("{class}.storageclass.storage.k8s.io/requests.storage"), size);
        }
    }
}

/// Whether the content of a resource's objects matters. Most are only counted, and need not be read.
pub fn reads(group: &str, plural: &str) -> bool {
    group.is_empty() && ["pods", "services", "persistentvolumeclaims"].contains(&plural)
}

/// Whether a name that a quota limits speaks of this resource.
pub fn counts(group: &str, plural: &str, name: &str) -> bool {
    if let Some(resource) = name.strip_prefix("count/") {
        return count_name(group, plural).strip_prefix("count/") == Some(resource);
    }
    if !group.is_empty() {
        return false;
    }
    let storage = name == "requests.storage" || name.contains(".storageclass.storage.k8s.io/");
    match plural {
        "persistentvolumeclaims" => name == plural || storage,
        "services" => name == plural || name.starts_with("services."),
        "pods" => name == plural || (pods::counts(name) && !storage),
        plural => name == plural && BARE.contains(&plural),
    }
}
