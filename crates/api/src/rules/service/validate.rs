//! What a new or changed Service may be.

use serde_json::Value;

use crate::field::FieldError;
use crate::names;
use crate::rules::cells::{list, number, text};
use crate::rules::check::{At, Errors, same};
use crate::rules::endpoints;
use crate::rules::metadata;
use crate::rules::pod::container_port;

/// A day, the longest time a client can stick to its pod.
const AFFINITY_SECONDS_MAX: i64 = 86_400;

/// Errors of a new Service. Whether addresses and ports are free is the server's to check.
pub fn create(object: &Value) -> Vec<FieldError> {
    let (spec, at, mut errors) = (&object["spec"], At::ROOT.field("spec"), Errors::default());
    let kind = text(&spec["type"]);
    let types = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
    errors.required_one_of(&at.field("type"), &spec["type"], &types);
    if list(&spec["ports"]).is_empty() && !is_headless(spec) && kind != "ExternalName" {
        errors.required(&at.field("ports"), "");
    }
    by_type(spec, kind, &at, &mut errors);
    ports(spec, kind, &at.field("ports"), &mut errors);
    metadata::labels(&spec["selector"], &at.field("selector"), &mut errors);
    affinity(spec, &at, &mut errors);
    if kind != "ExternalName" {
        cluster_ips(spec, &at, &mut errors);
    }
    let external_at = at.field("externalIPs");
    for (i, ip) in list(&spec["externalIPs"]).iter().enumerate() {
        endpoints::endpoint_ip(text(ip), &external_at.index(i), &mut errors);
    }
    balancer(spec, kind, &at, &mut errors);
    traffic(spec, kind, &at, &mut errors);
    errors.0
}

/// A service whose name stands for its pods' addresses, without one of its own.
fn is_headless(spec: &Value) -> bool {
    spec["clusterIP"] == "None" || spec["clusterIPs"][0] == "None"
}

fn by_type(spec: &Value, kind: &str, at: &At<'_>, errors: &mut Errors) {
    match kind {
        "LoadBalancer" | "NodePort" if is_headless(spec) => {
            let detail = format!("may not be set to 'None' for {kind} services");
            errors.invalid(&at.field("clusterIPs").index(0), "None", detail);
        }
        "ExternalName" => {
            for field in ["clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
                if !same(&spec[field], &Value::Null) {
                    errors.forbidden(&at.field(field), "may not be set for ExternalName services");
                }
            }
            let name = text(&spec["externalName"]);
            match name.strip_suffix('.').unwrap_or(name) {
                "" => errors.required(&at.field("externalName"), ""),
                name => errors.all(&at.field("externalName"), name, names::dns1123_subdomain(name)),
            }
        }
        _ => {}
    }
}

fn ports(spec: &Value, kind: &str, at: &At<'_>, errors: &mut Errors) {
    let ports = list(&spec["ports"]);
    for (i, port) in ports.iter().enumerate() {
        let (at, before) = (at.index(i), &ports[..i]);
        let name = text(&port["name"]);
        if name.is_empty() && ports.len() > 1 {
            errors.required(&at.field("name"), "");
        }
        errors.form(&at.field("name"), &port["name"], names::dns1123_label);
        if !name.is_empty() && before.iter().any(|other| text(&other["name"]) == name) {
            errors.duplicate(&at.field("name"), name);
        }
        let value = number(&port["port"]);
        errors.all(&at.field("port"), value, names::port_number(value));
        errors.required_one_of(&at.field("protocol"), &port["protocol"], &["SCTP", "TCP", "UDP"]);
        container_port(&port["targetPort"], &at.field("targetPort"), errors);
        errors.form(&at.field("appProtocol"), &port["appProtocol"], names::qualified_name);
        let node_port = number(&port["nodePort"]);
        if node_port != 0 {
            if kind == "ClusterIP" {
                errors.forbidden(&at.field("nodePort"), "may not be used when `type` is 'ClusterIP'");
            }
            let taken = |o: &Value| number(&o["nodePort"]) == node_port && o["protocol"] == port["protocol"];
            if before.iter().any(taken) {
                errors.duplicate(&at.field("nodePort"), node_port);
            }
        }
        if before.iter().any(|other| other["port"] == port["port"] && other["protocol"] == port["protocol"]) {
            errors.duplicate(&at, port);
        }
    }
}

fn affinity(spec: &Value, at: &At<'_>, errors: &mut Errors) {
    let (affinity, config) = (&spec["sessionAffinity"], &spec["sessionAffinityConfig"]);
    errors.required_one_of(&at.field("sessionAffinity"), affinity, &["ClientIP", "None"]);
    let at = at.field("sessionAffinityConfig");
    if affinity == "None" && !config.is_null() {
        errors.forbidden(&at, "must not be set when session affinity is None");
    }
    if affinity == "ClientIP" {
        let client_at = at.field("clientIP");
        let (timeout, at) = (&config["clientIP"]["timeoutSeconds"], client_at.field("timeoutSeconds"));
        if timeout.is_null() {
            errors.required(&at, "when session affinity type is ClientIP");
        } else if !(1..=AFFINITY_SECONDS_MAX).contains(&number(timeout)) {
            let detail = format!("must be greater than 0 and less than {AFFINITY_SECONDS_MAX}");
            errors.invalid(&at, timeout, detail);
        }
    }
}

