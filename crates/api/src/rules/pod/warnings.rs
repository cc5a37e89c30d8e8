//! What is allowed in a pod, but rarely meant.

use serde_json::Value;

use crate::names;
use crate::rules::cells::{list, text};

/// Labels of nodes that were renamed: old and new.
const RENAMED_LABELS: [(&str, &str); 4] = [
    ("beta.kubernetes.io/arch", "kubernetes.io/arch"),
    ("beta.kubernetes.io/os", "kubernetes.io/os"),
    ("failure-domain.beta.kubernetes.io/region", "topology.kubernetes.io/region"),
    ("failure-domain.beta.kubernetes.io/zone", "topology.kubernetes.io/zone"),
];

/// Warnings about a pod.
pub fn pod(object: &Value) -> Vec<String> {
    let wrong = names::dns1123_label(text(&object["metadata"]["name"]));
    let mut warnings = Vec::new();
    if !wrong.is_empty() {
        let advice =
            "this is used in the Pod's hostname, which can result in surprising behavior; a DNS label is recommended";
        warnings.push(format!("metadata.name: {advice}: [{}]", wrong.join(" ")));
    }
    spec(&object["spec"], "spec", &mut warnings);
    warnings
}

/// Warnings about a workload and its pod template at `spec.template`.
pub fn workload(object: &Value) -> Vec<String> {
    let wrong = names::dns1123_label(text(&object["metadata"]["name"]));
    let mut warnings = Vec::new();
    if !wrong.is_empty() {
        let advice = "this is used in Pod names and hostnames, which can result in surprising behavior; a DNS label is recommended";
        warnings.push(format!("metadata.name: {advice}: [{}]", wrong.join(" ")));
    }
    spec(&object["spec"]["template"]["spec"], "spec.template.spec", &mut warnings);
    warnings
}

fn spec(spec: &Value, at: &str, warnings: &mut Vec<String>) {
    for (old, new) in RENAMED_LABELS {
        if !spec["nodeSelector"][old].is_null() {
            warnings.push(format!("{at}.nodeSelector[{old}]: deprecated since v1.14; use {new:?} instead"));
        }
    }
    for (i, volume) in list(&spec["volumes"]).iter().enumerate() {
        if !volume["gitRepo"].is_null() {
            warnings.push(format!("{at}.volumes[{i}].gitRepo: deprecated in v1.11, and disabled by default in v1.33+"));
        }
    }
    for kind in ["initContainers", "containers"] {
        for (i, container) in list(&spec[kind]).iter().enumerate() {
            repeated_variables(container, &format!("{at}.{kind}[{i}]"), warnings);
        }
    }
    if spec["terminationGracePeriodSeconds"].as_i64().is_some_and(|seconds| seconds < 0) {
        warnings.push(format!(
            "{at}.terminationGracePeriodSeconds: must be >= 0; negative values are invalid and will be treated as 1"
        ));
    }
}

/// Of two variables with one name only the last counts.
fn repeated_variables(container: &Value, at: &str, warnings: &mut Vec<String>) {
    let variables = list(&container["env"]);
    for (i, variable) in variables.iter().enumerate() {
        let name = text(&variable["name"]);
        if variables[..i].iter().any(|other| text(&other["name"]) == name) {
            let advice = "which may be dropped when using apply";
            warnings.push(format!("{at}.env[{i}]: hides previous definition of {name:?}, {advice}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    #[test]
    fn odd_pods_are_warned_about() {
        let pod = json!({"metadata": {"name": "a"}, "spec": {"nodeSelector": {"beta.kubernetes.io/os": "linux"},
            "containers": [{"env": [{"name": "A"}, {"name": "A"}]}]}});
        assert_eq!(
            super::pod(&pod),
            [
                "spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use \"kubernetes.io/os\" instead",
                "spec.containers[0].env[1]: hides previous definition of \"A\", which may be dropped when using apply",
            ]
        );
        assert_eq!(super::pod(&json!({"metadata": {"name": "a"}, "spec": {}})), Vec::<String>::new());
        let set = json!({"metadata": {"name": "a.b"}, "spec": {}});
        assert!(super::workload(&set)[0].starts_with("metadata.name: this is used in Pod names and hostnames"));
    }
}
