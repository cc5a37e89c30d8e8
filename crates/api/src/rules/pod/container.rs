//! Validation of containers: names, images, ports, environment, mounts, probes, hooks.

use serde_json::Value;

use crate::names;
use crate::rules::cells::{flag, list, number, text};
use crate::rules::check::{At, Errors};
use crate::rules::pod::security;
use crate::rules::pod::volume::{self, Volumes};
use crate::rules::resources::{self, Scope};

/// What containers of one pod share.
pub struct Shared<'a> {
    /// The pod's spec.
    pub spec: &'a Value,
    /// Its good volumes.
    pub volumes: Volumes<'a>,
    /// Names of its device claims.
    pub claims: Vec<&'a str>,
}

impl Shared<'_> {
    fn grace_seconds(&self) -> i64 {
        number(&self.spec["terminationGracePeriodSeconds"])
    }
}

/// All containers of a pod: `containers`, `initContainers`, `ephemeralContainers`.
pub fn all(shared: &Shared<'_>, at: &At<'_>, errors: &mut Errors) {
    let spec = shared.spec;
    let regular = list(&spec["containers"]);
    let mut names: Vec<&str> = Vec::new();
    let containers_at = at.field("containers");
    if regular.is_empty() {
        errors.required(&containers_at, "");
    }
    for (i, container) in regular.iter().enumerate() {
        let at = containers_at.index(i);
        common(container, shared, &at, errors);
        unique(container, &mut names, &at, errors);
        probes_and_hooks(container, shared, &at, errors);
        restart_policy(container, &at, errors);
    }
    host_ports(regular, &containers_at, errors);
    let init_at = at.field("initContainers");
    for (i, container) in list(&spec["initContainers"]).iter().enumerate() {
        let at = init_at.index(i);
        common(container, shared, &at, errors);
        restart_policy(container, &at, errors);
        unique(container, &mut names, &at, errors);
        host_ports(std::slice::from_ref(container), &init_at, errors);
        if container["restartPolicy"] == "Always" {
            probes_and_hooks(container, shared, &at, errors);
        } else {
            no_probes(container, &at, errors);
        }
    }
    ephemeral(shared, &mut names, &at.field("ephemeralContainers"), errors);
}

fn unique<'a>(container: &'a Value, names: &mut Vec<&'a str>, at: &At<'_>, errors: &mut Errors) {
    let name = text(&container["name"]);
    if name.is_empty() {
        return;
    }
    if names.contains(&name) {
        errors.duplicate(&at.field("name"), name);
    } else {
        names.push(name);
    }
}

/// Containers that are added to a running pod have no probes, ports or resources of their own.
fn ephemeral<'a>(shared: &Shared<'a>, names: &mut Vec<&'a str>, at: &At<'_>, errors: &mut Errors) {
    const FORBIDDEN: &str = "cannot be set for an Ephemeral Container";
    const FIELDS: [&str; 6] = ["ports", "resizePolicy", "livenessProbe", "readinessProbe", "startupProbe", "lifecycle"];
    let others = names.clone();
    for (i, container) in list(&shared.spec["ephemeralContainers"]).iter().enumerate() {
        let at = at.index(i);
        common(container, shared, &at, errors);
        unique(container, names, &at, errors);
        let target = text(&container["targetContainerName"]);
        if !target.is_empty() && !others.contains(&target) {
            errors.not_found(&at.field("targetContainerName"), target);
        }
        for field in FIELDS {
            if !super::is_unset(&container[field]) {
                errors.forbidden(&at.field(field), FORBIDDEN);
            }
        }
        if ["requests", "limits", "claims"].iter().any(|field| !super::is_unset(&container["resources"][field])) {
            errors.forbidden(&at.field("resources"), FORBIDDEN);
        }
        let mounts_at = at.field("volumeMounts");
        for (i, mount) in list(&container["volumeMounts"]).iter().enumerate() {
            for field in ["subPath", "subPathExpr"] {
                if !text(&mount[field]).is_empty() {
                    errors.forbidden(&mounts_at.index(i).field(field), FORBIDDEN);
                }
            }
        }
    }
}