fn cluster_ips(spec: &Value, at: &At<'_>, errors: &mut Errors) {
    let (first, ips, ips_at) = (text(&spec["clusterIP"]), list(&spec["clusterIPs"]), at.field("clusterIPs"));
    match (first.is_empty(), ips.first()) {
        (false, None) => errors.required(&ips_at, ""),
        (false, Some(ip)) if ip != first => errors.invalid(&ips_at, ips, "first value must match `clusterIP`"),
        (true, Some(_)) => errors.invalid(&ips_at, ips, "must be empty when `clusterIP` is not specified"),
        _ => {}
    }
    let (families, families_at) = (list(&spec["ipFamilies"]), at.field("ipFamilies"));
    for (i, family) in families.iter().enumerate() {
        errors.one_of(&families_at.index(i), family, &["IPv4", "IPv6"]);
        if families[..i].contains(family) {
            errors.duplicate(&families_at.index(i), family);
        }
    }
    let policies = ["PreferDualStack", "RequireDualStack", "SingleStack"];
    errors.one_of(&at.field("ipFamilyPolicy"), &spec["ipFamilyPolicy"], &policies);
    if ips.first().is_some_and(|ip| ip == "None") {
        if ips.len() > 1 {
            errors.invalid(&ips_at, ips, "'None' must be the first and only value");
        }
        return;
    }
    for (i, ip) in ips.iter().enumerate() {
        let wrong = names::ip(text(ip));
        let is_six = text(ip).contains(':');
        if let (true, Some(family)) = (wrong.is_empty(), families.get(i))
            && is_six != (family == "IPv6")
        {
            let detail = format!("expected an {} value as indicated by `ipFamilies[{i}]`", text(family));
            errors.invalid(&ips_at.index(i), ip, detail);
        }
        errors.all(&ips_at.index(i), ip, wrong);
    }
    if ips.len() > 2 {
        errors.invalid(&ips_at, ips, "may only hold up to 2 values");
    }
    if let [first, second] = ips
        && text(first).contains(':') == text(second).contains(':')
    {
        errors.invalid(&ips_at, ips, "may specify no more than one IP for each IP family");
    }
}

fn balancer(spec: &Value, kind: &str, at: &At<'_>, errors: &mut Errors) {
    const ONLY: &str = "may only be used when `type` is 'LoadBalancer'";
    let (ranges, ranges_at) = (list(&spec["loadBalancerSourceRanges"]), at.field("LoadBalancerSourceRanges"));
    for (i, range) in ranges.iter().enumerate() {
        errors.all(&ranges_at.index(i), range, names::cidr(text(range).trim()));
    }
    if kind == "LoadBalancer" {
        errors.form(&at.field("loadBalancerClass"), &spec["loadBalancerClass"], names::qualified_name);
        return;
    }
    if !ranges.is_empty() {
        errors.forbidden(&ranges_at, ONLY);
    }
    for field in ["allocateLoadBalancerNodePorts", "loadBalancerClass"] {
        if !spec[field].is_null() {
            errors.forbidden(&at.field(field), ONLY);
        }
    }
}

fn traffic(spec: &Value, kind: &str, at: &At<'_>, errors: &mut Errors) {
    let (policy, policy_at) = (&spec["externalTrafficPolicy"], at.field("externalTrafficPolicy"));
    let external =
        matches!(kind, "LoadBalancer" | "NodePort") || (kind == "ClusterIP" && !list(&spec["externalIPs"]).is_empty());
    if external {
        errors.required_one_of(&policy_at, policy, &["Cluster", "Local"]);
    } else if !text(policy).is_empty() {
        errors.invalid(&policy_at, policy, "may only be set for externally-accessible services");
    }
    let (health, health_at) = (number(&spec["healthCheckNodePort"]), at.field("healthCheckNodePort"));
    if kind == "LoadBalancer" && policy == "Local" {
        if health != 0 {
            errors.all(&health_at, health, names::port_number(health));
        }
    } else if health != 0 {
        let detail = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
        errors.invalid(&health_at, health, detail);
    }
    let (internal, internal_at) = (&spec["internalTrafficPolicy"], at.field("internalTrafficPolicy"));
    if internal.is_null() && matches!(kind, "ClusterIP" | "NodePort" | "LoadBalancer") {
        errors.required(&internal_at, "");
    }
    errors.one_of(&internal_at, internal, &["Cluster", "Local"]);
    let near = ["PreferClose", "PreferSameNode", "PreferSameZone"];
    errors.one_of(&at.field("trafficDistribution"), &spec["trafficDistribution"], &near);
}

