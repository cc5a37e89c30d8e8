//! The validating phase: each policy that a request matches is evaluated for each of its bindings.

use std::collections::BTreeMap;

use mizzen_api::status::ApiError;
use mizzen_cel::{Budget, RUNTIME_BUDGET, Value};
use serde_json::{Value as Json, json};

use super::compile::{Annotation, Binding, Policy, Validation};
use super::evaluate::{Failed, Scene, evaluate, facts, namespace_object};
use super::params;
use crate::admission::Request;
use crate::admission::dynamic::Asking;
use crate::admission::webhook::in_version;

/// Bytes of a message that an expression makes.
const MESSAGE_BYTES_MAX: usize = 5 * 1024;
/// Bytes of the value of an audit annotation.
const ANNOTATION_BYTES_MAX: usize = 10 * 1024;

/// Evaluates all policies that the request concerns, and refuses it if one does.
pub(crate) async fn run(
    request: &Request<'_>,
    asking: &Asking<'_>,
    object: &Json,
    old: Option<&Json>,
) -> Result<(), ApiError> {
    let mut denied = Vec::new();
    for policy in &asking.bound.validating {
        policy_on(request, asking, policy, (object, old), &mut denied).await?;
    }
    match denied.into_iter().next() {
        Some(first) => Err(first.refuse(request, object)),
        None => Ok(()),
    }
}

/// A refusal.
struct Denied {
    policy: String,
    binding: Option<String>,
    message: String,
    reason: String,
}

impl Denied {
    fn refuse(self, request: &Request<'_>, object: &Json) -> ApiError {
        let by = match self.binding {
            Some(binding) => format!("'{}' with binding '{binding}'", self.policy),
            None => format!("'{}'", self.policy),
        };
        let message = format!("ValidatingAdmissionPolicy {by} denied request: {}", self.message);
        let reason = if self.reason.is_empty() { "Invalid".to_owned() } else { self.reason };
        let mut error = request.forbidden(object, &message);
        error.code = match reason.as_str() {
            "Unauthorized" => 401,
            "Forbidden" => 403,
            "RequestEntityTooLarge" => 413,
            _ => 422,
        };
        error.reason = reason.into();
        error.with_cause("", &message, "")
    }
}

/// What is told of a policy: to the client, the audit log, or as a refusal.
struct Verdicts<'v> {
    policy: &'v Policy,
    denied: &'v mut Vec<Denied>,
    /// Values by key, of all bindings.
    annotations: BTreeMap<String, Vec<String>>,
}

impl Verdicts<'_> {
    /// The policy cannot be evaluated as it is set up.
    fn misconfigured(&mut self, binding: Option<&Binding>, why: &str) {
        if self.policy.fails {
            let what = if binding.is_some() { "binding" } else { "policy" };
            self.deny(binding, format!("failed to configure {what}: {why}"), String::new());
        }
    }

    fn deny(&mut self, binding: Option<&Binding>, message: String, reason: String) {
        let binding = binding.map(|binding| binding.name.clone());
        self.denied.push(Denied { policy: self.policy.name.clone(), binding, message, reason });
    }
}

async fn policy_on(
    request: &Request<'_>,
    asking: &Asking<'_>,
    policy: &Policy,
    (object, old): (&Json, Option<&Json>),
    denied: &mut Vec<Denied>,
) -> Result<(), ApiError> {
    let mut verdicts = Verdicts { policy, denied, annotations: BTreeMap::new() };
    let kind = match policy.criteria.matches(request, object, old) {
        Ok(Some(kind)) => kind,
        Ok(None) => return Ok(()),
        Err(error) => {
            verdicts.misconfigured(None, &error.message);
            return Ok(());
        }
    };
    let source = match params::source(request, asking, policy) {
        Ok(source) => source,
        Err(why) => {
            verdicts.misconfigured(None, &why);
            return Ok(());
        }
    };
    let facts = facts(request, kind);
    let shown = in_version(request, object, kind).await?;
    let old_shown = match old {
        Some(old) => Some(in_version(request, old, kind).await?),
        None => None,
    };
    let namespace = namespace_object(request)?;
    for binding in &policy.bindings {
        match binding.criteria.matches(request, object, old) {
            Ok(Some(_)) => {}
            Ok(None) => continue,
            Err(error) => {
                verdicts.misconfigured(Some(binding), &error.message);
                continue;
            }
        }
        let params = match params::collect(request, asking, source.as_ref(), binding).await {
            Ok(params) => params,
            Err(why) => {
                verdicts.misconfigured(Some(binding), &why);
                continue;
            }
        };
        for params in &params {
            let old = old_shown.as_deref().unwrap_or(&Json::Null);
            let scene = Scene { policy, facts: &facts, object: &shown, old, namespace: &namespace, params };
            judge(&scene, asking, binding, &mut verdicts);
        }
    }
    for (key, values) in verdicts.annotations {
        asking.outside.notes.annotate(&format!("{}/{key}", policy.name), &values.join(", "), false);
    }
    Ok(())
}

