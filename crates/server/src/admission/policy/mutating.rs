//! The mutating phase: policies change the object one after the other, each sees what those before it made of it.
//!
//! If something changed, the built-in plugins look at the object again, and policies with `reinvocationPolicy: IfNeeded`
//! are asked once more about what changed after they were.

use std::collections::HashSet;

use mizzen_api::apply::{Node, overlay};
use mizzen_api::kind::Kind;
use mizzen_api::patch::{JsonPatch, PatchError};
use mizzen_api::schema::{self, Type};
use mizzen_api::status::ApiError;
use mizzen_cel::{Budget, Map, RUNTIME_BUDGET, Value};
use serde_json::{Value as Json, json};

use super::compile::{Mutation, Policy};
use super::evaluate::{Scene, evaluate, facts, namespace_object};
use super::params;
use crate::admission::Request;
use crate::admission::dynamic::{Asking, again};
use crate::admission::webhook::{from_version, in_version, well_formed};

/// Who was asked, and who has to be asked again. An invocation is a policy with a binding and a parameter.
#[derive(Debug, Default)]
pub(crate) struct Reinvocation {
    /// Asked, and to be asked again if something changes from now on.
    asked: HashSet<(usize, usize, usize)>,
    /// To be asked again.
    due: HashSet<(usize, usize, usize)>,
    changed: bool,
}

impl Reinvocation {
    fn changed(&mut self) {
        self.changed = true;
        self.due.extend(self.asked.drain());
    }

    /// Somebody waits to see what others make of the object.
    pub fn awaits(&self) -> bool {
        !self.asked.is_empty()
    }
}

/// Asks all that the request concerns, and those who have to be asked again.
pub(crate) async fn run(
    request: &Request<'_>,
    asking: &Asking<'_>,
    object: &mut Json,
    old: Option<&Json>,
) -> Result<Reinvocation, ApiError> {
    let mut reinvocation = Reinvocation::default();
    round(request, asking, object, old, false, &mut reinvocation).await?;
    if !reinvocation.changed {
        return Ok(reinvocation);
    }
    let before = object.clone();
    if request.is_whole() {
        again(request, object, old)?;
    }
    if before != *object {
        reinvocation.changed();
    }
    round(request, asking, object, old, true, &mut reinvocation).await?;
    Ok(reinvocation)
}

/// Asks those again that were asked before webhooks changed the object.
pub(crate) async fn rerun(
    request: &Request<'_>,
    asking: &Asking<'_>,
    object: &mut Json,
    old: Option<&Json>,
    mut reinvocation: Reinvocation,
) -> Result<(), ApiError> {
    reinvocation.due.clear();
    reinvocation.changed();
    round(request, asking, object, old, true, &mut reinvocation).await
}

async fn round(
    request: &Request<'_>,
    asking: &Asking<'_>,
    object: &mut Json,
    old: Option<&Json>,
    again: bool,
    reinvocation: &mut Reinvocation,
) -> Result<(), ApiError> {
    let mut errors = Vec::new();
    for (index, policy) in asking.bound.mutating.iter().enumerate() {
        if again && !reinvocation.due.iter().any(|(due, _, _)| *due == index) {
            continue;
        }
        let turn = Turn { request, asking, policy, index, again };
        turn.take(object, old, reinvocation, &mut errors).await?;
    }
    match errors.is_empty() {
        true => Ok(()),
        false => Err(refuse(request, object, &errors)),
    }
}

fn refuse(request: &Request<'_>, object: &Json, errors: &[String]) -> ApiError {
    let mut error = request.forbidden(object, "admission request denied by policy");
    error.message.clone_from(&errors[0]);
    error.reason = "Invalid".into();
    errors.iter().fold(error, |error, message| error.with_cause("", message, ""))
}

/// One policy's turn.
struct Turn<'t, 'r> {
    request: &'t Request<'r>,
    asking: &'t Asking<'t>,
    policy: &'t Policy,
    index: usize,
    again: bool,
}