/// Errors of a changed Service: addresses stay what they are, unless the type has none.
pub fn update(new: &Value, old: &Value) -> Vec<FieldError> {
    if same(&new["spec"], &old["spec"]) {
        return Vec::new();
    }
    let (at, mut errors) = (At::ROOT.field("spec"), Errors::default());
    let (spec, stored) = (&new["spec"], &old["spec"]);
    let has_ips = |spec: &Value| spec["type"] != "ExternalName";
    let both_headless = is_headless(spec) && is_headless(stored);
    if has_ips(spec) && has_ips(stored) && !both_headless {
        kept_ips(spec, stored, &at.field("clusterIPs"), &mut errors);
    }
    let both = |kind: &str| spec["type"] == kind && stored["type"] == kind;
    if both("LoadBalancer") && text(&spec["loadBalancerClass"]) != text(&stored["loadBalancerClass"]) {
        errors.invalid(&at.field("loadBalancerClass"), &spec["loadBalancerClass"], "may not change once set");
    }
    let needs_health = |spec: &Value| spec["externalTrafficPolicy"] == "Local";
    if both("LoadBalancer")
        && needs_health(spec)
        && needs_health(stored)
        && number(&spec["healthCheckNodePort"]) != number(&stored["healthCheckNodePort"])
    {
        errors.forbidden(&at.field("healthCheckNodePort"), "field is immutable");
    }
    errors.0.extend(create(new));
    errors.0
}

fn kept_ips(spec: &Value, stored: &Value, at: &At<'_>, errors: &mut Errors) {
    let (ips, stored) = (list(&spec["clusterIPs"]), list(&stored["clusterIPs"]));
    if !stored.is_empty() && ips.is_empty() {
        errors.invalid(&at.index(0), ips, "primary clusterIP can not be unset");
    }
    for (i, (new, old)) in ips.iter().zip(stored).enumerate() {
        if new != old {
            errors.invalid(&at.index(i), ips, "may not change once set");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::check::testing::{Case, check};
    use crate::rules::service::RULES;
    use serde_json::json;

    fn service(change: impl Fn(&mut Value)) -> Value {
        let mut object =
            json!({"metadata": {"name": "web"}, "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]}});
        change(&mut object["spec"]);
        (RULES.default)(&mut object);
        object
    }

    #[test]
    fn new_services() {
        let cases: &[Case] = &[
            ("good", |_| {}, &[]),
            (
                "headless",
                |s| {
                    s["clusterIP"] = json!("None");
                    s["clusterIPs"] = json!(["None"]);
                    s["ports"] = json!([])
                },
                &[],
            ),
            ("no ports", |s| s["ports"] = json!([]), &["spec.ports: Required value"]),
            ("type", |s| s["type"] = json!("Other"), &["spec.type: Unsupported value: \"Other\": supported values:"]),
            (
                "two ports need names",
                |s| s["ports"] = json!([{"port": 80}, {"port": 443}]),
                &["spec.ports[0].name: Required value", "spec.ports[1].name: Required value"],
            ),
            (
                "same port twice",
                |s| s["ports"] = json!([{"name": "a", "port": 80}, {"name": "b", "port": 80}]),
                &["spec.ports[1]: Duplicate value: {"],
            ),
            (
                "node port",
                |s| s["ports"][0]["nodePort"] = json!(30000),
                &["spec.ports[0].nodePort: Forbidden: may not be used when"],
            ),
            (
                "selector",
                |s| s["selector"] = json!({"-": "x"}),
                &["spec.selector: Invalid value: \"-\": name part must consist of"],
            ),
            (
                "name",
                |s| {
                    s["type"] = json!("ExternalName");
                    s["externalName"] = json!("a.b.c.");
                    s["ports"] = json!([])
                },
                &[],
            ),
            ("no name", |s| s["type"] = json!("ExternalName"), &["spec.externalName: Required value"]),
            (
                "balancer only",
                |s| s["loadBalancerSourceRanges"] = json!(["10.0.0.0/8"]),
                &["spec.LoadBalancerSourceRanges: Forbidden: may only be used when `type` is 'LoadBalancer'"],
            ),
            (
                "near",
                |s| s["trafficDistribution"] = json!("Far"),
                &["spec.trafficDistribution: Unsupported value: \"Far\""],
            ),
        ];
        for (case, change, errors) in cases {
            check(case, &create(&service(change)), errors);
        }
    }

    #[test]
    fn addresses_stay() {
        let with_ip = |ip: &str| {
            service(|s| {
                s["clusterIP"] = json!(ip);
                s["clusterIPs"] = json!([ip])
            })
        };
        let old = with_ip("10.0.0.1");
        check("same", &update(&old, &old), &[]);
        check(
            "other",
            &update(&with_ip("10.0.0.2"), &old),
            &["spec.clusterIPs[0]: Invalid value: [\"10.0.0.2\"]: may not change once set"],
        );
        check(
            "none",
            &update(&service(|_| {}), &old),
            &["spec.clusterIPs[0]: Invalid value: []: primary clusterIP can not be unset"],
        );
    }
}
