//! Which nodes a pod may be on, by their labels and names (core/v1 `nodeSelector`, NodeAffinity, NodeSelectorTerm).

use k8s_openapi::api::core::v1::{Node, NodeSelectorRequirement, NodeSelectorTerm, PodSpec};

/// `spec.nodeSelector` and required node affinity both hold.
pub fn matches(pod: &PodSpec, node: &Node) -> bool {
    let selected = pod.node_selector.iter().flatten().all(|(name, value)| label(node, name) == Some(value));
    let affinity = pod.affinity.as_ref().and_then(|a| a.node_affinity.as_ref());
    let required = affinity.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref());
    selected && required.is_none_or(|r| r.node_selector_terms.iter().any(|t| term(t, node)))
}

/// All requirements of a term hold; a term without any holds nowhere.
pub fn term(term: &NodeSelectorTerm, node: &Node) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    let by_field = |r: &NodeSelectorRequirement| r.key == "metadata.name" && holds(r, node.metadata.name.as_deref());
    !(expressions.is_empty() && fields.is_empty())
        && expressions.iter().all(|r| holds(r, label(node, &r.key)))
        && fields.iter().all(by_field)
}

fn label<'a>(node: &'a Node, name: &str) -> Option<&'a str> {
    node.metadata.labels.as_ref()?.get(name).map(String::as_str)
}

fn holds(requirement: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let values = requirement.values.as_deref().unwrap_or_default();
    let listed = || value.is_some_and(|v| values.iter().any(|x| x == v));
    let compared = || Some((value?.parse::<i64>().ok()?, values.first()?.parse::<i64>().ok()?));
    match requirement.operator.as_str() {
        "In" => listed(),
        "NotIn" => !listed(),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => compared().is_some_and(|(have, than)| have > than),
        "Lt" => compared().is_some_and(|(have, than)| have < than),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn terms_hold_by_label_and_name() {
        let node: Node = serde_json::from_value(json!({"apiVersion": "v1", "kind": "Node",
            "metadata": {"name": "n1", "labels": {"zone": "a", "cores": "8"}}}))
        .unwrap();
        for (key, operator, values, field, expected) in [
            ("zone", "In", vec!["a", "b"], false, true),
            ("zone", "NotIn", vec!["a"], false, false),
            ("absent", "NotIn", vec!["a"], false, true),
            ("zone", "Exists", vec![], false, true),
            ("zone", "DoesNotExist", vec![], false, false),
            ("cores", "Gt", vec!["4"], false, true),
            ("cores", "Lt", vec!["4"], false, false),
            ("zone", "Gt", vec!["4"], false, false),
            ("metadata.name", "In", vec!["n1"], true, true),
            ("metadata.uid", "In", vec!["n1"], true, false),
        ] {
            let list = if field { "matchFields" } else { "matchExpressions" };
            let one: NodeSelectorTerm =
                serde_json::from_value(json!({list: [{"key": key, "operator": operator, "values": values}]})).unwrap();
            assert_eq!(term(&one, &node), expected, "{key} {operator} {values:?}");
        }
        assert!(!term(&NodeSelectorTerm::default(), &node), "a term without requirements");
    }
}