/// What comes of one validation.
enum Outcome {
    Admit,
    Deny { message: String, reason: String },
}

/// Evaluates a policy for one binding and one parameter.
fn judge(scene: &Scene<'_>, asking: &Asking<'_>, binding: &Binding, verdicts: &mut Verdicts<'_>) {
    let policy = scene.policy;
    match scene.conditions_hold() {
        Ok(true) => {}
        Ok(false) => return,
        Err(why) => {
            act(asking, binding, verdicts, 0, failure(policy, why));
            return;
        }
    }
    let mut budget = Budget::new(RUNTIME_BUDGET);
    let mut activation = scene.activation();
    let mut outcomes = Vec::new();
    for validation in &policy.validations {
        match evaluate(&validation.condition, &mut activation, &mut budget) {
            Ok(Value::Bool(true)) => outcomes.push(Outcome::Admit),
            Ok(_) => {
                let reason = validation.reason.clone();
                let message = message(validation, &mut activation, &mut budget);
                outcomes.push(match message {
                    Ok(message) => Outcome::Deny { message, reason },
                    Err(why) => failure(policy, format!("failed messageExpression: {why}")),
                });
            }
            // Beyond the budget nothing is decided, not even what was found before.
            Err(Failed::Budget) => {
                outcomes = vec![failure(policy, Failed::Budget.message())];
                break;
            }
            Err(failed) => outcomes.push(failure(policy, failed.message())),
        }
    }
    for (index, outcome) in outcomes.into_iter().enumerate() {
        act(asking, binding, verdicts, index, outcome);
    }
    let mut budget = Budget::new(RUNTIME_BUDGET);
    for annotation in &policy.annotations {
        match annotated(annotation, &mut activation, &mut budget) {
            Ok(Some(value)) => {
                let values = verdicts.annotations.entry(annotation.key.clone()).or_default();
                if !values.contains(&value) {
                    values.push(value);
                }
            }
            Ok(None) => {}
            Err(why) if policy.fails => verdicts.deny(Some(binding), why, String::new()),
            Err(_) => {}
        }
    }
}

fn failure(policy: &Policy, message: String) -> Outcome {
    if policy.fails { Outcome::Deny { message, reason: String::new() } } else { Outcome::Admit }
}

/// What the client is told when a validation does not hold.
fn message<'a>(
    validation: &'a Validation,
    activation: &mut mizzen_cel::Activation<'a>,
    budget: &mut Budget,
) -> Result<String, String> {
    if let Some(expression) = &validation.message_expression {
        match evaluate(expression, activation, budget) {
            Ok(Value::String(text)) => {
                let text = text.trim();
                if !text.is_empty() && text.len() <= MESSAGE_BYTES_MAX && !text.contains('\n') {
                    return Ok(text.to_owned());
                }
            }
            Err(Failed::Budget) => return Err(Failed::Budget.message()),
            Ok(_) | Err(Failed::Expression(_)) => {}
        }
    }
    Ok(match validation.message.is_empty() {
        false => validation.message.clone(),
        true => format!("failed expression: {}", validation.condition.source.trim()),
    })
}

fn act(asking: &Asking<'_>, binding: &Binding, verdicts: &mut Verdicts<'_>, index: usize, outcome: Outcome) {
    let Outcome::Deny { message, reason } = outcome else { return };
    let policy = &verdicts.policy.name;
    if binding.warn {
        asking.outside.notes.warn(&format!(
            "Validation failed for ValidatingAdmissionPolicy '{policy}' with binding '{}': {message}",
            binding.name
        ));
    }
    if binding.audit {
        let value = json!([{"message": message, "policy": policy, "binding": binding.name,
            "expressionIndex": index, "validationActions": binding.actions}]);
        let key = "validation.policy.admission.k8s.io/validation_failure";
        asking.outside.notes.annotate(key, &value.to_string(), false);
    }
    if binding.deny {
        verdicts.deny(Some(binding), message, reason);
    }
}

/// The value of an annotation; none if there is nothing to say.
fn annotated<'a>(
    annotation: &'a Annotation,
    activation: &mut mizzen_cel::Activation<'a>,
    budget: &mut Budget,
) -> Result<Option<String>, String> {
    match evaluate(&annotation.value, activation, budget) {
        Ok(Value::String(text)) => {
            let text = text.trim();
            let end = (0..=text.len().min(ANNOTATION_BYTES_MAX)).rev().find(|at| text.is_char_boundary(*at));
            Ok(Some(text[..end.unwrap_or(0)].to_owned()).filter(|text| !text.is_empty()))
        }
        Ok(Value::Null) => Ok(None),
        Ok(other) => Err(format!(
            "valueExpression '{}' resulted in unsupported return type: {}. Return type must be either string or null.",
            annotation.value.source,
            other.type_of()
        )),
        Err(failed) => Err(failed.message()),
    }
}
