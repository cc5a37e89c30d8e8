//! ValidatingAdmissionPolicy: checks the expressions of policies against the types they will see
//! (admissionregistration.k8s.io/v1).
//!
//! Reads policies and CustomResourceDefinitions. Writes status: what does not fit the types is a warning, never an error,
//! for the policy is evaluated all the same. Leaves to others: evaluating, and what is wrong whatever the types (the server).

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::admissionregistration::v1::{
    ExpressionWarning, NamedRuleWithOperations, TypeChecking, ValidatingAdmissionPolicy as Policy,
    ValidatingAdmissionPolicyStatus as Status,
};
use mizzen_api::key;
use mizzen_api::kinds::kinds;
use mizzen_api::schema;
use mizzen_cel::admission::Variables;
use mizzen_cel::{Decl, Env, Type, compile};
use mizzen_store::Snapshot;
use serde_json::Value;

use crate::plan::{ControllerError, Plan};

/// Types that one policy is checked against at most.
const TYPES_MAX: usize = 10;

/// The writes that one policy needs.
///
/// # Errors
/// None: what cannot be checked is not told of.
pub fn reconcile(snapshot: &Snapshot, policy_key: &str, _now: Timestamp) -> Result<Plan, ControllerError> {
    let mut plan = Plan::default();
    let Some(policy) = snapshot.get_as::<Policy>(policy_key) else { return Ok(plan) };
    let before = policy.status.clone().unwrap_or_default();
    // What was checked stays checked: types that change later do not change the verdict.
    if before.observed_generation >= policy.metadata.generation && before.observed_generation.is_some() {
        return Ok(plan);
    }
    let warnings = warnings(snapshot, &policy);
    let status = Status {
        observed_generation: policy.metadata.generation,
        type_checking: Some(TypeChecking { expression_warnings: (!warnings.is_empty()).then_some(warnings) }),
        ..before.clone()
    };
    plan.status(&*policy, &before, &status);
    Ok(plan)
}

/// A kind that the policy will see.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Seen {
    group: String,
    version: String,
    kind: String,
}

/// All warnings about a policy's expressions.
fn warnings(snapshot: &Snapshot, policy: &Policy) -> Vec<ExpressionWarning> {
    let Some(spec) = &policy.spec else { return Vec::new() };
    let environments = environments(snapshot, policy);
    let mut warnings = Vec::new();
    let mut check = |field_ref: String, expression: &str| {
        let failed = environments.iter().filter_map(|(seen, env)| {
            let error = compile(expression, env).err()?;
            let Seen { group, version, kind } = seen;
            Some(format!("{group}/{version}, Kind={kind}: compilation failed: {error}\n"))
        });
        let failed = failed.collect::<Vec<_>>();
        if !failed.is_empty() {
            warnings.push(ExpressionWarning { field_ref, warning: failed.join("\n") });
        }
    };
    for (index, validation) in spec.validations.iter().flatten().enumerate() {
        check(format!("spec.validations[{index}].expression"), &validation.expression);
        if let Some(message) = validation.message_expression.as_deref().filter(|message| !message.is_empty()) {
            check(format!("spec.validations[{index}].messageExpression"), message);
        }
    }
    warnings
}

/// What the expressions may name, for each kind that the policy will see.
fn environments(snapshot: &Snapshot, policy: &Policy) -> Vec<(Seen, Env)> {
    let Some(spec) = &policy.spec else { return Vec::new() };
    let params = spec.param_kind.as_ref().map(|kind| {
        let version = kind.api_version.as_deref().unwrap_or_default();
        let (group, version) = version.split_once('/').unwrap_or(("", version));
        let known = type_of_kind(snapshot, group, version, kind.kind.as_deref().unwrap_or_default());
        known.unwrap_or_else(|| Decl::of(Type::Dyn))
    });
    let rules = spec.match_constraints.iter().flat_map(|constraints| constraints.resource_rules.iter().flatten());
    let seen = rules.flat_map(|rule| resources(snapshot, rule)).collect::<BTreeSet<_>>();
    let environment = |seen: Seen| {
        let object = type_of_kind(snapshot, &seen.group, &seen.version, &seen.kind)?;
        let mut env = Variables { object, params: params.clone(), authorizer: true }.environment();
        for variable in spec.variables.iter().flatten() {
            let ty = compile(&variable.expression, &env).map_or(Type::Dyn, |program| program.ty().clone());
            env.declare(format!("variables.{}", variable.name), Decl::of(ty));
        }
        Some((seen, env))
    };
    seen.into_iter().take(TYPES_MAX).filter_map(environment).collect()
}

