//! Priority: the name of a PriorityClass becomes a number.

use std::sync::Arc;

use k8s_openapi::api::scheduling::v1::PriorityClass;
use mizzen_api::key;
use mizzen_api::status::ApiError;
use serde_json::Value;

use super::plugin::Plugin;
use super::pods::{set, text};
use super::{Admitted, Operation, Request};

pub const PLUGIN: Plugin = Plugin {
    resources: &[("", "pods"), ("scheduling.k8s.io", "priorityclasses")],
    mutate: Some(admit),
    validate: Some(check),
};

const DEFAULT_POLICY: &str = "PreemptLowerPriority";

fn admit(request: &Request<'_>, pod: &mut Value, old: Option<&Value>, _: &mut Admitted) -> Result<(), ApiError> {
    if !request.is("", "pods") || !request.subresource.is_empty() || !pod["spec"].is_object() {
        return Ok(());
    }
    match (request.operation, old) {
        (Operation::Create, _) => resolve(request, pod),
        (Operation::Update, Some(old)) => {
            for field in ["priority", "preemptionPolicy"] {
                let (new, old) = (pod["spec"].get(field), old["spec"].get(field));
                if let (None | Some(Value::Null), Some(old)) = (new, old) {
                    set(&mut pod["spec"], field, old.clone());
                }
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

fn resolve(request: &Request<'_>, pod: &mut Value) -> Result<(), ApiError> {
    let name = text(&pod["spec"], "priorityClassName");
    let class = match name {
        "" => default_class(request),
        _ => {
            let found = request.snapshot.get_as::<PriorityClass>(&key::of::<PriorityClass>("", name));
            let why = || format!("no PriorityClass with name {name} was found");
            Some(found.ok_or_else(|| request.forbidden(pod, &why()))?)
        }
    };
    let priority = class.as_ref().and_then(|class| class.value).unwrap_or(0);
    let given = pod["spec"].get("priority").and_then(Value::as_i64);
    if let Some(given) = given.filter(|given| *given != i64::from(priority)) {
        return Err(request.forbidden(
            pod,
            &format!(
                "the integer value of priority ({given}) must not be provided in pod spec; priority admission controller \
                 computed {priority} from the given PriorityClass name"
            ),
        ));
    }
    let policy = class.as_ref().and_then(|class| class.preemption_policy.as_deref()).unwrap_or(DEFAULT_POLICY);
    let given = text(&pod["spec"], "preemptionPolicy");
    if !given.is_empty() && given != policy {
        return Err(request.forbidden(
            pod,
            &format!(
                "the string value of PreemptionPolicy ({given}) must not be provided in pod spec; priority admission \
                 controller computed {policy} from the given PriorityClass name"
            ),
        ));
    }
    let spec = &mut pod["spec"];
    if let Some(name) = class.as_ref().and_then(|class| class.metadata.name.as_deref()) {
        set(spec, "priorityClassName", name);
    }
    set(spec, "priority", priority);
    set(spec, "preemptionPolicy", policy);
    Ok(())
}

/// The class marked as the default; of several, made before this was checked, the lowest.
fn default_class(request: &Request<'_>) -> Option<Arc<PriorityClass>> {
    let prefix = key::all::<PriorityClass>();
    let defaults =
        request.snapshot.list_as::<PriorityClass>(&prefix).filter(|class| class.global_default == Some(true));
    defaults.min_by_key(|class| class.value)
}

fn check(request: &Request<'_>, class: &Value, _: Option<&Value>, _: &mut Admitted) -> Result<(), ApiError> {
    let written = matches!(request.operation, Operation::Create | Operation::Update);
    if !request.is("scheduling.k8s.io", "priorityclasses") || !written || class["globalDefault"] != true {
        return Ok(());
    }
    let other = default_class(request).and_then(|other| other.metadata.name.clone());
    match other.filter(|other| request.operation == Operation::Create || other != request.name) {
        Some(other) => {
            let why = format!("PriorityClass {other} is already marked as default. Only one default can exist");
            Err(request.forbidden(class, &why))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::testing::{Case, object};

    fn world(default: bool) -> Vec<Value> {
        let class = |name, value, default| {
            let fields = json!({"value": value, "globalDefault": default, "preemptionPolicy": "PreemptLowerPriority"});
            object("scheduling.k8s.io/v1", "PriorityClass", name, fields)
        };
        let mut world = vec![
            object("v1", "Namespace", "ns", json!({})),
            object("v1", "ServiceAccount", "ns/default", json!({})),
            class("high", 1000, false),
        ];
        if default {
            world.push(class("normal", 7, true));
        }
        world
    }

    #[test]
    fn names_become_numbers() {
        let wrong = "pods \"p\" is forbidden: the integer value of priority (5) must not be provided in pod spec; priority \
                     admission controller computed 1000 from the given PriorityClass name";
        for (default, spec, priority) in [
            (false, json!({}), Ok(0)),
            (true, json!({}), Ok(7)),
            (true, json!({"priorityClassName": "high"}), Ok(1000)),
            (false, json!({"priorityClassName": "high", "priority": 1000}), Ok(1000)),
            (false, json!({"priorityClassName": "high", "priority": 5}), Err(wrong)),
            (
                false,
                json!({"priorityClassName": "x"}),
                Err("pods \"p\" is forbidden: no PriorityClass with name x was found"),
            ),
        ] {
            let mut pod = json!({"metadata": {"name": "p"}, "spec": spec});
            pod["spec"]["containers"] = json!([]);
            let case = Case::new(world(default)).of("create", "pods", "ns/p");
            match priority {
                Ok(priority) => {
                    let spec = &case.admitted(pod)["spec"];
                    assert_eq!(
                        (&spec["priority"], &spec["preemptionPolicy"]),
                        (&json!(priority), &json!("PreemptLowerPriority"))
                    );
                    assert_eq!(spec["priorityClassName"] == "normal", priority == 7);
                }
                Err(error) => case.refused(pod, Some(error)),
            }
        }
    }

    #[test]
    fn there_is_one_default() {
        let class = || json!({"metadata": {"name": "x"}, "value": 1, "globalDefault": true});
        let refused = "priorityclasses.scheduling.k8s.io \"x\" is forbidden: PriorityClass normal is already marked as default. Only one default can exist";
        Case::new(world(false)).of("create", "priorityclasses.scheduling.k8s.io", "x").refused(class(), None);
        Case::new(world(true)).of("create", "priorityclasses.scheduling.k8s.io", "x").refused(class(), Some(refused));
        Case::new(world(true)).of("update", "priorityclasses.scheduling.k8s.io", "normal").refused(class(), None);
    }
}
