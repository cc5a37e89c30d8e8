//! DELETE of one object and of collections (api-facts §3.6, §3.7).

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use jiff::{SignedDuration, Timestamp};
use mizzen_api::status::ApiError;
use mizzen_store::{Entry, Expect, Snapshot};
use serde_json::{Value, json};

use super::commit::{ATTEMPTS, Failed, Sides, commit};
use super::create::{crowded, request};
use super::select::Selection;
use super::update::{holds_namespace, put};
use super::{list, prepare, service};
use crate::admission::{self, Admitted, Operation, Options, dynamic};
use crate::crd;
use crate::dispatch::Ctx;
use crate::options::{DeleteOptions, ListOptions, Propagation};
use crate::render::{Body, Output, parse};

/// How many objects of a collection are deleted at a time: enough to share a sync, few enough to leave room for others.
const PARALLEL: usize = 32;

/// Answers a DELETE of one object.
pub(crate) async fn handle(ctx: &Ctx<'_>, sent: &Bytes) -> Result<Output, ApiError> {
    let options = options(ctx, sent)?;
    delete(ctx, &ctx.info.namespace, &ctx.info.name, &options).await
}

/// Answers a DELETE of a collection with the list of what it was applied to.
pub(crate) async fn collection(ctx: &Ctx<'_>, sent: &Bytes) -> Result<Output, ApiError> {
    let options = options(ctx, sent)?;
    let listed = ListOptions::parse(ctx.head.query, false)?;
    let selection = Selection::parse(&ctx.resource, ctx.head.query)?;
    let snapshot = ctx.snapshot();
    let page = list::page(ctx, &snapshot, snapshot.revision(), &selection, listed.limit, None).await?;
    let delete_entry = |entry: Arc<Entry>| {
        let options = &options;
        async move {
            let Some((_, _, namespace, name)) = mizzen_api::key::parse(&entry.key) else { return Ok(()) };
            match delete(ctx, namespace, name, options).await {
                Err(error) if error.code != 404 => Err(error),
                _ => Ok(()),
            }
        }
    };
    stream::iter(page.entries.clone()).map(delete_entry).buffer_unordered(PARALLEL).try_collect::<()>().await?;
    Ok(Output::new(200, Body::List(page)))
}

fn options(ctx: &Ctx<'_>, sent: &Bytes) -> Result<DeleteOptions, ApiError> {
    if sent.is_empty() {
        return DeleteOptions::parse(ctx.head.query, None);
    }
    // Sent under the version of the resource as well as under v1, so only its form is checked.
    let body = super::body::untyped(ctx, sent, "DeleteOptions")?;
    DeleteOptions::parse(ctx.head.query, Some(&body))
}

/// Deletes one object, or begins to.
pub(crate) async fn delete(
    ctx: &Ctx<'_>,
    namespace: &str,
    name: &str,
    options: &DeleteOptions,
) -> Result<Output, ApiError> {
    let key = ctx.resource.key(namespace, name);
    for _ in 0..ATTEMPTS {
        let snapshot = ctx.snapshot();
        let entry = snapshot.get(&key).ok_or_else(|| ApiError::not_found(ctx.kind().subject(), name))?;
        let old = parse(crd::current(ctx.core, &ctx.resource, entry).await?.as_ref())?;
        preconditions(ctx, &old, options)?;
        let admitted = admit(ctx, &snapshot, (namespace, name), &old, options).await?;
        let mut warnings = admitted.warnings;
        warnings.extend(orphan_warning(ctx, options));
        let step = decide(&old, options, ctx.kind().rules.orphans_by_default, ctx.now);
        let mut sides = Sides::default();
        sides.add(admitted.writes);
        match act(ctx, &key, entry, old, step, options, sides).await {
            Ok(output) => return Ok(output.warn(warnings)),
            Err(Failed::Changed | Failed::SideChanged) => {}
            Err(Failed::Error(error)) => return Err(error),
        }
    }
    Err(crowded("delete", ctx.kind()))
}

