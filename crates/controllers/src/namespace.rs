//! Namespace: empties a namespace that is being deleted, then lets it go (core/v1 Namespace; api-facts §9.9).
//!
//! Reads all namespaced kinds. Deletes first the pods, then everything else, tells in conditions what remains, and takes the
//! `kubernetes` finalizer off when nothing does.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Namespace, NamespaceCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use mizzen_api::key;
use mizzen_store::{Change, Snapshot};
use serde_json::Value;

use crate::meta::Meta;
use crate::plan::{ControllerError, Plan, Write};
use crate::served::{self, Resource};
use crate::shell::Wake;
use crate::wake::head;

/// The finalizer of `spec.finalizers` that is this controller's.
const OURS: &str = "kubernetes";

/// When to see what became of deletions: only an object's end wakes its namespace, not that it began to end.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// The writes that bring the end of a namespace nearer.
///
/// # Errors
/// None: content is deleted by name and need not be understood.
pub fn reconcile(snapshot: &Snapshot, namespace_key: &str, now: Timestamp) -> Result<Plan, ControllerError> {
    let mut plan = Plan::default();
    let Some(namespace) = snapshot.get_as::<Namespace>(namespace_key).filter(|n| n.is_deleting()) else {
        return Ok(plan);
    };
    let finalizers = namespace.spec.as_ref().and_then(|s| s.finalizers.as_ref());
    if !finalizers.is_some_and(|f| f.iter().any(|f| f == OURS)) {
        return Ok(plan);
    }
    let content = content(snapshot, namespace.name());
    if content.is_empty() {
        finalize(snapshot, namespace_key, &mut plan);
        return Ok(plan);
    }
    let is_pods = |c: &&Content| c.resource.group.is_empty() && c.resource.plural == "pods";
    // Pods may need what else is here until their end, so they go first.
    let pods: Vec<&Content> = content.iter().filter(is_pods).collect();
    let turn = if pods.is_empty() { content.iter().collect() } else { pods };
    for part in turn {
        part.delete(namespace.name(), &mut plan);
    }
    if !plan.writes.is_empty() {
        // What is held by a finalizer or an orderly end will be seen then, and told.
        plan.again(LOOK_AGAIN);
    } else {
        // All is on its way out: what is left waits for something, which people want to know.
        set_conditions(&namespace, &content, now, &mut plan);
    }
    Ok(plan)
}

/// What a namespace holds of one resource.
struct Content {
    resource: Resource,
    count: usize,
    /// Names and UIDs of what is not on its way out yet.
    staying: Vec<(String, String)>,
    finalizers: Vec<String>,
}

fn content(snapshot: &Snapshot, namespace: &str) -> Vec<Content> {
    let mut all = Vec::new();
    for resource in served::namespaced(snapshot) {
        let prefix = resource.in_namespace(namespace);
        let mut found = Content { resource, count: 0, staying: Vec::new(), finalizers: Vec::new() };
        for entry in snapshot.prefix(&prefix) {
            let meta = head(entry).metadata;
            found.count += 1;
            if meta.deletion_timestamp.is_none() {
                found.staying.push((meta.name.unwrap_or_default(), meta.uid.unwrap_or_default()));
            }
            found.finalizers.extend(meta.finalizers.unwrap_or_default());
        }
        if found.count > 0 {
            all.push(found);
        }
    }
    all
}

impl Content {
    fn delete(&self, namespace: &str, plan: &mut Plan) {
        if self.staying.is_empty() {
            return;
        }
        if self.resource.deletes_collections {
            plan.write(Write::DeleteCollection { target: self.resource.target(namespace, "") });
            return;
        }
        for (name, uid) in &self.staying {
            plan.write(Write::Delete {
                target: self.resource.target(namespace, name),
                uid: uid.clone(),
                resource_version: None,
                propagation: Some("Background"),
                grace_seconds: None,
            });
        }
    }
}

fn finalize(snapshot: &Snapshot, namespace_key: &str, plan: &mut Plan) {
    let object = snapshot.get(namespace_key).and_then(|e| serde_json::from_slice::<Value>(&e.value).ok());
    let Some(mut object) = object else { return };
    if let Some(finalizers) = object["spec"]["finalizers"].as_array_mut() {
        finalizers.retain(|f| f != OURS);
    }
    plan.write(Write::Replace { object, subresource: "finalize" });
}

