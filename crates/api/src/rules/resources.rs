//! Amounts of resources: names of resources, quantities, requests and limits.

use serde_json::Value;

use crate::names;
use crate::quantity::Quantity;
use crate::rules::cells::{list, text};
use crate::rules::check::{At, Errors};

/// Resources that containers and pods can have without a prefix.
const CONTAINER_RESOURCES: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];
/// Further resources without a prefix, which quotas and limit ranges know.
const STANDARD_RESOURCES: [&str; 18] = [
    "requests.cpu",
    "requests.memory",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "configmaps",
    "persistentvolumeclaims",
    "storage",
    "requests.storage",
    "services.nodeports",
    "services.loadbalancers",
    "count",
];
const HUGE_PAGES: &str = "hugepages-";
const NOT_NEGATIVE: &str = "must be greater than or equal to 0";

/// Which resources may be named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Of one container.
    Container,
    /// Of a pod as a whole.
    Pod,
    /// Of anything: quotas, limit ranges, nodes.
    Any,
}

/// The quantity in a JSON value.
pub fn quantity(value: &Value) -> Option<Quantity> {
    match value {
        Value::String(text) => text.parse().ok(),
        Value::Number(number) => number.to_string().parse().ok(),
        _ => None,
    }
}

/// Requests and limits of a container or pod.
pub fn requirements(resources: &Value, scope: Scope, claims: &[&str], at: &At<'_>, errors: &mut Errors) {
    let (limits, requests) = (&resources["limits"], &resources["requests"]);
    let (limits_at, requests_at) = (at.field("limits"), at.field("requests"));
    let (mut has_huge_pages, mut has_basics) = (false, false);
    for (amounts, at) in [(limits, &limits_at), (requests, &requests_at)] {
        for (resource, value) in amounts.as_object().into_iter().flatten() {
            let at = at.key(resource);
            name(resource, scope, &at, errors);
            amount(resource, value, &at, errors);
            has_huge_pages |= resource.starts_with(HUGE_PAGES);
            has_basics |= matches!(resource.as_str(), "cpu" | "memory");
        }
    }
    for (resource, request) in requests.as_object().into_iter().flatten() {
        let overcommits = overcommits(resource);
        match (quantity(request), quantity(&limits[resource])) {
            (Some(wanted), Some(limit)) if wanted != limit && !overcommits => {
                let detail = format!("must be equal to {resource} limit of {}", text(&limits[resource]));
                errors.invalid(&requests_at, request, detail);
            }
            (Some(wanted), Some(limit)) if wanted > limit => {
                let detail = format!("must be less than or equal to {resource} limit of {}", text(&limits[resource]));
                errors.invalid(&requests_at, request, detail);
            }
            (_, None) if !overcommits => {
                errors.required(&limits_at, "Limit must be set for non overcommitable resources");
            }
            _ => {}
        }
    }
    if has_huge_pages && !has_basics {
        errors.forbidden(at, "HugePages require cpu or memory");
    }
    claim_names(&resources["claims"], claims, &at.field("claims"), errors);
}

/// Resources without a domain, or of Kubernetes' own, can be promised more often than they exist; huge pages cannot.
fn overcommits(resource: &str) -> bool {
    is_native(resource) && !resource.starts_with(HUGE_PAGES)
}

fn is_native(resource: &str) -> bool {
    !resource.contains('/') || resource.contains("kubernetes.io/")
}

/// The name of a resource.
pub fn name(resource: &str, scope: Scope, at: &At<'_>, errors: &mut Errors) {
    let wrong = names::qualified_name(resource);
    if !wrong.is_empty() {
        errors.all(at, resource, wrong);
        return;
    }
    if !resource.contains('/') {
        let is_container = CONTAINER_RESOURCES.contains(&resource) || resource.starts_with(HUGE_PAGES);
        let is_standard = is_container
            || STANDARD_RESOURCES.contains(&resource)
            || resource.starts_with("requests.hugepages-")
            || resource.starts_with("limits.hugepages-");
        if !is_standard {
            errors.invalid(at, resource, "must be a standard resource type or fully qualified");
        }
        if scope == Scope::Container && !is_container {
            errors.invalid(at, resource, "must be a standard resource for containers");
        }
    } else if scope == Scope::Container && !is_native(resource) && !is_extended(resource) {
        errors.invalid(at, resource, "doesn't follow extended resource name standard");
    }
    if scope == Scope::Pod && !matches!(resource, "cpu" | "memory") && !resource.starts_with(HUGE_PAGES) {
        let error = crate::field::FieldError::not_supported(at.to_string(), resource, &["cpu", "hugepages-", "memory"]);
        errors.0.push(error);
    }
}

