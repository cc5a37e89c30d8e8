//! admissionregistration.k8s.io: webhook configurations, admission policies and their bindings.

use serde_json::{Value, json};

use crate::field::FieldError;
use crate::kind::{Column, Generation, Rules};
use crate::names;
use crate::rules::cells::{self, UNSET, list, number, text, text_or};
use crate::rules::check::{At, Errors};
use crate::rules::fill::{self, Fields};
use crate::rules::plain::{PLAIN, WITH_SPEC_AND_STATUS};
use crate::rules::selector;

/// Rules of ValidatingWebhookConfigurations.
pub static VALIDATING_WEBHOOKS: Rules = Rules {
    validate: validate_webhooks,
    validate_update: |new, _| validate_webhooks(new),
    default: |object| webhooks(object, |_| {}),
    generation: Generation::Content,
    unconditional_update: false,
    columns: WEBHOOK_COLUMNS,
    row: webhook_row,
    ..PLAIN
};

/// Rules of MutatingWebhookConfigurations.
pub static MUTATING_WEBHOOKS: Rules = Rules {
    validate: validate_webhooks,
    validate_update: |new, _| validate_webhooks(new),
    default: |object| webhooks(object, |webhook| fill::optional(webhook, "reinvocationPolicy", "Never")),
    generation: Generation::Content,
    unconditional_update: false,
    columns: WEBHOOK_COLUMNS,
    row: webhook_row,
    ..PLAIN
};

/// Rules of ValidatingAdmissionPolicies.
pub static VALIDATING_POLICY: Rules = Rules {
    validate: |object| validate_policy(object, "validations"),
    validate_update: |new, _| validate_policy(new, "validations"),
    default: default_policy,
    unconditional_update: false,
    columns: VALIDATING_COLUMNS,
    row: |object, now| policy_row(object, "validations", now),
    ..WITH_SPEC_AND_STATUS
};

/// Rules of MutatingAdmissionPolicies.
pub static MUTATING_POLICY: Rules = Rules {
    validate: |object| validate_policy(object, "mutations"),
    validate_update: |new, _| validate_policy(new, "mutations"),
    default: default_policy,
    generation: Generation::Spec,
    unconditional_update: false,
    columns: MUTATING_COLUMNS,
    row: |object, now| policy_row(object, "mutations", now),
    ..PLAIN
};

/// Rules of the bindings of admission policies.
pub static POLICY_BINDING: Rules = Rules {
    validate: validate_binding,
    validate_update: |new, _| validate_binding(new),
    default: default_policy_binding,
    generation: Generation::Spec,
    unconditional_update: false,
    columns: BINDING_COLUMNS,
    row: binding_row,
    ..PLAIN
};

fn webhooks(object: &mut Value, more: fn(&mut Fields)) {
    let Some(object) = object.as_object_mut() else { return };
    for webhook in fill::items(object, "webhooks") {
        if let Some(client) = fill::existing(webhook, "clientConfig") {
            service_port(client);
        }
        fill::items(webhook, "rules").for_each(|rule| fill::optional(rule, "scope", "*"));
        fill::optional(webhook, "failurePolicy", "Fail");
        fill::optional(webhook, "matchPolicy", "Equivalent");
        fill::optional(webhook, "namespaceSelector", json!({}));
        fill::optional(webhook, "objectSelector", json!({}));
        fill::optional(webhook, "timeoutSeconds", 10);
        more(webhook);
    }
}

/// The port of `service`, if one is referred to.
pub fn service_port(fields: &mut Fields) {
    if let Some(service) = fill::existing(fields, "service") {
        fill::optional(service, "port", 443);
    }
}

fn default_policy(object: &mut Value) {
    let Some(spec) = object.as_object_mut().and_then(|o| fill::child(o, "spec")) else {
        return;
    };
    fill::optional(spec, "failurePolicy", "Fail");
    if let Some(constraints) = fill::existing(spec, "matchConstraints") {
        match_resources(constraints);
    }
}

