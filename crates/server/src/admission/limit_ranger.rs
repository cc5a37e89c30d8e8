//! LimitRanger: the LimitRanges of a namespace give containers defaults, and bound what pods and claims ask for.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{LimitRange, LimitRangeItem, PodSpec};
use k8s_openapi::apimachinery::pkg::api::resource;
use mizzen_api::quantity::Quantity;
use mizzen_api::status::ApiError;
use mizzen_api::{key, pod};
use serde::Deserialize;
use serde_json::{Value, json};

use super::plugin::Plugin;
use super::pods::{items, items_mut, text};
use super::{Admitted, Operation, Request};

pub const PLUGIN: Plugin =
    Plugin { resources: &[("", "pods"), ("", "persistentvolumeclaims")], mutate: Some(admit), validate: Some(check) };

const ANNOTATION: &str = "kubernetes.io/limit-ranger";

type Amounts = BTreeMap<String, Quantity>;
type Bounds = Option<BTreeMap<String, resource::Quantity>>;

/// All limits of the namespace, in the order of their objects.
fn limits(request: &Request<'_>) -> Vec<LimitRangeItem> {
    let prefix = key::in_namespace::<LimitRange>(request.namespace);
    let ranges = request.snapshot.list_as::<LimitRange>(&prefix);
    ranges.filter_map(|range| range.spec.as_ref().map(|spec| spec.limits.clone())).flatten().collect()
}

fn admit(request: &Request<'_>, pod: &mut Value, _: Option<&Value>, _: &mut Admitted) -> Result<(), ApiError> {
    if !request.is("", "pods") || request.operation != Operation::Create || !request.subresource.is_empty() {
        return Ok(());
    }
    let mut set = Vec::new();
    for limit in limits(request).iter().filter(|limit| limit.type_ == "Container") {
        for (list, words) in [("containers", "container"), ("initContainers", "init container")] {
            for container in items_mut(&mut pod["spec"], list) {
                give_defaults(container, limit, words, &mut set);
            }
        }
    }
    if !set.is_empty() {
        let metadata = &mut pod["metadata"];
        if !metadata["annotations"].is_object() {
            metadata["annotations"] = json!({});
        }
        metadata["annotations"][ANNOTATION] = format!("LimitRanger plugin set: {}", set.join("; ")).into();
    }
    Ok(())
}

fn give_defaults(container: &mut Value, limit: &LimitRangeItem, words: &str, set: &mut Vec<String>) {
    if !container.is_object() {
        return;
    }
    let name = text(container, "name").to_string();
    if !container["resources"].is_object() {
        container["resources"] = json!({});
    }
    let resources = &mut container["resources"];
    // A limit that the pod itself names becomes its request when defaults are filled in, before any other default.
    let own: Vec<String> = resources["limits"].as_object().map(|own| own.keys().cloned().collect()).unwrap_or_default();
    // Without a default for requests that for limits serves both (LimitRange's own defaulting).
    let requests = limit.default_request.iter().chain(&limit.default).flatten();
    for (list, defaults, word) in [
        ("requests", requests.collect::<Vec<_>>(), "request"),
        ("limits", limit.default.iter().flatten().collect(), "limit"),
    ] {
        let mut names = Vec::new();
        for (resource, amount) in defaults {
            let given = resources[list].get(resource).is_some() || (list == "requests" && own.contains(resource));
            if given {
                continue;
            }
            if !resources[list].is_object() {
                resources[list] = json!({});
            }
            resources[list][resource] = amount.0.as_str().into();
            names.push(resource.as_str());
        }
        if !names.is_empty() {
            names.sort_unstable();
            set.push(format!("{} {word} for {words} {name}", names.join(", ")));
        }
    }
}