fn common(container: &Value, shared: &Shared<'_>, at: &At<'_>, errors: &mut Errors) {
    errors.required_form(&at.field("name"), &container["name"], names::dns1123_label);
    errors.required_text(&at.field("image"), &container["image"], "");
    let message = &container["terminationMessagePolicy"];
    errors.required_one_of(&at.field("terminationMessagePolicy"), message, &["File", "FallbackToLogsOnError"]);
    ports(&container["ports"], &at.field("ports"), errors);
    environment(&container["env"], &at.field("env"), errors);
    environment_sources(&container["envFrom"], &at.field("envFrom"), errors);
    volume::mounts(container, &shared.volumes, at, errors);
    let pull = &container["imagePullPolicy"];
    errors.required_one_of(&at.field("imagePullPolicy"), pull, &["Always", "IfNotPresent", "Never"]);
    resources::requirements(&container["resources"], Scope::Container, &shared.claims, &at.field("resources"), errors);
    resize_policy(container, shared, &at.field("resizePolicy"), errors);
    let host_users = shared.spec["hostUsers"].as_bool().unwrap_or(true);
    security::container(&container["securityContext"], host_users, &at.field("securityContext"), errors);
}

fn ports(ports: &Value, at: &At<'_>, errors: &mut Errors) {
    let mut seen: Vec<&str> = Vec::new();
    for (i, port) in list(ports).iter().enumerate() {
        let (at, name) = (at.index(i), text(&port["name"]));
        if !name.is_empty() {
            let wrong = names::port_name(name);
            if wrong.is_empty() && seen.contains(&name) {
                errors.duplicate(&at.field("name"), name);
            }
            errors.all(&at.field("name"), name, wrong);
            seen.push(name);
        }
        match number(&port["containerPort"]) {
            0 => errors.required(&at.field("containerPort"), ""),
            value => errors.all(&at.field("containerPort"), value, names::port_number(value)),
        }
        match number(&port["hostPort"]) {
            0 => {}
            value => errors.all(&at.field("hostPort"), value, names::port_number(value)),
        }
        errors.required_one_of(&at.field("protocol"), &port["protocol"], &["SCTP", "TCP", "UDP"]);
    }
}

/// No two containers may want the same port of the host.
fn host_ports(containers: &[Value], at: &At<'_>, errors: &mut Errors) {
    let mut seen: Vec<String> = Vec::new();
    for (i, container) in containers.iter().enumerate() {
        for (j, port) in list(&container["ports"]).iter().enumerate() {
            let host = number(&port["hostPort"]);
            if host == 0 {
                continue;
            }
            let wanted = format!("{}/{}/{host}", text(&port["protocol"]), text(&port["hostIP"]));
            if seen.contains(&wanted) {
                errors.duplicate(&at.index(i).field("ports").index(j).field("hostPort"), wanted);
            } else {
                seen.push(wanted);
            }
        }
    }
}

fn environment(variables: &Value, at: &At<'_>, errors: &mut Errors) {
    for (i, variable) in list(variables).iter().enumerate() {
        let at = at.index(i);
        errors.required_form(&at.field("name"), &variable["name"], names::env_name);
        if !variable["valueFrom"].is_null() {
            value_from(variable, &at.field("valueFrom"), errors);
        }
    }
}

fn value_from(variable: &Value, at: &At<'_>, errors: &mut Errors) {
    let source = &variable["valueFrom"];
    let mut sources = 0;
    let mut each = |field: &'static str, check: &dyn Fn(&Value, &At<'_>, &mut Errors), errors: &mut Errors| {
        if !source[field].is_null() {
            sources += 1;
            check(&source[field], &at.field(field), errors);
        }
    };
    each("fieldRef", &|field, at, errors| volume::field_ref(field, true, at, errors), errors);
    each("resourceFieldRef", &|field, at, errors| volume::resource_ref(field, false, at, errors), errors);
    each("configMapKeyRef", &key_ref, errors);
    each("secretKeyRef", &key_ref, errors);
    each("fileKeyRef", &file_key_ref, errors);
    if sources == 0 {
        let detail =
            "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`";
        errors.invalid(at, "", detail);
    } else if !text(&variable["value"]).is_empty() {
        errors.invalid(at, "", "may not be specified when `value` is not empty");
    } else if sources > 1 {
        errors.invalid(at, "", "may not have more than one field specified at a time");
    }
}

