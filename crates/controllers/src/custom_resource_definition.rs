//! CustomResourceDefinition: gives definitions their names, and clears up after those that go (apiextensions/v1).
//!
//! Reads definitions and, of one that is being deleted, its objects. Writes status: the names that are the definition's own,
//! and the conditions `NamesAccepted` and `Established`. Deletes the objects of a definition on its way out and takes the
//! finalizer off when none is left. Leaves to others: serving (the server, from the condition on), schemas.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, CustomResourceDefinitionCondition as Condition, CustomResourceDefinitionNames as Names,
    CustomResourceDefinitionStatus as Status,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use mizzen_api::crd::{Approval, CLEANUP_FINALIZER};
use mizzen_api::key;
use mizzen_store::{Change, Event, Snapshot};
use serde_json::{Value, json};

use crate::meta::Meta;
use crate::plan::{ControllerError, Plan, Target, Write};
use crate::served;
use crate::shell::Wake;
use crate::wake::head;

const ACCEPTED: &str = "NamesAccepted";
const ESTABLISHED: &str = "Established";
const TERMINATING: &str = "Terminating";
const CONFORMANT: &str = "KubernetesAPIApprovalPolicyConformant";

/// The writes that one definition needs.
///
/// # Errors
/// None: a definition that cannot be read was never let in.
pub fn reconcile(snapshot: &Snapshot, definition_key: &str, now: Timestamp) -> Result<Plan, ControllerError> {
    let mut plan = Plan::default();
    let Some(definition) = snapshot.get_as::<CustomResourceDefinition>(definition_key) else { return Ok(plan) };
    if definition.is_deleting() {
        clear(snapshot, &definition, now, &mut plan);
    } else {
        accept(snapshot, definition_key, &definition, now, &mut plan);
    }
    Ok(plan)
}

/// What a definition decides wakes the others of its group: a name may have been given back.
pub(crate) fn group() -> (String, Wake) {
    let prefix = key::all::<CustomResourceDefinition>();
    let all = prefix.clone();
    let wake = move |snapshot: &Snapshot, event: &Event| {
        let Some((_, group)) = event.key().rsplit('/').next().and_then(|name| name.split_once('.')) else {
            return Vec::new();
        };
        let same = |k: &str| k.rsplit('/').next().and_then(|n| n.split_once('.')).is_some_and(|(_, g)| g == group);
        snapshot.prefix(&all).filter(|e| same(&e.key)).map(|e| e.key.to_string()).collect()
    };
    (prefix, Arc::new(wake))
}

/// An object that went wakes its definition, if that waits for it.
pub(crate) fn emptied() -> (String, Wake) {
    let wake = |snapshot: &Snapshot, event: &Event| {
        if !matches!(event.change, Change::Delete { .. }) {
            return Vec::new();
        }
        let Some((group, plural, ..)) = key::parse(event.key()) else { return Vec::new() };
        let at = key::of::<CustomResourceDefinition>("", &format!("{plural}.{group}"));
        let waits = snapshot.get(&at).is_some_and(|e| head(e).metadata.deletion_timestamp.is_some());
        if waits { vec![at] } else { Vec::new() }
    };
    (String::new(), Arc::new(wake))
}

/// Names that others of the group have.
#[derive(Default)]
struct Taken {
    resources: BTreeSet<String>,
    kinds: BTreeSet<String>,
}

impl Taken {
    fn add(&mut self, names: &Names) {
        self.resources.insert(names.plural.clone());
        self.resources.extend(names.singular.clone());
        self.resources.extend(names.short_names.iter().flatten().cloned());
        self.kinds.insert(names.kind.clone());
        self.kinds.extend(names.list_kind.clone());
    }

    /// Accepted names of the others, and those that older ones ask for and were not answered yet.
    fn of_others(snapshot: &Snapshot, definition_key: &str, group: &str) -> Self {
        let mut taken = Self::default();
        let born = snapshot.get(definition_key).map(|e| e.created);
        for entry in snapshot.prefix(&key::all::<CustomResourceDefinition>()).filter(|e| *e.key != *definition_key) {
            let Some(other) = snapshot.get_as::<CustomResourceDefinition>(&entry.key) else { continue };
            if other.spec.group != group {
                continue;
            }
            let status = other.status.as_ref();
            if let Some(names) = status.and_then(|s| s.accepted_names.as_ref()) {
                taken.add(names);
            }
            if Some(entry.created) < born && find(status, ACCEPTED).is_none() && !other.is_deleting() {
                taken.add(&other.spec.names);
            }
        }
        taken
    }
}