fn check(request: &Request<'_>, object: &Value, old: Option<&Value>, _: &mut Admitted) -> Result<(), ApiError> {
    let pods = request.is("", "pods");
    let concerned = match (request.operation, request.subresource) {
        (Operation::Create, "") => true,
        (Operation::Update, "") => !pods,
        (Operation::Update, "resize") => pods,
        _ => false,
    };
    let going = old.is_some_and(|old| old["metadata"].get("deletionTimestamp").is_some());
    if !concerned || going {
        return Ok(());
    }
    let mut broken = Vec::new();
    for limit in limits(request) {
        match limit.type_.as_str() {
            "Container" if pods => {
                let lists = ["containers", "initContainers"].into_iter();
                for container in lists.flat_map(|list| items(&object["spec"], list)) {
                    let resources = &container["resources"];
                    bound(&limit, &amounts(&resources["requests"]), &amounts(&resources["limits"]), &mut broken);
                }
            }
            "Pod" if pods => {
                if let Some((requests, limits)) = whole_pod(object) {
                    bound(&limit, &requests, &limits, &mut broken);
                }
            }
            "PersistentVolumeClaim" if !pods => {
                bound_claim(&limit, &amounts(&object["spec"]["resources"]["requests"]), &mut broken);
            }
            _ => {}
        }
    }
    match broken.as_slice() {
        [] => Ok(()),
        [one] => Err(request.forbidden(object, one)),
        many => Err(request.forbidden(object, &format!("[{}]", many.join(", ")))),
    }
}

/// What the pod asks for as a whole, its runtime's overhead aside.
fn whole_pod(pod: &Value) -> Option<(Amounts, Amounts)> {
    let mut spec = PodSpec::deserialize(&pod["spec"]).ok()?;
    spec.overhead = None;
    let exact = |amounts: pod::Amounts| amounts.into_iter().map(|(name, millis)| (name, Quantity::from_millis(millis)));
    Some((exact(pod::requests(&spec)).collect(), exact(pod::limits(&spec)).collect()))
}

/// What cannot be read counts as absent: validation has refused it.
fn amounts(list: &Value) -> Amounts {
    let read = |(name, amount): (&String, &Value)| {
        let amount = amount.as_str().map(str::to_string).unwrap_or_else(|| amount.to_string());
        amount.parse().ok().map(|amount| (name.clone(), amount))
    };
    list.as_object().into_iter().flatten().filter_map(read).collect()
}

fn each(bounds: &Bounds) -> impl Iterator<Item = (&str, Quantity)> {
    bounds.iter().flatten().filter_map(|(name, amount)| Some((name.as_str(), amount.0.parse().ok()?)))
}

fn bound(limit: &LimitRangeItem, requests: &Amounts, limits: &Amounts, broken: &mut Vec<String>) {
    let kind = &limit.type_;
    for (name, min) in each(&limit.min) {
        let head = format!("minimum {name} usage per {kind} is {min}");
        match (requests.get(name), limits.get(name)) {
            (None, _) => broken.push(format!("{head}.  No request is specified")),
            (Some(request), _) if *request < min => broken.push(format!("{head}, but request is {request}")),
            (_, Some(limit)) if *limit < min => broken.push(format!("{head}, but limit is {limit}")),
            _ => {}
        }
    }
    for (name, max) in each(&limit.max) {
        let head = format!("maximum {name} usage per {kind} is {max}");
        match (requests.get(name), limits.get(name)) {
            (_, None) => broken.push(format!("{head}.  No limit is specified")),
            (_, Some(limit)) if *limit > max => broken.push(format!("{head}, but limit is {limit}")),
            (Some(request), _) if *request > max => broken.push(format!("{head}, but request is {request}")),
            _ => {}
        }
    }
    for (name, ratio) in each(&limit.max_limit_request_ratio) {
        let head = format!("{name} max limit to request ratio per {kind} is {ratio}");
        let given = |amounts: &Amounts| amounts.get(name).copied().filter(|amount| !amount.is_zero());
        match (given(requests), given(limits)) {
            (None, _) => broken.push(format!("{head}, but no request is specified or request is 0")),
            (_, None) => broken.push(format!("{head}, but no limit is specified or limit is 0")),
            (Some(request), Some(limit)) => {
                let provided = limit.millis() as f64 / request.millis() as f64;
                if provided * 1000.0 > ratio.millis() as f64 {
                    broken.push(format!("{head}, but provided ratio is {provided:.6}"));
                }
            }
        }
    }
}

