//! What is wrong with the expressions of a policy when it is written.

use mizzen_api::field::FieldError;
use serde_json::Value;

use super::compile::{Environments, Expression};

/// All that does not compile. What was so before an update is let pass.
pub(crate) fn check(policy: &Value, old: Option<&Value>) -> Vec<FieldError> {
    if old.is_some_and(|old| old["spec"] == policy["spec"]) {
        return Vec::new();
    }
    let mut errors = expressions(&policy["spec"]);
    if let (false, Some(old)) = (errors.is_empty(), old) {
        let before = expressions(&old["spec"]);
        errors.retain(|error| !before.contains(error));
    }
    errors
}

fn expressions(spec: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut add = |at: String, source: &Value, compile: &mut dyn FnMut(&str) -> Expression| {
        // Those that are missing are told of elsewhere.
        let Some(text) = source.as_str().filter(|text| !text.trim().is_empty()) else { return };
        if let Err(why) = compile(text).program {
            errors.push(FieldError::invalid(at, text, why));
        }
    };
    let list = |field: &str| spec[field].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut environments = Environments::new(spec);
    for (index, variable) in list("variables").iter().enumerate() {
        let name = variable["name"].as_str().unwrap_or_default();
        add(format!("spec.variables[{index}].expression"), &variable["expression"], &mut |source| {
            environments.variable(name, source)
        });
    }
    for (index, condition) in list("matchConditions").iter().enumerate() {
        let at = format!("spec.matchConditions[{index}].expression");
        add(at, &condition["expression"], &mut |source| environments.condition(source));
    }
    for (index, validation) in list("validations").iter().enumerate() {
        let at = format!("spec.validations[{index}]");
        add(format!("{at}.expression"), &validation["expression"], &mut |source| environments.validation(source));
        add(format!("{at}.messageExpression"), &validation["messageExpression"], &mut |source| {
            environments.message(source)
        });
    }
    for (index, annotation) in list("auditAnnotations").iter().enumerate() {
        let at = format!("spec.auditAnnotations[{index}].valueExpression");
        add(at, &annotation["valueExpression"], &mut |source| environments.annotation(source));
    }
    for (index, mutation) in list("mutations").iter().enumerate() {
        let at = format!("spec.mutations[{index}]");
        add(
            format!("{at}.applyConfiguration.expression"),
            &mutation["applyConfiguration"]["expression"],
            &mut |source| environments.apply(source),
        );
        add(format!("{at}.jsonPatch.expression"), &mutation["jsonPatch"]["expression"], &mut |source| {
            environments.patch(source)
        });
    }
    errors
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::check;

    #[test]
    fn expressions_have_to_compile() {
        let errors = |spec| check(&json!({"spec": spec}), None).iter().map(ToString::to_string).collect::<Vec<_>>();
        assert!(
            errors(json!({
                "paramKind": {"apiVersion": "v1", "kind": "ConfigMap"},
                "variables": [{"name": "n", "expression": "object.spec.replicas"}, {"name": "m", "expression": "variables.n + 1"}],
                "matchConditions": [{"name": "c", "expression": "request.operation == 'CREATE'"}],
                "validations": [{"expression": "variables.m < int(params.data.max)", "messageExpression": "'at most ' + params.data.max"}],
                "auditAnnotations": [{"key": "k", "valueExpression": "namespaceObject.metadata.name"}],
                "mutations": [
                    {"applyConfiguration": {"expression": "Object{spec: Object.spec{replicas: 1}}"}},
                    {"jsonPatch": {"expression": "[JSONPatch{op: 'add', path: '/a/' + jsonpatch.escapeKey('b'), value: Object.a{b: 1}}]"}}],
            }))
            .is_empty()
        );
        for (spec, error) in [
            (
                json!({"validations": [{"expression": "object.x"}]}),
                "spec.validations[0].expression: Invalid value: \"object.x\": must evaluate to bool but got dyn",
            ),
            (json!({"validations": [{"expression": "params.x == 1"}]}), "undeclared reference to 'params'"),
            (json!({"validations": [{"expression": "variables.x == 1"}]}), "undeclared reference to 'variables'"),
            (
                json!({"validations": [{"expression": "true", "messageExpression": "authorizer.path('/').check('get').reason()"}]}),
                "undeclared reference to 'authorizer'",
            ),
            (
                json!({"variables": [{"name": "a", "expression": "variables.b"}, {"name": "b", "expression": "1"}]}),
                "spec.variables[0].expression",
            ),
            (
                json!({"variables": [{"name": "a", "expression": "1"}], "matchConditions": [{"name": "c", "expression": "variables.a == 1"}]}),
                "spec.matchConditions[0].expression",
            ),
            (
                json!({"auditAnnotations": [{"key": "k", "valueExpression": "1"}]}),
                "must evaluate to one of [string null_type] but got int",
            ),
            (
                json!({"mutations": [{"applyConfiguration": {"expression": "1"}}]}),
                "must evaluate to Object but got int",
            ),
            (
                json!({"mutations": [{"jsonPatch": {"expression": "[JSONPatch{operation: 'add'}]"}}]}),
                "undefined field 'operation'",
            ),
        ] {
            let found = errors(spec.clone());
            assert_eq!(found.len(), 1, "{spec} {found:?}");
            assert!(found[0].contains(error), "{found:?}");
        }
    }
}
