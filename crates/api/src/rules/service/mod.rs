//! core/v1 Service. Allocating addresses and ports is the server's.

mod validate;

use serde_json::{Value, json};

use crate::kind::{Column, Rules, SelectableField};
use crate::rules::cells::{self, NONE, list, number, text, text_or};
use crate::rules::fill::{self, Fields};
use crate::rules::plain::{self, WITH_STATUS};

/// Three hours, how long a client sticks to its pod.
const AFFINITY_SECONDS: i64 = 10_800;

/// Rules of Services.
pub static RULES: Rules = Rules {
    default,
    prepare_create,
    prepare_update,
    validate: validate::create,
    validate_update: validate::update,
    warnings,
    create_on_update: true,
    returns_deleted: true,
    selectable: &[
        SelectableField { label: "spec.clusterIP", value: |s| text(&s["spec"]["clusterIP"]).into() },
        SelectableField { label: "spec.type", value: |s| text(&s["spec"]["type"]).into() },
    ],
    columns: COLUMNS,
    row,
    ..WITH_STATUS
};

fn default(object: &mut Value) {
    let Some(object) = object.as_object_mut() else { return };
    let Some(spec) = fill::child(object, "spec") else {
        return;
    };
    for port in fill::items(spec, "ports") {
        default_port(port);
    }
    affinity(spec);
    fill::text(spec, "type", "ClusterIP");
    let kind = text(&spec["type"]).to_string();
    let external_ips = spec.get("externalIPs").and_then(Value::as_array).is_some_and(|ips| !ips.is_empty());
    if matches!(kind.as_str(), "NodePort" | "LoadBalancer") || (kind == "ClusterIP" && external_ips) {
        fill::text(spec, "externalTrafficPolicy", "Cluster");
    }
    if kind != "ExternalName" {
        fill::optional(spec, "internalTrafficPolicy", "Cluster");
    }
    if kind == "LoadBalancer" {
        fill::optional(spec, "allocateLoadBalancerNodePorts", true);
        let balancer = fill::existing(object, "status").and_then(|s| fill::existing(s, "loadBalancer"));
        for ingress in balancer.into_iter().flat_map(|b| fill::items(b, "ingress")) {
            if !fill::is_empty(ingress, "ip") {
                fill::optional(ingress, "ipMode", "VIP");
            }
        }
    }
}

fn default_port(port: &mut Fields) {
    fill::text(port, "protocol", "TCP");
    if (fill::is_empty(port, "targetPort") || port["targetPort"].as_i64() == Some(0))
        && let Some(number) = port.get("port").filter(|p| p.is_number()).cloned()
    {
        port.insert("targetPort".into(), number);
    }
}

fn affinity(spec: &mut Fields) {
    fill::text(spec, "sessionAffinity", "None");
    if spec["sessionAffinity"] == "None" {
        fill::remove(spec, "sessionAffinityConfig");
    } else if spec["sessionAffinity"] == "ClientIP" {
        let timeout = spec.get("sessionAffinityConfig").map(|config| &config["clientIP"]["timeoutSeconds"]);
        if timeout.is_none_or(Value::is_null) {
            spec.insert("sessionAffinityConfig".into(), json!({"clientIP": {"timeoutSeconds": AFFINITY_SECONDS}}));
        }
    }
}

fn prepare_create(object: &mut Value) {
    plain::set_status(object, json!({"loadBalancer": {}}));
    if let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) {
        pair_cluster_ips(spec, None);
    }
}

/// Keeps what an update that knows only the older fields leaves out, and drops what a change of type makes void.
fn prepare_update(new: &mut Value, old: &Value) {
    plain::keep_status(new, old);
    let old = &old["spec"];
    let Some(spec) = new.get_mut("spec").and_then(Value::as_object_mut) else {
        return;
    };
    pair_cluster_ips(spec, Some(old));
    let (to, from) = (text(&spec["type"]).to_string(), text(&old["type"]));
    keep_allocated(spec, old, &to, from);
    drop_void(spec, old, &to, from);
}