fn default_policy_binding(object: &mut Value) {
    let spec = object.as_object_mut().and_then(|o| fill::existing(o, "spec"));
    if let Some(resources) = spec.and_then(|s| fill::existing(s, "matchResources")) {
        match_resources(resources);
    }
}

fn match_resources(resources: &mut Fields) {
    fill::optional(resources, "matchPolicy", "Equivalent");
    fill::optional(resources, "namespaceSelector", json!({}));
    fill::optional(resources, "objectSelector", json!({}));
    for rules in ["resourceRules", "excludeResourceRules"] {
        fill::items(resources, rules).for_each(|rule| fill::optional(rule, "scope", "*"));
    }
}

const WEBHOOK_COLUMNS: &[Column] =
    &[Column::NAME, Column::integer("Webhooks", "Number of webhooks in this configuration."), Column::AGE];

fn webhook_row(object: &Value, now: i64) -> Vec<Value> {
    vec![cells::name(object), list(&object["webhooks"]).len().into(), cells::age(object, now)]
}

const VALIDATING_COLUMNS: &[Column] = &[
    Column::NAME,
    Column::integer("Validations", "Number of rules in this policy."),
    Column::text("ParamKind", "Kind of the objects that set its parameters."),
    Column::AGE,
];

const MUTATING_COLUMNS: &[Column] = &[
    Column::NAME,
    Column::integer("Mutations", "Number of changes in this policy."),
    Column::text("ParamKind", "Kind of the objects that set its parameters."),
    Column::AGE,
];

fn policy_row(object: &Value, rules: &str, now: i64) -> Vec<Value> {
    let spec = &object["spec"];
    let parameters = match &spec["paramKind"] {
        Value::Null => UNSET.into(),
        kind => format!("{}/{}", text(&kind["apiVersion"]), text(&kind["kind"])),
    };
    vec![cells::name(object), list(&spec[rules]).len().into(), parameters.into(), cells::age(object, now)]
}

const BINDING_COLUMNS: &[Column] = &[
    Column::NAME,
    Column::text("PolicyName", "The policy that is put in force."),
    Column::text("ParamRef", "The object that sets its parameters."),
    Column::AGE,
];

fn binding_row(object: &Value, now: i64) -> Vec<Value> {
    let (spec, reference) = (&object["spec"], &object["spec"]["paramRef"]);
    let parameters = match text(&reference["name"]) {
        "" if reference["selector"].is_null() => UNSET.into(),
        "" => cells::selector(&reference["selector"]),
        name => format!("{}/{name}", text_or(&reference["namespace"], "*")),
    };
    vec![cells::name(object), text(&spec["policyName"]).into(), parameters.into(), cells::age(object, now)]
}

fn validate_webhooks(object: &Value) -> Vec<FieldError> {
    let (webhooks, at, mut errors) = (list(&object["webhooks"]), At::ROOT.field("webhooks"), Errors::default());
    for (i, webhook) in webhooks.iter().enumerate() {
        let at = at.index(i);
        let name = text(&webhook["name"]);
        errors.required_form(&at.field("name"), &webhook["name"], names::dns1123_subdomain);
        if !name.is_empty() && name.split('.').count() < 3 {
            errors.invalid(
                &at.field("name"),
                name,
                "should be a domain with at least three segments separated by dots",
            );
        }
        if webhooks[..i].iter().any(|other| text(&other["name"]) == name) {
            errors.duplicate(&at.field("name"), name);
        }
        client_config(&webhook["clientConfig"], &at.field("clientConfig"), &mut errors);
        admission_rules(&webhook["rules"], &at.field("rules"), &mut errors);
        errors.one_of(&at.field("failurePolicy"), &webhook["failurePolicy"], &["Fail", "Ignore"]);
        errors.one_of(&at.field("matchPolicy"), &webhook["matchPolicy"], &["Equivalent", "Exact"]);
        errors.required_one_of(&at.field("sideEffects"), &webhook["sideEffects"], &["None", "NoneOnDryRun"]);
        if !(1..=30).contains(&number(&webhook["timeoutSeconds"])) {
            let detail = "the timeout value must be between 1 and 30 seconds";
            errors.invalid(&at.field("timeoutSeconds"), &webhook["timeoutSeconds"], detail);
        }
        let versions = list(&webhook["admissionReviewVersions"]);
        if versions.is_empty() {
            errors.required(&at.field("admissionReviewVersions"), "must specify one of v1, v1beta1");
        } else if !versions.iter().any(|version| version == "v1" || version == "v1beta1") {
            let detail = "must include at least one of v1, v1beta1";
            errors.invalid(&at.field("admissionReviewVersions"), versions, detail);
        }
        for field in ["namespaceSelector", "objectSelector"] {
            selector::label_selector(&webhook[field], &at.field(field), &mut errors);
        }
        errors.one_of(&at.field("reinvocationPolicy"), &webhook["reinvocationPolicy"], &["IfNeeded", "Never"]);
        match_conditions(&webhook["matchConditions"], &at.field("matchConditions"), &mut errors);
    }
    errors.0
}

