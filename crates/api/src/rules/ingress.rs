//! networking.k8s.io/v1: Ingress, IngressClass.

use serde_json::{Value, json};

use crate::field::FieldError;
use crate::kind::{Column, Generation, Rules};
use crate::names;
use crate::rules::cells::{self, NONE, list, text, text_or};
use crate::rules::check::{At, Errors, same};
use crate::rules::fill;
use crate::rules::plain::{self, PLAIN, WITH_SPEC_AND_STATUS};

/// Rules of Ingresses.
pub static INGRESS: Rules = Rules {
    validate: validate_ingress,
    validate_update: |new, old| if same(&new["spec"], &old["spec"]) { Vec::new() } else { validate_ingress(new) },
    prepare_create: |object| plain::set_status(object, json!({"loadBalancer": {}})),
    columns: INGRESS_COLUMNS,
    row: ingress_row,
    ..WITH_SPEC_AND_STATUS
};

/// Rules of IngressClasses.
pub static INGRESS_CLASS: Rules = Rules {
    default: default_class,
    validate: validate_class,
    validate_update: update_class,
    generation: Generation::Spec,
    columns: CLASS_COLUMNS,
    row: class_row,
    ..PLAIN
};

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

fn validate_ingress(object: &Value) -> Vec<FieldError> {
    let (spec, at, mut errors) = (&object["spec"], At::ROOT.field("spec"), Errors::default());
    let rules = list(&spec["rules"]);
    if rules.is_empty() && spec["defaultBackend"].is_null() {
        errors.invalid(&at, rules, "either `defaultBackend` or `rules` must be specified");
    }
    if !spec["defaultBackend"].is_null() {
        backend(&spec["defaultBackend"], &at.field("defaultBackend"), &mut errors);
    }
    let rules_at = at.field("rules");
    for (i, rule) in rules.iter().enumerate() {
        validate_rule(rule, &rules_at.index(i), &mut errors);
    }
    let tls_at = at.field("tls");
    for (i, tls) in list(&spec["tls"]).iter().enumerate() {
        let at = tls_at.index(i);
        let hosts_at = at.field("hosts");
        for (j, host) in list(&tls["hosts"]).iter().enumerate() {
            errors.all(&hosts_at.index(j), host, host_form(text(host)));
        }
        errors.form(&at.field("secretName"), &tls["secretName"], names::dns1123_subdomain);
    }
    errors.form(&at.field("ingressClassName"), &spec["ingressClassName"], names::dns1123_subdomain);
    errors.0
}

fn host_form(host: &str) -> Vec<String> {
    if host.contains('*') { names::wildcard_subdomain(host) } else { names::dns1123_subdomain(host) }
}

fn validate_rule(rule: &Value, at: &At<'_>, errors: &mut Errors) {
    let (host, host_at) = (text(&rule["host"]), at.field("host"));
    if !host.is_empty() {
        if names::ip(host).is_empty() {
            errors.invalid(&host_at, host, "must be a DNS name, not an IP address");
        }
        errors.all(&host_at, host, host_form(host));
    }
    if rule["http"].is_null() {
        return;
    }
    let (paths, at) = (list(&rule["http"]["paths"]), at.field("http"));
    let at = at.field("paths");
    if paths.is_empty() {
        errors.required(&at, "");
    }
    for (i, path) in paths.iter().enumerate() {
        let at = at.index(i);
        validate_path(path, &at, errors);
        backend(&path["backend"], &at.field("backend"), errors);
    }
}

fn validate_path(path: &Value, at: &At<'_>, errors: &mut Errors) {
    let (path_text, path_at) = (text(&path["path"]), at.field("path"));
    match text(&path["pathType"]) {
        "" => errors.required(&at.field("pathType"), "pathType must be specified"),
        "Exact" | "Prefix" => {
            if !path_text.starts_with('/') {
                errors.invalid(&path_at, path_text, "must be an absolute path");
            }
            for part in ["//", "/./", "/../", "%2f", "%2F"] {
                if path_text.contains(part) {
                    errors.invalid(&path_at, path_text, format!("must not contain '{part}'"));
                }
            }
            for end in ["/..", "/."] {
                if path_text.ends_with(end) {
                    errors.invalid(&path_at, path_text, format!("cannot end with '{end}'"));
                }
            }
        }
        "ImplementationSpecific" if path_text.is_empty() || path_text.starts_with('/') => {}
        "ImplementationSpecific" => errors.invalid(&path_at, path_text, "must be an absolute path"),
        _ => errors.one_of(&at.field("pathType"), &path["pathType"], &["Exact", "ImplementationSpecific", "Prefix"]),
    }
}