impl Turn<'_, '_> {
    fn error(&self, binding: Option<&str>, why: &str) -> String {
        match binding {
            Some(binding) => format!("policy '{}' with binding '{binding}' denied request: {why}", self.policy.name),
            None => format!("policy {:?} denied request: {why}", self.policy.name),
        }
    }

    async fn take(
        &self,
        object: &mut Json,
        old: Option<&Json>,
        reinvocation: &mut Reinvocation,
        errors: &mut Vec<String>,
    ) -> Result<(), ApiError> {
        let Self { request, policy, .. } = self;
        let mut fail = |message: String| {
            if policy.fails {
                errors.push(message);
            }
        };
        let kind = match policy.criteria.matches(request, object, old) {
            Ok(Some(kind)) => kind,
            Ok(None) => return Ok(()),
            Err(error) => {
                fail(self.error(None, &format!("failed to configure policy: {}", error.message)));
                return Ok(());
            }
        };
        let source = match params::source(request, self.asking, policy) {
            Ok(source) => source,
            Err(why) => {
                fail(self.error(None, &format!("failed to configure policy: {why}")));
                return Ok(());
            }
        };
        let namespace = namespace_object(request)?;
        let old_shown = match old {
            Some(old) => in_version(request, old, kind).await?.into_owned(),
            None => Json::Null,
        };
        for (at, binding) in policy.bindings.iter().enumerate() {
            let configured = match binding.criteria.matches(request, object, old) {
                Ok(Some(_)) => params::collect(request, self.asking, source.as_ref(), binding).await,
                Ok(None) => continue,
                Err(error) => Err(error.message),
            };
            let params = match configured {
                Ok(params) => params,
                Err(why) => {
                    fail(self.error(Some(&binding.name), &format!("failed to configure binding: {why}")));
                    continue;
                }
            };
            for (number, params) in params.iter().enumerate() {
                let invocation = (self.index, at, number);
                if self.again && !reinvocation.due.remove(&invocation) {
                    continue;
                }
                let shown = in_version(request, object, kind).await?.into_owned();
                if !shown.is_object() {
                    continue;
                }
                let changed = self.mutate(kind, &shown, &old_shown, &namespace, params);
                match changed {
                    Ok(None) => continue,
                    Ok(Some(changed)) if changed != shown => {
                        *object = from_version(request, changed, kind).await?;
                        if request.is_whole() {
                            request.handled().default(object);
                        }
                        reinvocation.changed();
                    }
                    Ok(Some(_)) => {}
                    Err(why) => fail(self.error(Some(&binding.name), &why)),
                }
                if policy.reinvoked {
                    reinvocation.asked.insert(invocation);
                }
            }
        }
        Ok(())
    }

    /// The object after all mutations of the policy; `None` if its conditions do not hold.
    fn mutate(
        &self,
        kind: &Kind,
        object: &Json,
        old: &Json,
        namespace: &Json,
        params: &Json,
    ) -> Result<Option<Json>, String> {
        let facts = facts(self.request, kind);
        let policy = self.policy;
        let mut current = object.clone();
        let scene = Scene { policy, facts: &facts, object, old, namespace, params };
        if !scene.conditions_hold()? {
            return Ok(None);
        }
        for mutation in &policy.mutations {
            let scene = Scene { policy, facts: &facts, object: &current, old, namespace, params };
            let mut changed = self.one(&scene, kind, mutation)?;
            well_formed(self.request, kind, &mut changed).map_err(|error| error.message)?;
            kind.default(&mut changed);
            current = changed;
        }
        Ok(Some(current))
    }