/// Where a webhook is: a URL or a service, not both.
pub fn client_config(config: &Value, at: &At<'_>, errors: &mut Errors) {
    let (url, service) = (&config["url"], &config["service"]);
    match (url.is_null(), service.is_null()) {
        (true, true) | (false, false) => errors.required(at, "exactly one of url or service is required"),
        (false, true) if !text(url).starts_with("https://") => {
            errors.invalid(&at.field("url"), url, "'https' is the only allowed URL scheme");
        }
        (false, true) => {}
        (true, false) => {
            let at = at.field("service");
            for field in ["name", "namespace"] {
                errors.required_text(&at.field(field), &service[field], &format!("service {field} is required"));
            }
            let port = number(&service["port"]);
            errors.all(&at.field("port"), port, names::port_number(port));
            let path = text(&service["path"]);
            if !path.is_empty() && !path.starts_with('/') {
                errors.invalid(&at.field("path"), &service["path"], "must start with a '/'");
            }
        }
    }
}

fn admission_rules(rules: &Value, at: &At<'_>, errors: &mut Errors) {
    for (i, rule) in list(rules).iter().enumerate() {
        let at = at.index(i);
        let operations = list(&rule["operations"]);
        if operations.is_empty() {
            errors.required(&at.field("operations"), "");
        }
        let operations_at = at.field("operations");
        for (j, operation) in operations.iter().enumerate() {
            errors.one_of(&operations_at.index(j), operation, &["*", "CONNECT", "CREATE", "DELETE", "UPDATE"]);
        }
        for (field, words) in
            [("apiGroups", "API groups"), ("apiVersions", "API versions"), ("operations", "operations")]
        {
            let values = list(&rule[field]);
            if values.is_empty() && field != "operations" {
                errors.required(&at.field(field), "");
            }
            if values.len() > 1 && values.iter().any(|value| value == "*") {
                errors.invalid(&at.field(field), values, format!("if '*' is present, must not specify other {words}"));
            }
        }
        if list(&rule["resources"]).is_empty() {
            errors.required(&at.field("resources"), "");
        }
        errors.one_of(&at.field("scope"), &rule["scope"], &["*", "Cluster", "Namespaced"]);
    }
}

/// Expressions are compiled where they are evaluated; here only their names and presence count.
fn match_conditions(conditions: &Value, at: &At<'_>, errors: &mut Errors) {
    /// Conditions of one webhook or policy.
    const CONDITIONS_MAX: usize = 64;
    let conditions = list(conditions);
    if conditions.len() > CONDITIONS_MAX {
        errors.0.push(FieldError::too_many(at.to_string(), conditions.len(), CONDITIONS_MAX));
    }
    for (i, condition) in conditions.iter().enumerate() {
        let at = at.index(i);
        errors.required_text(&at.field("expression"), &condition["expression"], "");
        errors.required_form(&at.field("name"), &condition["name"], names::qualified_name);
        if conditions[..i].iter().any(|other| other["name"] == condition["name"]) {
            errors.duplicate(&at.field("name"), &condition["name"]);
        }
    }
}

