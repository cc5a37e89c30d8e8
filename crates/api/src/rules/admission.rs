//! admissionregistration.k8s.io: webhook configurations, admission policies and their bindings.

use serde_json::{Value, json};

use crate::kind::{Column, Generation, Rules};
use crate::rules::cells::{self, UNSET, list, text, text_or};
use crate::rules::fill::{self, Fields};
use crate::rules::plain::{PLAIN, WITH_SPEC_AND_STATUS};

/// Rules of ValidatingWebhookConfigurations.
pub static VALIDATING_WEBHOOKS: Rules = Rules {
    default: |object| webhooks(object, |_| {}),
    generation: Generation::Content,
    unconditional_update: false,
    columns: WEBHOOK_COLUMNS,
    row: webhook_row,
    ..PLAIN
};

/// Rules of MutatingWebhookConfigurations.
pub static MUTATING_WEBHOOKS: Rules = Rules {
    default: |object| webhooks(object, |webhook| fill::optional(webhook, "reinvocationPolicy", "Never")),
    generation: Generation::Content,
    unconditional_update: false,
    columns: WEBHOOK_COLUMNS,
    row: webhook_row,
    ..PLAIN
};

/// Rules of ValidatingAdmissionPolicies.
pub static VALIDATING_POLICY: Rules = Rules {
    default: default_policy,
    unconditional_update: false,
    columns: VALIDATING_COLUMNS,
    row: |object, now| policy_row(object, "validations", now),
    ..WITH_SPEC_AND_STATUS
};

/// Rules of MutatingAdmissionPolicies.
pub static MUTATING_POLICY: Rules = Rules {
    default: default_policy,
    generation: Generation::Spec,
    unconditional_update: false,
    columns: MUTATING_COLUMNS,
    row: |object, now| policy_row(object, "mutations", now),
    ..PLAIN
};

/// Rules of the bindings of admission policies.
pub static POLICY_BINDING: Rules = Rules {
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
