//! networking.k8s.io/v1: Ingress, IngressClass.

use serde_json::{Value, json};

use crate::kind::{Column, Generation, Rules};
use crate::rules::cells::{self, NONE, list, text, text_or};
use crate::rules::fill;
use crate::rules::plain::{self, PLAIN, WITH_SPEC_AND_STATUS};

/// Rules of Ingresses.
pub static INGRESS: Rules = Rules {
    prepare_create: |object| plain::set_status(object, json!({"loadBalancer": {}})),
    columns: INGRESS_COLUMNS,
    row: ingress_row,
    ..WITH_SPEC_AND_STATUS
};

/// Rules of IngressClasses.
pub static INGRESS_CLASS: Rules =
    Rules { default: default_class, generation: Generation::Spec, columns: CLASS_COLUMNS, row: class_row, ..PLAIN };

fn default_class(object: &mut Value) {
    let spec = object.as_object_mut().and_then(|o| fill::existing(o, "spec"));
    if let Some(parameters) = spec.and_then(|s| fill::existing(s, "parameters")) {
        fill::optional(parameters, "scope", "Cluster");
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
    let hosts: Vec<&str> =
        rules.iter().map(|rule| text(&rule["host"])).filter(|host| !host.is_empty()).take(HOSTS_SHOWN).collect();
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
