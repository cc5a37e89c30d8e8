//! core/v1 ResourceQuota and LimitRange: bounds of a namespace.

use serde_json::Value;

use crate::field::FieldError;
use crate::kind::{Column, Rules};
use crate::names;
use crate::rules::cells::{self, list, scalar_or, text};
use crate::rules::check::{At, Errors, IMMUTABLE};
use crate::rules::fill::{self, Fields};
use crate::rules::plain::{self, PLAIN, WITH_STATUS};
use crate::rules::resources;
use crate::rules::resources::Scope;

/// Rules of ResourceQuotas.
pub static QUOTA: Rules = Rules {
    prepare_create: plain::empty_status,
    validate: validate_quota,
    validate_update: update_quota,
    returns_deleted: true,
    columns: QUOTA_COLUMNS,
    row: quota_row,
    ..WITH_STATUS
};

/// Rules of LimitRanges.
pub static LIMIT_RANGE: Rules = Rules {
    default: default_limits,
    validate: validate_limits,
    validate_update: |new, _| validate_limits(new),
    create_on_update: true,
    columns: &[Column::NAME, Column::CREATED_AT],
    row: cells::name_and_created,
    ..PLAIN
};

fn default_limits(object: &mut Value) {
    let Some(spec) = object.as_object_mut().and_then(|o| fill::child(o, "spec")) else {
        return;
    };
    for item in fill::items(spec, "limits") {
        if text(item.get("type").unwrap_or(&Value::Null)) == "Container" {
            for (from, to) in [("max", "default"), ("default", "defaultRequest"), ("min", "defaultRequest")] {
                copy_missing(item, from, to);
            }
        }
    }
}

/// Every entry of the map `from` that the map `to` does not have goes there.
fn copy_missing(item: &mut Fields, from: &str, to: &str) {
    let Some(Value::Object(source)) = item.get(from) else {
        return;
    };
    let source = source.clone();
    if source.is_empty() {
        return;
    }
    let Some(target) = fill::child(item, to) else { return };
    for (name, value) in source {
        target.entry(name).or_insert(value);
    }
}

const QUOTA_COLUMNS: &[Column] = &[
    Column::NAME,
    Column::text("Request", "Used and allowed requests and counts."),
    Column::text("Limit", "Used and allowed limits."),
    Column::AGE,
];

fn quota_row(object: &Value, now: i64) -> Vec<Value> {
    let status = &object["status"];
    let (mut requests, mut limits) = (Vec::new(), Vec::new());
    for (name, hard) in status["hard"].as_object().into_iter().flatten() {
        let line = format!("{name}: {}/{}", scalar_or(&status["used"][name], "0"), scalar_or(hard, "0"));
        if name.starts_with("limits.") { &mut limits } else { &mut requests }.push(line);
    }
    requests.sort();
    limits.sort();
    vec![cells::name(object), requests.join(", ").into(), limits.join(", ").into(), cells::age(object, now)]
}

/// What a quota may be limited to.
const SCOPES: [&str; 7] = [
    "Terminating",
    "NotTerminating",
    "BestEffort",
    "NotBestEffort",
    "PriorityClass",
    "CrossNamespacePodAffinity",
    "VolumeAttributesClass",
];

fn validate_quota(object: &Value) -> Vec<FieldError> {
    let (spec, at, mut errors) = (&object["spec"], At::ROOT.field("spec"), Errors::default());
    let hard_at = at.field("hard");
    for (name, value) in spec["hard"].as_object().into_iter().flatten() {
        let at = hard_at.key(name);
        errors.all(&at, name, names::qualified_name(name));
        resources::amount(name, value, &at, &mut errors);
    }
    let scopes = list(&spec["scopes"]);
    let has = |scope: &str| scopes.iter().any(|s| s == scope);
    if scopes.iter().any(|scope| !SCOPES.contains(&text(scope))) {
        errors.invalid(&at.field("scopes"), scopes, "unsupported scope");
    }
    for pair in [("BestEffort", "NotBestEffort"), ("Terminating", "NotTerminating")] {
        if has(pair.0) && has(pair.1) {
            errors.invalid(&at.field("scopes"), scopes, "conflicting scopes");
        }
    }
    let at = at.field("scopeSelector");
    let at = at.field("matchExpressions");
    for (i, term) in list(&spec["scopeSelector"]["matchExpressions"]).iter().enumerate() {
        scope_term(term, &at.index(i), &mut errors);
    }
    errors.0
}

