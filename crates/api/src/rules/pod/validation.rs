//! What a new or changed pod may be.

use serde_json::Value;

use crate::field::FieldError;
use crate::names;
use crate::rules::cells::{list, text};
use crate::rules::check::{At, Errors, same};
use crate::rules::pod::{placement, spec};

/// Fields of the spec that an update may change.
const UPDATABLE: &str = "`spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,\
    `spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 \
    if it was previously negative)";

/// Errors of a new pod.
pub fn create(pod: &Value) -> Vec<FieldError> {
    let mut errors = Errors::default();
    spec_of_pod(pod, &mut errors);
    let (spec, at) = (&pod["spec"], At::ROOT.field("spec"));
    if !list(&spec["ephemeralContainers"]).is_empty() {
        errors.forbidden(&at.field("ephemeralContainers"), "cannot be set on create");
    }
    if !text(&spec["nodeName"]).is_empty() && !list(&spec["schedulingGates"]).is_empty() {
        errors.forbidden(&at.field("nodeName"), "cannot be set until all schedulingGates have been cleared");
    }
    errors.0
}

/// Errors of a pod as it is, whichever request made it so: for sub-resources that change a part of it.
pub fn whole(pod: &Value) -> Vec<FieldError> {
    let mut errors = Errors::default();
    spec_of_pod(pod, &mut errors);
    errors.0
}

fn spec_of_pod(pod: &Value, errors: &mut Errors) {
    let at = At::ROOT.field("spec");
    spec::validate(&pod["spec"], text(&pod["metadata"]["name"]), true, &at, errors);
    for kind in ["containers", "initContainers"] {
        images_are_trimmed(&pod["spec"][kind], &at.field(kind), errors);
    }
    if text(&pod["spec"]["serviceAccountName"]).is_empty() {
        no_tokens(&pod["spec"]["volumes"], &at.field("volumes"), errors);
    }
}

fn images_are_trimmed(containers: &Value, at: &At<'_>, errors: &mut Errors) {
    for (i, container) in list(containers).iter().enumerate() {
        let image = text(&container["image"]);
        if image.trim() != image {
            errors.invalid(&at.index(i).field("image"), image, "must not have leading or trailing whitespace");
        }
    }
}

/// Tokens are those of the pod's service account.
fn no_tokens(volumes: &Value, at: &At<'_>, errors: &mut Errors) {
    for (i, volume) in list(volumes).iter().enumerate() {
        for (j, source) in list(&volume["projected"]["sources"]).iter().enumerate() {
            if !source["serviceAccountToken"].is_null() {
                let (at, detail) = (at.index(i), "must not be specified when serviceAccountName is not set");
                let at = at.field("projected");
                let at = at.field("sources");
                errors.forbidden(&at.index(j).field("serviceAccountToken"), detail);
            }
        }
    }
}

/// Errors of a change through the main resource.
pub fn update(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = Errors::default();
    if same(&new["spec"], &old["spec"]) {
        return errors.0;
    }
    let (new, old, at) = (&new["spec"], &old["spec"], At::ROOT.field("spec"));
    for kind in ["containers", "initContainers"] {
        if list(&new[kind]).len() != list(&old[kind]).len() {
            errors.forbidden(&at.field(kind), "pod updates may not add or remove containers");
            return errors.0;
        }
        let at = at.field(kind);
        for (i, container) in list(&new[kind]).iter().enumerate() {
            errors.required_text(&at.index(i).field("image"), &container["image"], "");
        }
        images_are_trimmed(&new[kind], &at, &mut errors);
    }
    deadline(new, old, &at.field("activeDeadlineSeconds"), &mut errors);
    tolerations(new, old, &at.field("tolerations"), &mut errors);
    scheduling_gates(new, old, &at.field("schedulingGates"), &mut errors);
    rest(new, old, &at, &mut errors);
    errors.0
}