fn set_conditions(namespace: &Namespace, content: &[Content], now: Timestamp, plan: &mut Plan) {
    let remaining: Vec<String> = content
        .iter()
        .map(|c| format!("{}.{} has {} resource instances", c.resource.plural, c.resource.group, c.count))
        .collect();
    let mut finalizers: BTreeMap<&str, usize> = BTreeMap::new();
    for name in content.iter().flat_map(|c| &c.finalizers) {
        *finalizers.entry(name).or_default() += 1;
    }
    let held: Vec<String> = finalizers.iter().map(|(name, n)| format!("{name} in {n} resource instances")).collect();
    let finalizers_remain = match held.is_empty() {
        true => ("False", "ContentHasNoFinalizers", "All content-preserving finalizers finished".to_string()),
        false => (
            "True",
            "SomeFinalizersRemain",
            format!("Some content in the namespace has finalizers remaining: {}", held.join(", ")),
        ),
    };
    let fine = |reason, message: &str| ("False", reason, message.to_string());
    let wanted = [
        ("NamespaceDeletionDiscoveryFailure", fine("ResourcesDiscovered", "All resources successfully discovered")),
        (
            "NamespaceDeletionGroupVersionParsingFailure",
            fine("ParsedGroupVersions", "All legacy kube types successfully parsed"),
        ),
        (
            "NamespaceDeletionContentFailure",
            fine("ContentDeleted", "All content successfully deleted, may be waiting on finalization"),
        ),
        (
            "NamespaceContentRemaining",
            ("True", "SomeResourcesRemain", format!("Some resources are remaining: {}", remaining.join(", "))),
        ),
        ("NamespaceFinalizersRemaining", finalizers_remain),
    ];
    let old = namespace.status.clone().unwrap_or_default();
    let mut new = old.clone();
    let conditions = new.conditions.get_or_insert_default();
    for (kind, (status, reason, message)) in wanted {
        put(conditions, kind, status, reason, message, now);
    }
    plan.status(namespace, &old, &new);
}

fn put(
    conditions: &mut Vec<NamespaceCondition>,
    kind: &str,
    status: &str,
    reason: &str,
    message: String,
    now: Timestamp,
) {
    let known = conditions.iter().position(|c| c.type_ == kind);
    let changed = known.map(|at| conditions.remove(at)).filter(|c| c.status == status);
    let since = changed.and_then(|c| c.last_transition_time).unwrap_or(Time(now));
    let condition = NamespaceCondition {
        type_: kind.into(),
        status: status.into(),
        reason: Some(reason.into()),
        message: Some(message),
        last_transition_time: Some(since),
    };
    conditions.insert(known.unwrap_or(conditions.len()), condition);
}

/// What goes wakes its namespace, if that waits for it.
pub(crate) fn emptied() -> (String, Wake) {
    let wake: Wake = std::sync::Arc::new(|snapshot, event| {
        let Change::Delete { .. } = event.change else { return Vec::new() };
        let Some((_, _, namespace, _)) = key::parse(event.key()) else { return Vec::new() };
        let at = key::of::<Namespace>("", namespace);
        let deleting = snapshot.get_as::<Namespace>(&at).is_some_and(|n| n.is_deleting());
        Vec::from_iter(deleting.then_some(at))
    });
    (String::new(), wake)
}

#[cfg(test)]
mod tests {
    use crate::testing::check;

    #[test]
    fn pods_go_first_and_then_all_else() {
        let ns = r#"ns/d deleting spec.finalizers=["kubernetes"]"#;
        for (case, content, writes) in [
            ("pods first", "pod/d/a; cm/d/a; pod/e/a", "delete all pods d/"),
            ("pods on their way", "pod/d/a deleting; cm/d/a", "patch namespaces/status d"),
            ("then the rest", "cm/d/a; cm/d/b; secret/d/a", "delete all configmaps d/; delete all secrets d/"),
            ("something is held", "cm/d/a deleting finalizer=x", "patch namespaces/status d"),
            ("empty", "cm/e/a", "replace/finalize Namespace d"),
        ] {
            check(case, &format!("{ns}; {content}"), "core/namespaces//d", super::reconcile, writes);
        }
        // That the pods are on their way wakes nobody, and yet must be told.
        let snapshot = crate::testing::snapshot(&format!("{ns}; pod/d/a; cm/d/a"));
        let plan = super::reconcile(&snapshot, "core/namespaces//d", jiff::Timestamp::UNIX_EPOCH).unwrap();
        assert!(plan.again_after.is_some());
        check("alive", r#"ns/d spec.finalizers=["kubernetes"]; cm/d/a"#, "core/namespaces//d", super::reconcile, "");
        check("finalized", "ns/d deleting; cm/e/a", "core/namespaces//d", super::reconcile, "");
    }
}
