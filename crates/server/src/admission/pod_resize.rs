//! PodResize: no pod is resized beyond what its node has.

use k8s_openapi::api::core::v1::{Node, Pod};
use mizzen_api::status::ApiError;
use mizzen_api::{key, pod};
use serde_json::Value;

use super::plugin::Plugin;
use super::pods::text;
use super::{Admitted, Operation, Request};

pub const PLUGIN: Plugin = Plugin { resources: &[("", "pods")], mutate: None, validate: Some(check) };

fn check(request: &Request<'_>, object: &Value, old: Option<&Value>, _: &mut Admitted) -> Result<(), ApiError> {
    let node = text(&object["spec"], "nodeName");
    let unchanged = old.is_some_and(|old| old["spec"] == object["spec"]);
    if request.operation != Operation::Update || request.subresource != "resize" || node.is_empty() || unchanged {
        return Ok(());
    }
    let Some(node) = request.snapshot.get_as::<Node>(&key::of::<Node>("", node)) else {
        return Err(request.forbidden(object, &format!("node {node:?} not found")));
    };
    let os = node.metadata.labels.as_ref().and_then(|labels| labels.get("kubernetes.io/os"));
    if let Some(os) = os.filter(|os| *os != "linux") {
        let name = node.metadata.name.as_deref().unwrap_or_default();
        let why = format!("pod resize is only supported on linux nodes, node {name:?} is {os:?}");
        return Err(request.forbidden(object, &why));
    }
    // What cannot be read as a pod is refused by validation.
    let Ok(typed) = serde_json::from_value::<Pod>(object.clone()) else { return Ok(()) };
    let wanted = typed.spec.as_ref().map(pod::requests).unwrap_or_default();
    let allocatable = node.status.as_ref().and_then(|s| s.allocatable.as_ref());
    let allocatable = allocatable.map(pod::amounts).unwrap_or_default();
    let mut missing = Vec::new();
    for (name, unit) in [("cpu", 1), ("memory", 1000)] {
        let amount = |of: &pod::Amounts| of.get(name).copied().unwrap_or(0);
        let (wanted, most) = (amount(&wanted), amount(&allocatable));
        if wanted > most {
            missing.push(format!("{name}, requested: {}, allocatable: {}", wanted / unit, most / unit));
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let why = format!("node didn't have enough allocatable resources: {}", missing.join("; "));
    Err(request.forbidden(object, &why))
}