/// `clusterIP` is the first of `clusterIPs`; a client may write only one of the two.
fn pair_cluster_ips(spec: &mut Fields, old: Option<&Value>) {
    let ip = spec.get("clusterIP").and_then(Value::as_str).filter(|ip| !ip.is_empty()).map(str::to_string);
    let old_ips = old.map(|old| &old["clusterIPs"]);
    let same_ips = spec.get("clusterIPs") == old_ips || fill::is_empty(spec, "clusterIPs");
    let old_ip = old.and_then(|old| old["clusterIP"].as_str()).filter(|ip| !ip.is_empty());
    match (ip, old_ip) {
        // Only the old field was set, or only it changed: the list follows.
        (Some(ip), None) if fill::is_empty(spec, "clusterIPs") => {
            spec.insert("clusterIPs".into(), json!([ip]));
        }
        (Some(ip), Some(old_ip)) if ip != old_ip && same_ips => {
            spec.insert("clusterIPs".into(), json!([ip]));
        }
        // Cleared, and the list was not touched: the list is cleared too.
        (None, Some(_)) if same_ips => {
            fill::remove(spec, "clusterIPs");
        }
        _ => {}
    }
}

/// An update that leaves allocated values out keeps them, as long as both types have such values.
fn keep_allocated(spec: &mut Fields, old: &Value, to: &str, from: &str) {
    let has_ip = |kind: &str| matches!(kind, "ClusterIP" | "NodePort" | "LoadBalancer");
    let has_ports = |kind: &str| matches!(kind, "NodePort" | "LoadBalancer");
    if has_ip(to) && has_ip(from) {
        for name in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
            if fill::is_empty(spec, name) && !old[name].is_null() {
                spec.insert(name.into(), old[name].clone());
            }
        }
    }
    if has_ports(to) && has_ports(from) {
        let empty = Vec::new();
        let old_ports = old["ports"].as_array().unwrap_or(&empty);
        for port in fill::items(spec, "ports") {
            let same = |o: &&Value| Some(&o["port"]) == port.get("port") && o["protocol"] == port["protocol"];
            if port.get("nodePort").and_then(Value::as_i64).unwrap_or_default() == 0
                && port.contains_key("protocol")
                && let Some(kept) = old_ports.iter().find(same).and_then(|o| o["nodePort"].as_i64())
            {
                fill::number(port, "nodePort", kept);
            }
        }
    }
    let needs_health_port = |kind: &str, policy: &Value| kind == "LoadBalancer" && policy == "Local";
    if needs_health_port(to, spec.get("externalTrafficPolicy").unwrap_or(&Value::Null))
        && needs_health_port(from, &old["externalTrafficPolicy"])
        && let Some(kept) = old["healthCheckNodePort"].as_i64()
    {
        fill::number(spec, "healthCheckNodePort", kept);
    }
}

/// Fields that a type does not have go when the type changes and the client sent them unchanged.
fn drop_void(spec: &mut Fields, old: &Value, to: &str, from: &str) {
    if to == from {
        return;
    }
    if to == "ExternalName" {
        for name in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy"] {
            drop_unchanged(spec, old, name);
        }
    }
    if !matches!(to, "NodePort" | "LoadBalancer") {
        let empty = Vec::new();
        let old_ports = old["ports"].as_array().unwrap_or(&empty);
        for port in fill::items(spec, "ports") {
            if port.get("nodePort").is_some_and(|n| old_ports.iter().any(|o| &o["nodePort"] == n)) {
                fill::remove(port, "nodePort");
            }
        }
        let external_ips = spec.get("externalIPs").and_then(Value::as_array).is_some_and(|ips| !ips.is_empty());
        if to == "ExternalName" || !external_ips {
            drop_unchanged(spec, old, "externalTrafficPolicy");
        }
    }
    if to != "LoadBalancer" {
        for name in ["healthCheckNodePort", "allocateLoadBalancerNodePorts", "loadBalancerClass"] {
            drop_unchanged(spec, old, name);
        }
    }
}

