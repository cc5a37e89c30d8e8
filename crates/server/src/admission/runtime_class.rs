//! RuntimeClass: the class of a pod adds its overhead, node selector and tolerations.

use std::sync::Arc;

use k8s_openapi::api::node::v1::RuntimeClass;
use mizzen_api::key;
use mizzen_api::status::ApiError;
use serde_json::{Value, json};

use super::plugin::Plugin;
use super::pods::{items, push, set, text};
use super::{Admitted, Operation, Request};

pub const PLUGIN: Plugin = Plugin { resources: &[("", "pods")], mutate: Some(admit), validate: Some(check) };

/// The class the pod names; `None` if it names none, 403 if there is no such class.
fn class(request: &Request<'_>, pod: &Value) -> Result<Option<Arc<RuntimeClass>>, ApiError> {
    let name = text(&pod["spec"], "runtimeClassName");
    let new = request.operation == Operation::Create && request.subresource.is_empty();
    if !new || name.is_empty() {
        return Ok(None);
    }
    let found = request.snapshot.get_as::<RuntimeClass>(&key::of::<RuntimeClass>("", name));
    let why = || format!("pod rejected: RuntimeClass {name:?} not found");
    found.map(Some).ok_or_else(|| request.forbidden(pod, &why()))
}

fn admit(request: &Request<'_>, pod: &mut Value, _: Option<&Value>, _: &mut Admitted) -> Result<(), ApiError> {
    let Some(class) = class(request, pod)? else {
        return Ok(());
    };
    if let Some(fixed) = overhead(&class) {
        let given =
            pod["spec"].get("overhead").filter(|given| given.as_object().is_some_and(|given| !given.is_empty()));
        if given.is_some_and(|given| *given != fixed) {
            let why = "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead";
            return Err(request.forbidden(pod, why));
        }
        set(&mut pod["spec"], "overhead", fixed);
    }
    let Some(scheduling) = &class.scheduling else {
        return Ok(());
    };
    for (label, value) in scheduling.node_selector.iter().flatten() {
        let given = pod["spec"]["nodeSelector"].get(label);
        if given.is_some_and(|given| given != value.as_str()) {
            let why = format!(
                "conflict: runtimeClass.scheduling.nodeSelector[{label}] = {value}; pod.spec.nodeSelector[{label}] = {}",
                given.and_then(Value::as_str).unwrap_or_default()
            );
            return Err(request.forbidden(pod, &why));
        }
        if !pod["spec"]["nodeSelector"].is_object() {
            pod["spec"]["nodeSelector"] = json!({});
        }
        pod["spec"]["nodeSelector"][label] = value.as_str().into();
    }
    for toleration in scheduling.tolerations.iter().flatten() {
        let toleration = json!(toleration);
        if !items(&pod["spec"], "tolerations").contains(&toleration) {
            push(&mut pod["spec"], "tolerations", toleration);
        }
    }
    Ok(())
}

fn overhead(class: &RuntimeClass) -> Option<Value> {
    class.overhead.as_ref()?.pod_fixed.as_ref().map(|fixed| json!(fixed))
}

fn check(request: &Request<'_>, pod: &Value, _: Option<&Value>, _: &mut Admitted) -> Result<(), ApiError> {
    let class = class(request, pod)?;
    let given =
        pod["spec"].get("overhead").is_some_and(|given| given.as_object().is_some_and(|given| !given.is_empty()));
    let new = request.operation == Operation::Create && request.subresource.is_empty();
    if new && given && class.is_none_or(|class| overhead(&class).is_none()) {
        let why = "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead";
        return Err(request.forbidden(pod, why));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::testing::{Case, object};

    fn case() -> Case {
        let scheduling = json!({"nodeSelector": {"vm": "yes"}, "tolerations": [{"key": "vm", "operator": "Exists"}]});
        Case::new(vec![
            object("v1", "Namespace", "ns", json!({})),
            object("v1", "ServiceAccount", "ns/default", json!({})),
            object(
                "node.k8s.io/v1",
                "RuntimeClass",
                "vm",
                json!({"handler": "vm", "overhead": {"podFixed": {"memory": "64Mi"}}, "scheduling": scheduling}),
            ),
            object("node.k8s.io/v1", "RuntimeClass", "plain", json!({"handler": "runc"})),
        ])
        .of("create", "pods", "ns/p")
    }

    fn pod(spec: Value) -> Value {
        let mut pod = json!({"metadata": {"name": "p"}, "spec": spec});
        pod["spec"]["containers"] = json!([]);
        pod
    }

    #[test]
    fn the_class_adds_what_it_needs() {
        let spec = &case().admitted(pod(json!({"runtimeClassName": "vm", "nodeSelector": {"a": "b"}})))["spec"];
        assert_eq!(spec["overhead"], json!({"memory": "64Mi"}));
        assert_eq!(spec["nodeSelector"], json!({"a": "b", "vm": "yes"}));
        assert!(spec["tolerations"].as_array().unwrap().contains(&json!({"key": "vm", "operator": "Exists"})));
    }

    #[test]
    fn refusals() {
        let forbidden = |why: &str| format!("pods \"p\" is forbidden: {why}");
        for (spec, refused) in [
            (json!({"runtimeClassName": "plain"}), None),
            (json!({"runtimeClassName": "x"}), Some("pod rejected: RuntimeClass \"x\" not found")),
            (
                json!({"runtimeClassName": "vm", "overhead": {"memory": "1Mi"}}),
                Some("pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead"),
            ),
            (
                json!({"overhead": {"memory": "1Mi"}}),
                Some("pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead"),
            ),
            (
                json!({"runtimeClassName": "vm", "nodeSelector": {"vm": "no"}}),
                Some("conflict: runtimeClass.scheduling.nodeSelector[vm] = yes; pod.spec.nodeSelector[vm] = no"),
            ),
        ] {
            case().refused(pod(spec), refused.map(forbidden).as_deref());
        }
    }
}
