//! What the validations of Deployments, ReplicaSets, StatefulSets and DaemonSets share.

use serde_json::Value;

use crate::field::FieldError;
use crate::int_or_string;
use crate::rules::cells::{number, text};
use crate::rules::check::{At, Errors};
use crate::rules::pod;
use crate::rules::selector;

/// The selector of a workload: there, good and not empty.
pub fn selector(spec: &Value, kind: &str, at: &At<'_>, errors: &mut Errors) {
    let (selector, at) = (&spec["selector"], at.field("selector"));
    if selector.is_null() {
        errors.required(&at, "");
        return;
    }
    selector::label_selector(selector, &at, errors);
    if selector::is_empty(selector) {
        errors.invalid(&at, selector, format!("empty selector is invalid for {kind}"));
    }
}

/// The template of a workload that keeps pods running: good, and picked by the selector.
pub fn template(spec: &Value, kind: &str, at: &At<'_>, errors: &mut Errors) {
    let (template, at) = (&spec["template"], at.field("template"));
    let picked = selector::matches(&spec["selector"], &template["metadata"]["labels"]);
    unpicked(spec, picked, &at, errors);
    pod::spec::template(template, &at, errors);
    pod::spec::runs_forever(template, kind, &at, errors);
}

/// Complains about a template that the selector does not pick.
pub fn unpicked(spec: &Value, picked: bool, at: &At<'_>, errors: &mut Errors) {
    let labels = &spec["template"]["metadata"]["labels"];
    if !spec["selector"].is_null() && !picked {
        let at = at.field("metadata");
        errors.invalid(&at.field("labels"), labels, "`selector` does not match template `labels`");
    }
}

/// Fields that count something.
pub fn counts(object: &Value, fields: &[&str], at: &At<'_>, errors: &mut Errors) {
    for field in fields {
        errors.not_negative(&at.field(field), &object[*field]);
    }
}

/// A number or a percentage, neither below zero.
pub fn number_or_percent(value: &Value, at: &At<'_>, errors: &mut Errors) {
    match value {
        Value::String(text) if int_or_string::percent(text).is_none() => {
            let form = "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', \
                regex used for validation is '[0-9]+%')";
            errors.invalid(at, value, form);
        }
        _ => errors.not_negative(at, value),
    }
}

/// As [`number_or_percent`], and at most all of them.
pub fn number_or_part(value: &Value, at: &At<'_>, errors: &mut Errors) {
    number_or_percent(value, at, errors);
    if int_or_string::percent(text(value)).is_some_and(|percent| percent > 100) {
        errors.invalid(at, value, "must not be greater than 100%");
    }
}

/// Whether a number or percentage is zero.
pub fn is_zero(value: &Value) -> bool {
    value.as_i64() == Some(0) || int_or_string::percent(text(value)) == Some(0)
}

/// The status of a workload: no negative numbers, and no more than `total` of anything in `parts`.
pub fn status(new: &Value, old: &Value, total: &str, parts: &[&str]) -> Vec<FieldError> {
    let (at, mut errors) = (At::ROOT.field("status"), Errors::default());
    let (status, old) = (&new["status"], &old["status"]);
    for (field, value) in status.as_object().into_iter().flatten() {
        errors.not_negative(&at.field(field), value);
    }
    for part in parts {
        if number(&status[*part]) > number(&status[total]) {
            errors.invalid(&at.field(part), &status[*part], format!("cannot be greater than status.{total}"));
        }
    }
    if parts.contains(&"availableReplicas") && number(&status["availableReplicas"]) > number(&status["readyReplicas"]) {
        errors.invalid(
            &at.field("availableReplicas"),
            &status["availableReplicas"],
            "cannot be greater than readyReplicas",
        );
    }
    let collisions = (&status["collisionCount"], &old["collisionCount"]);
    if number(collisions.0) < number(collisions.1) {
        errors.invalid(&at.field("collisionCount"), number(collisions.0), "cannot be decremented");
    }
    errors.0
}
