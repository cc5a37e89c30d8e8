//! Rules over objects.

use mizzen_api::field::{FieldError, Problem};
use mizzen_api::rules::check::At;
use mizzen_cel::{Activation, Budget, EvalError, Program, RUNTIME_BUDGET, Slot, Value};
use serde_json::Value as Json;

use super::compile::{Node, OLD_SELF, Rule, SELF};

/// Bytes of a message that an expression makes.
const MESSAGE_BYTES_MAX: usize = 5 * 1024;

const OVER_BUDGET: &str =
    "validation failed due to running out of cost budget, no further validation rules will be run";

/// All rules that an object breaks; `old` is what it replaces.
pub(super) fn all(node: &Node, object: &Json, old: Option<&Json>) -> Vec<FieldError> {
    let mut walk = Walk { budget: Budget::new(RUNTIME_BUDGET), errors: Vec::new() };
    // The first rule that is over the budget is the last one; what was found is told.
    let _stopped = walk.node(node, object, old, Before::root(old), &At::ROOT);
    walk.errors
}

/// What was there before, for ratcheting: a value that stays as it was may go on breaking rules.
#[derive(Clone, Copy)]
enum Before<'a> {
    /// There is nothing that this replaces.
    New,
    /// This.
    Was(&'a Json),
    /// It cannot be told apart from its neighbours: it stays as it was if all around it does.
    Within { same: bool },
}

impl<'a> Before<'a> {
    fn root(old: Option<&'a Json>) -> Self {
        old.map_or(Self::New, Self::Was)
    }

    /// What was there before a part of `value`.
    fn part(self, value: &Json, part: impl FnOnce(&'a Json) -> Option<&'a Json>) -> Self {
        match self {
            Self::Was(old) => part(old).map_or_else(|| Self::Within { same: old == value }, Self::Was),
            other => other,
        }
    }

    fn same(self, value: &Json) -> bool {
        match self {
            Self::New => false,
            Self::Was(old) => old == value,
            Self::Within { same } => same,
        }
    }
}

/// No more rules are looked at.
struct Stop;

struct Walk {
    budget: Budget,
    errors: Vec<FieldError>,
}

impl Walk {
    fn node(
        &mut self,
        node: &Node,
        value: &Json,
        old: Option<&Json>,
        before: Before<'_>,
        at: &At<'_>,
    ) -> Result<(), Stop> {
        if value.is_null() {
            return Ok(());
        }
        for rule in &node.rules {
            self.rule(node, rule, value, old.filter(|old| !old.is_null()), before, at)?;
        }
        for nested in &node.all_of {
            let before = Before::Within { same: before.same(value) };
            self.node(nested, value, old, before, at)?;
        }
        match value {
            Json::Array(items) => self.items(node, value, items, old, before, at),
            Json::Object(fields) => self.fields(node, value, fields, old, before, at),
            _ => Ok(()),
        }
    }

    fn items(
        &mut self,
        node: &Node,
        value: &Json,
        items: &[Json],
        old: Option<&Json>,
        before: Before<'_>,
        at: &At<'_>,
    ) -> Result<(), Stop> {
        let Some(of) = &node.items else { return Ok(()) };
        for (index, item) in items.iter().enumerate() {
            let same_keys = |other: &&Json| {
                let keys = node.keys.as_deref().unwrap_or_default();
                !keys.is_empty() && keys.iter().all(|key| other[key] == item[key])
            };
            let find = |list: Option<&'_ Json>| -> Option<usize> {
                list?.as_array()?.iter().position(|other| same_keys(&other))
            };
            let counterpart = find(old).and_then(|index| old?.get(index));
            let before = before.part(value, |list| find(Some(list)).and_then(|index| list.get(index)));
            self.node(of, item, counterpart, before, &at.index(index))?;
        }
        Ok(())
    }

    fn fields(
        &mut self,
        node: &Node,
        value: &Json,
        fields: &serde_json::Map<String, Json>,
        old: Option<&Json>,
        before: Before<'_>,
        at: &At<'_>,
    ) -> Result<(), Stop> {
        for (name, field) in fields {
            let (of, at) = match (node.properties.get(name), &node.additional) {
                (Some(of), _) => (of, at.field(name)),
                (None, Some(of)) => (&**of, at.key(name)),
                (None, None) => continue,
            };
            let old = old.and_then(|old| old.get(name));
            self.node(of, field, old, before.part(value, |old| old.get(name)), &at)?;
        }
        Ok(())
    }