/// Claims have requests only.
fn bound_claim(limit: &LimitRangeItem, requests: &Amounts, broken: &mut Vec<String>) {
    let min_only = LimitRangeItem { min: limit.min.clone(), type_: limit.type_.clone(), ..LimitRangeItem::default() };
    bound(&min_only, requests, &Amounts::new(), broken);
    for (name, max) in each(&limit.max) {
        let head = format!("maximum {name} usage per {} is {max}", limit.type_);
        match requests.get(name) {
            None => broken.push(format!("{head}.  No request is specified")),
            Some(request) if *request > max => broken.push(format!("{head}, but request is {request}")),
            Some(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::testing::{Case, object};

    fn case(limit: Value) -> Case {
        Case::new(vec![
            object("v1", "Namespace", "ns", json!({})),
            object("v1", "ServiceAccount", "ns/default", json!({"automountServiceAccountToken": false})),
            object("v1", "LimitRange", "ns/l", json!({"spec": {"limits": [limit]}})),
        ])
        .of("create", "pods", "ns/p")
    }

    fn pod(resources: Value) -> Value {
        json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "resources": resources}]}})
    }

    #[test]
    fn containers_get_defaults() {
        let limit =
            json!({"type": "Container", "default": {"cpu": "2", "memory": "1Gi"}, "defaultRequest": {"cpu": "1"}});
        for (given, resources, note) in [
            (
                json!({}),
                json!({"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "2", "memory": "1Gi"}}),
                json!("LimitRanger plugin set: cpu, memory request for container c; cpu, memory limit for container c"),
            ),
            (
                json!({"limits": {"cpu": "4"}, "requests": {"memory": "1"}}),
                json!({"limits": {"cpu": "4", "memory": "1Gi"}, "requests": {"memory": "1"}}),
                json!("LimitRanger plugin set: memory limit for container c"),
            ),
            (
                json!({"limits": {"cpu": "4", "memory": "1"}, "requests": {"cpu": "1", "memory": "1"}}),
                json!({"limits": {"cpu": "4", "memory": "1"}, "requests": {"cpu": "1", "memory": "1"}}),
                Value::Null,
            ),
        ] {
            let admitted = case(limit.clone()).admitted(pod(given));
            assert_eq!(admitted["spec"]["containers"][0]["resources"], resources);
            assert_eq!(admitted["metadata"]["annotations"]["kubernetes.io/limit-ranger"], note);
        }
    }

    #[test]
    fn bounds_hold() {
        let limit = |kind: &str, bound: &str, amount: &str| json!({"type": kind, bound: {"cpu": amount}});
        let cpu = |request: &str, limit: &str| pod(json!({"requests": {"cpu": request}, "limits": {"cpu": limit}}));
        let forbidden = |why: &str| format!("pods \"p\" is forbidden: {why}");
        for (limit, pod, refused) in [
            (limit("Container", "max", "1"), cpu("500m", "1"), None),
            (
                limit("Container", "max", "1"),
                cpu("1", "2"),
                Some("maximum cpu usage per Container is 1, but limit is 2"),
            ),
            (
                limit("Container", "max", "1"),
                pod(json!({})),
                Some("maximum cpu usage per Container is 1.  No limit is specified"),
            ),
            (
                limit("Container", "min", "1"),
                cpu("100m", "1"),
                Some("minimum cpu usage per Container is 1, but request is 100m"),
            ),
            (
                limit("Container", "min", "1"),
                pod(json!({})),
                Some("minimum cpu usage per Container is 1.  No request is specified"),
            ),
            (limit("Container", "maxLimitRequestRatio", "2"), cpu("1", "2"), None),
            (
                limit("Container", "maxLimitRequestRatio", "2"),
                cpu("1", "3"),
                Some("cpu max limit to request ratio per Container is 2, but provided ratio is 3.000000"),
            ),
            (limit("Pod", "max", "1"), cpu("1", "2"), Some("maximum cpu usage per Pod is 1, but limit is 2")),
            (limit("PersistentVolumeClaim", "max", "1"), cpu("1", "2"), None),
        ] {
            case(limit).refused(pod, refused.map(forbidden).as_deref());
        }
        let claim =
            |size: &str| json!({"metadata": {"name": "p"}, "spec": {"resources": {"requests": {"storage": size}}}});
        let limit = json!({"type": "PersistentVolumeClaim", "max": {"storage": "1Gi"}});
        let case = case(limit).of("create", "persistentvolumeclaims", "ns/p");
        case.refused(claim("1Gi"), None);
        let refused = "persistentvolumeclaims \"p\" is forbidden: maximum storage usage per PersistentVolumeClaim is 1Gi, but request is 2Gi";
        case.refused(claim("2Gi"), Some(refused));
    }
}