/// A deadline may be set, and made shorter.
fn deadline(new: &Value, old: &Value, at: &At<'_>, errors: &mut Errors) {
    let field = "activeDeadlineSeconds";
    match (new[field].as_i64(), old[field].as_i64()) {
        (Some(new), _) if !(0..=i64::from(i32::MAX)).contains(&new) => {
            errors.invalid(at, new, names::out_of_range(0, i32::MAX.into()));
        }
        (Some(new), Some(old)) if new > old => errors.invalid(at, new, "must be less than or equal to previous value"),
        (None, Some(_)) => errors.invalid(at, Value::Null, "must not update from a positive integer to nil value"),
        _ => {}
    }
}

/// Tolerations may be added; of those there are only the seconds may change.
fn tolerations(new: &Value, old: &Value, at: &At<'_>, errors: &mut Errors) {
    const FIELDS: [&str; 4] = ["key", "operator", "value", "effect"];
    let like = |a: &Value, b: &Value| FIELDS.iter().all(|field| text(&a[*field]) == text(&b[*field]));
    let new_ones = list(&new["tolerations"]);
    let is_kept = |old: &Value| new_ones.iter().any(|new| like(new, old));
    if !list(&old["tolerations"]).iter().all(is_kept) {
        errors.forbidden(at, "existing toleration can not be modified except its tolerationSeconds");
        return;
    }
    if !same(&new["tolerations"], &old["tolerations"]) {
        placement::tolerations(&new["tolerations"], at, errors);
    }
}

fn scheduling_gates(new: &Value, old: &Value, at: &At<'_>, errors: &mut Errors) {
    for (i, gate) in list(&new["schedulingGates"]).iter().enumerate() {
        if !list(&old["schedulingGates"]).iter().any(|old| old["name"] == gate["name"]) {
            let detail = format!("only deletion is allowed, but found new scheduling gate '{}'", text(&gate["name"]));
            errors.forbidden(&at.index(i).field("name"), &detail);
        }
    }
}

/// Everything else stays as it is. A pod that waits at a gate may still be narrowed down to fewer nodes.
fn rest(new: &Value, old: &Value, at: &At<'_>, errors: &mut Errors) {
    let gated = !list(&old["schedulingGates"]).is_empty();
    let empty = serde_json::Map::new();
    let (new_fields, old_fields) = (new.as_object().unwrap_or(&empty), old.as_object().unwrap_or(&empty));
    let names = new_fields.keys().chain(old_fields.keys().filter(|name| !new_fields.contains_key(*name)));
    let mut changed = Vec::new();
    for name in names {
        let (new, old) = (&new[name], &old[name]);
        let fine = match name.as_str() {
            "activeDeadlineSeconds" | "tolerations" | "schedulingGates" => true,
            "containers" | "initContainers" => {
                list(new).iter().zip(list(old)).all(|(new, old)| same_but_image(new, old))
            }
            "terminationGracePeriodSeconds" if old.as_i64().is_some_and(|old| old < 0) && new == 1 => true,
            "nodeSelector" if gated => {
                narrower(new, old, &at.field("nodeSelector"), errors);
                true
            }
            "affinity" if gated => {
                same(&new["podAffinity"], &old["podAffinity"]) && same(&new["podAntiAffinity"], &old["podAntiAffinity"])
            }
            _ => same(new, old),
        };
        if !fine {
            changed.push(name.as_str());
        }
    }
    if !changed.is_empty() {
        let detail =
            format!("pod updates may not change fields other than {UPDATABLE}\nchanged: {}", changed.join(", "));
        errors.forbidden(at, &detail);
    }
}

fn same_but_image(new: &Value, old: &Value) -> bool {
    let (Some(new), Some(old)) = (new.as_object(), old.as_object()) else {
        return same(new, old);
    };
    let others = |map: &serde_json::Map<String, Value>, other: &serde_json::Map<String, Value>| {
        map.iter().all(|(name, value)| name == "image" || same(value, other.get(name).unwrap_or(&Value::Null)))
    };
    others(new, old) && others(old, new)
}

/// Node labels that a gated pod asks for may be added, not dropped or changed.
fn narrower(new: &Value, old: &Value, at: &At<'_>, errors: &mut Errors) {
    for (key, value) in old.as_object().into_iter().flatten() {
        match new.get(key) {
            None => errors.invalid(at, new, format!("cannot remove key {key}")),
            Some(other) if other != value => errors.invalid(at, new, format!("cannot change value of key {key}")),
            Some(_) => {}
        }
    }
}

