//! Garbage collector: objects go when all their owners have (api-facts §9.9).
//!
//! Reads the metadata of all kinds. Deletes dependents whose owners are absent, or wait for them in the foreground; releases
//! the dependents of an owner with the `orphan` finalizer; removes both finalizers when their work is done.
//! Leaves to others: Events and what has no owner.

mod head;
mod owners;

use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use mizzen_api::key;
use mizzen_store::Snapshot;
use serde_json::{Value, json};

use crate::plan::{ControllerError, Note, Plan, Target, Write};
use crate::served;
use crate::shell::{Controller, Reconcile, Start, Wake};
use head::{FOREGROUND, Head, ORPHAN, Owner};
pub use owners::Owners;

/// The garbage collector with its index of owners.
pub(crate) fn controller() -> Controller {
    let owners = Arc::new(Mutex::new(Owners::default()));
    let (starting, following, deciding) = (Arc::clone(&owners), Arc::clone(&owners), owners);
    let start: Start = Arc::new(move |snapshot| {
        let (fresh, keys) = Owners::of(snapshot);
        *starting.lock().unwrap_or_else(PoisonError::into_inner) = fresh;
        keys
    });
    let wake: Wake = Arc::new(move |snapshot, event| {
        let mut owners = following.lock().unwrap_or_else(PoisonError::into_inner);
        owners.follow(snapshot, event)
    });
    let decide: Reconcile = Arc::new(move |snapshot, key, now| {
        let owners = deciding.lock().unwrap_or_else(PoisonError::into_inner);
        reconcile(snapshot, key, now, &owners)
    });
    Controller {
        name: "garbage-collector-controller",
        identity: "generic-garbage-collector",
        start,
        wakes: vec![(String::new(), wake)],
        reconcile: decide,
    }
}

/// What an owner reference points at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// It is there.
    Present,
    /// It is there and waits for its dependents to go.
    Waiting,
    /// It is not there, or another has its name.
    Absent,
    /// It cannot be told: the kind is not served, or cannot own this object.
    Unknown,
}

/// The writes about one object: what it waits for as an owner, and whether it stays as a dependent.
///
/// # Errors
/// None: an object that cannot be read has no owners and is left alone.
pub fn reconcile(snapshot: &Snapshot, key: &str, _now: Timestamp, owners: &Owners) -> Result<Plan, ControllerError> {
    let mut plan = Plan::default();
    let Some(entry) = snapshot.get(key) else { return Ok(plan) };
    let head = Head::of(entry);
    let object = Subject::new(key, head);
    let Some(object) = object else { return Ok(plan) };
    if object.head.waits_for_release() {
        release_dependents(snapshot, &object, owners, &mut plan);
        return Ok(plan);
    }
    if object.head.waits_for_dependents() {
        let blocked = owners.dependents(object.head.uid()).any(|k| blocks(snapshot, k, object.head.uid()));
        if !blocked {
            drop_finalizer(&object, FOREGROUND, &mut plan);
            return Ok(plan);
        }
    } else if object.head.is_deleting() {
        return Ok(plan);
    }
    judge(snapshot, &object, owners, &mut plan);
    Ok(plan)
}

/// An object that is looked at.
struct Subject<'a> {
    key: &'a str,
    namespace: &'a str,
    name: &'a str,
    target: Target,
    head: Head,
}

impl<'a> Subject<'a> {
    fn new(object_key: &'a str, head: Head) -> Option<Self> {
        let (_, _, namespace, name) = key::parse(object_key)?;
        let target = served::target_of(object_key, &json!({"apiVersion": head.api_version}))?;
        Some(Self { key: object_key, namespace, name, target, head })
    }

    fn patch(&self, mut metadata: Value) -> Write {
        metadata["uid"] = self.head.uid().into();
        metadata["resourceVersion"] = self.head.metadata.resource_version.clone().into();
        Write::Merge { target: self.target.clone(), subresource: "", patch: json!({"metadata": metadata}) }
    }

    /// The patch that removes the owners for which `gone` holds. The references are taken from the object as it is
    /// stored, so that fields this version does not know stay.
    fn without_owners(&self, snapshot: &Snapshot, gone: impl Fn(&str) -> bool) -> Option<Write> {
        let entry = snapshot.get(self.key)?;
        let object: Value = serde_json::from_slice(&entry.value).ok()?;
        let references = object["metadata"]["ownerReferences"].as_array()?;
        let kept: Vec<&Value> = references.iter().filter(|o| !gone(o["uid"].as_str().unwrap_or_default())).collect();
        let kept = if kept.is_empty() { Value::Null } else { json!(kept) };
        Some(self.patch(json!({"ownerReferences": kept})))
    }
}

fn blocks(snapshot: &Snapshot, dependent: &str, uid: &str) -> bool {
    snapshot.get(dependent).is_some_and(|e| Head::of(e).blocks(uid))
}