fn backend(backend: &Value, at: &At<'_>, errors: &mut Errors) {
    let (service, resource) = (&backend["service"], &backend["resource"]);
    match (service.is_null(), resource.is_null()) {
        (false, false) => errors.invalid(at, "", "cannot set both resource and service backends"),
        (true, true) => errors.invalid(at, "", "resource or service backend is required"),
        (true, false) => {
            let at = at.field("resource");
            for field in ["kind", "name"] {
                errors.required_form(&at.field(field), &resource[field], names::path_segment);
            }
        }
        (false, true) => {
            let service_at = at.field("service");
            errors.required_form(&service_at.field("name"), &service["name"], names::dns1123_label);
            let (name, port, port_at) =
                (text(&service["port"]["name"]), &service["port"]["number"], service_at.field("port"));
            match (name.is_empty(), port.as_i64().unwrap_or_default()) {
                (true, 0) => errors.required(at, "port name or number is required"),
                (false, 0) => errors.all(&port_at.field("name"), name, names::port_name(name)),
                (true, value) => errors.all(&port_at.field("number"), value, names::port_number(value)),
                (false, _) => errors.invalid(at, "", "cannot set both port name & port number"),
            }
        }
    }
}

fn validate_class(object: &Value) -> Vec<FieldError> {
    let (spec, at, mut errors) = (&object["spec"], At::ROOT.field("spec"), Errors::default());
    match text(&spec["controller"]) {
        "" => errors.required(&at.field("controller"), ""),
        controller => match controller.split_once('/') {
            Some((domain, path)) if !path.is_empty() => {
                errors.all(&at.field("controller"), controller, names::dns1123_subdomain(domain));
            }
            _ => errors.invalid(
                &at.field("controller"),
                controller,
                "must be a domain-prefixed path (such as \"acme.io/foo\")",
            ),
        },
    }
    let (reference, at) = (&spec["parameters"], at.field("parameters"));
    if reference.is_null() {
        return errors.0;
    }
    for field in ["kind", "name"] {
        errors.required_form(&at.field(field), &reference[field], names::path_segment);
    }
    errors.required_one_of(&at.field("scope"), &reference["scope"], &["Cluster", "Namespace"]);
    match (text(&reference["scope"]), reference["namespace"].is_null()) {
        ("Namespace", true) => errors.required(&at.field("namespace"), "`parameters.scope` is set to 'Namespace'"),
        ("Cluster", false) => errors.forbidden(&at.field("namespace"), "`parameters.scope` is set to 'Cluster'"),
        _ => errors.form(&at.field("namespace"), &reference["namespace"], names::dns1123_label),
    }
    errors.0
}

fn update_class(new: &Value, old: &Value) -> Vec<FieldError> {
    let (mut errors, at) = (Errors::default(), At::ROOT.field("spec"));
    errors.immutable(&at.field("controller"), &new["spec"]["controller"], &old["spec"]["controller"]);
    errors.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::check::testing::check;

    #[test]
    fn rules_and_backends() {
        let backend = json!({"service": {"name": "web", "port": {"number": 80}}});
        let path =
            |path: &str, kind: &str| json!({"http": {"paths": [{"path": path, "pathType": kind, "backend": backend}]}});
        for (case, spec, errors) in [
            ("good", json!({"rules": [path("/", "Prefix")]}), &[][..]),
            ("nothing", json!({}), &["spec: Invalid value: []: either `defaultBackend` or `rules` must be specified"]),
            (
                "relative",
                json!({"rules": [path("a", "Exact")]}),
                &["spec.rules[0].http.paths[0].path: Invalid value: \"a\": must be an absolute path"],
            ),
            (
                "double",
                json!({"rules": [path("/a//b", "Prefix")]}),
                &["spec.rules[0].http.paths[0].path: Invalid value: \"/a//b\": must not contain '//'"],
            ),
            (
                "address",
                json!({"defaultBackend": backend, "rules": [{"host": "10.0.0.1"}]}),
                &["spec.rules[0].host: Invalid value: \"10.0.0.1\": must be a DNS name"],
            ),
            (
                "no port",
                json!({"defaultBackend": {"service": {"name": "web"}}}),
                &["spec.defaultBackend: Required value: port name or number is required"],
            ),
        ] {
            check(case, &validate_ingress(&json!({"spec": spec})), errors);
        }
    }
}