/// Whoever deletes a Job and says nothing of its pods keeps them, which few expect.
fn orphan_warning(ctx: &Ctx<'_>, options: &DeleteOptions) -> Option<String> {
    let silent = options.propagation.is_none() && options.orphan_dependents.is_none();
    let is_job = ctx.kind().group == "batch" && ctx.kind().plural == "jobs";
    (is_job && silent).then(|| {
        "child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to remove them or \
         set propagationPolicy=Orphan to suppress this warning"
            .to_string()
    })
}

async fn admit(
    ctx: &Ctx<'_>,
    snapshot: &Snapshot,
    (namespace, name): (&str, &str),
    old: &Value,
    options: &DeleteOptions,
) -> Result<Admitted, ApiError> {
    let request = request(ctx, snapshot, Operation::Delete, name, options.dry_run);
    let asked = admission::Request { namespace, options: Options::Delete(options), ..request };
    let mut admitted = admission::mutate(&asked, &mut Value::Null, Some(old))?;
    let checked = admission::validate(&asked, &Value::Null, Some(old))?;
    if ctx.info.subresource.is_empty() {
        // A collection's deletion names nothing. An eviction was asked about as such.
        let name = if ctx.info.verb == "deletecollection" { "" } else { name };
        let asked = admission::Request { name, ..asked };
        dynamic::both(&asked, &mut Value::Null, Some(old)).await?;
    }
    admitted.writes.extend(checked.writes);
    admitted.warnings.extend(checked.warnings);
    Ok(admitted)
}

fn preconditions(ctx: &Ctx<'_>, old: &Value, options: &DeleteOptions) -> Result<(), ApiError> {
    let refuse = |what: &str, asked: &str, found: &str| {
        let why = format!(
            "the {what} in the precondition ({asked}) does not match the {what} in record ({found}). The object might have been deleted and then recreated"
        );
        Err(ApiError::conflict(ctx.kind().subject(), prepare::text(old, "name"), &why))
    };
    for (what, asked, field) in
        [("UID", &options.uid, "uid"), ("ResourceVersion", &options.resource_version, "resourceVersion")]
    {
        if let Some(asked) = asked
            && asked != prepare::text(old, field)
        {
            return refuse(what, asked, prepare::text(old, field));
        }
    }
    Ok(())
}

/// What a DELETE does to an object.
#[derive(Debug, PartialEq)]
enum Step {
    /// It goes.
    Remove,
    /// It stays, in this state, until its finalizers or its grace are over.
    Mark(Value),
    /// It stays as it is, for its deletion is under way.
    Wait,
}

async fn act(
    ctx: &Ctx<'_>,
    key: &str,
    entry: &Arc<Entry>,
    old: Value,
    step: Step,
    options: &DeleteOptions,
    mut sides: Sides,
) -> Result<Output, Failed> {
    let expect = Expect::At(entry.revision);
    // Not gone yet, which only this old parameter tells apart.
    let kept = if options.orphan_dependents == Some(false) { 202 } else { 200 };
    match step {
        Step::Wait => Ok(Output::new(kept, Body::Entry(Arc::clone(entry)))),
        Step::Mark(marked) if options.dry_run => Ok(Output::new(kept, Body::Stored(marked))),
        Step::Mark(marked) => {
            let written = put(ctx, key, expect, &marked, sides).await?;
            Ok(Output::new(kept, Body::Entry(written)))
        }
        Step::Remove => {
            if !options.dry_run {
                service::release(ctx, &old, &mut sides);
                commit(ctx.core, key, expect, None, sides).await?;
            }
            Ok(gone(ctx, old))
        }
    }
}

fn gone(ctx: &Ctx<'_>, old: Value) -> Output {
    if ctx.kind().rules.returns_deleted {
        return Output::new(200, Body::Stored(old));
    }
    let kind = ctx.kind();
    let mut details = json!({"name": old["metadata"]["name"]});
    if !kind.group.is_empty() {
        details["group"] = kind.group.as_ref().into();
    }
    details["kind"] = kind.plural.as_ref().into();
    details["uid"] = old["metadata"]["uid"].clone();
    Output::success(200, details)
}

