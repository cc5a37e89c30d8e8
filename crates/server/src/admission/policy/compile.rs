//! Policies and bindings, read and compiled.

use mizzen_api::selector::LabelSelector;
use mizzen_cel::admission::Variables;
use mizzen_cel::{Decl, Env, ObjectType, Objects, Program, Type, compile};
use serde_json::Value;

use crate::admission::matching::Criteria;

/// A policy with the bindings that put it into effect.
#[derive(Debug)]
pub(crate) struct Policy {
    pub name: String,
    pub criteria: Criteria,
    pub param_kind: Option<ParamKind>,
    /// Errors refuse the request.
    pub fails: bool,
    pub conditions: Vec<Expression>,
    /// The variables in their order, which is that of their places.
    pub variables: Vec<Variable>,
    pub validations: Vec<Validation>,
    pub annotations: Vec<Annotation>,
    pub mutations: Vec<Mutation>,
    /// It is asked again when others changed the object after it.
    pub reinvoked: bool,
    pub bindings: Vec<Binding>,
}

/// The kind of parameters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ParamKind {
    pub group: String,
    pub version: String,
    pub kind: String,
}

/// An expression; `Err`: what is wrong with it.
#[derive(Debug)]
pub(crate) struct Expression {
    pub source: String,
    pub program: Result<Program, String>,
}

#[derive(Debug)]
pub(crate) struct Variable {
    pub name: String,
    pub expression: Expression,
}

#[derive(Debug)]
pub(crate) struct Validation {
    pub condition: Expression,
    pub message_expression: Option<Expression>,
    pub message: String,
    pub reason: String,
}

#[derive(Debug)]
pub(crate) struct Annotation {
    pub key: String,
    pub value: Expression,
}

#[derive(Debug)]
pub(crate) enum Mutation {
    /// A partial object that is put over the object.
    Apply(Expression),
    /// Operations of a JSON patch.
    Patch(Expression),
}

/// What puts a policy into effect, where, and with which parameters.
#[derive(Debug)]
pub(crate) struct Binding {
    pub name: String,
    pub criteria: Criteria,
    pub param_ref: Option<ParamRef>,
    pub deny: bool,
    pub warn: bool,
    pub audit: bool,
    /// As they are written, for the audit log.
    pub actions: Value,
}

#[derive(Debug)]
pub(crate) struct ParamRef {
    pub name: String,
    pub namespace: String,
    pub selector: Option<LabelSelector>,
    /// Without parameters the request is refused.
    pub required: bool,
}

fn text(value: &Value, field: &str) -> String {
    value[field].as_str().unwrap_or_default().to_owned()
}

fn list<'v>(value: &'v Value, field: &str) -> impl Iterator<Item = &'v Value> {
    value[field].as_array().into_iter().flatten()
}

/// The environments of a policy's expressions. All have the same variables in the same places; those that an expression
/// may not name are there without a name.
pub(super) struct Environments {
    /// With the authorizer, and the variables declared so far.
    full: Env,
    /// Without the authorizer.
    plain: Env,
    /// Without variables.
    conditions: Env,
}

impl Environments {
    pub fn new(spec: &Value) -> Self {
        let has_params = spec["paramKind"].is_object();
        let full = Variables::untyped(has_params, true).environment();
        let plain = Variables::untyped(has_params, false).environment();
        Self { conditions: full.clone(), full, plain }
    }

    /// Compiles a variable and declares it.
    pub fn variable(&mut self, name: &str, source: &str) -> Expression {
        let expression = expression(source, &self.full, &[]);
        let ty = expression.program.as_ref().map_or(Type::Dyn, |program| program.ty().clone());
        for env in [&mut self.full, &mut self.plain] {
            env.declare(format!("variables.{name}"), Decl::of(ty.clone()));
        }
        expression
    }

    pub fn condition(&self, source: &str) -> Expression {
        expression(source, &self.conditions, &[Type::Bool])
    }

    pub fn validation(&self, source: &str) -> Expression {
        expression(source, &self.full, &[Type::Bool])
    }

    pub fn message(&self, source: &str) -> Expression {
        expression(source, &self.plain, &[Type::String])
    }

    pub fn annotation(&self, source: &str) -> Expression {
        expression(source, &self.plain, &[Type::String, Type::Null])
    }

    pub fn apply(&self, source: &str) -> Expression {
        let env = self.full.clone().making(Objects::Mutation);
        expression(source, &env, &[Type::Object(ObjectType::open("Object"))])
    }

