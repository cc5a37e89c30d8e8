//! Validation of pod specs, in pods and templates alike.

use serde_json::Value;

use crate::names;
use crate::rules::cells::{flag, list, text};
use crate::rules::check::{At, Errors};
use crate::rules::metadata;
use crate::rules::pod::container::{self, Shared};
use crate::rules::pod::{placement, security, volume};
use crate::rules::resources::{self, Scope};

/// Limits that the resolver of the C library sets (core/v1 PodDNSConfig).
const NAMESERVERS_MAX: usize = 3;
const SEARCHES_MAX: usize = 32;
const SEARCH_CHARACTERS_MAX: usize = 2048;
/// The longest host name Linux takes.
const HOSTNAME_MAX: usize = 64;

/// All errors of a pod spec. `pod_name` is empty in templates.
pub fn validate(spec: &Value, pod_name: &str, is_pod: bool, at: &At<'_>, errors: &mut Errors) {
    if spec["terminationGracePeriodSeconds"].is_null() {
        errors.required(&at.field("terminationGracePeriodSeconds"), "");
    }
    let volumes = volume::all(spec, pod_name, &at.field("volumes"), errors);
    let claims = list(&spec["resourceClaims"]).iter().map(|claim| text(&claim["name"])).collect();
    device_claims(&spec["resourceClaims"], &at.field("resourceClaims"), errors);
    container::all(&Shared { spec, volumes, claims }, at, errors);
    if !spec["resources"].is_null() {
        pod_resources(spec, &at.field("resources"), errors);
    }
    container::host_network_ports(spec, is_pod, at, errors);
    policies(spec, at, errors);
    metadata::labels(&spec["nodeSelector"], &at.field("nodeSelector"), errors);
    security::pod(spec, &at.field("securityContext"), errors);
    security::host_users(spec, at, errors);
    placement::affinity(&spec["affinity"], &at.field("affinity"), errors);
    placement::tolerations(&spec["tolerations"], &at.field("tolerations"), errors);
    placement::spread(&spec["topologySpreadConstraints"], &at.field("topologySpreadConstraints"), errors);
    dns(spec, &at.field("dnsConfig"), errors);
    gates(spec, at, errors);
    names_of_others(spec, at, errors);
    host_names(spec, at, errors);
    let deadline = &spec["activeDeadlineSeconds"];
    if deadline.as_i64().is_some_and(|seconds| !(1..=i64::from(i32::MAX)).contains(&seconds)) {
        errors.invalid(&at.field("activeDeadlineSeconds"), deadline, names::out_of_range(1, i32::MAX.into()));
    }
    resources::amounts(&spec["overhead"], Scope::Any, &at.field("overhead"), errors);
    if !spec["os"].is_null() {
        errors.required_one_of(&at.field("os").field("name"), &spec["os"]["name"], &["linux", "windows"]);
    }
}

fn device_claims(claims: &Value, at: &At<'_>, errors: &mut Errors) {
    let mut seen: Vec<&str> = Vec::new();
    for (i, claim) in list(claims).iter().enumerate() {
        let (at, name) = (at.index(i), text(&claim["name"]));
        errors.required_form(&at.field("name"), &claim["name"], names::dns1123_label);
        if !name.is_empty() && seen.contains(&name) {
            errors.duplicate(&at.field("name"), name);
        }
        seen.push(name);
        let is_set = |field: &str| !claim[field].is_null();
        match (is_set("resourceClaimName"), is_set("resourceClaimTemplateName")) {
            (true, true) => {
                let detail = "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified";
                errors.invalid(&at, claim, detail);
            }
            (false, false) => {
                let detail = "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`";
                errors.invalid(&at, claim, detail);
            }
            _ => {}
        }
        for field in ["resourceClaimName", "resourceClaimTemplateName"] {
            errors.form(&at.field(field), &claim[field], names::dns1123_subdomain);
        }
    }
}