/// The kinds of a rule that names all it is about.
fn resources(snapshot: &Snapshot, rule: &NamedRuleWithOperations) -> Vec<Seen> {
    let named = |list: &Option<Vec<String>>| list.clone().unwrap_or_default();
    let (groups, versions) = (named(&rule.api_groups), named(&rule.api_versions));
    if groups.iter().chain(&versions).any(|name| name.contains('*')) {
        return Vec::new();
    }
    let mut found = Vec::new();
    for group in &groups {
        for version in &versions {
            for resource in named(&rule.resources).iter().filter(|resource| !resource.contains(['*', '/'])) {
                let kind = match kinds().by_resource(group, version, resource) {
                    Some(kind) => Some(kind.kind.to_string()),
                    None => definition(snapshot, group, resource)
                        .map(|definition| definition["spec"]["names"]["kind"].as_str().unwrap_or_default().to_owned()),
                };
                found.extend(kind.map(|kind| Seen { group: group.clone(), version: version.clone(), kind }));
            }
        }
    }
    found
}

/// The definition of a custom resource.
fn definition(snapshot: &Snapshot, group: &str, plural: &str) -> Option<Value> {
    let at = key::object("apiextensions.k8s.io", "customresourcedefinitions", "", &format!("{plural}.{group}"));
    serde_json::from_slice(&snapshot.get(&at)?.value).ok()
}

fn type_of_kind(snapshot: &Snapshot, group: &str, version: &str, kind: &str) -> Option<Arc<Decl>> {
    if let Some(object) = schema::by_gvk(group, version, kind) {
        return Some(Decl::built_in(object, kind));
    }
    let prefix = key::resource_prefix("apiextensions.k8s.io", "customresourcedefinitions");
    let all = snapshot.prefix(&prefix).filter_map(|entry| serde_json::from_slice::<Value>(&entry.value).ok());
    let mut named = all.filter(|one| one["spec"]["group"] == group && one["spec"]["names"]["kind"] == kind);
    let definition = named.next()?;
    let versions = definition["spec"]["versions"].as_array()?;
    let found = versions.iter().find(|found| found["name"] == version)?;
    Decl::from_schema(&found["schema"]["openAPIV3Schema"], kind, true)
}

#[cfg(test)]
mod tests {
    use crate::testing::check;

    #[test]
    fn policies_are_checked_once_a_generation() {
        let rules = r#"[{"apiGroups":["apps"],"apiVersions":["v1"],"operations":["*"],"resources":["deployments"]}]"#;
        for (case, world, writes) in [
            (
                "new",
                format!(
                    "validatingadmissionpolicy/p .metadata.generation=1 spec.matchConstraints.resourceRules={rules} spec.validations=[{{\"expression\":\"object.spec.nothing==1\"}}]"
                ),
                "patch validatingadmissionpolicies/status p",
            ),
            (
                "checked",
                "validatingadmissionpolicy/p .metadata.generation=2 .status={\"observedGeneration\":2}".to_owned(),
                "",
            ),
            (
                "changed",
                "validatingadmissionpolicy/p .metadata.generation=3 .status={\"observedGeneration\":2}".to_owned(),
                "patch validatingadmissionpolicies/status p",
            ),
        ] {
            check(
                case,
                &world,
                "admissionregistration.k8s.io/validatingadmissionpolicies//p",
                super::reconcile,
                writes,
            );
        }
    }
}
