//! Which objects a quota with scopes is about.

use k8s_openapi::api::core::v1::{Pod, PodAffinityTerm, ResourceQuotaSpec, ScopedResourceSelectorRequirement};
use serde_json::json;

use super::{Counted, text};
use crate::pod::{QosClass, qos_class};

/// All scopes and selectors of the quota match the object; without any, every object does.
pub fn match_object(quota: &ResourceQuotaSpec, object: &Counted) -> bool {
    let plain = quota.scopes.iter().flatten().all(|scope| in_scope(scope, "Exists", &[], object));
    let selectors = quota.scope_selector.iter().flat_map(|selector| selector.match_expressions.iter().flatten());
    plain
        && selectors.into_iter().all(|requirement| {
            let ScopedResourceSelectorRequirement { scope_name, operator, values } = requirement;
            in_scope(scope_name, operator, values.as_deref().unwrap_or_default(), object)
        })
}

fn in_scope(scope: &str, operator: &str, values: &[String], object: &Counted) -> bool {
    match object {
        Counted::Pod(pod) => {
            let spec = pod.spec.as_ref();
            let ends = spec.and_then(|spec| spec.active_deadline_seconds).is_some_and(|seconds| seconds >= 0);
            let best_effort = || qos_class(&json!(spec)) == QosClass::BestEffort;
            match scope {
                "Terminating" => ends,
                "NotTerminating" => !ends,
                "BestEffort" => best_effort(),
                "NotBestEffort" => !best_effort(),
                "CrossNamespacePodAffinity" => crosses_namespaces(pod),
                "PriorityClass" => {
                    let class = spec.and_then(|spec| spec.priority_class_name.as_deref());
                    selected(operator, values, class.filter(|class| !class.is_empty()))
                }
                _ => false,
            }
        }
        Counted::Other(object) => {
            let class = text(&object["spec"], "volumeAttributesClassName");
            let claim = object["kind"] == "PersistentVolumeClaim" && scope == "VolumeAttributesClass";
            claim && selected(operator, values, Some(class).filter(|class| !class.is_empty()))
        }
    }
}

fn selected(operator: &str, values: &[String], value: Option<&str>) -> bool {
    let listed = || value.is_some_and(|value| values.iter().any(|item| item == value));
    match operator {
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "In" => listed(),
        "NotIn" => !listed(),
        _ => false,
    }
}

/// A term of its (anti-)affinity looks at pods of other namespaces.
fn crosses_namespaces(pod: &Pod) -> bool {
    let affinity = pod.spec.as_ref().and_then(|spec| spec.affinity.as_ref());
    let Some(affinity) = affinity else { return false };
    let crosses = |term: &PodAffinityTerm| {
        term.namespace_selector.is_some() || term.namespaces.as_ref().is_some_and(|namespaces| !namespaces.is_empty())
    };
    let near = affinity.pod_affinity.iter().flat_map(|affinity| {
        let preferred = affinity.preferred_during_scheduling_ignored_during_execution.iter().flatten();
        let required = affinity.required_during_scheduling_ignored_during_execution.iter().flatten();
        required.chain(preferred.map(|weighted| &weighted.pod_affinity_term))
    });
    let far = affinity.pod_anti_affinity.iter().flat_map(|affinity| {
        let preferred = affinity.preferred_during_scheduling_ignored_during_execution.iter().flatten();
        let required = affinity.required_during_scheduling_ignored_during_execution.iter().flatten();
        required.chain(preferred.map(|weighted| &weighted.pod_affinity_term))
    });
    near.chain(far).any(crosses)
}