/// Dependents first lose the reference; when none is left, the owner may go.
fn release_dependents(snapshot: &Snapshot, owner: &Subject<'_>, owners: &Owners, plan: &mut Plan) {
    let uid = owner.head.uid();
    for dependent in owners.dependents(uid) {
        let Some(entry) = snapshot.get(dependent) else { continue };
        let head = Head::of(entry);
        if !head.owners().iter().any(|o| o.uid == uid) {
            continue;
        }
        if let Some(subject) = Subject::new(dependent, head) {
            plan.writes.extend(subject.without_owners(snapshot, |o| o == uid));
        }
    }
    if plan.writes.is_empty() {
        drop_finalizer(owner, ORPHAN, plan);
    }
}

fn drop_finalizer(object: &Subject<'_>, name: &str, plan: &mut Plan) {
    let left: Vec<&String> = object.head.finalizers().iter().filter(|f| *f != name).collect();
    let left = if left.is_empty() { Value::Null } else { json!(left) };
    plan.write(object.patch(json!({"finalizers": left})));
}

/// Whether a dependent stays: as long as one owner does.
fn judge(snapshot: &Snapshot, object: &Subject<'_>, owners: &Owners, plan: &mut Plan) {
    let states: Vec<(&Owner, State)> =
        object.head.owners().iter().map(|o| (o, state(snapshot, object, o, plan))).collect();
    let all = |wanted: State| states.iter().any(|(_, s)| *s == wanted);
    if states.is_empty() || all(State::Unknown) {
        return;
    }
    if all(State::Present) {
        let gone = |uid: &str| states.iter().any(|(o, s)| o.uid == uid && *s != State::Present);
        if states.iter().any(|(o, _)| gone(&o.uid)) {
            plan.writes.extend(object.without_owners(snapshot, gone));
        }
        return;
    }
    let mut propagation = propagation(&object.head);
    if all(State::Waiting) && owners.dependents(object.head.uid()).next().is_some() {
        let waits = |k: &Arc<str>| snapshot.get(k).is_some_and(|e| Head::of(e).waits_for_dependents());
        if owners.dependents(object.head.uid()).any(waits) {
            unblock(snapshot, object, plan);
            if !plan.writes.is_empty() {
                return; // The commit wakes us again.
            }
        }
        propagation = "Foreground";
    }
    if object.head.is_deleting() {
        return;
    }
    plan.write(Write::Delete {
        target: object.target.clone(),
        uid: object.head.uid().into(),
        // Unless it was adopted meanwhile.
        resource_version: Some(object.head.metadata.resource_version.clone()),
        propagation: Some(propagation),
        grace_seconds: None,
    });
}

fn propagation(head: &Head) -> &'static str {
    match () {
        () if head.has_finalizer(ORPHAN) => "Orphan",
        () if head.has_finalizer(FOREGROUND) => "Foreground",
        () => "Background",
    }
}

/// Owners that wait for each other in a circle would wait forever: this one no longer holds up its own.
fn unblock(snapshot: &Snapshot, object: &Subject<'_>, plan: &mut Plan) {
    if !object.head.owners().iter().any(|o| o.block_owner_deletion == Some(true)) {
        return;
    }
    let Some(entry) = snapshot.get(object.key) else { return };
    let Ok(mut stored) = serde_json::from_slice::<Value>(&entry.value) else { return };
    let Some(references) = stored["metadata"]["ownerReferences"].as_array_mut() else { return };
    for reference in references.iter_mut() {
        reference["blockOwnerDeletion"] = false.into();
    }
    let patch = object.patch(json!({"ownerReferences": references}));
    plan.write(patch);
}

fn state(snapshot: &Snapshot, object: &Subject<'_>, owner: &Owner, plan: &mut Plan) -> State {
    let Some(resource) = served::by_kind(snapshot, &owner.api_version, &owner.kind) else {
        return State::Unknown;
    };
    if resource.namespaced && object.namespace.is_empty() {
        plan.notes.push(invalid(object, owner));
        return State::Unknown;
    }
    let found = snapshot.get(&resource.key(object.namespace, &owner.name)).map(|e| Head::of(e));
    match found.filter(|h| h.uid() == owner.uid) {
        Some(head) if head.waits_for_dependents() => State::Waiting,
        Some(_) => State::Present,
        None => State::Absent,
    }
}

fn invalid(object: &Subject<'_>, owner: &Owner) -> Note {
    let text = |s: &str| (!s.is_empty()).then(|| s.to_string());
    Note {
        about: ObjectReference {
            api_version: text(&object.head.api_version),
            kind: text(&object.head.kind),
            namespace: text(object.namespace),
            name: text(object.name),
            uid: text(object.head.uid()),
            ..ObjectReference::default()
        },
        warning: true,
        reason: "OwnerRefInvalidNamespace",
        message: format!(
            "ownerRef [{}/{}, namespace: {}, name: {}, uid: {}] does not exist in namespace {:?}",
            owner.api_version, owner.kind, object.namespace, owner.name, owner.uid, object.namespace
        ),
    }
}

#[cfg(test)]
mod tests;
