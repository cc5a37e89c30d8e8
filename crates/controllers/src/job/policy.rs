//! What a Job says about failed pods (`podFailurePolicy`) and about when it has succeeded (`successPolicy`).

use k8s_openapi::api::batch::v1::{
    JobSpec, PodFailurePolicyOnExitCodesRequirement, PodFailurePolicyRule, SuccessPolicyRule,
};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};

use super::indexes::Indexes;
use crate::meta::Meta;

/// What becomes of a failed pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Action {
    /// It counts.
    Count,
    /// It does not count.
    Ignore,
    /// Its index has failed.
    FailIndex,
    /// The Job has failed, for this reason.
    FailJob(String),
}

/// The action of the first rule that matches; failures that no rule speaks of count.
pub(super) fn action(spec: &JobSpec, pod: &Pod) -> Action {
    let rules = spec.pod_failure_policy.iter().flat_map(|p| p.rules.iter().enumerate());
    for (index, rule) in rules {
        if let Some(why) = matches(rule, pod) {
            return match rule.action.as_str() {
                "Ignore" => Action::Ignore,
                "FailIndex" => Action::FailIndex,
                "FailJob" => Action::FailJob(format!("{why} matching FailJob rule at index {index}")),
                _ => Action::Count,
            };
        }
    }
    Action::Count
}

fn matches(rule: &PodFailurePolicyRule, pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref()?;
    if let Some(codes) = &rule.on_exit_codes {
        let containers = status.init_container_statuses.iter().chain(&status.container_statuses).flatten();
        let (name, code) = containers.filter_map(|c| exit(c, codes)).next()?;
        let (namespace, pod) = (pod.namespace(), pod.name());
        return Some(format!("Container {name} for pod {namespace}/{pod} failed with exit code {code}"));
    }
    let patterns = rule.on_pod_conditions.iter().flatten();
    for pattern in patterns {
        let wanted = pattern.status.as_deref().unwrap_or("True");
        let mut conditions = status.conditions.iter().flatten();
        if conditions.any(|c| c.type_ == pattern.type_ && c.status == wanted) {
            return Some(format!("Pod {}/{} has condition {}", pod.namespace(), pod.name(), pattern.type_));
        }
    }
    None
}

/// Containers that ended well match no rule.
fn exit<'a>(container: &'a ContainerStatus, codes: &PodFailurePolicyOnExitCodesRequirement) -> Option<(&'a str, i32)> {
    let code = container.state.as_ref()?.terminated.as_ref()?.exit_code;
    let named = codes.container_name.as_ref().is_none_or(|n| *n == container.name);
    let listed = codes.values.contains(&code);
    let wanted = if codes.operator == "NotIn" { !listed } else { listed };
    (code != 0 && named && wanted).then_some((container.name.as_str(), code))
}

/// The number of the first success rule that holds for the completed indexes.
pub(super) fn succeeded_by(spec: &JobSpec, done: &Indexes, completions: i64) -> Option<usize> {
    let rules = &spec.success_policy.as_ref()?.rules;
    rules.iter().position(|rule| holds(rule, done, completions))
}

fn holds(rule: &SuccessPolicyRule, done: &Indexes, completions: i64) -> bool {
    let count = rule.succeeded_count.map(i64::from);
    match &rule.succeeded_indexes {
        Some(text) => {
            let wanted = Indexes::parse(text, completions);
            done.common(&wanted) >= count.unwrap_or(wanted.len())
        }
        None => count.is_some_and(|count| done.len() >= count),
    }
}
