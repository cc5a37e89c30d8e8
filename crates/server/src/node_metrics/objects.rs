//! What a node reports → NodeMetrics and PodMetrics. Pure.
//!
//! Nodes are not trusted further than they must be: a report is believed only about the node that sent it and about
//! the pods bound to it, and amounts that are none are dropped, for clients refuse a whole list with one such in it.

use std::collections::{BTreeMap, HashMap};
use std::str::FromStr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use mizzen_api::quantity::Quantity;
use serde::Deserialize;
use serde_json::{Value, json};

use super::kinds::{GROUP, VERSION};

/// What nodes report, by node.
pub type Usage = HashMap<String, Arc<Report>>;

/// What a node's agent answers: the metrics of the node and of its pods.
#[derive(Debug, Deserialize)]
#[serde(from = "Wire")]
pub struct Report {
    node: Measured,
    /// By namespace and name.
    pods: HashMap<(String, String), Measured>,
}

/// Amounts measured over a time.
#[derive(Debug, Default, Deserialize)]
struct Measured {
    #[serde(default)]
    metadata: Named,
    timestamp: jiff::Timestamp,
    window: String,
    #[serde(default)]
    usage: BTreeMap<String, String>,
    #[serde(default)]
    containers: Vec<Container>,
}

#[derive(Debug, Default, Deserialize)]
struct Named {
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    name: String,
}

#[derive(Debug, Deserialize)]
struct Container {
    name: String,
    usage: BTreeMap<String, String>,
}

/// The report as it is sent.
#[derive(Deserialize)]
struct Wire {
    node: Measured,
    #[serde(default)]
    pods: Vec<Measured>,
}

impl From<Wire> for Report {
    fn from(wire: Wire) -> Self {
        let key = |pod: &Measured| (pod.metadata.namespace.clone(), pod.metadata.name.clone());
        Self { node: wire.node, pods: wire.pods.into_iter().map(|pod| (key(&pod), pod)).collect() }
    }
}

/// NodeMetrics of a node that reported.
pub fn node(node: &Node, usage: &Usage) -> Option<Value> {
    let measured = &usage.get(node.metadata.name.as_deref()?)?.node;
    let mut object = object("NodeMetrics", &node.metadata, measured);
    object["usage"] = amounts(&measured.usage)?;
    Some(object)
}

/// PodMetrics of a pod whose node reported it.
pub fn pod(pod: &Pod, usage: &Usage) -> Option<Value> {
    let report = usage.get(pod.spec.as_ref()?.node_name.as_deref()?)?;
    let of = |text: &Option<String>| text.clone().unwrap_or_default();
    let measured = report.pods.get(&(of(&pod.metadata.namespace), of(&pod.metadata.name)))?;
    let containers: Vec<Value> =
        measured.containers.iter().filter_map(|c| Some(json!({"name": c.name, "usage": amounts(&c.usage)?}))).collect();
    let mut object = object("PodMetrics", &pod.metadata, measured);
    object["containers"] = containers.into();
    Some(object)
}

/// CPU and memory, if they are amounts.
fn amounts(usage: &BTreeMap<String, String>) -> Option<Value> {
    let amount = |name: &str| usage.get(name).filter(|text| Quantity::from_str(text).is_ok_and(|q| !q.is_negative()));
    Some(json!({"cpu": amount("cpu")?, "memory": amount("memory")?}))
}

fn object(kind: &str, of: &ObjectMeta, measured: &Measured) -> Value {
    let timestamp = measured.timestamp.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let mut metadata = json!({"name": of.name});
    if let Some(namespace) = &of.namespace {
        metadata["namespace"] = namespace.as_str().into();
    }
    metadata["creationTimestamp"] = timestamp.as_str().into();
    if let Some(labels) = of.labels.as_ref().filter(|l| !l.is_empty()) {
        metadata["labels"] = json!(labels);
    }
    json!({"kind": kind, "apiVersion": format!("{GROUP}/{VERSION}"), "metadata": metadata, "timestamp": timestamp,
        "window": window(&measured.window)})
}

/// A duration of seconds as clients can read it.
fn window(text: &str) -> String {
    let seconds = text.strip_suffix('s').and_then(|s| s.parse::<f64>().ok()).filter(|s| s.is_finite() && *s >= 0.0);
    seconds.map_or_else(|| "0s".to_string(), |seconds| format!("{seconds}s"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage() -> Usage {
        let report = json!({
            "node": {"metadata": {"name": "other"}, "timestamp": "2026-01-01T00:00:00Z", "window": "10.500s",
                "usage": {"cpu": "1000n", "memory": "5Ki"}},
            "pods": [
                {"metadata": {"namespace": "d", "name": "p"}, "timestamp": "2026-01-01T00:00:00Z", "window": "10.500s",
                    "containers": [{"name": "c", "usage": {"cpu": "7n", "memory": "2Ki"}},
                        {"name": "bad", "usage": {"cpu": "lots", "memory": "2Ki"}}]},
                {"metadata": {"namespace": "d", "name": "elsewhere"}, "timestamp": "2026-01-01T00:00:00Z", "window": "x"}],
        });
        let report: Report = serde_json::from_value(report).unwrap();
        HashMap::from([("n1".to_string(), Arc::new(report))])
    }

    fn pod_of(name: &str, node: &str) -> Option<Value> {
        let object = json!({"metadata": {"namespace": "d", "name": name, "labels": {"a": "b"}},
            "spec": {"nodeName": node, "containers": []}});
        pod(&serde_json::from_value(object).unwrap(), &usage())
    }

    #[test]
    fn a_report_is_believed_about_its_own_pods() {
        let expected = json!({"kind": "PodMetrics", "apiVersion": "metrics.k8s.io/v1beta1",
            "metadata": {"name": "p", "namespace": "d", "creationTimestamp": "2026-01-01T00:00:00Z", "labels": {"a": "b"}},
            "timestamp": "2026-01-01T00:00:00Z", "window": "10.5s",
            "containers": [{"name": "c", "usage": {"cpu": "7n", "memory": "2Ki"}}]});
        assert_eq!(pod_of("p", "n1"), Some(expected));
        assert_eq!(pod_of("p", "n2"), None, "its node did not report");
        assert_eq!(pod_of("new", "n1"), None, "not measured yet");
    }

    #[test]
    fn a_node_is_called_what_it_is_stored_as() {
        let of = |name: &str| node(&serde_json::from_value(json!({"metadata": {"name": name}})).unwrap(), &usage());
        let metrics = of("n1").unwrap();
        assert_eq!((&metrics["metadata"]["name"], &metrics["usage"]["cpu"]), (&json!("n1"), &json!("1000n")));
        assert_eq!(of("n2"), None);
    }
}
