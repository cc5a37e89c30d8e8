//! What is asked of devices: resource.k8s.io/v1 ResourceClaim, ResourceClaimTemplate, DeviceClass.

use serde_json::Value;

use super::forms::{self, MANY};
use crate::field::FieldError;
use crate::rules::cells::{list, number, text};
use crate::rules::check::{At, Errors, same};
use crate::rules::fill::{self, Fields};
use crate::rules::resources::is_extended;

/// Most alternatives of a request.
const ALTERNATIVES_MAX: usize = 8;
/// Longest parameters of a driver, bytes.
const PARAMETERS_MAX: usize = 10 << 10;
/// Longest CEL expression, bytes.
const EXPRESSION_MAX: usize = 10 << 10;
/// Most users of a claim.
const USERS_MAX: usize = 256;
/// How a request counts devices.
const MODES: [&str; 2] = ["All", "ExactCount"];

const NO_REQUEST: &str =
    "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'";

/// The defaults of a claim.
pub fn default_claim(object: &mut Value) {
    if let Some(spec) = object.as_object_mut().and_then(|o| fill::existing(o, "spec")) {
        default_spec(spec);
    }
}

/// The defaults of a template's claim.
pub fn default_template(object: &mut Value) {
    let spec = object.as_object_mut().and_then(|o| fill::existing(o, "spec"));
    if let Some(spec) = spec.and_then(|s| fill::existing(s, "spec")) {
        default_spec(spec);
    }
}

fn default_spec(spec: &mut Fields) {
    let Some(devices) = fill::existing(spec, "devices") else { return };
    for request in fill::items(devices, "requests") {
        if let Some(exactly) = fill::existing(request, "exactly") {
            default_request(exactly);
        }
        fill::items(request, "firstAvailable").for_each(default_request);
    }
}

fn default_request(request: &mut Fields) {
    fill::text(request, "allocationMode", "ExactCount");
    if request.get("allocationMode").is_some_and(|mode| mode == "ExactCount") {
        fill::number(request, "count", 1);
    }
    fill::items(request, "tolerations").for_each(|toleration| fill::text(toleration, "operator", "Equal"));
}

/// A new claim.
pub fn claim(object: &Value) -> Vec<FieldError> {
    let mut errors = Errors::default();
    spec(&object["spec"], &At::ROOT.field("spec"), &mut errors);
    errors.0
}

/// The template's claim.
pub fn template(object: &Value) -> Vec<FieldError> {
    let (at, mut errors) = (At::ROOT.field("spec"), Errors::default());
    spec(&object["spec"]["spec"], &at.field("spec"), &mut errors);
    errors.0
}

/// The spec of claims and templates stays.
pub fn update(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = Errors::default();
    errors.immutable(&At::ROOT.field("spec"), &new["spec"], &old["spec"]);
    errors.0
}

/// A class of devices.
pub fn class(object: &Value) -> Vec<FieldError> {
    let (spec, at, mut errors) = (&object["spec"], At::ROOT.field("spec"), Errors::default());
    selectors(&spec["selectors"], &at.field("selectors"), &mut errors);
    forms::each(&spec["config"], MANY, &at.field("config"), &mut errors, configuration);
    let name = text(&spec["extendedResourceName"]);
    if !spec["extendedResourceName"].is_null() && !is_extended(name) {
        errors.invalid(&at.field("extendedResourceName"), name, "must be a valid extended resource name");
    }
    errors.0
}

fn spec(spec: &Value, at: &At<'_>, errors: &mut Errors) {
    let (devices, at) = (&spec["devices"], at.field("devices"));
    let known = names(devices);
    forms::set(&devices["requests"], MANY, "name", &at.field("requests"), errors, request);
    forms::each(&devices["constraints"], MANY, &at.field("constraints"), errors, |constraint, at, errors| {
        references(&constraint["requests"], &known, &at.field("requests"), errors);
        let (same, distinct) = (&constraint["matchAttribute"], &constraint["distinctAttribute"]);
        match (same.is_null(), distinct.is_null()) {
            (false, _) => forms::full_name(same, &at.field("matchAttribute"), errors),
            (true, false) => forms::full_name(distinct, &at.field("distinctAttribute"), errors),
            (true, true) => {
                errors.required(at, "exactly one of \"matchAttribute\" or \"distinctAttribute\" is required");
            }
        }
    });
    forms::each(&devices["config"], MANY, &at.field("config"), errors, |config, at, errors| {
        references(&config["requests"], &known, &at.field("requests"), errors);
        configuration(config, at, errors);
    });
}