/// Decides what happens to an object; `orphans` is whether dependents are orphaned where nobody says otherwise.
fn decide(old: &Value, options: &DeleteOptions, orphans: bool, now: Timestamp) -> Step {
    let mut new = old.clone();
    propagate(&mut new, options, orphans);
    if !prepare::is_deleting(old) {
        crd::hold(&mut new, now);
    }
    let grace = grace(old, options);
    let held = !prepare::finalizers(&new).is_empty() || holds_namespace(&new);
    if !prepare::is_deleting(old) {
        if grace == 0 && !held {
            return Step::Remove;
        }
        mark(&mut new, grace, now);
        prepare::next_generation(&mut new);
        return Step::Mark(new);
    }
    let before = old["metadata"]["deletionGracePeriodSeconds"].as_i64().unwrap_or(0);
    let shorter = options.grace.is_some() && grace < before;
    if shorter {
        if grace == 0 && !held {
            return Step::Remove;
        }
        let begun = prepare::text(old, "deletionTimestamp").parse::<Timestamp>().unwrap_or(now);
        mark(&mut new, grace, begun - SignedDuration::from_secs(before));
    } else if before == 0 && !held {
        return Step::Remove;
    }
    if new == *old { Step::Wait } else { Step::Mark(new) }
}

/// Seconds of grace. Only pods have any: those that run somewhere and have not ended.
fn grace(old: &Value, options: &DeleteOptions) -> i64 {
    let is_pod = old["kind"] == "Pod" && old["apiVersion"] == "v1";
    let placed = old["spec"]["nodeName"].as_str().is_some_and(|n| !n.is_empty());
    let ended = matches!(old["status"]["phase"].as_str(), Some("Failed" | "Succeeded"));
    if !is_pod || !placed || ended {
        return 0;
    }
    let own = || old["spec"]["terminationGracePeriodSeconds"].as_i64().unwrap_or(30);
    match options.grace.unwrap_or_else(own) {
        negative if negative < 0 => 1,
        seconds => seconds,
    }
}

fn mark(object: &mut Value, grace: i64, begun: Timestamp) {
    let end = begun + SignedDuration::from_secs(grace);
    let fields = prepare::metadata(object);
    fields.insert("deletionTimestamp".into(), prepare::time(end).into());
    fields.insert("deletionGracePeriodSeconds".into(), grace.into());
    if object["kind"] == "Namespace" && object["apiVersion"] == "v1" {
        object["status"]["phase"] = "Terminating".into();
    }
}