    fn add(&mut self, error: FieldError) {
        self.errors.push(error);
    }

    fn rule(
        &mut self,
        node: &Node,
        rule: &Rule,
        value: &Json,
        old: Option<&Json>,
        before: Before<'_>,
        at: &At<'_>,
    ) -> Result<(), Stop> {
        let invalid = |detail: String| FieldError::invalid(shown(at), &node.ty, detail);
        let (program, decl) = match (&rule.condition, &node.decl) {
            (Ok(program), Some(decl)) => (program, decl),
            (Err(why), _) => {
                self.add(invalid(format!("rule compile error: {why}")));
                return Ok(());
            }
            (Ok(_), None) => return Ok(()),
        };
        if rule.uses_old && old.is_none() && !rule.optional_old {
            return Ok(());
        }
        let activation = || {
            let old = old.map(|old| Value::from_json(old, Some(decl)));
            let old = match (old, rule.optional_old) {
                (Some(Ok(old)), true) => Slot::Value(Value::some(old)),
                (None, true) => Slot::Value(Value::Optional(None)),
                (Some(old), _) => Slot::Evaluated(old),
                (None, false) => Slot::Missing,
            };
            let mut activation = Activation::default();
            activation.set(SELF, Slot::Evaluated(Value::from_json(value, Some(decl))));
            activation.set(OLD_SELF, old);
            activation
        };
        match self.eval(program, &mut activation()) {
            Err(Failed::Budget) => {
                self.add(invalid(OVER_BUDGET.to_owned()));
                return Err(Stop);
            }
            Err(Failed::Eval(EvalError::CostLimit)) => {
                let why = EvalError::CostLimit;
                let name = rule.name();
                self.add(invalid(format!(
                    "'{why}': no further validation rules will be run due to call cost exceeds limit for rule: {name}"
                )));
                return Err(Stop);
            }
            Err(Failed::Eval(why @ EvalError::NoSuchOverload)) => {
                let name = rule.name();
                self.add(invalid(format!(
                    "'{why}': call arguments did not match a supported operator, function or macro signature for rule: {name}"
                )));
            }
            Err(Failed::Eval(why)) => self.add(invalid(format!("{why} evaluating rule: {}", rule.name()))),
            Ok(Value::Bool(true)) => {}
            Ok(_) => return self.broken(node, rule, value, before, at, &mut activation()),
        }
        Ok(())
    }

    /// Tells of a broken rule, unless it was broken by the same value before.
    fn broken<'a>(
        &mut self,
        node: &Node,
        rule: &'a Rule,
        value: &Json,
        before: Before<'_>,
        at: &At<'_>,
        activation: &mut Activation<'a>,
    ) -> Result<(), Stop> {
        if !rule.uses_old && before.same(value) {
            return Ok(());
        }
        let path = match &rule.field_path {
            Some(below) => join(&at.to_string(), below),
            None => shown(at),
        };
        let mut detail = match rule.message.is_empty() {
            true => format!("failed rule: {}", rule.source),
            false => rule.message.clone(),
        };
        if let Some(Ok(expression)) = &rule.message_expression {
            match self.message(expression, activation) {
                Ok(Some(message)) => detail = message,
                Ok(None) => {}
                Err(why) => {
                    self.add(FieldError::invalid(path, &node.ty, why));
                    return Err(Stop);
                }
            }
        }
        self.add(error(rule.reason.as_deref(), path, value, detail));
        Ok(())
    }

    /// The message that an expression makes; none if it is no good. An error ends all.
    fn message<'a>(&mut self, program: &'a Program, activation: &mut Activation<'a>) -> Result<Option<String>, String> {
        match self.eval(program, activation) {
            Ok(Value::String(text)) => {
                let text = text.trim();
                let good = !text.is_empty() && text.len() <= MESSAGE_BYTES_MAX && !text.contains('\n');
                Ok(good.then(|| text.to_owned()))
            }
            Err(Failed::Budget) => {
                Err("messageExpression evaluation failed due to running out of cost budget, no further validation rules will be run".to_owned())
            }
            Err(Failed::Eval(EvalError::CostLimit)) => {
                Err("no further validation rules will be run due to call cost exceeds limit for messageExpression".to_owned())
            }
            Ok(_) | Err(Failed::Eval(_)) => Ok(None),
        }
    }

    fn eval<'a>(&mut self, program: &'a Program, activation: &mut Activation<'a>) -> Result<Value<'a>, Failed> {
        if self.budget.left() == 0 {
            return Err(Failed::Budget);
        }
        let result = program.eval(activation, &mut self.budget);
        if self.budget.is_exceeded() { Err(Failed::Budget) } else { result.map_err(Failed::Eval) }
    }
}