fn validate_policy(object: &Value, rules: &str) -> Vec<FieldError> {
    let (spec, at, mut errors) = (&object["spec"], At::ROOT.field("spec"), Errors::default());
    errors.required_one_of(&at.field("failurePolicy"), &spec["failurePolicy"], &["Fail", "Ignore"]);
    if !spec["paramKind"].is_null() {
        let at = at.field("paramKind");
        for field in ["apiVersion", "kind"] {
            errors.required_text(&at.field(field), &spec["paramKind"][field], "");
        }
    }
    let (constraints, constraints_at) = (&spec["matchConstraints"], at.field("matchConstraints"));
    if constraints.is_null() {
        errors.required(&constraints_at, "");
    } else if list(&constraints["resourceRules"]).is_empty() {
        errors.required(&constraints_at.field("resourceRules"), "");
    }
    admission_rules(&constraints["resourceRules"], &constraints_at.field("resourceRules"), &mut errors);
    match_conditions(&spec["matchConditions"], &at.field("matchConditions"), &mut errors);
    if list(&spec[rules]).is_empty() && list(&spec["auditAnnotations"]).is_empty() {
        let detail =
            if rules == "validations" { "validations or auditAnnotations must contain at least one item" } else { "" };
        errors.required(&at.field(rules), detail);
    }
    if rules == "validations" {
        let at = at.field(rules);
        for (i, validation) in list(&spec[rules]).iter().enumerate() {
            errors.required_text(
                &at.index(i).field("expression"),
                &validation["expression"],
                "expression is not specified",
            );
        }
    }
    errors.0
}

fn validate_binding(object: &Value) -> Vec<FieldError> {
    let (spec, at, mut errors) = (&object["spec"], At::ROOT.field("spec"), Errors::default());
    errors.required_form(&at.field("policyName"), &spec["policyName"], names::dns1123_subdomain);
    let (actions, actions_at) = (list(&spec["validationActions"]), at.field("validationActions"));
    if object["kind"] == "ValidatingAdmissionPolicyBinding" && actions.is_empty() {
        errors.required(&actions_at, "at least one validation action is required");
    }
    for (i, action) in actions.iter().enumerate() {
        errors.one_of(&actions_at.index(i), action, &["Audit", "Deny", "Warn"]);
        if actions[..i].contains(action) {
            errors.duplicate(&actions_at.index(i), action);
        }
    }
    let has = |name: &str| actions.iter().any(|action| action == name);
    if has("Deny") && has("Warn") {
        let detail = "must not contain both Deny and Warn (repeating the same validation failure information in the API \
            response and headers serves no purpose)";
        errors.invalid(&actions_at, actions, detail);
    }
    errors.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::check::testing::{Case, check};

    #[test]
    fn webhooks_say_where_they_are() {
        let webhook = |change: fn(&mut Value)| {
            let mut object = json!({"webhooks": [{"name": "a.example.com", "sideEffects": "None", "admissionReviewVersions": ["v1"],
                "clientConfig": {"url": "https://a.example.com"},
                "rules": [{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}]}]});
            change(&mut object["webhooks"][0]);
            (VALIDATING_WEBHOOKS.default)(&mut object);
            object
        };
        let cases: [Case; 5] = [
            ("good", |_| {}, &[]),
            (
                "name",
                |w| w["name"] = json!("a.b"),
                &["webhooks[0].name: Invalid value: \"a.b\": should be a domain with at least three"],
            ),
            (
                "nowhere",
                |w| w["clientConfig"] = json!({}),
                &["webhooks[0].clientConfig: Required value: exactly one of url or service"],
            ),
            (
                "side effects",
                |w| w["sideEffects"] = json!("Some"),
                &["webhooks[0].sideEffects: Unsupported value: \"Some\""],
            ),
            (
                "operations",
                |w| w["rules"][0]["operations"] = json!(["*", "CREATE"]),
                &["webhooks[0].rules[0].operations: Invalid value: ["],
            ),
        ];
        for (case, change, errors) in cases {
            check(case, &validate_webhooks(&webhook(change)), errors);
        }
    }
}