    fn one(&self, scene: &Scene<'_>, kind: &Kind, mutation: &Mutation) -> Result<Json, String> {
        let mut budget = Budget::new(RUNTIME_BUDGET);
        let mut activation = scene.activation();
        match mutation {
            Mutation::Apply(expression) => {
                let value = evaluate(expression, &mut activation, &mut budget).map_err(|failed| failed.message())?;
                let Value::Map(map) = &value else {
                    return Err(format!(
                        "unsupported return type from ApplyConfiguration expression: {}",
                        value.type_of()
                    ));
                };
                type_names(&value, "Object").map_err(|why| format!("type mismatch: {why}"))?;
                apply(scene.object, map, kind)
            }
            Mutation::Patch(expression) => {
                let value = evaluate(expression, &mut activation, &mut budget).map_err(|failed| failed.message())?;
                patch_type_names(&value).map_err(|why| format!("type mismatch: {why}"))?;
                let patch = value.to_json().map_err(|why| {
                    format!("JSONPath valueExpression evaluated to a type that could not marshal to JSON: {why}")
                })?;
                patched(scene.object, &patch)
            }
        }
    }
}

fn apply(object: &Json, config: &Map<'_>, kind: &Kind) -> Result<Json, String> {
    let mut config = Value::Map(config.clone()).to_json().map_err(|why| why.to_string())?;
    if let Some(fields) = config.as_object_mut() {
        fields.insert("apiVersion".into(), object["apiVersion"].clone());
        fields.insert("kind".into(), object["kind"].clone());
    }
    let schema = kind.custom.as_ref().and_then(|custom| custom.schema.as_ref());
    let node = match schema {
        Some(schema) => Node::Custom(schema),
        None => Node::Type(schema::of(kind).map_or(Type::Json, Type::Object)),
    };
    let mut changed = object.clone();
    overlay(&mut changed, config, node).map_err(|wholes| {
        let places = wholes.join(", ");
        format!(
            "error applying patch: invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: {places}"
        )
    })?;
    Ok(changed)
}

fn patched(object: &Json, patch: &Json) -> Result<Json, String> {
    let operations = patch.as_array().into_iter().flatten().map(|operation| {
        // What is left out is not sent: `from` of most, `value` of some.
        let given = operation.as_object().into_iter().flatten().filter(|(_, value)| **value != json!(""));
        let mut given: serde_json::Map<_, _> = given.map(|(name, value)| (name.clone(), value.clone())).collect();
        for name in ["value", "path"] {
            if let Some(value) = operation.get(name) {
                given.insert(name.to_owned(), value.clone());
            }
        }
        Json::Object(given)
    });
    let bytes = Json::Array(operations.collect()).to_string();
    let patch = JsonPatch::parse(bytes.as_bytes()).map_err(|error| format!("JSON Patch: {error}"))?;
    let mut changed = object.clone();
    match patch.apply(&mut changed) {
        Ok(()) => Ok(changed),
        // A test that fails means that the patch is not to be applied.
        Err(PatchError::DoesNotApply { why, .. }) if why.contains("test") => Ok(object.clone()),
        Err(error) => Err(format!("JSON Patch: {error}")),
    }
}

/// The objects that operations of a patch put in are named by the way to their parts.
fn patch_type_names(patch: &Value<'_>) -> Result<(), String> {
    let Value::List(operations) = patch else { return Ok(()) };
    operations.each(|operation| match operation {
        Value::Map(operation) => operation.each(|_, value| match value {
            Value::Map(map) => map.object_type().map_or(Ok(()), |ty| type_names(value, &ty.name)),
            _ => Ok(()),
        }),
        _ => Ok(()),
    })
}

/// Objects within an object are named by the way to them, or the expression means something else than it says.
fn type_names(value: &Value<'_>, expected: &str) -> Result<(), String> {
    match value {
        Value::Map(map) => match map.object_type() {
            Some(ty) => {
                if ty.name != expected {
                    return Err(format!(
                        "unexpected type name {:?}, expected {expected:?}, which matches field name path from root Object type",
                        ty.name
                    ));
                }
                map.each(|name, value| type_names(value, &format!("{expected}.{name}")))
            }
            None => map.each(|_, value| type_names(value, expected)),
        },
        Value::List(list) => list.each(|value| type_names(value, expected)),
        _ => Ok(()),
    }
}