fn request(request: &Value, at: &At<'_>, errors: &mut Errors) {
    const ONE: &str = "exactly one of `exactly` or `firstAvailable` is required";
    forms::label(&request["name"], &at.field("name"), errors);
    let (exactly, alternatives) = (&request["exactly"], &request["firstAvailable"]);
    match (exactly.is_null(), list(alternatives).is_empty()) {
        (true, true) => errors.required(at, ONE),
        (false, false) => errors.invalid(at, Value::Null, format!("{ONE}, but multiple fields are set")),
        (false, true) => exact(exactly, &at.field("exactly"), errors),
        (true, false) => {
            let at = at.field("firstAvailable");
            forms::set(alternatives, ALTERNATIVES_MAX, "name", &at, errors, |alternative, at, errors| {
                forms::label(&alternative["name"], &at.field("name"), errors);
                exact(alternative, at, errors);
            });
        }
    }
}

fn exact(request: &Value, at: &At<'_>, errors: &mut Errors) {
    forms::subdomain(&request["deviceClassName"], &at.field("deviceClassName"), errors);
    selectors(&request["selectors"], &at.field("selectors"), errors);
    let (mode, count) = (text(&request["allocationMode"]), number(&request["count"]));
    match mode {
        "All" if count != 0 => {
            let detail = format!("must not be specified when allocationMode is '{mode}'");
            errors.invalid(&at.field("count"), count, detail);
        }
        "ExactCount" if count <= 0 => errors.invalid(&at.field("count"), count, "must be greater than zero"),
        _ => errors.one_of(&at.field("allocationMode"), &mode.into(), &MODES),
    }
    let at = at.field("tolerations");
    for (i, toleration) in list(&request["tolerations"]).iter().enumerate() {
        forms::toleration(toleration, &at.index(i), errors);
    }
}

fn selectors(selectors: &Value, at: &At<'_>, errors: &mut Errors) {
    forms::each(selectors, MANY, at, errors, |selector, at, errors| {
        let at = at.field("cel");
        if selector["cel"].is_null() {
            errors.required(&at, "");
        } else if text(&selector["cel"]["expression"]).len() > EXPRESSION_MAX {
            errors.too_long(&at.field("expression"), EXPRESSION_MAX);
        }
    });
}

fn configuration(config: &Value, at: &At<'_>, errors: &mut Errors) {
    let (opaque, at) = (&config["opaque"], at.field("opaque"));
    if opaque.is_null() {
        errors.required(&at, "");
        return;
    }
    forms::driver(&opaque["driver"], &at.field("driver"), errors);
    let (parameters, at) = (&opaque["parameters"], at.field("parameters"));
    match parameters {
        Value::Null => errors.required(&at, ""),
        Value::Object(_) if parameters.to_string().len() > PARAMETERS_MAX => errors.too_long(&at, PARAMETERS_MAX),
        Value::Object(_) => {}
        _ => errors.invalid(&at, "<value omitted>", "must be a valid JSON object"),
    }
}

/// Requests of a claim, and alternatives as `request/alternative`.
fn names(devices: &Value) -> Vec<String> {
    let mut names = Vec::new();
    for request in list(&devices["requests"]) {
        let name = text(&request["name"]);
        names.push(name.to_string());
        let alternatives = list(&request["firstAvailable"]).iter();
        names.extend(alternatives.map(|alternative| format!("{name}/{}", text(&alternative["name"]))));
    }
    names
}

fn references(references: &Value, known: &[String], at: &At<'_>, errors: &mut Errors) {
    forms::set(references, MANY, "", at, errors, |reference, at, errors| one_reference(reference, known, at, errors));
}

fn one_reference(reference: &Value, known: &[String], at: &At<'_>, errors: &mut Errors) {
    let name = text(reference);
    if name.split('/').count() > 2 || !known.iter().any(|k| k == name) {
        errors.invalid(at, name, NO_REQUEST);
    }
}

/// What a scheduler and drivers write about a claim.
pub fn status_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let (at, mut errors) = (At::ROOT.field("status"), Errors::default());
    let deleting = !new["metadata"]["deletionTimestamp"].is_null();
    let known = names(&new["spec"]["devices"]);
    let (new, old) = (&new["status"], &old["status"]);
    users(new, old, deleting, &at, &mut errors);
    let (after, before, at) = (&new["allocation"], &old["allocation"], at.field("allocation"));
    if !after.is_null() && !before.is_null() {
        errors.immutable(&at, after, before);
    } else if !after.is_null() {
        allocation(after, &known, &at, &mut errors);
    }
    errors.0
}

fn users(new: &Value, old: &Value, deleting: bool, at: &At<'_>, errors: &mut Errors) {
    let at = at.field("reservedFor");
    let users = &new["reservedFor"];
    forms::set(users, USERS_MAX, "uid", &at, errors, |user, at, errors| {
        for field in ["resource", "name", "uid"] {
            errors.required_text(&at.field(field), &user[field], "");
        }
    });
    if list(users).is_empty() {
        return;
    }
    let is_new = |user: &Value| !list(&old["reservedFor"]).iter().any(|known| same(known, user));
    if new["allocation"].is_null() {
        errors.forbidden(&at, "may not be specified when `allocated` is not set");
    } else if deleting && list(users).iter().any(is_new) {
        let detail = "new entries may not be added while `deallocationRequested` or `deletionTimestamp` are set";
        errors.forbidden(&at, detail);
    }
}