fn find<'s>(status: Option<&'s Status>, type_: &str) -> Option<&'s Condition> {
    status?.conditions.iter().flatten().find(|c| c.type_ == type_)
}

/// Decides about the names of a definition.
fn accept(
    snapshot: &Snapshot,
    definition_key: &str,
    definition: &CustomResourceDefinition,
    now: Timestamp,
    plan: &mut Plan,
) {
    let before = definition.status.clone().unwrap_or_default();
    let taken = Taken::of_others(snapshot, definition_key, &definition.spec.group);
    let (names, verdict) = names(definition, before.accepted_names.as_ref(), &taken);
    let accepted = verdict.is_none();
    let mut status = Status { accepted_names: Some(names), ..before.clone() };
    let (reason, message) = verdict.unwrap_or(("NoConflicts", "no conflicts found".into()));
    set(&mut status, definition, ACCEPTED, accepted, reason, &message, now);
    let was_established = find(Some(&before), ESTABLISHED).is_some_and(|c| c.status == "True");
    if !was_established {
        let (reason, message) = match accepted {
            true => ("InitialNamesAccepted", "the initial names have been accepted"),
            false => ("NotAccepted", "not all names are accepted"),
        };
        set(&mut status, definition, ESTABLISHED, accepted, reason, message, now);
    }
    let annotations = json!(definition.metadata.annotations);
    if let Some(approval) = Approval::of(&definition.spec.group, &annotations) {
        let approved = matches!(approval, Approval::Approved(_));
        set(&mut status, definition, CONFORMANT, approved, approval.reason(), &approval.message(), now);
    }
    plan.status(definition, &before, &status);
}

/// The names that are a definition's own from now on, and what is in the way of the others.
fn names(
    definition: &CustomResourceDefinition,
    accepted: Option<&Names>,
    taken: &Taken,
) -> (Names, Option<(&'static str, String)>) {
    let wanted = &definition.spec.names;
    let mut names = accepted.cloned().unwrap_or_default();
    let mut verdict = None;
    let mut claim = |wanted: &str, own: &str, taken: &BTreeSet<String>, reason: &'static str| {
        let free = wanted == own || !taken.contains(wanted);
        if !free {
            verdict = Some((reason, format!("{wanted:?} is already in use")));
        }
        free
    };
    if claim(&wanted.plural, &names.plural, &taken.resources, "PluralConflict") {
        names.plural.clone_from(&wanted.plural);
    }
    let text = |name: &Option<String>| name.clone().unwrap_or_default();
    if claim(&text(&wanted.singular), &text(&names.singular), &taken.resources, "SingularConflict") {
        names.singular.clone_from(&wanted.singular);
    }
    let own: Vec<String> = names.short_names.clone().unwrap_or_default();
    let in_use: Vec<String> = wanted
        .short_names
        .iter()
        .flatten()
        .filter(|name| !own.contains(name) && taken.resources.contains(*name))
        .map(|name| format!("{name:?} is already in use"))
        .collect();
    if claim(&wanted.kind, &names.kind, &taken.kinds, "KindConflict") {
        names.kind.clone_from(&wanted.kind);
    }
    if claim(&text(&wanted.list_kind), &text(&names.list_kind), &taken.kinds, "ListKindConflict") {
        names.list_kind.clone_from(&wanted.list_kind);
    }
    match in_use.as_slice() {
        [] => names.short_names.clone_from(&wanted.short_names),
        [one] => verdict = verdict.or(Some(("ShortNamesConflict", one.clone()))),
        many => verdict = verdict.or(Some(("ShortNamesConflict", format!("[{}]", many.join(", "))))),
    }
    names.categories.clone_from(&wanted.categories);
    (names, verdict)
}

