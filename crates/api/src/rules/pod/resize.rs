//! `pods/resize`: what of a pod's resources may change while it runs.

use serde_json::{Value, json};

use crate::field::FieldError;
use crate::rules::cells::{list, text};
use crate::rules::check::{At, Errors, same};

/// What may be resized.
const RESIZABLE: [&str; 2] = ["cpu", "memory"];

/// Takes the resources of `sent` over into `stored`; all that is wrong with it.
pub fn take(stored: &mut Value, sent: &Value) -> Vec<FieldError> {
    let old = stored.clone();
    let mut errors = Errors::default();
    let at = At::ROOT.field("spec");
    if !old["metadata"]["annotations"]["kubernetes.io/config.mirror"].is_null() {
        errors.forbidden(&At::ROOT, "static pods cannot be resized");
        return errors.0;
    }
    if old["spec"]["os"]["name"] == "windows" {
        errors.forbidden(&At::ROOT, "windows pods cannot be resized");
        return errors.0;
    }
    for kind in ["containers", "initContainers"] {
        same_containers(kind, &old, sent, &at.field(kind), &mut errors);
    }
    if !errors.0.is_empty() {
        return errors.0;
    }
    for kind in ["containers", "initContainers"] {
        let containers = stored["spec"].get_mut(kind).and_then(Value::as_array_mut);
        for (i, container) in containers.into_iter().flatten().enumerate() {
            let (wanted, at) = (&sent["spec"][kind][i], at.field(kind));
            self::container(container, wanted, kind, &at.index(i), &mut errors);
        }
    }
    whole(stored, sent, &at, &mut errors);
    let class = crate::pod::qos_class(&stored["spec"]).name();
    let was = old["status"]["qosClass"].as_str().unwrap_or_else(|| crate::pod::qos_class(&old["spec"]).name());
    if class != was {
        errors.invalid(&at, was, "Pod QOS Class may not change as a result of resizing");
    }
    errors.0.extend(super::validate_whole(stored));
    errors.0
}

fn same_containers(kind: &str, old: &Value, sent: &Value, at: &At<'_>, errors: &mut Errors) {
    let (old, sent) = (list(&old["spec"][kind]), list(&sent["spec"][kind]));
    if old.len() != sent.len() {
        errors.forbidden(at, &format!("{kind} may not be added or removed on resize"));
        return;
    }
    for (i, (old, sent)) in old.iter().zip(sent).enumerate() {
        if text(&old["name"]) != text(&sent["name"]) {
            errors.forbidden(&at.index(i).field("name"), &format!("{kind} may not be renamed or reordered on resize"));
        }
    }
}

fn container(stored: &mut Value, sent: &Value, kind: &str, at: &At<'_>, errors: &mut Errors) {
    let old = stored.clone();
    stored["resources"] = if sent["resources"].is_null() { json!({}) } else { sent["resources"].clone() };
    if let Some(policy) = sent.get("resizePolicy") {
        stored["resizePolicy"] = policy.clone();
    }
    let resources_at = at.field("resources");
    for field in ["requests", "limits"] {
        if removed(&old["resources"][field], &stored["resources"][field]) {
            errors.forbidden(&resources_at.field(field), &format!("resource {field} cannot be removed"));
        }
    }
    if !only_resizable(&old["resources"], &stored["resources"]) {
        match kind {
            "containers" => errors.forbidden(&At::ROOT.field("spec"), "only cpu and memory resources are mutable"),
            _ => errors.forbidden(at, "only cpu and memory resources for init or sidecar containers are mutable"),
        }
    }
    let restarts = list(&stored["resizePolicy"]).iter().any(|policy| policy["restartPolicy"] == "RestartContainer");
    let changed = !same(&old["resources"], &stored["resources"]);
    if kind == "initContainers" && stored["restartPolicy"] != "Always" && changed && restarts {
        let why = "non-sidecar init containers with a resize policy of RestartContainer cannot be resized";
        errors.forbidden(at, why);
    }
}

/// Resources of the pod as a whole.
fn whole(stored: &mut Value, sent: &Value, at: &At<'_>, errors: &mut Errors) {
    let (old, new) = (stored["spec"]["resources"].clone(), &sent["spec"]["resources"]);
    if old.is_null() && new.is_null() {
        return;
    }
    let at = at.field("resources");
    if new.is_null() {
        errors.forbidden(&at, "pod-level resources cannot be removed");
        return;
    }
    for field in ["requests", "limits"] {
        if removed(&old[field], &new[field]) {
            errors.forbidden(&at.field(field), &format!("pod-level resource {field} cannot be removed"));
        }
    }
    if !only_resizable(&old, new) {
        errors.forbidden(&At::ROOT.field("spec"), "only cpu and memory resources are mutable at pod-level");
    }
    stored["spec"]["resources"] = new.clone();
}

fn removed(old: &Value, new: &Value) -> bool {
    old.as_object().into_iter().flatten().any(|(name, _)| new[name].is_null())
}

fn only_resizable(old: &Value, new: &Value) -> bool {
    let rest = |resources: &Value| {
        let mut rest = resources.clone();
        for field in ["requests", "limits"] {
            if let Some(amounts) = rest.get_mut(field).and_then(Value::as_object_mut) {
                amounts.retain(|name, _| !RESIZABLE.contains(&name.as_str()));
                if amounts.is_empty() {
                    rest[field].take();
                }
            }
        }
        rest
    };
    let (old, new) = (rest(old), rest(new));
    ["requests", "limits", "claims"].iter().all(|field| same(&old[field], &new[field]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(resources: Value) -> Value {
        let mut pod = json!({"metadata": {"name": "p", "namespace": "d"},
            "spec": {"containers": [{"name": "a", "image": "i", "resources": resources}]}});
        super::super::defaults::pod(&mut pod);
        pod
    }

    #[test]
    fn only_amounts_change() {
        let burst = json!({"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "2"}});
        for (case, sent, want) in [
            ("more", json!({"requests": {"cpu": "2", "memory": "2Gi"}, "limits": {"cpu": "4"}}), None),
            (
                "a new limit",
                json!({"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "2", "memory": "3Gi"}}),
                None,
            ),
            (
                "less to none",
                json!({"requests": {"cpu": "1", "memory": "1Gi"}}),
                Some("resource limits cannot be removed"),
            ),
            ("nothing", json!({}), Some("resource requests cannot be removed")),
            (
                "another class",
                json!({"requests": {"cpu": "2", "memory": "1Gi"}, "limits": {"cpu": "2", "memory": "1Gi"}}),
                Some("Pod QOS Class may not change as a result of resizing"),
            ),
            (
                "another resource",
                json!({"requests": {"cpu": "1", "memory": "1Gi", "ephemeral-storage": "1Gi"}, "limits": {"cpu": "2"}}),
                Some("only cpu and memory resources are mutable"),
            ),
        ] {
            let mut stored = pod(burst.clone());
            let errors = take(&mut stored, &pod(sent));
            match want {
                None => assert!(errors.is_empty(), "{case}: {errors:?}"),
                Some(want) => assert!(errors.iter().any(|e| e.message().contains(want)), "{case}: {errors:?}"),
            }
        }
        let mut other = pod(burst.clone());
        other["spec"]["containers"][0]["name"] = "b".into();
        let errors = take(&mut pod(burst), &other);
        assert!(errors[0].message().contains("may not be renamed or reordered on resize"), "{errors:?}");
    }
}
