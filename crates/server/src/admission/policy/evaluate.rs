//! A policy's expressions about one request with one parameter.

use mizzen_api::key;
use mizzen_api::kind::Kind;
use mizzen_api::status::{ApiError, Subject};
use mizzen_cel::admission::{NAMESPACE, PARAMS, VARIABLES, namespace_decl};
use mizzen_cel::{Activation, Budget, EvalError, MATCH_CONDITIONS_BUDGET, Slot, Value};
use serde_json::{Value as Json, json};

use super::compile::{Expression, Policy};
use crate::admission::Request;
use crate::admission::expressions::Facts;

const OVER_BUDGET: &str =
    "validation failed due to running out of cost budget, no further validation rules will be run";

/// What expressions see.
pub(super) struct Scene<'a> {
    pub policy: &'a Policy,
    pub facts: &'a Facts<'a>,
    pub object: &'a Json,
    pub old: &'a Json,
    pub namespace: &'a Json,
    pub params: &'a Json,
}

/// Why there is no value.
#[derive(Debug)]
pub(super) enum Failed {
    /// In words for people.
    Expression(String),
    /// The policy used up what it may cost.
    Budget,
}

impl Failed {
    pub fn message(self) -> String {
        match self {
            Self::Expression(why) => why,
            Self::Budget => OVER_BUDGET.to_owned(),
        }
    }
}

impl<'a> Scene<'a> {
    /// The values of the variables. Those of the policy are evaluated when they are first asked for, and once for all
    /// expressions that share the activation.
    pub fn activation(&self) -> Activation<'a> {
        let mut activation = self.facts.activation(self.object, self.old);
        let namespace = match self.namespace {
            Json::Null => Slot::Value(Value::Null),
            namespace => Slot::Evaluated(Value::from_json(namespace, Some(namespace_decl()))),
        };
        activation.set(NAMESPACE, namespace);
        activation.set(PARAMS, Slot::Value(Value::untyped(self.params)));
        for (index, variable) in self.policy.variables.iter().enumerate() {
            let slot = match &variable.expression.program {
                Ok(program) => Slot::Lazy { program, name: &variable.name },
                Err(why) => Slot::Evaluated(Err(EvalError::Function(format!(
                    "composited variable {:?} fails to compile: {why}",
                    variable.name
                )))),
            };
            activation.set(VARIABLES + index, slot);
        }
        activation
    }

    /// All match conditions hold. One that does not is enough to know, whatever the others.
    pub fn conditions_hold(&self) -> Result<bool, String> {
        if self.policy.conditions.is_empty() {
            return Ok(true);
        }
        let mut budget = Budget::new(MATCH_CONDITIONS_BUDGET);
        let mut activation = self.activation();
        let mut errors = Vec::new();
        for condition in &self.policy.conditions {
            match evaluate(condition, &mut activation, &mut budget) {
                Ok(Value::Bool(true)) => {}
                Ok(_) => return Ok(false),
                Err(Failed::Budget) => return Err(OVER_BUDGET.to_owned()),
                Err(Failed::Expression(why)) => errors.push(why),
            }
        }
        match errors.as_slice() {
            [] => Ok(true),
            [one] => Err(one.clone()),
            many => Err(format!("[{}]", many.join(", "))),
        }
    }
}

/// The value of an expression, within the budget of its policy.
pub(super) fn evaluate<'a>(
    expression: &'a Expression,
    activation: &mut Activation<'a>,
    budget: &mut Budget,
) -> Result<Value<'a>, Failed> {
    let failed = |why: &str| Failed::Expression(format!("expression '{}' resulted in error: {why}", expression.source));
    let program = expression.program.as_ref().map_err(|why| Failed::Expression(format!("compilation error: {why}")))?;
    if budget.left() == 0 {
        return Err(Failed::Budget);
    }
    let value = program.eval(activation, budget);
    if budget.is_exceeded() {
        return Err(Failed::Budget);
    }
    value.map_err(|why| failed(&why.to_string()))
}

/// The namespace that a request is in, as expressions see it; `Null` outside of namespaces.
pub(super) fn namespace_object(request: &Request<'_>) -> Result<Json, ApiError> {
    let is_namespace = request.kind.group.is_empty() && request.kind.plural == "namespaces";
    if request.namespace.is_empty() || is_namespace {
        return Ok(Json::Null);
    }
    let Some(entry) = request.snapshot.get(&key::object("", "namespaces", "", request.namespace)) else {
        return Err(ApiError::not_found(Subject { group: "", resource: "namespaces" }, request.namespace));
    };
    let namespace: Json = serde_json::from_slice(&entry.value).unwrap_or_default();
    Ok(json!({"metadata": namespace["metadata"], "spec": namespace["spec"], "status": namespace["status"]}))
}

/// What is remembered of a request for all policies that match it in one version.
pub(super) fn facts<'a>(request: &'a Request<'a>, kind: &Kind) -> Facts<'a> {
    Facts::new(request, kind)
}