fn key_ref(reference: &Value, at: &At<'_>, errors: &mut Errors) {
    let name = text(&reference["name"]);
    errors.all(&at.field("name"), name, names::dns1123_subdomain(name));
    errors.required_form(&at.field("key"), &reference["key"], names::config_key);
}

fn file_key_ref(reference: &Value, at: &At<'_>, errors: &mut Errors) {
    errors.required_form(&at.field("key"), &reference["key"], names::env_name);
    errors.required_form(&at.field("volumeName"), &reference["volumeName"], names::dns1123_label);
    match text(&reference["path"]) {
        "" => errors.required(&at.field("path"), ""),
        path => volume::no_backsteps(path, &at.field("path"), errors),
    }
}

fn environment_sources(sources: &Value, at: &At<'_>, errors: &mut Errors) {
    for (i, source) in list(sources).iter().enumerate() {
        let item = at.index(i);
        errors.form(&item.field("prefix"), &source["prefix"], names::env_name);
        let mut count = 0;
        for field in ["configMapRef", "secretRef"] {
            if !source[field].is_null() {
                count += 1;
                let at = item.field(field);
                errors.required_form(&at.field("name"), &source[field]["name"], names::dns1123_subdomain);
            }
        }
        match count {
            0 => errors.invalid(at, "", "must specify one of: `configMapRef` or `secretRef`"),
            1 => {}
            _ => errors.invalid(at, "", "may not have more than one field specified at a time"),
        }
    }
}

fn resize_policy(container: &Value, shared: &Shared<'_>, at: &At<'_>, errors: &mut Errors) {
    let mut seen: Vec<&Value> = Vec::new();
    for (i, policy) in list(&container["resizePolicy"]).iter().enumerate() {
        let (resource, restart) = (&policy["resourceName"], &policy["restartPolicy"]);
        if seen.contains(&resource) {
            errors.duplicate(&at.index(i), resource);
        }
        seen.push(resource);
        errors.required_one_of(at, resource, &["cpu", "memory"]);
        errors.required_one_of(at, restart, &["NotRequired", "RestartContainer"]);
        if shared.spec["restartPolicy"] == "Never" && restart != "NotRequired" {
            errors.invalid(at, restart, "must be 'NotRequired' when pod `restartPolicy` is 'Never'");
        }
    }
}

fn restart_policy(container: &Value, at: &At<'_>, errors: &mut Errors) {
    let (policy, rules) = (&container["restartPolicy"], list(&container["restartPolicyRules"]));
    if policy.is_null() && !rules.is_empty() {
        errors.required(&at.field("restartPolicy"), "must specify restartPolicy when restart rules are used");
    }
    errors.one_of(&at.field("restartPolicy"), policy, &["Always", "Never", "OnFailure"]);
    let rules_at = at.field("restartPolicyRules");
    if rules.len() > 20 {
        errors.0.push(crate::field::FieldError::too_many(rules_at.to_string(), rules.len(), 20));
    }
    for (i, rule) in rules.iter().enumerate() {
        let at = rules_at.index(i);
        errors.required_one_of(&at.field("action"), &rule["action"], &["Restart", "RestartAllContainers"]);
        match &rule["exitCodes"] {
            Value::Null => errors.required(&at.field("exitCodes"), "must be specified"),
            codes => {
                let at = at.field("exitCodes");
                errors.required_one_of(&at.field("operator"), &codes["operator"], &["In", "NotIn"]);
            }
        }
    }
}

const PROBES: [&str; 3] = ["livenessProbe", "readinessProbe", "startupProbe"];

fn no_probes(container: &Value, at: &At<'_>, errors: &mut Errors) {
    for field in ["lifecycle"].into_iter().chain(PROBES) {
        if !container[field].is_null() {
            errors.forbidden(&at.field(field), "may not be set for init containers without restartPolicy=Always");
        }
    }
}