/// Errors of a change through `/status`.
pub fn update_status(new: &Value, old: &Value) -> Vec<FieldError> {
    const SYSTEM: [&str; 3] = ["PodScheduled", "Ready", "Initialized"];
    let (status, at, mut errors) = (&new["status"], At::ROOT.field("status"), Errors::default());
    let conditions_at = at.field("conditions");
    for (i, condition) in list(&status["conditions"]).iter().enumerate() {
        let (at, kind) = (conditions_at.index(i), text(&condition["type"]));
        if condition["observedGeneration"].as_i64().is_some_and(|generation| generation < 0) {
            let generation = &condition["observedGeneration"];
            errors.invalid(&at.field("observedGeneration"), generation, "must be a non-negative integer");
        }
        if !SYSTEM.contains(&kind) {
            errors.all(&at.field("Type"), kind, names::qualified_name(kind));
        }
    }
    let node = &status["nominatedNodeName"];
    if text(node) != text(&old["status"]["nominatedNodeName"]) {
        errors.form(&at.field("nominatedNodeName"), node, names::dns1123_subdomain);
        if !text(node).is_empty() && !text(&old["spec"]["nodeName"]).is_empty() {
            let detail = "may not be set on pods that are already bound to a node";
            errors.forbidden(&at.field("nominatedNodeName"), detail);
        }
    }
    for (field, ip) in [("podIPs", "ip"), ("hostIPs", "ip")] {
        let at = at.field(field);
        for (i, entry) in list(&status[field]).iter().enumerate() {
            errors.all(&at.index(i), &entry[ip], names::ip(text(&entry[ip])));
        }
    }
    errors.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::check::testing::{Case, check};
    use serde_json::json;

    fn pod(change: impl Fn(&mut Value)) -> Value {
        let mut pod = json!({"metadata": {"name": "a", "namespace": "n"}, "spec": {"containers": [{"name": "c", "image": "nginx:1"}]}});
        change(&mut pod["spec"]);
        crate::rules::pod::defaults::pod(&mut pod);
        pod
    }

    #[test]
    fn new_pods() {
        let cases: &[Case] = &[
            ("plain", |_| {}, &[]),
            ("no containers", |s| s["containers"] = json!([]), &["spec.containers: Required value"]),
            (
                "same name twice",
                |s| s["initContainers"] = json!([{"name": "c", "image": "a:1"}]),
                &["spec.initContainers[0].name: Duplicate value: \"c\""],
            ),
            (
                "bad name",
                |s| s["containers"][0]["name"] = json!("a.b"),
                &["spec.containers[0].name: Invalid value: \"a.b\": must not contain dots"],
            ),
            ("no image", |s| s["containers"][0]["image"] = json!(""), &["spec.containers[0].image: Required value"]),
            (
                "port",
                |s| s["containers"][0]["ports"] = json!([{"containerPort": 70000}]),
                &["spec.containers[0].ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, i"],
            ),
            (
                "same host port",
                |s| {
                    s["containers"][0]["ports"] =
                        json!([{"containerPort": 1, "hostPort": 9}, {"containerPort": 2, "hostPort": 9}])
                },
                &["spec.containers[0].ports[1].hostPort: Duplicate value: \"TCP//9\""],
            ),
            (
                "mount of nothing",
                |s| s["containers"][0]["volumeMounts"] = json!([{"name": "x", "mountPath": "/x"}]),
                &["spec.containers[0].volumeMounts[0].name: Not found: \"x\""],
            ),
            (
                "two sources",
                |s| s["volumes"] = json!([{"name": "v", "emptyDir": {}, "hostPath": {"path": "/"}}]),
                &["spec.volumes[0].hostPath: Forbidden: may not specify more than 1 volume type"],
            ),
            (
                "file mode",
                |s| s["volumes"] = json!([{"name": "v", "configMap": {"name": "c", "defaultMode": 512}}]),
                &["spec.volumes[0].configMap.defaultMode: Invalid value: 512: must be a number between 0 and 0777 ("],
            ),
            (
                "variable from nowhere",
                |s| s["containers"][0]["env"] = json!([{"name": "A", "valueFrom": {}}]),
                &[
                    "spec.containers[0].env[0].valueFrom: Invalid value: \"\": must specify one of: `fieldRef`, `resource",
                ],
            ),
            (
                "variable from a field",
                |s| {
                    s["containers"][0]["env"] =
                        json!([{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['x']"}}}])
                },
                &[],
            ),
            (
                "variable from a field that is none",
                |s| {
                    s["containers"][0]["env"] =
                        json!([{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "status.phase"}}}])
                },
                &[
                    "spec.containers[0].env[0].valueFrom.fieldRef.fieldPath: Unsupported value: \"status.phase\": support",
                ],
            ),
            (
                "probe of nothing",
                |s| s["containers"][0]["livenessProbe"] = json!({}),
                &["spec.containers[0].livenessProbe: Required value: must specify a handler type"],
            ),
            (
                "probe succeeds twice",
                |s| s["containers"][0]["livenessProbe"] = json!({"tcpSocket": {"port": "http"}, "successThreshold": 2}),
                &["spec.containers[0].livenessProbe.successThreshold: Invalid value: 2: must be 1"],
            ),
            (
                "probe of a starter",
                |s| {
                    s["initContainers"] =
                        json!([{"name": "i", "image": "a:1", "livenessProbe": {"exec": {"command": ["x"]}}}])
                },
                &[
                    "spec.initContainers[0].livenessProbe: Forbidden: may not be set for init containers without restartP",
                ],
            ),
            (
                "restart policy",
                |s| s["restartPolicy"] = json!("Sometimes"),
                &[
                    "spec.restartPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \"Never\", \"OnFailur",
                ],
            ),
            (
                "toleration",
                |s| s["tolerations"] = json!([{"value": "x"}]),
                &[
                    "spec.tolerations[0].operator: Invalid value: \"\": operator must be Exists when `key` is empty, which",
                ],
            ),
            (
                "ephemeral at once",
                |s| s["ephemeralContainers"] = json!([{"name": "e", "image": "a:1"}]),
                &["spec.ephemeralContainers: Forbidden: cannot be set on create"],
            ),
            (
                "weight",
                |s| s["affinity"] = json!({"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 0, "preference": {}}]}}),
                &[
                    "spec.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].weight: Invalid value:",
                ],
            ),
            (
                "no resolver",
                |s| s["dnsPolicy"] = json!("None"),
                &["spec.dnsConfig: Required value: must provide `dnsConfig` when `dnsPolicy` is None"],
            ),
            (
                "user",
                |s| s["securityContext"] = json!({"runAsUser": -1}),
                &["spec.securityContext.runAsUser: Invalid value: -1: must be between 0 and 2147483647, inclusive"],
            ),
        ];
        for (case, change, errors) in cases {
            check(case, &create(&pod(change)), errors);
        }
    }

    #[test]
    fn changed_pods() {
        let cases: &[Case] = &[
            ("same", |_| {}, &[]),
            ("image", |s| s["containers"][0]["image"] = json!("nginx:2"), &[]),
            ("toleration added", |s| s["tolerations"] = json!([{"key": "a", "operator": "Exists"}]), &[]),
            ("deadline set", |s| s["activeDeadlineSeconds"] = json!(5), &[]),
            (
                "container added",
                |s| s["containers"] = json!([{"name": "c", "image": "nginx:1"}, {"name": "d", "image": "nginx:1"}]),
                &["spec.containers: Forbidden: pod updates may not add or remove containers"],
            ),
            (
                "node",
                |s| s["nodeName"] = json!("n"),
                &[
                    "spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,`spec.initC",
                ],
            ),
            (
                "gate added",
                |s| s["schedulingGates"] = json!([{"name": "g"}]),
                &[
                    "spec.schedulingGates[0].name: Forbidden: only deletion is allowed, but found new scheduling gate 'g'",
                ],
            ),
        ];
        for (case, change, errors) in cases {
            check(case, &update(&pod(change), &pod(|_| {})), errors);
        }
    }
}
