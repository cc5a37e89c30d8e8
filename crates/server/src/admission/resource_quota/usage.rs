//! How much of what an object uses.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, ResourceQuotaSpec};
use mizzen_api::key;
use mizzen_api::kind::Kind;
use mizzen_api::quantity::{Format, Quantity};
use serde::Deserialize;
use serde_json::Value;

use super::super::Request;
use super::super::pods::{items, text};
use super::{pods, scopes};

/// Amounts by the names that quotas limit.
pub type Usage = BTreeMap<String, Quantity>;

/// Kinds that quotas also count by their bare name.
const BARE: [&str; 7] =
    ["pods", "services", "persistentvolumeclaims", "replicationcontrollers", "resourcequotas", "secrets", "configmaps"];

/// An object as quotas see it.
pub enum Counted {
    /// A pod.
    Pod(Arc<Pod>),
    /// Anything else.
    Other(Value),
}

impl Counted {
    /// Reads an object of the request's kind.
    pub fn read(request: &Request<'_>, object: &Value) -> Self {
        let pod = request.is("", "pods").then(|| Pod::deserialize(object).ok()).flatten();
        pod.map_or_else(|| Counted::Other(object.clone()), |pod| Counted::Pod(Arc::new(pod)))
    }

    /// What it uses.
    pub fn usage(&self, request: &Request<'_>) -> Usage {
        let (group, plural) = (request.kind.group, request.kind.plural);
        let mut usage = Usage::from([(count_name(group, plural), one())]);
        if let Counted::Pod(pod) = self {
            usage.extend(pods::usage(pod, request.now.as_second()));
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

fn one() -> Quantity {
    Quantity::from_units(1, Format::DecimalSi)
}

fn count_name(group: &str, plural: &str) -> String {
    if group.is_empty() { format!("count/{plural}") } else { format!("count/{plural}.{group}") }
}

fn service(service: &Value, usage: &mut Usage) {
    let spec = &service["spec"];
    let ports = i64::try_from(items(spec, "ports").len()).unwrap_or(i64::MAX);
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

/// Whether a name that a quota limits speaks of this kind.
pub fn counts(kind: &Kind, name: &str) -> bool {
    if let Some(resource) = name.strip_prefix("count/") {
        return count_name(kind.group, kind.plural).strip_prefix("count/") == Some(resource);
    }
    if !kind.group.is_empty() {
        return false;
    }
    let storage = name == "requests.storage" || name.contains(".storageclass.storage.k8s.io/");
    match kind.plural {
        "persistentvolumeclaims" => name == kind.plural || storage,
        "services" => name == kind.plural || name.starts_with("services."),
        "pods" => name == kind.plural || (pods::counts(name) && !storage),
        plural => name == plural && BARE.contains(&plural),
    }
}

/// What the objects of the request's kind that are stored in its namespace, and that the quota's scopes match, use together.
pub fn of_namespace(request: &Request<'_>, quota: &ResourceQuotaSpec, limited: &[&str]) -> Usage {
    let mut total: Usage = limited.iter().map(|name| ((*name).to_string(), Quantity::ZERO)).collect();
    let mut add = |counted: &Counted| {
        if scopes::match_object(quota, counted) {
            for (name, amount) in counted.usage(request) {
                total.entry(name).and_modify(|sum| *sum = *sum + amount);
            }
        }
    };
    let prefix = key::namespace_prefix(request.kind.group, request.kind.plural, request.namespace);
    if request.is("", "pods") {
        for pod in request.snapshot.list_as::<Pod>(&prefix) {
            add(&Counted::Pod(pod));
        }
        return total;
    }
    // Most kinds are only counted: their content need not be read.
    let read = ["services", "persistentvolumeclaims"].contains(&request.kind.plural) && request.kind.group.is_empty();
    for entry in request.snapshot.prefix(&prefix) {
        let object = if read { serde_json::from_slice(&entry.value).unwrap_or_default() } else { Value::Null };
        add(&Counted::Other(object));
    }
    total
}