/// Sets a condition; its transition time moves with its status alone.
fn set(
    status: &mut Status,
    definition: &CustomResourceDefinition,
    type_: &str,
    is: bool,
    reason: &str,
    message: &str,
    now: Timestamp,
) {
    let conditions = status.conditions.get_or_insert_default();
    let value = if is { "True" } else { "False" };
    let before = conditions.iter().position(|c| c.type_ == type_);
    let same = before.map(|at| &conditions[at]).filter(|c| c.status == value);
    let condition = Condition {
        last_transition_time: same.and_then(|c| c.last_transition_time.clone()).or(Some(Time(now))),
        message: Some(message.into()),
        observed_generation: definition.metadata.generation,
        reason: Some(reason.into()),
        status: value.into(),
        type_: type_.into(),
    };
    match before {
        // The generation alone is no news.
        Some(at) if conditions[at].status == value && conditions[at].message == condition.message => {
            conditions[at].reason = condition.reason;
        }
        Some(at) => conditions[at] = condition,
        None => conditions.push(condition),
    }
}

/// Deletes the objects of a definition; when there are none, lets it go.
fn clear(snapshot: &Snapshot, definition: &CustomResourceDefinition, now: Timestamp, plan: &mut Plan) {
    let finalizers = definition.metadata.finalizers.clone().unwrap_or_default();
    if !finalizers.iter().any(|f| f == CLEANUP_FINALIZER) {
        return;
    }
    let before = definition.status.clone().unwrap_or_default();
    let established = find(Some(&before), ESTABLISHED).is_some_and(|c| c.status == "True");
    let resource = served::of_definition(definition);
    let prefix = key::resource_prefix(&definition.spec.group, &definition.spec.names.plural);
    let mut namespaces = BTreeSet::new();
    let mut left = false;
    for entry in snapshot.prefix(&prefix).filter(|_| established) {
        left = true;
        let meta = head(entry).metadata;
        if meta.deletion_timestamp.is_none() {
            namespaces.insert(meta.namespace.unwrap_or_default());
        }
    }
    for namespace in &namespaces {
        plan.write(Write::DeleteCollection { target: resource.target(namespace, "") });
    }
    if left {
        let mut status = before.clone();
        let message = "CustomResource deletion is in progress";
        set(&mut status, definition, TERMINATING, true, "InstanceDeletionInProgress", message, now);
        plan.status(definition, &before, &status);
        return;
    }
    let kept: Vec<&String> = finalizers.iter().filter(|f| *f != CLEANUP_FINALIZER).collect();
    let kept = if kept.is_empty() { Value::Null } else { json!(kept) };
    let meta = &definition.metadata;
    plan.write(Write::Merge {
        target: Target::of::<CustomResourceDefinition>("", definition.name()),
        subresource: "",
        patch: json!({"metadata": {"finalizers": kept, "resourceVersion": meta.resource_version, "uid": meta.uid}}),
    });
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use mizzen_api::key;
    use mizzen_store::{Entry, Revision, Snapshot};
    use serde_json::{Value, json};

    use crate::plan::Write;

    fn entry(key: String, object: &Value, revision: u64) -> Entry {
        Entry::new(key.into(), object.to_string().into(), Revision(revision), Revision(revision), 0..0)
    }

    fn definition(plural: &str, kind: &str, change: impl FnOnce(&mut Value)) -> Value {
        let mut object = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": format!("{plural}.g.example"), "uid": "u", "resourceVersion": "1", "generation": 1},
            "spec": {"group": "g.example", "scope": "Namespaced", "names": {"plural": plural, "singular": kind.to_lowercase(),
                "kind": kind, "listKind": format!("{kind}List")}, "versions": [{"name": "v1", "served": true, "storage": true}]}});
        change(&mut object);
        object
    }

    /// The plan for the last of some definitions, with objects of it.
    fn writes(definitions: &[Value], objects: &[Value]) -> Vec<Write> {
        let mut entries = Vec::new();
        let mut last = String::new();
        for object in definitions {
            last = key::object(
                "apiextensions.k8s.io",
                "customresourcedefinitions",
                "",
                object["metadata"]["name"].as_str().unwrap(),
            );
            entries.push(entry(last.clone(), object, entries.len() as u64 + 1));
        }
        let plural = definitions.last().unwrap()["spec"]["names"]["plural"].as_str().unwrap();
        for object in objects {
            let name = object["metadata"]["name"].as_str().unwrap();
            entries.push(entry(key::object("g.example", plural, "ns", name), object, entries.len() as u64 + 1));
        }
        let snapshot: Snapshot = entries.into_iter().collect();
        super::reconcile(&snapshot, &last, Timestamp::from_second(1_000_000).unwrap()).unwrap().writes
    }

    fn conditions(writes: &[Write]) -> Vec<String> {
        let [Write::Merge { patch, subresource: "status", .. }] = writes else { panic!("{writes:?}") };
        let text = |v: &Value| v.as_str().unwrap_or_default().to_string();
        let all = patch["status"]["conditions"].as_array().unwrap().iter();
        all.map(|c| format!("{}={} {}", text(&c["type"]), text(&c["status"]), text(&c["reason"]))).collect()
    }

    #[test]
    fn names_are_given_to_the_first_who_asks() {
        let plain = |plural: &str, kind: &str| definition(plural, kind, |_| {});
        let fresh = writes(&[plain("foos", "Foo")], &[]);
        assert_eq!(conditions(&fresh), ["NamesAccepted=True NoConflicts", "Established=True InitialNamesAccepted"]);
        let Write::Merge { patch, .. } = &fresh[0] else { panic!() };
        assert_eq!(patch["status"]["acceptedNames"]["plural"], "foos");

        let accepted = definition("foos", "Foo", |d| {
            d["status"] = json!({"acceptedNames": d["spec"]["names"], "conditions": [
                {"type": "NamesAccepted", "status": "True", "reason": "NoConflicts", "message": "no conflicts found"},
                {"type": "Established", "status": "True", "reason": "InitialNamesAccepted", "message": "x"}]});
        });
        assert!(writes(std::slice::from_ref(&accepted), &[]).is_empty());
        assert_eq!(
            conditions(&writes(&[accepted.clone(), plain("bars", "Foo")], &[])),
            ["NamesAccepted=False ListKindConflict", "Established=False NotAccepted"]
        );
        let short = definition("bars", "Bar", |d| d["spec"]["names"]["shortNames"] = json!(["foo", "b"]));
        assert_eq!(
            conditions(&writes(&[accepted, short], &[])),
            ["NamesAccepted=False ShortNamesConflict", "Established=False NotAccepted"]
        );
        // Two at once: the older one gets them.
        assert_eq!(
            conditions(&writes(&[plain("foos", "Foo"), plain("bars", "Foo")], &[]))[0],
            "NamesAccepted=False ListKindConflict"
        );
    }

    #[test]
    fn a_definition_goes_after_its_objects() {
        let going = |established: &str| {
            definition("foos", "Foo", |d| {
                d["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
                d["metadata"]["finalizers"] = json!([super::CLEANUP_FINALIZER]);
                d["status"] = json!({"acceptedNames": d["spec"]["names"], "conditions": [
                    {"type": "Established", "status": established, "reason": "x", "message": "x"}]});
            })
        };
        let object = |name: &str| json!({"apiVersion": "g.example/v1", "kind": "Foo", "metadata": {"name": name, "namespace": "ns"}});
        let first = writes(&[going("True")], &[object("a"), object("b")]);
        let Write::DeleteCollection { target } = &first[0] else { panic!("{first:?}") };
        assert_eq!(target.path(), "/apis/g.example/v1/namespaces/ns/foos");
        assert_eq!(conditions(&first[1..])[1], "Terminating=True InstanceDeletionInProgress");
        let mut held = object("a");
        held["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        assert_eq!(writes(&[going("True")], &[held]).len(), 1, "waits");
        for (established, objects) in [("True", vec![]), ("False", vec![object("a")])] {
            let last = writes(&[going(established)], &objects);
            let [Write::Merge { patch, subresource: "", .. }] = last.as_slice() else { panic!("{last:?}") };
            assert_eq!(patch["metadata"]["finalizers"], Value::Null);
        }
    }
}
