//! From schemas to trees of compiled rules.

use std::collections::BTreeMap;
use std::sync::Arc;

use mizzen_cel::{Decl, Env, Program, Type, compile};
use serde_json::Value;

use super::field_path;

/// Schemas nest this deep at most; what is below has no rules.
const DEPTH_MAX: usize = 100;
/// Places of the variables.
pub(super) const SELF: usize = 0;
pub(super) const OLD_SELF: usize = 1;

/// A node of a schema that has rules, or has them below.
#[derive(Debug)]
pub(super) struct Node {
    /// The type that the schema names, which errors show.
    pub ty: String,
    /// What the values are; none if they are nothing that rules may see.
    pub decl: Option<Arc<Decl>>,
    pub rules: Vec<Rule>,
    /// Rules of nested validations over the same values.
    pub all_of: Vec<Node>,
    pub properties: BTreeMap<String, Node>,
    pub additional: Option<Box<Node>>,
    pub items: Option<Box<Node>>,
    /// Fields by which an item is found again in the old list; none: it is not.
    pub keys: Option<Vec<String>>,
}

/// A rule.
#[derive(Debug)]
pub(super) struct Rule {
    /// The condition; `Err`: what is wrong with it.
    pub condition: Result<Program, String>,
    /// What makes the message; `Err`: what is wrong with it.
    pub message_expression: Option<Result<Program, String>>,
    /// It speaks of the old value.
    pub uses_old: bool,
    /// `optionalOldSelf`.
    pub optional_old: bool,
    /// Where errors are, below the node.
    pub field_path: Option<String>,
    pub message: String,
    pub reason: Option<String>,
    pub source: String,
}

impl Node {
    /// The tree of a whole resource's schema.
    pub fn root(schema: &Value) -> Option<Self> {
        if !has_rules(schema, 0) {
            return None;
        }
        Self::read(schema, schema, true, 0)
    }

    /// The rules of `rules` over the values of `schema`, which differ in nested validations only.
    fn read(rules: &Value, schema: &Value, root: bool, depth: usize) -> Option<Self> {
        if depth > DEPTH_MAX {
            return None;
        }
        let below = |rules: &Value, schema: &Value| {
            let embedded = schema["x-kubernetes-embedded-resource"] == true;
            if schema.is_object() { Self::read(rules, schema, embedded, depth + 1) } else { None }
        };
        let own = rules["x-kubernetes-validations"].as_array().map(Vec::as_slice).unwrap_or_default();
        let decl = if own.is_empty() { None } else { Decl::from_schema(schema, "selfType", root) };
        let properties = rules["properties"]
            .as_object()
            .into_iter()
            .flatten()
            .filter_map(|(name, property)| Some((name.clone(), below(property, &schema["properties"][name])?)));
        let all_of = rules["allOf"].as_array().into_iter().flatten();
        let node = Self {
            ty: schema["type"].as_str().unwrap_or_default().to_owned(),
            rules: own.iter().filter_map(|rule| Rule::read(rule, decl.as_ref(), schema)).collect(),
            all_of: all_of.filter_map(|nested| Self::read(nested, schema, root, depth + 1)).collect(),
            properties: properties.collect(),
            additional: below(&rules["additionalProperties"], &schema["additionalProperties"]).map(Box::new),
            items: below(&rules["items"], &schema["items"]).map(Box::new),
            keys: (schema["x-kubernetes-list-type"] == "map").then(|| {
                let keys = schema["x-kubernetes-list-map-keys"].as_array().into_iter().flatten();
                keys.filter_map(Value::as_str).map(str::to_owned).collect()
            }),
            decl,
        };
        (!node.is_empty()).then_some(node)
    }

    fn is_empty(&self) -> bool {
        let below = self.additional.is_none() && self.items.is_none();
        self.rules.is_empty() && self.all_of.is_empty() && self.properties.is_empty() && below
    }
}

/// There are rules in the schema or below; cheap, for most have none.
fn has_rules(schema: &Value, depth: usize) -> bool {
    match schema {
        Value::Object(fields) if depth < 2 * DEPTH_MAX => {
            let own = fields.get("x-kubernetes-validations").and_then(Value::as_array);
            own.is_some_and(|rules| !rules.is_empty()) || fields.values().any(|value| has_rules(value, depth + 1))
        }
        Value::Array(items) if depth < 2 * DEPTH_MAX => items.iter().any(|value| has_rules(value, depth + 1)),
        _ => false,
    }
}

impl Rule {
    /// None for a rule that says nothing.
    pub fn read(rule: &Value, decl: Option<&Arc<Decl>>, schema: &Value) -> Option<Self> {
        let text = |field: &str| rule[field].as_str().unwrap_or_default();
        let source = text("rule");
        if source.trim().is_empty() {
            return None;
        }
        let optional_old = rule["optionalOldSelf"] == true;
        let Some(decl) = decl else {
            return Some(Self::broken(rule, "failed to convert to declType for CEL validation rules".to_owned()));
        };
        let old = if optional_old { Decl::of(Type::optional(decl.ty.clone())) } else { decl.clone() };
        let env = Env::new().with("self", decl.clone()).with("oldSelf", old);
        let condition =
            expression(source, &env, &Type::Bool, "compilation failed: ", "cel expression must evaluate to a bool");
        let message_expression = match text("messageExpression") {
            "" => None,
            source => {
                let wrong = "messageExpression must evaluate to a string";
                Some(expression(source, &env, &Type::String, "messageExpression compilation failed: ", wrong))
            }
        };
        Some(Self {
            uses_old: condition.as_ref().is_ok_and(|program| program.reads(OLD_SELF)),
            condition,
            message_expression,
            field_path: field_path::normalized(text("fieldPath"), schema).ok().filter(|path| !path.is_empty()),
            ..Self::broken(rule, String::new())
        })
    }

    fn broken(rule: &Value, why: String) -> Self {
        let text = |field: &str| rule[field].as_str().unwrap_or_default().trim().to_owned();
        Self {
            condition: Err(why),
            message_expression: None,
            uses_old: false,
            optional_old: rule["optionalOldSelf"] == true,
            field_path: None,
            message: text("message"),
            reason: rule["reason"].as_str().map(str::to_owned),
            source: text("rule"),
        }
    }

    /// How errors name the rule.
    pub fn name(&self) -> &str {
        if self.message.is_empty() { &self.source } else { &self.message }
    }
}

fn expression(source: &str, env: &Env, ty: &Type, failed: &str, wrong: &str) -> Result<Program, String> {
    let program = compile(source, env).map_err(|error| format!("{failed}{error}"))?;
    if program.ty() == ty { Ok(program) } else { Err(wrong.to_owned()) }
}