/// Resources of the pod as a whole: at least what its containers ask for together.
fn pod_resources(spec: &Value, at: &At<'_>, errors: &mut Errors) {
    let own = &spec["resources"];
    if !own["claims"].is_null() {
        errors.forbidden(&at.field("claims"), "claims may not be set for Resources at pod-level");
    }
    resources::requirements(own, Scope::Pod, &[], at, errors);
    let requests_at = at.field("requests");
    for (name, requested) in own["requests"].as_object().into_iter().flatten() {
        let of = |container: &Value| resources::quantity(&container["resources"]["requests"][name]);
        let sum = list(&spec["containers"]).iter().filter_map(of).reduce(|a, b| a + b);
        if let (Some(sum), Some(pod)) = (sum, resources::quantity(requested))
            && sum > pod
        {
            let detail = format!("must be greater than or equal to aggregate container requests of {sum}");
            errors.invalid(&requests_at.key(name), requested, detail);
        }
    }
    for (name, limited) in own["limits"].as_object().into_iter().flatten() {
        for (i, container) in list(&spec["containers"]).iter().enumerate() {
            let limit = &container["resources"]["limits"][name];
            if let (Some(own), Some(pod)) = (resources::quantity(limit), resources::quantity(limited))
                && own > pod
            {
                let detail = format!("must be less than or equal to pod limits of {pod}");
                let place = format!("spec.containers[{i}].resources.limits");
                errors.0.push(crate::field::FieldError::invalid(place, limit, detail));
            }
        }
    }
}

fn policies(spec: &Value, at: &At<'_>, errors: &mut Errors) {
    let restart = &spec["restartPolicy"];
    errors.required_one_of(&at.field("restartPolicy"), restart, &["Always", "OnFailure", "Never"]);
    let dns = &spec["dnsPolicy"];
    let dns_policies = ["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"];
    errors.required_one_of(&at.field("dnsPolicy"), dns, &dns_policies);
    let preemption = &spec["preemptionPolicy"];
    errors.one_of(&at.field("preemptionPolicy"), preemption, &["PreemptLowerPriority", "Never"]);
}

fn dns(spec: &Value, at: &At<'_>, errors: &mut Errors) {
    let config = &spec["dnsConfig"];
    let servers = list(&config["nameservers"]);
    if spec["dnsPolicy"] == "None" {
        if config.is_null() {
            errors.required(at, "must provide `dnsConfig` when `dnsPolicy` is None");
            return;
        }
        if servers.is_empty() {
            let detail = "must provide at least one DNS nameserver when `dnsPolicy` is None";
            errors.required(&at.field("nameservers"), detail);
            return;
        }
    }
    let servers_at = at.field("nameservers");
    if servers.len() > NAMESERVERS_MAX {
        errors.invalid(&servers_at, servers, format!("must not have more than {NAMESERVERS_MAX} nameservers"));
    }
    for (i, server) in servers.iter().enumerate() {
        errors.all(&servers_at.index(i), server, names::ip(text(server)));
    }
    let (searches, searches_at) = (list(&config["searches"]), at.field("searches"));
    if searches.len() > SEARCHES_MAX {
        errors.invalid(&searches_at, searches, format!("must not have more than {SEARCHES_MAX} search paths"));
    }
    if searches.iter().map(|search| text(search).len() + 1).sum::<usize>() > SEARCH_CHARACTERS_MAX + 1 {
        let detail =
            format!("must not have more than {SEARCH_CHARACTERS_MAX} characters (including spaces) in the search list");
        errors.invalid(&searches_at, searches, detail);
    }
    for (i, search) in searches.iter().enumerate() {
        // Service records have names with underscores.
        let plain = text(search).strip_suffix('.').unwrap_or(text(search)).replace('_', "-");
        if text(search) != "." && !names::dns1123_subdomain(plain.trim_matches('-')).is_empty() {
            errors.all(&searches_at.index(i), search, names::dns1123_subdomain(&plain));
        }
    }
    let options_at = at.field("options");
    for (i, option) in list(&config["options"]).iter().enumerate() {
        errors.required_text(&options_at.index(i), &option["name"], "must not be empty");
    }
}