/// `vendor.example/thing`: quotas must be able to prefix it with `requests.`.
pub(crate) fn is_extended(resource: &str) -> bool {
    !resource.starts_with("requests.") && names::qualified_name(&format!("requests.{resource}")).is_empty()
}

/// A quantity of a resource: not negative, whole for what comes in pieces.
pub fn amount(resource: &str, value: &Value, at: &At<'_>, errors: &mut Errors) {
    let Some(amount) = quantity(value) else {
        errors.invalid(at, value, "must be a valid resource quantity");
        return;
    };
    if amount.is_negative() {
        errors.invalid(at, value, NOT_NEGATIVE);
    }
    let in_pieces = !is_native(resource)
        || matches!(
            resource,
            "pods"
                | "services"
                | "replicationcontrollers"
                | "resourcequotas"
                | "secrets"
                | "configmaps"
                | "persistentvolumeclaims"
                | "services.nodeports"
                | "services.loadbalancers"
        );
    if in_pieces && amount.millis() % 1000 != 0 {
        errors.invalid(at, value, "must be an integer");
    }
}

/// A map of resources to quantities.
pub fn amounts(amounts: &Value, scope: Scope, at: &At<'_>, errors: &mut Errors) {
    for (resource, value) in amounts.as_object().into_iter().flatten() {
        let at = at.key(resource);
        name(resource, scope, &at, errors);
        amount(resource, value, &at, errors);
    }
}

/// Devices a container uses must be claimed by its pod.
fn claim_names(used: &Value, claimed: &[&str], at: &At<'_>, errors: &mut Errors) {
    let mut seen: Vec<(&str, &str)> = Vec::new();
    for (i, claim) in list(used).iter().enumerate() {
        let (at, key) = (at.index(i), (text(&claim["name"]), text(&claim["request"])));
        if key.0.is_empty() {
            errors.required(&at, "");
            continue;
        }
        errors.form(&at.field("request"), &claim["request"], names::dns1123_label);
        let whole_and_part = |seen: &(&str, &str)| seen.0 == key.0 && (seen.1.is_empty() || key.1.is_empty());
        if seen.contains(&key) || seen.iter().any(whole_and_part) {
            errors.duplicate(&at, if key.1.is_empty() { key.0.into() } else { format!("{}/{}", key.0, key.1) });
        }
        seen.push(key);
        if !claimed.contains(&key.0) {
            errors.not_found(&at, key.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn requests_stay_within_limits() {
        for (case, resources, expected) in [
            ("good", json!({"limits": {"cpu": "1"}, "requests": {"cpu": "500m"}}), vec![]),
            (
                "more than the limit",
                json!({"limits": {"cpu": "1"}, "requests": {"cpu": "2"}}),
                vec!["r.requests: Invalid value: \"2\": must be less than or equal to cpu limit of 1"],
            ),
            (
                "negative",
                json!({"limits": {"memory": "-1"}}),
                vec!["r.limits[memory]: Invalid value: \"-1\": must be greater than or equal to 0"],
            ),
            (
                "unknown",
                json!({"limits": {"disk": "1"}}),
                vec![
                    "r.limits[disk]: Invalid value: \"disk\": must be a standard resource type or fully qualified",
                    "r.limits[disk]: Invalid value: \"disk\": must be a standard resource for containers",
                ],
            ),
            ("device", json!({"limits": {"a.b/gpu": "1"}, "requests": {"a.b/gpu": "1"}}), vec![]),
            (
                "device without limit",
                json!({"requests": {"a.b/gpu": "1"}}),
                vec!["r.limits: Required value: Limit must be set for non overcommitable resources"],
            ),
            (
                "half a device",
                json!({"limits": {"a.b/gpu": "500m"}}),
                vec!["r.limits[a.b/gpu]: Invalid value: \"500m\": must be an integer"],
            ),
            ("claim", json!({"claims": [{"name": "x"}]}), vec!["r.claims[0]: Not found: \"x\""]),
        ] {
            let mut errors = Errors::default();
            requirements(&resources, Scope::Container, &[], &At::ROOT.field("r"), &mut errors);
            assert_eq!(errors.0.iter().map(ToString::to_string).collect::<Vec<_>>(), expected, "{case}");
        }
    }
}
