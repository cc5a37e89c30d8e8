//! `matchConditions`: expressions that must all hold for a webhook to be asked.

use std::sync::LazyLock;

use mizzen_api::field::FieldError;
use mizzen_api::kind::Kind;
use mizzen_cel::admission::Variables;
use mizzen_cel::{Budget, Env, MATCH_CONDITIONS_BUDGET, Program, Type, compile};
use serde_json::Value;

use crate::admission::Request;
use crate::admission::expressions::Facts;

static ENVIRONMENT: LazyLock<Env> = LazyLock::new(|| Variables::untyped(false, true).environment());

/// The conditions of a webhook.
#[derive(Debug, Default)]
pub(crate) struct Conditions(Vec<Condition>);

#[derive(Debug)]
struct Condition {
    expression: String,
    /// Or why it cannot be evaluated; validation lets no such condition in.
    program: Result<Program, String>,
}

impl Conditions {
    /// Compiles a list of conditions.
    pub fn compile(conditions: &Value) -> Self {
        let expressions = conditions.as_array().into_iter().flatten().filter_map(|c| c["expression"].as_str());
        Self(expressions.map(|text| Condition { expression: text.into(), program: program(text) }).collect())
    }

    /// There are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether all hold.
    ///
    /// # Errors
    /// Why that cannot be told. One condition that does not hold is enough to know, whatever the others.
    pub fn hold(&self, request: &Request<'_>, kind: &Kind, object: &Value, old: &Value) -> Result<bool, String> {
        let facts = Facts::new(request, kind);
        let mut budget = Budget::new(MATCH_CONDITIONS_BUDGET);
        let mut errors = Vec::new();
        for condition in &self.0 {
            let outcome = match &condition.program {
                Ok(program) => program
                    .eval(&mut facts.activation(object, old), &mut budget)
                    .map(|value| value.as_bool())
                    .map_err(|error| error.to_string()),
                Err(why) => Err(why.clone()),
            };
            if budget.left() == 0 {
                let why =
                    "validation failed due to running out of cost budget, no further validation rules will be run";
                return Err(why.into());
            }
            match outcome {
                Ok(Some(true)) => {}
                Ok(Some(false)) => return Ok(false),
                Ok(None) => errors.push(format!("expression '{}' is no condition", condition.expression)),
                Err(why) => errors.push(format!("expression '{}' resulted in error: {why}", condition.expression)),
            }
        }
        match errors.as_slice() {
            [] => Ok(true),
            [one] => Err(one.clone()),
            many => Err(format!("[{}]", many.join(", "))),
        }
    }
}

fn program(expression: &str) -> Result<Program, String> {
    let program = compile(expression, &ENVIRONMENT).map_err(|error| format!("compilation failed: {error}"))?;
    match program.ty() {
        Type::Bool | Type::Dyn => Ok(program),
        _ => Err("must evaluate to bool".into()),
    }
}

/// What is wrong with the conditions of a webhook configuration, beside what is known without compiling them.
pub(crate) fn check(configuration: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (i, webhook) in configuration["webhooks"].as_array().into_iter().flatten().enumerate() {
        for (j, condition) in webhook["matchConditions"].as_array().into_iter().flatten().enumerate() {
            let expression = condition["expression"].as_str().unwrap_or_default().trim();
            if expression.is_empty() {
                continue; // Required, as others say.
            }
            if let Err(why) = program(expression) {
                errors.push(FieldError::invalid(
                    format!("webhooks[{i}].matchConditions[{j}].expression"),
                    expression,
                    why,
                ));
            }
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::admission::testing::Case;

    #[test]
    fn all_conditions_must_hold() {
        let object = json!({"metadata": {"labels": {"a": "b"}}});
        for (expressions, expected) in [
            (vec!["true"], "yes"),
            (vec!["true", "false"], "no"),
            (vec!["object.metadata.labels.a == 'b'", "oldObject == null"], "yes"),
            (vec!["request.operation == 'CREATE' && request.kind.kind == 'Pod' && request.namespace == 'n'"], "yes"),
            (vec!["request.userInfo.username == 'someone' && !request.dryRun"], "yes"),
            (vec!["authorizer.group('').resource('pods').namespace('n').check('create').allowed()"], "no"),
            (vec!["authorizer.requestResource.check('create').allowed()"], "no"),
            (
                vec!["object.metadata.nothing == 1"],
                "expression 'object.metadata.nothing == 1' resulted in error: no such key: nothing",
            ),
            (vec!["object.metadata.nothing == 1", "false"], "no"),
        ] {
            let conditions: Value = expressions.iter().map(|e| json!({"name": "x", "expression": e})).collect();
            let got = Case::new(vec![]).of("create", "pods", "n/a").with_request(|request| {
                Conditions::compile(&conditions).hold(request, request.kind, &object, &Value::Null)
            });
            let got = got.map(|holds| if holds { "yes" } else { "no" }.to_string()).unwrap_or_else(|why| why);
            assert_eq!(got, expected, "{expressions:?}");
        }
    }

    #[test]
    fn conditions_are_checked_when_they_are_written() {
        let with = |expression: &str| {
            let conditions = json!([{"name": "a", "expression": expression}]);
            check(&json!({"webhooks": [{"matchConditions": conditions}]})).iter().map(ToString::to_string).collect()
        };
        let none: Vec<String> = with("object.metadata.name == 'x'");
        assert!(none.is_empty(), "{none:?}");
        let errors: Vec<String> = with("... [][]][][^1232");
        assert!(errors[0].starts_with("webhooks[0].matchConditions[0].expression: Invalid value: \"... [][]][][^1232\": compilation failed: ERROR: <input>:1:1"), "{errors:?}");
        let errors: Vec<String> = with("'text'");
        assert!(errors[0].ends_with("must evaluate to bool"), "{errors:?}");
        let errors: Vec<String> = with("params.x == 1");
        assert!(errors[0].contains("undeclared reference to 'params'"), "{errors:?}");
    }
}