fn allocation(allocation: &Value, known: &[String], at: &At<'_>, errors: &mut Errors) {
    let devices = at.field("devices");
    forms::each(&allocation["devices"]["results"], MANY, &devices.field("results"), errors, |result, at, errors| {
        one_reference(&result["request"], known, &at.field("request"), errors);
        forms::driver(&result["driver"], &at.field("driver"), errors);
        forms::pool(&result["pool"], &at.field("pool"), errors);
        forms::label(&result["device"], &at.field("device"), errors);
    });
    let config = devices.field("config");
    forms::each(&allocation["devices"]["config"], 2 * MANY, &config, errors, |config, at, errors| {
        errors.required_one_of(&at.field("source"), &config["source"], &["FromClaim", "FromClass"]);
        references(&config["requests"], known, &at.field("requests"), errors);
        configuration(config, at, errors);
    });
    if !allocation["nodeSelector"].is_null() {
        crate::rules::selector::node_selector(&allocation["nodeSelector"], &at.field("nodeSelector"), errors);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::check::testing::{Case, check};
    use serde_json::json;

    #[test]
    fn claims_ask_for_devices() {
        let cases: [Case; 7] = [
            ("good", |_| {}, &[]),
            (
                "nothing",
                |d| d["requests"][0] = json!({"name": "r"}),
                &["spec.devices.requests[0]: Required value: exactly one of"],
            ),
            (
                "both",
                |d| d["requests"][0]["firstAvailable"] = json!([{"name": "a", "deviceClassName": "c"}]),
                &["spec.devices.requests[0]: Invalid value: null: exactly one of"],
            ),
            (
                "count",
                |d| d["requests"][0]["exactly"] = json!({"deviceClassName": "c", "allocationMode": "All", "count": 1}),
                &["spec.devices.requests[0].exactly.count: Invalid value: 1: must not be specified"],
            ),
            (
                "twice",
                |d| d["requests"] = json!([d["requests"][0], d["requests"][0]]),
                &["spec.devices.requests[1].name: Duplicate value: \"r\""],
            ),
            (
                "unknown request",
                |d| d["constraints"] = json!([{"requests": ["x"], "matchAttribute": "a.example.com/b"}]),
                &["spec.devices.constraints[0].requests[0]: Invalid value: \"x\": must be the name of a request"],
            ),
            (
                "parameters",
                |d| d["config"] = json!([{"opaque": {"driver": "d.example.com", "parameters": 1}}]),
                &["spec.devices.config[0].opaque.parameters: Invalid value: \"<value omitted>\": must be a valid JSON"],
            ),
        ];
        for (case, change, errors) in cases {
            let exactly = json!({"deviceClassName": "c", "allocationMode": "ExactCount", "count": 1});
            let mut object = json!({"spec": {"devices": {"requests": [{"name": "r", "exactly": exactly}]}}});
            change(&mut object["spec"]["devices"]);
            check(case, &claim(&object), errors);
        }
    }

    #[test]
    fn one_device_unless_said_otherwise() {
        let mut object =
            json!({"spec": {"devices": {"requests": [{"name": "r", "exactly": {"deviceClassName": "c"}}]}}});
        default_claim(&mut object);
        let exactly = json!({"deviceClassName": "c", "allocationMode": "ExactCount", "count": 1});
        assert_eq!(object["spec"]["devices"]["requests"][0]["exactly"], exactly);
    }

    #[test]
    fn users_come_after_the_allocation() {
        let object = |status: Value| json!({"spec": {"devices": {"requests": [{"name": "r"}]}}, "status": status});
        let user = json!([{"resource": "pods", "name": "p", "uid": "u"}]);
        let result = json!({"request": "r", "driver": "d.example.com", "pool": "a/b", "device": "x"});
        let allocated = json!({"devices": {"results": [result]}});
        let empty = object(json!({}));
        for (case, status, errors) in [
            ("good", json!({"allocation": allocated, "reservedFor": user}), &[][..]),
            ("early", json!({"reservedFor": user}), &["status.reservedFor: Forbidden: may not be specified when"]),
            (
                "no such request",
                json!({"allocation": {"devices": {"results": [{"request": "x", "driver": "d.example.com", "pool": "p", "device": "x"}]}}}),
                &["status.allocation.devices.results[0].request: Invalid value: \"x\""],
            ),
        ] {
            check(case, &status_update(&object(status), &empty), errors);
        }
    }
}
