//! networking.k8s.io: Ingress, IngressClass, NetworkPolicy, IPAddress, ServiceCIDR.

use serde_json::{Value, json};

use crate::kind::{Column, Generation, Rules};
use crate::rules::cells::{self, NONE, list, text, text_or};
use crate::rules::fill;
use crate::rules::plain::{self, PLAIN, WITH_SPEC_AND_STATUS, WITH_STATUS};

/// Rules of Ingresses.
pub static INGRESS: Rules = Rules {
    prepare_create: |object| plain::set_status(object, json!({"loadBalancer": {}})),
    columns: INGRESS_COLUMNS,
    row: ingress_row,
    ..WITH_SPEC_AND_STATUS
};

/// Rules of IngressClasses.
pub static INGRESS_CLASS: Rules = Rules {
    default: default_class,
    generation: Generation::Spec,
    columns: CLASS_COLUMNS,
    row: class_row,
    ..PLAIN
};

/// Rules of NetworkPolicies.
pub static POLICY: Rules = Rules {
    default: default_policy,
    generation: Generation::Spec,
    columns: POLICY_COLUMNS,
    row: policy_row,
    ..PLAIN
};

/// Rules of ServiceCIDRs.
pub static SERVICE_CIDR: Rules = Rules {
    prepare_create: plain::empty_status,
    columns: CIDR_COLUMNS,
    row: cidr_row,
    ..WITH_STATUS
};

/// Rules of IPAddresses.
pub static IP_ADDRESS: Rules = Rules {
    columns: ADDRESS_COLUMNS,
    row: address_row,
    ..PLAIN
};

fn default_class(object: &mut Value) {
    let spec = object.as_object_mut().and_then(|o| fill::existing(o, "spec"));
    if let Some(parameters) = spec.and_then(|s| fill::existing(s, "parameters")) {
        fill::optional(parameters, "scope", "Cluster");
    }
}

fn default_policy(object: &mut Value) {
    let Some(spec) = object.as_object_mut().and_then(|o| fill::child(o, "spec")) else {
        return;
    };
    for direction in ["ingress", "egress"] {
        for rule in fill::items(spec, direction) {
            for port in fill::items(rule, "ports") {
                fill::optional(port, "protocol", "TCP");
            }
        }
    }
    if fill::is_empty(spec, "policyTypes") {
        let both = !fill::is_empty(spec, "egress");
        let types = if both {
            json!(["Ingress", "Egress"])
        } else {
            json!(["Ingress"])
        };
        spec.insert("policyTypes".into(), types);
    }
}

const INGRESS_COLUMNS: &[Column] = &[
    Column::NAME,
    Column::text("Class", "The IngressClass that serves it."),
    Column::text("Hosts", "Host names it answers to."),
    Column::text("Address", "Addresses it is reached at."),
    Column::text("Ports", "Ports it listens on."),
    Column::AGE,
];

/// Host names shown in a cell; further rules are counted.
const HOSTS_SHOWN: usize = 3;

fn ingress_row(object: &Value, now: i64) -> Vec<Value> {
    let spec = &object["spec"];
    let rules = list(&spec["rules"]);
    let hosts: Vec<&str> = rules
        .iter()
        .map(|rule| text(&rule["host"]))
        .filter(|host| !host.is_empty())
        .take(HOSTS_SHOWN)
        .collect();
    let hosts = match rules.len() {
        _ if hosts.is_empty() => "*".into(),
        n if n > HOSTS_SHOWN && hosts.len() == HOSTS_SHOWN => {
            format!("{} + {} more...", hosts.join(","), n - HOSTS_SHOWN)
        }
        _ => hosts.join(","),
    };
    vec![
        cells::name(object),
        text_or(&spec["ingressClassName"], NONE).into(),
        hosts.into(),
        cells::balancer_addresses(&object["status"]).join(",").into(),
        (if list(&spec["tls"]).is_empty() { "80" } else { "80, 443" }).into(),
        cells::age(object, now),
    ]
}

const CLASS_COLUMNS: &[Column] = &[
    Column::NAME,
    Column::text("Controller", "The controller that serves the class."),
    Column::text("Parameters", "Where further settings of the class are."),
    Column::AGE,
];

fn class_row(object: &Value, now: i64) -> Vec<Value> {
    let spec = &object["spec"];
    let parameters = match &spec["parameters"] {
        Value::Null => NONE.into(),
        reference => {
            let (group, kind) = (text(&reference["apiGroup"]), text(&reference["kind"]));
            let dot = if group.is_empty() { "" } else { "." };
            format!("{kind}{dot}{group}/{}", text(&reference["name"]))
        }
    };
    vec![
        cells::name_or_default(object, "ingressclass.kubernetes.io/is-default-class"),
        text(&spec["controller"]).into(),
        parameters.into(),
        cells::age(object, now),
    ]
}

const POLICY_COLUMNS: &[Column] = &[
    Column::NAME,
    Column::text("Pod-Selector", "Labels of the pods it is about."),
    Column::AGE,
];

fn policy_row(object: &Value, now: i64) -> Vec<Value> {
    vec![
        cells::name(object),
        cells::selector(&object["spec"]["podSelector"]).into(),
        cells::age(object, now),
    ]
}

const CIDR_COLUMNS: &[Column] = &[Column::NAME, Column::text("CIDRs", "Ranges of addresses."), Column::AGE];

fn cidr_row(object: &Value, now: i64) -> Vec<Value> {
    let cidrs: Vec<&str> = list(&object["spec"]["cidrs"]).iter().map(text).collect();
    vec![cells::name(object), cidrs.join(",").into(), cells::age(object, now)]
}

const ADDRESS_COLUMNS: &[Column] = &[
    Column::NAME,
    Column::text("ParentRef", "The object that uses it."),
    Column::AGE,
];

fn address_row(object: &Value, now: i64) -> Vec<Value> {
    let parent = &object["spec"]["parentRef"];
    let owner = if parent.is_null() {
        NONE.into()
    } else {
        let dot = if text(&parent["group"]).is_empty() { "" } else { "." };
        let resource = format!("{}{dot}{}", text(&parent["resource"]), text(&parent["group"])).to_lowercase();
        let parts = [resource.as_str(), text(&parent["namespace"]), text(&parent["name"])];
        parts
            .into_iter()
            .filter(|part| !part.is_empty())
            .collect::<Vec<_>>()
            .join("/")
    };
    vec![cells::name(object), owner.into(), cells::age(object, now)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_isolates_the_directions_it_speaks_of() {
        for (spec, types) in [
            (json!({}), json!(["Ingress"])),
            (json!({"egress": []}), json!(["Ingress"])),
            (json!({"egress": [{}]}), json!(["Ingress", "Egress"])),
            (json!({"policyTypes": ["Egress"]}), json!(["Egress"])),
        ] {
            let mut object = json!({"spec": spec});
            default_policy(&mut object);
            assert_eq!(object["spec"]["policyTypes"], types);
        }
    }
}