enum Failed {
    /// All rules together cost too much.
    Budget,
    Eval(EvalError),
}

/// The place in an error; the object itself has no name.
fn shown(at: &At<'_>) -> String {
    let path = at.to_string();
    if path.is_empty() { "<nil>".to_owned() } else { path }
}

fn join(above: &str, below: &str) -> String {
    match (above, below.starts_with('[')) {
        ("", _) => below.to_owned(),
        (above, true) => format!("{above}{below}"),
        (above, false) => format!("{above}.{below}"),
    }
}

fn error(reason: Option<&str>, path: String, value: &Json, detail: String) -> FieldError {
    let shown = |value: &Json| Some(value.to_string()).filter(|_| !value.is_object() && !value.is_array());
    match reason {
        Some("FieldValueForbidden") => FieldError::forbidden(path, detail),
        Some("FieldValueRequired") => FieldError::required(path, detail),
        Some("FieldValueDuplicate") => {
            FieldError { problem: Problem::Duplicate, path, value: shown(value), detail: String::new() }
        }
        _ => FieldError { problem: Problem::Invalid, path, value: shown(value), detail },
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value as Json, json};

    use super::super::compile::Node;
    use super::all;

    fn check(schema: &Json, object: &Json, old: Option<&Json>, errors: &[&str]) {
        let node = Node::root(schema).unwrap();
        let found = all(&node, object, old).iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(found, errors, "{object}");
    }

    fn of_spec(spec: Json) -> Json {
        json!({"type": "object", "properties": {"spec": spec}})
    }

    #[test]
    fn rules_are_told_with_place_message_and_reason() {
        let rules = json!([
            {"rule": "self.min <= self.max", "message": "min must not be above max"},
            {"rule": "self.min >= 0"},
            {"rule": "self.min != 7", "messageExpression": "'not ' + string(self.min)", "reason": "FieldValueForbidden", "fieldPath": ".min"},
        ]);
        let schema = of_spec(json!({"type": "object", "x-kubernetes-validations": rules, "properties": {
            "min": {"type": "integer", "x-kubernetes-validations": [{"rule": "self < 100"}]}, "max": {"type": "integer"}}}));
        check(&schema, &json!({"spec": {"min": 1, "max": 2}}), None, &[]);
        check(
            &schema,
            &json!({"spec": {"min": 3, "max": 2}}),
            None,
            &["spec: Invalid value: min must not be above max"],
        );
        check(
            &schema,
            &json!({"spec": {"min": -3, "max": 2}}),
            None,
            &["spec: Invalid value: failed rule: self.min >= 0"],
        );
        check(&schema, &json!({"spec": {"min": 7, "max": 9}}), None, &["spec.min: Forbidden: not 7"]);
        check(
            &schema,
            &json!({"spec": {"min": 200, "max": 900}}),
            None,
            &["spec.min: Invalid value: 200: failed rule: self < 100"],
        );
        check(
            &schema,
            &json!({"spec": {"min": 2}}),
            None,
            &["spec: Invalid value: \"object\": no such key: max evaluating rule: min must not be above max"],
        );
        check(&schema, &json!({"spec": null}), None, &[]);
    }

    #[test]
    fn transition_rules_look_at_what_was() {
        let schema = of_spec(json!({"type": "object", "properties": {
            "name": {"type": "string", "x-kubernetes-validations": [{"rule": "self == oldSelf", "message": "is immutable"}]},
            "grow": {"type": "integer", "x-kubernetes-validations": [
                {"rule": "!oldSelf.hasValue() || self >= oldSelf.value()", "optionalOldSelf": true}]},
            "list": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"], "items":
                {"type": "object", "properties": {"k": {"type": "string"}, "v": {"type": "integer", "x-kubernetes-validations": [
                    {"rule": "self >= oldSelf"}]}}}},
        }}));
        let old = json!({"spec": {"name": "a", "grow": 2, "list": [{"k": "x", "v": 1}, {"k": "y", "v": 5}]}});
        check(&schema, &json!({"spec": {"name": "b", "grow": 1}}), None, &[]);
        check(
            &schema,
            &json!({"spec": {"name": "b", "grow": 1}}),
            Some(&old),
            &[
                "spec.name: Invalid value: \"b\": is immutable",
                "spec.grow: Invalid value: 1: failed rule: !oldSelf.hasValue() || self >= oldSelf.value()",
            ],
        );
        check(
            &schema,
            &json!({"spec": {"list": [{"k": "y", "v": 4}, {"k": "x", "v": 1}, {"k": "z", "v": 0}]}}),
            Some(&old),
            &["spec.list[0].v: Invalid value: 4: failed rule: self >= oldSelf"],
        );
    }

    #[test]
    fn what_stays_as_it_was_may_go_on_breaking_rules() {
        let schema = of_spec(json!({"type": "object", "properties": {
            "n": {"type": "integer", "x-kubernetes-validations": [{"rule": "self > 5"}]},
            "other": {"type": "string"},
            "list": {"type": "array", "items": {"type": "string", "x-kubernetes-validations": [{"rule": "self != 'x'"}]}}}}));
        let old = json!({"spec": {"n": 1, "list": ["x"]}});
        check(&schema, &json!({"spec": {"n": 1, "other": "a", "list": ["x"]}}), Some(&old), &[]);
        check(
            &schema,
            &json!({"spec": {"n": 2, "list": ["x", "a"]}}),
            Some(&old),
            &[
                "spec.n: Invalid value: 2: failed rule: self > 5",
                "spec.list[0]: Invalid value: \"x\": failed rule: self != 'x'",
            ],
        );
    }

    #[test]
    fn maps_nested_validations_and_the_root_have_rules_too() {
        let schema = json!({"type": "object", "x-kubernetes-validations": [{"rule": "self.metadata.name != 'bad'", "message": "bad name"}],
            "properties": {"spec": {"type": "object", "additionalProperties": {"type": "string", "x-kubernetes-validations": [
                {"rule": "self.size() < 3"}]}, "allOf": [{"x-kubernetes-validations": [{"rule": "self.size() < 2", "message": "one entry"}]}]}}});
        let object = json!({"metadata": {"name": "bad"}, "spec": {"a": "long", "b": "ok"}});
        check(
            &schema,
            &object,
            None,
            &[
                "<nil>: Invalid value: bad name",
                "spec: Invalid value: one entry",
                "spec[a]: Invalid value: \"long\": failed rule: self.size() < 3",
            ],
        );
    }

    #[test]
    fn rules_that_cost_too_much_end_the_check() {
        let schema = of_spec(json!({"type": "array", "x-kubernetes-validations": [
            {"rule": "self.all(x, self.all(y, x + y >= 0))"}, {"rule": "false"}], "items": {"type": "integer"}}));
        let object = json!({"spec": (0..2000).collect::<Vec<_>>()});
        check(
            &schema,
            &object,
            None,
            &[
                "spec: Invalid value: \"array\": 'operation cancelled: actual cost limit exceeded': no further validation rules will be run due to call cost exceeds limit for rule: self.all(x, self.all(y, x + y >= 0))",
            ],
        );
        let schema = of_spec(json!({"type": "array", "items": {"type": "integer", "x-kubernetes-validations": [
            {"rule": "[1,2,3,4,5,6,7,8,9].all(x, [1,2,3,4,5,6,7,8,9,10,11,12].map(y, y + self).size() > x)"}]}}));
        let object = json!({"spec": vec![1; 20_000]});
        let node = Node::root(&schema).unwrap();
        let found = all(&node, &object, None);
        assert_eq!(found.len(), 1);
        assert!(found[0].detail.contains("running out of cost budget"), "{}", found[0].detail);
    }
}