/// Puts the garbage collector's finalizers on the object, or takes them off.
fn propagate(object: &mut Value, options: &DeleteOptions, orphans_by_default: bool) {
    if object["kind"] == "Event" {
        return; // Events own nothing.
    }
    let has = |name: &str| prepare::finalizers(object).contains(&name);
    let propagation = match (options.propagation, options.orphan_dependents) {
        (Some(propagation), _) => propagation,
        (None, Some(true)) => Propagation::Orphan,
        (None, Some(false)) => Propagation::Background,
        (None, None) if has("orphan") => Propagation::Orphan,
        (None, None) if has("foregroundDeletion") => Propagation::Foreground,
        (None, None) if orphans_by_default => Propagation::Orphan,
        (None, None) => Propagation::Background,
    };
    let wanted = match propagation {
        Propagation::Orphan => Some("orphan"),
        Propagation::Foreground => Some("foregroundDeletion"),
        Propagation::Background => None,
    };
    let before: Vec<String> = prepare::finalizers(object).into_iter().map(str::to_string).collect();
    let mut after: Vec<String> =
        before.iter().filter(|f| !matches!(f.as_str(), "orphan" | "foregroundDeletion")).cloned().collect();
    after.extend(wanted.map(str::to_string));
    if after == before || before.len() == after.len() && wanted.is_some_and(|w| before.iter().any(|f| f == w)) {
        return;
    }
    let fields = prepare::metadata(object);
    if after.is_empty() {
        fields.shift_remove("finalizers");
    } else {
        fields.insert("finalizers".into(), after.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: &str = "2026-01-01T00:00:00Z";

    fn check(case: &str, old: Value, options: DeleteOptions, expected: Step) {
        let step = decide(&old, &options, false, NOW.parse().unwrap());
        assert_eq!(step, expected, "{case}");
    }

    fn pod(metadata: Value) -> Value {
        json!({"kind": "Pod", "apiVersion": "v1", "metadata": metadata, "spec": {"nodeName": "n", "terminationGracePeriodSeconds": 30}})
    }

    #[test]
    fn objects_go_at_once_unless_something_holds_them() {
        let map = |metadata: Value| json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": metadata});
        let plain = DeleteOptions::default();
        check("nothing holds it", map(json!({})), plain.clone(), Step::Remove);
        check(
            "a finalizer",
            map(json!({"finalizers": ["x"]})),
            plain.clone(),
            Step::Mark(map(json!({"finalizers": ["x"], "deletionTimestamp": NOW, "deletionGracePeriodSeconds": 0}))),
        );
        check(
            "foreground",
            map(json!({})),
            DeleteOptions { propagation: Some(Propagation::Foreground), ..plain.clone() },
            Step::Mark(map(
                json!({"finalizers": ["foregroundDeletion"], "deletionTimestamp": NOW, "deletionGracePeriodSeconds": 0}),
            )),
        );
        check(
            "under way",
            map(json!({"finalizers": ["x"], "deletionTimestamp": NOW, "deletionGracePeriodSeconds": 0})),
            plain.clone(),
            Step::Wait,
        );
        check(
            "background takes the orphan finalizer off",
            map(json!({"finalizers": ["orphan"], "deletionTimestamp": NOW, "deletionGracePeriodSeconds": 0})),
            DeleteOptions { propagation: Some(Propagation::Background), ..plain },
            Step::Remove,
        );
    }

    #[test]
    fn pods_have_grace() {
        let plain = DeleteOptions::default();
        let asked = |grace| DeleteOptions { grace: Some(grace), ..DeleteOptions::default() };
        check(
            "first delete",
            pod(json!({"generation": 1})),
            plain.clone(),
            Step::Mark(pod(
                json!({"generation": 2, "deletionTimestamp": "2026-01-01T00:00:30Z", "deletionGracePeriodSeconds": 30}),
            )),
        );
        let deleting = pod(json!({"deletionTimestamp": "2026-01-01T00:00:20Z", "deletionGracePeriodSeconds": 30}));
        check("second delete", deleting.clone(), plain, Step::Wait);
        check("longer is not taken", deleting.clone(), asked(60), Step::Wait);
        check("the kubelet is done", deleting.clone(), asked(0), Step::Remove);
        check(
            "shorter",
            deleting,
            asked(10),
            Step::Mark(pod(json!({"deletionTimestamp": "2026-01-01T00:00:00Z", "deletionGracePeriodSeconds": 10}))),
        );
        check("now", pod(json!({})), asked(0), Step::Remove);
        let mut pending = pod(json!({}));
        pending["spec"]["nodeName"] = "".into();
        check("never placed", pending, DeleteOptions::default(), Step::Remove);
    }

    #[test]
    fn a_namespace_waits_for_its_content() {
        let ns = |metadata: Value, status: Value| json!({"kind": "Namespace", "apiVersion": "v1", "metadata": metadata, "spec": {"finalizers": ["kubernetes"]}, "status": status});
        check(
            "first delete",
            ns(json!({}), json!({"phase": "Active"})),
            DeleteOptions::default(),
            Step::Mark(ns(
                json!({"deletionTimestamp": NOW, "deletionGracePeriodSeconds": 0}),
                json!({"phase": "Terminating"}),
            )),
        );
    }
}