fn scope_term(term: &Value, at: &At<'_>, errors: &mut Errors) {
    let (name, values) = (text(&term["scopeName"]), list(&term["values"]));
    if !SCOPES.contains(&name) {
        errors.invalid(&at.field("scopeName"), name, "unsupported scope");
    }
    let only_exists = !matches!(name, "PriorityClass" | "VolumeAttributesClass");
    match text(&term["operator"]) {
        operator if only_exists && operator != "Exists" => {
            let detail = format!(
                "must be 'Exist' when scope is any of Terminating, NotTerminating, BestEffort, \
                NotBestEffort or CrossNamespacePodAffinity, not {operator}"
            );
            errors.invalid(&at.field("operator"), operator, detail);
        }
        "In" | "NotIn" if values.is_empty() => {
            errors.required(
                &at.field("values"),
                "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector",
            );
        }
        "Exists" | "DoesNotExist" if !values.is_empty() => {
            let detail = "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector";
            errors.invalid(&at.field("values"), values, detail);
        }
        "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
        other => errors.invalid(&at.field("operator"), other, "not a valid selector operator"),
    }
}

fn update_quota(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = Errors(validate_quota(new));
    let sorted = |object: &Value| {
        let mut scopes: Vec<String> = list(&object["spec"]["scopes"]).iter().map(|s| text(s).to_string()).collect();
        scopes.sort();
        scopes
    };
    if sorted(new) != sorted(old) {
        errors.invalid(&At::ROOT.field("spec").field("scopes"), &new["spec"]["scopes"], IMMUTABLE);
    }
    errors.0
}

fn validate_limits(object: &Value) -> Vec<FieldError> {
    let spec_at = At::ROOT.field("spec");
    let (limits, at, mut errors) = (list(&object["spec"]["limits"]), spec_at.field("limits"), Errors::default());
    for (i, limit) in limits.iter().enumerate() {
        let (at, kind) = (at.index(i), text(&limit["type"]));
        errors.all(&at.field("type"), kind, names::qualified_name(kind));
        if limits[..i].iter().any(|other| text(&other["type"]) == kind) {
            errors.duplicate(&at.field("type"), kind);
        }
        for field in ["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"] {
            if kind == "Pod" && field.starts_with("default") && cells::len(&limit[field]) > 0 {
                errors.forbidden(&at.field(field), "may not be specified when `type` is 'Pod'");
            }
            resources::amounts(&limit[field], Scope::Any, &at.field(field), &mut errors);
        }
        in_order(limit, &at, &mut errors);
    }
    errors.0
}

/// What must not be greater than what, and how the complaint begins and goes on.
const ORDER: [(&str, &str, &str, &str, &str); 5] = [
    ("min", "max", "min", "min value", "max value"),
    ("min", "defaultRequest", "defaultRequest", "min value", "default request value"),
    ("defaultRequest", "max", "defaultRequest", "default request value", "max value"),
    ("defaultRequest", "default", "defaultRequest", "default request value", "default limit value"),
    ("default", "max", "default", "default value", "max value"),
];

fn in_order(limit: &Value, at: &At<'_>, errors: &mut Errors) {
    for (low, high, field, low_words, high_words) in ORDER {
        for (name, value) in limit[low].as_object().into_iter().flatten() {
            let pair = (resources::quantity(value), resources::quantity(&limit[high][name]));
            if let (Some(lower), Some(upper)) = pair
                && lower > upper
            {
                let detail = format!("{low_words} {lower} is greater than {high_words} {upper}");
                errors.invalid(&at.field(field).key(name), &limit[field][name], detail);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::check::testing::check;
    use serde_json::json;

    #[test]
    fn limits_flow_from_max_to_request() {
        let mut range = json!({"spec": {"limits": [{"type": "Container", "max": {"cpu": "2"}, "min": {"memory": "1Mi"}}, {"type": "Pod", "max": {"cpu": "3"}}]}});
        default_limits(&mut range);
        assert_eq!(
            range["spec"]["limits"],
            json!([
                {"type": "Container", "max": {"cpu": "2"}, "min": {"memory": "1Mi"}, "default": {"cpu": "2"}, "defaultRequest": {"cpu": "2", "memory": "1Mi"}},
                {"type": "Pod", "max": {"cpu": "3"}},
            ])
        );
    }

    #[test]
    fn quotas_and_limits() {
        for (case, spec, errors) in [
            ("good", json!({"hard": {"pods": "10", "requests.cpu": "500m"}}), &[][..]),
            (
                "half a pod",
                json!({"hard": {"pods": "500m"}}),
                &["spec.hard[pods]: Invalid value: \"500m\": must be an integer"],
            ),
            (
                "scopes",
                json!({"scopes": ["BestEffort", "NotBestEffort"]}),
                &["spec.scopes: Invalid value: [\"BestEffort\",\"NotBestEffort\"]: conflicting scopes"],
            ),
        ] {
            check(case, &validate_quota(&json!({"spec": spec})), errors);
        }
        let range = json!({"spec": {"limits": [{"type": "Container", "min": {"cpu": "2"}, "max": {"cpu": "1"}}]}});
        let errors = ["spec.limits[0].min[cpu]: Invalid value: \"2\": min value 2 is greater than max value 1"];
        check("limits", &validate_limits(&range), &errors);
    }
}