fn drop_unchanged(spec: &mut Fields, old: &Value, name: &str) {
    if spec.get(name) == old.get(name) {
        fill::remove(spec, name);
    }
}

const COLUMNS: &[Column] = &[
    Column::NAME,
    Column::text("Type", "How the service is reached."),
    Column::text("Cluster-IP", "Its address inside the cluster."),
    Column::text("External-IP", "Its addresses outside the cluster."),
    Column::text("Port(s)", "Its ports, with node ports and protocols."),
    Column::AGE,
    Column::SELECTOR,
];

fn row(object: &Value, now: i64) -> Vec<Value> {
    let spec = &object["spec"];
    let ports: Vec<String> = list(&spec["ports"]).iter().map(port).collect();
    vec![
        cells::name(object),
        text(&spec["type"]).into(),
        text_or(&spec["clusterIPs"][0], NONE).into(),
        external(object).into(),
        (if ports.is_empty() { NONE.into() } else { ports.join(",") }).into(),
        cells::age(object, now),
        cells::labels(&spec["selector"]).into(),
    ]
}

fn port(port: &Value) -> String {
    let (number, node, protocol) = (number(&port["port"]), number(&port["nodePort"]), text(&port["protocol"]));
    if node > 0 { format!("{number}:{node}/{protocol}") } else { format!("{number}/{protocol}") }
}

fn external(object: &Value) -> String {
    let spec = &object["spec"];
    let own = list(&spec["externalIPs"]).iter().map(text);
    let (addresses, empty): (Vec<&str>, &str) = match text(&spec["type"]) {
        "ClusterIP" | "NodePort" => (own.collect(), NONE),
        "LoadBalancer" => (cells::balancer_addresses(&object["status"]).into_iter().chain(own).collect(), "<pending>"),
        "ExternalName" => return text(&spec["externalName"]).into(),
        _ => return "<unknown>".into(),
    };
    if addresses.is_empty() { empty.into() } else { addresses.join(",") }
}

fn warnings(object: &Value) -> Vec<String> {
    if list(&object["spec"]["externalIPs"]).is_empty() {
        return Vec::new();
    }
    vec!["spec.externalIPs is deprecated in v1.36 and will be removed in a future release".into()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_follow_the_type() {
        for (sent, filled) in [
            (
                json!({"ports": [{"port": 80}]}),
                json!({"ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}], "sessionAffinity": "None",
                    "type": "ClusterIP", "internalTrafficPolicy": "Cluster"}),
            ),
            (
                json!({"type": "ExternalName", "externalName": "a.b"}),
                json!({"type": "ExternalName", "externalName": "a.b", "sessionAffinity": "None"}),
            ),
            (
                json!({"type": "LoadBalancer", "sessionAffinity": "ClientIP"}),
                json!({"type": "LoadBalancer", "sessionAffinity": "ClientIP",
                    "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 10800}}, "externalTrafficPolicy": "Cluster",
                    "internalTrafficPolicy": "Cluster", "allocateLoadBalancerNodePorts": true}),
            ),
        ] {
            let mut object = json!({"spec": sent});
            default(&mut object);
            assert_eq!(object["spec"], filled);
        }
    }

    #[test]
    fn updates_keep_what_was_allocated() {
        let old = json!({"spec": {"type": "NodePort", "clusterIP": "10.0.0.9", "clusterIPs": ["10.0.0.9"],
            "ports": [{"port": 80, "protocol": "TCP", "nodePort": 30001}]}});
        let mut new = json!({"spec": {"type": "NodePort", "ports": [{"port": 80, "protocol": "TCP"}]}});
        prepare_update(&mut new, &old);
        assert_eq!(new["spec"]["clusterIP"], "10.0.0.9");
        assert_eq!(new["spec"]["clusterIPs"], json!(["10.0.0.9"]));
        assert_eq!(new["spec"]["ports"][0]["nodePort"], 30001);
        let mut back = old.clone();
        back["spec"]["type"] = "ClusterIP".into();
        prepare_update(&mut back, &old);
        assert_eq!(back["spec"]["ports"], json!([{"port": 80, "protocol": "TCP"}]));
    }
}
