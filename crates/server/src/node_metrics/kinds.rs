//! NodeMetrics and PodMetrics as discovery, tables and dispatch know them.

use std::str::FromStr;

use mizzen_api::kind::{Column, Kind, Name, Rules};
use mizzen_api::quantity::Quantity;
use mizzen_api::rules::plain;
use serde_json::Value;

/// The API group.
pub const GROUP: &str = "metrics.k8s.io";
/// The version that kubectl asks for.
pub const VERSION: &str = "v1beta1";

const READ: &[&str] = &["get", "list"];

/// What is served, in discovery's order.
pub static KINDS: [Kind; 2] =
    [kind("NodeMetrics", "NodeMetricsList", "nodes", false), kind("PodMetrics", "PodMetricsList", "pods", true)];

const fn kind(kind: &'static str, list_kind: &'static str, plural: &'static str, namespaced: bool) -> Kind {
    Kind {
        group: Name::Borrowed(GROUP),
        version: Name::Borrowed(VERSION),
        kind: Name::Borrowed(kind),
        list_kind: Name::Borrowed(list_kind),
        plural: Name::Borrowed(plural),
        singular: Name::Borrowed(""),
        short_names: Vec::new(),
        categories: Vec::new(),
        namespaced,
        verbs: READ,
        subresources: Vec::new(),
        storage_group: Name::Borrowed(GROUP),
        storage_version: Name::Borrowed(VERSION),
        rules: &RULES,
        custom: None,
    }
}

static RULES: Rules = Rules {
    columns: &[
        Column::NAME,
        Column::text("CPU", "Cores in use."),
        Column::text("Memory", "Working set in use."),
        Column::text("Window", "Time over which the use was measured."),
    ],
    row: cells,
    ..plain::PLAIN
};

fn cells(object: &Value, _now: i64) -> Vec<Value> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_string();
    let used = |resource: &str| match object["containers"].as_array() {
        Some(containers) => sum(containers.iter().filter_map(|c| c["usage"][resource].as_str())),
        None => text(&object["usage"][resource]),
    };
    vec![
        text(&object["metadata"]["name"]).into(),
        used("cpu").into(),
        used("memory").into(),
        text(&object["window"]).into(),
    ]
}

fn sum<'a>(amounts: impl Iterator<Item = &'a str>) -> String {
    let amounts = amounts.filter_map(|a| Quantity::from_str(a).ok());
    amounts.reduce(|a, b| a + b).map_or_else(|| "0".to_string(), |total| total.to_string())
}

/// The stored kind that a kind served here tells about.
pub fn measured(kind: &Kind) -> Option<&'static Kind> {
    mizzen_api::kinds::kinds().by_resource("", "v1", &kind.plural)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    #[test]
    fn tables_show_sums() {
        let pod = json!({"metadata": {"name": "p"}, "window": "5s", "containers": [
            {"name": "a", "usage": {"cpu": "1500000n", "memory": "12Ki"}}, {"name": "b", "usage": {"cpu": "2500000n", "memory": "4Ki"}}]});
        assert_eq!(super::cells(&pod, 0), ["p", "4m", "16Ki", "5s"]);
        let node = json!({"metadata": {"name": "n"}, "window": "5s", "usage": {"cpu": "7n", "memory": "1Mi"}});
        assert_eq!(super::cells(&node, 0), ["n", "7n", "1Mi", "5s"]);
    }
}