    pub fn patch(&self, source: &str) -> Expression {
        let env = self.full.clone().making(Objects::Mutation);
        expression(source, &env, &[Type::list(Type::Object(ObjectType::open("JSONPatch")))])
    }
}

/// Compiles an expression, which must be of one of these types; none: of any.
fn expression(source: &str, env: &Env, types: &[Type]) -> Expression {
    let program = compile(source, env).map_err(|error| format!("compilation failed: {error}")).and_then(|program| {
        if types.is_empty() || types.contains(program.ty()) {
            return Ok(program);
        }
        let name = |ty: &Type| if *ty == Type::Null { "null_type".to_owned() } else { ty.to_string() };
        let wanted = types.iter().map(name).collect::<Vec<_>>().join(" ");
        let found = name(program.ty());
        Err(match types.len() {
            1 => format!("must evaluate to {wanted} but got {found}"),
            _ => format!("must evaluate to one of [{wanted}] but got {found}"),
        })
    });
    Expression { source: source.to_owned(), program }
}

impl Policy {
    pub fn read(object: &Value, bindings: Vec<Binding>) -> Self {
        let spec = &object["spec"];
        let mut environments = Environments::new(spec);
        let variables = list(spec, "variables").map(|variable| {
            let name = text(variable, "name");
            let expression = environments.variable(&name, variable["expression"].as_str().unwrap_or_default());
            Variable { name, expression }
        });
        let variables = variables.collect();
        let source = |value: &Value, field: &str| text(value, field);
        Self {
            name: text(&object["metadata"], "name"),
            criteria: Criteria::of_match_resources(&spec["matchConstraints"], false),
            param_kind: ParamKind::read(&spec["paramKind"]),
            fails: spec["failurePolicy"] != "Ignore",
            conditions: list(spec, "matchConditions")
                .map(|condition| environments.condition(&source(condition, "expression")))
                .collect(),
            variables,
            validations: list(spec, "validations")
                .map(|validation| Validation::read(validation, &environments))
                .collect(),
            annotations: list(spec, "auditAnnotations")
                .map(|annotation| Annotation {
                    key: text(annotation, "key"),
                    value: environments.annotation(&source(annotation, "valueExpression")),
                })
                .collect(),
            mutations: list(spec, "mutations").map(|mutation| Mutation::read(mutation, &environments)).collect(),
            reinvoked: spec["reinvocationPolicy"] == "IfNeeded",
            bindings,
        }
    }
}

impl Validation {
    fn read(validation: &Value, environments: &Environments) -> Self {
        let message_expression = text(validation, "messageExpression");
        Self {
            condition: environments.validation(&text(validation, "expression")),
            message_expression: (!message_expression.is_empty()).then(|| environments.message(&message_expression)),
            message: text(validation, "message").trim().to_owned(),
            reason: text(validation, "reason"),
        }
    }
}

impl Mutation {
    fn read(mutation: &Value, environments: &Environments) -> Self {
        match mutation["patchType"].as_str() {
            Some("JSONPatch") => Self::Patch(environments.patch(&text(&mutation["jsonPatch"], "expression"))),
            _ => Self::Apply(environments.apply(&text(&mutation["applyConfiguration"], "expression"))),
        }
    }
}

impl ParamKind {
    fn read(kind: &Value) -> Option<Self> {
        if !kind.is_object() {
            return None;
        }
        let version = text(kind, "apiVersion");
        let (group, version) = version.split_once('/').unwrap_or(("", &version));
        Some(Self { group: group.to_owned(), version: version.to_owned(), kind: text(kind, "kind") })
    }
}

impl Binding {
    pub fn read(object: &Value) -> Self {
        let spec = &object["spec"];
        let acts = |action: &str| list(spec, "validationActions").any(|given| given == action);
        let param_ref = &spec["paramRef"];
        Self {
            name: text(&object["metadata"], "name"),
            criteria: Criteria::of_match_resources(&spec["matchResources"], true),
            param_ref: param_ref.is_object().then(|| ParamRef {
                name: text(param_ref, "name"),
                namespace: text(param_ref, "namespace"),
                selector: param_ref["selector"].is_object().then(|| {
                    // Validation refuses selectors that cannot be read.
                    LabelSelector::from_object(&param_ref["selector"]).unwrap_or_else(|_| LabelSelector::nothing())
                }),
                required: param_ref["parameterNotFoundAction"] == "Deny",
            }),
            deny: acts("Deny"),
            warn: acts("Warn"),
            audit: acts("Audit"),
            actions: spec["validationActions"].clone(),
        }
    }
}