fn gates(spec: &Value, at: &At<'_>, errors: &mut Errors) {
    let ready_at = at.field("readinessGates");
    for (i, gate) in list(&spec["readinessGates"]).iter().enumerate() {
        let kind = text(&gate["conditionType"]);
        errors.all(&ready_at.index(i).field("conditionType"), kind, names::qualified_name(kind));
    }
    let scheduling_at = at.field("schedulingGates");
    let gates = list(&spec["schedulingGates"]);
    for (i, gate) in gates.iter().enumerate() {
        let name = text(&gate["name"]);
        errors.all(&scheduling_at.index(i), name, names::qualified_name(name));
        if gates[..i].iter().any(|other| text(&other["name"]) == name) {
            errors.duplicate(&scheduling_at.index(i), name);
        }
    }
}

fn names_of_others(spec: &Value, at: &At<'_>, errors: &mut Errors) {
    for field in ["serviceAccountName", "nodeName", "priorityClassName", "runtimeClassName"] {
        errors.form(&at.field(field), &spec[field], names::dns1123_subdomain);
    }
}

fn host_names(spec: &Value, at: &At<'_>, errors: &mut Errors) {
    for field in ["hostname", "subdomain"] {
        errors.form(&at.field(field), &spec[field], names::dns1123_label);
    }
    let aliases_at = at.field("hostAliases");
    for (i, alias) in list(&spec["hostAliases"]).iter().enumerate() {
        let at = aliases_at.index(i);
        errors.all(&at.field("ip"), &alias["ip"], names::ip(text(&alias["ip"])));
        let at = at.field("hostnames");
        for (j, name) in list(&alias["hostnames"]).iter().enumerate() {
            errors.all(&at.index(j), name, names::dns1123_subdomain(text(name)));
        }
    }
    let (name, at) = (&spec["hostnameOverride"], at.field("hostnameOverride"));
    if name.is_null() {
        return;
    }
    if flag(&spec["setHostnameAsFQDN"]) {
        errors.forbidden(&at, "may not be specified when setHostnameAsFQDN is true");
    }
    if flag(&spec["hostNetwork"]) {
        errors.forbidden(&at, "may not be specified when hostNetwork is true");
    }
    if text(name).len() > HOSTNAME_MAX {
        errors.too_long(&at, HOSTNAME_MAX);
    }
    errors.all(&at, name, names::dns1123_subdomain(text(name)));
}

/// The template in a workload: labels, annotations and the spec of its pods.
pub fn template(template: &Value, at: &At<'_>, errors: &mut Errors) {
    metadata::labels(&template["metadata"]["labels"], &at.field("labels"), errors);
    metadata::annotations(&template["metadata"]["annotations"], &at.field("annotations"), errors);
    let spec_at = at.field("spec");
    validate(&template["spec"], "", false, &spec_at, errors);
    if !list(&template["spec"]["ephemeralContainers"]).is_empty() {
        let detail = "ephemeral containers not allowed in pod template";
        errors.forbidden(&spec_at.field("ephemeralContainers"), detail);
    }
}

/// What the template of a workload that keeps pods running may not have.
pub fn runs_forever(template: &Value, kind: &str, at: &At<'_>, errors: &mut Errors) {
    let (spec, at) = (&template["spec"], at.field("spec"));
    if spec["restartPolicy"] != "Always" {
        let place = at.field("restartPolicy").to_string();
        errors.0.push(crate::field::FieldError::not_supported(place, text(&spec["restartPolicy"]), &["Always"]));
    }
    if !spec["activeDeadlineSeconds"].is_null() {
        let detail = format!("activeDeadlineSeconds in {kind} is not Supported");
        errors.forbidden(&at.field("activeDeadlineSeconds"), &detail);
    }
}