fn probes_and_hooks(container: &Value, shared: &Shared<'_>, at: &At<'_>, errors: &mut Errors) {
    let lifecycle_at = at.field("lifecycle");
    for hook in ["postStart", "preStop"] {
        let handler = &container["lifecycle"][hook];
        if !handler.is_null() {
            self::handler(handler, shared.grace_seconds(), &lifecycle_at.field(hook), errors);
        }
    }
    for name in PROBES {
        if !container[name].is_null() {
            probe(name, &container[name], shared.grace_seconds(), &at.field(name), errors);
        }
    }
}

fn probe(name: &str, probe: &Value, grace_seconds: i64, at: &At<'_>, errors: &mut Errors) {
    handler(probe, grace_seconds, at, errors);
    for field in ["initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"] {
        errors.not_negative(&at.field(field), &probe[field]);
    }
    let grace = &probe["terminationGracePeriodSeconds"];
    errors.positive(&at.field("terminationGracePeriodSeconds"), grace);
    if name == "readinessProbe" {
        if !grace.is_null() {
            let at = at.field("terminationGracePeriodSeconds");
            errors.invalid(&at, grace, "must not be set for readinessProbes");
        }
    } else if number(&probe["successThreshold"]) != 1 {
        errors.invalid(&at.field("successThreshold"), &probe["successThreshold"], "must be 1");
    }
}

/// What a probe or hook does: exactly one thing.
fn handler(handler: &Value, grace_seconds: i64, at: &At<'_>, errors: &mut Errors) {
    let mut count = 0;
    for kind in ["exec", "httpGet", "tcpSocket", "grpc", "sleep"] {
        let action = &handler[kind];
        if action.is_null() {
            continue;
        }
        count += 1;
        let at = at.field(kind);
        if count > 1 {
            errors.forbidden(&at, "may not specify more than 1 handler type");
            continue;
        }
        match kind {
            "exec" if list(&action["command"]).is_empty() => errors.required(&at.field("command"), ""),
            "httpGet" => http_get(action, &at, errors),
            "tcpSocket" | "grpc" => port(&action["port"], &at.field("port"), errors),
            "sleep" if !(0..=grace_seconds).contains(&number(&action["seconds"])) => {
                let detail =
                    format!("must be non-negative and less than terminationGracePeriodSeconds ({grace_seconds})");
                errors.invalid(&at, &action["seconds"], detail);
            }
            _ => {}
        }
    }
    if count == 0 {
        errors.required(at, "must specify a handler type");
    }
}

fn http_get(action: &Value, at: &At<'_>, errors: &mut Errors) {
    errors.required_text(&at.field("path"), &action["path"], "");
    port(&action["port"], &at.field("port"), errors);
    errors.required_one_of(&at.field("scheme"), &action["scheme"], &["HTTP", "HTTPS"]);
    for header in list(&action["httpHeaders"]) {
        let name = text(&header["name"]);
        errors.all(&at.field("httpHeaders"), name, names::http_header(name));
    }
}

/// A port by number or name.
pub fn port(port: &Value, at: &At<'_>, errors: &mut Errors) {
    match port {
        Value::String(name) => errors.all(at, name, names::port_name(name)),
        other => errors.all(at, number(other), names::port_number(number(other))),
    }
}

/// With the host's network, container ports are host ports.
pub fn host_network_ports(spec: &Value, is_pod: bool, at: &At<'_>, errors: &mut Errors) {
    if !flag(&spec["hostNetwork"]) {
        return;
    }
    let at = at.field("containers");
    for (i, container) in list(&spec["containers"]).iter().enumerate() {
        for (j, port) in list(&container["ports"]).iter().enumerate() {
            let (host, own) = (number(&port["hostPort"]), number(&port["containerPort"]));
            if (is_pod || host != 0) && host != own {
                let at = at.index(i);
                let at = at.field("ports");
                let at = at.index(j);
                errors.invalid(&at.field("hostPort"), host, "must match `containerPort` when `hostNetwork` is true");
            }
        }
    }
}
