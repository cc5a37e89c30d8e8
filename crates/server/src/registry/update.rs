//! PUT and everything else that changes a stored object: one loop of read, change, check, commit.

use std::sync::Arc;

use bytes::Bytes;
use mizzen_api::apply::same_but_for_times;
use mizzen_api::kinds::convert;
use mizzen_api::rules::metadata;
use mizzen_api::status::ApiError;
use mizzen_store::{Entry, Expect, Snapshot};
use serde_json::Value;

use super::commit::{ATTEMPTS, Failed, Sides, commit};
use super::create::{self, Ownership, invalid, request};
use super::{body, managed, prepare, service, subresource};
use crate::admission::{self, Operation, dynamic};
use crate::crd;
use crate::dispatch::Ctx;
use crate::expressions;
use crate::options::WriteOptions;
use crate::render::{Body, Output, parse};

/// What part of an object a change may touch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    /// Everything but status.
    Main,
    /// Status.
    Status,
    /// What the proposal function has already cut the change down to: finalize, approval, resize, ephemeralcontainers, scale.
    Part,
    /// As [`Target::Part`]; where a pod runs is no change that users asked for, so the generation stays.
    Binding,
}

/// A proposed state of an object.
pub(crate) struct Proposal {
    /// In the storage version, with the resourceVersion that the client insists on, if any.
    pub object: Value,
    /// managedFields are to stay as they are in `object` (apply; writes that nobody owns).
    pub managed: bool,
    /// What to tell the client.
    pub warnings: Vec<String>,
    /// What webhooks are shown of it.
    pub seen: Seen,
}

/// What those who are asked about a change are shown.
pub(crate) enum Seen {
    /// The object.
    Object,
    /// What a sub-resource shows of it, before and after.
    Scale(Box<[Value; 2]>),
    /// Nothing: they were asked before.
    Nothing,
}

impl Proposal {
    /// A state whose managed fields are still to be tracked.
    pub fn new(object: Value) -> Self {
        Self { object, managed: false, warnings: Vec::new(), seen: Seen::Object }
    }
}

/// Answers a PUT to an object.
pub(crate) async fn handle(ctx: &Ctx<'_>, sent: &Bytes) -> Result<Output, ApiError> {
    let options = WriteOptions::parse(ctx.head.query, ctx.head.header(http::header::USER_AGENT), false)?;
    let (object, warnings) = decode(ctx, sent, &options)?;
    let key = ctx.resource.key(&ctx.info.namespace, &ctx.info.name);
    if ctx.kind().rules.create_on_update && ctx.snapshot().get(&key).is_none() {
        return create_instead(ctx, object, &options, warnings).await;
    }
    change(ctx, Target::Main, &options, |_| {
        Ok(Proposal { warnings: warnings.clone(), ..Proposal::new(object.clone()) })
    })
    .await
}

/// The body of a PUT in its storage version: an object of the kind with the name of the URL.
pub(crate) fn decode(ctx: &Ctx<'_>, sent: &Bytes, options: &WriteOptions) -> Result<(Value, Vec<String>), ApiError> {
    let mut warnings = Vec::new();
    let object = body::object(ctx, sent, options.field_validation, &mut warnings)?;
    let mut object = create::to_storage(ctx, object);
    prepare::place(prepare::metadata(&mut object), ctx.kind(), &ctx.info.namespace)?;
    named_as_url(ctx, &mut object)?;
    Ok((object, warnings))
}

fn named_as_url(ctx: &Ctx<'_>, object: &mut Value) -> Result<(), ApiError> {
    let name = prepare::text(object, "name");
    if name.is_empty() {
        prepare::metadata(object).insert("name".into(), ctx.info.name.as_ref().into());
    } else if name != ctx.info.name {
        let message = format!("the name of the object ({name}) does not match the name on the URL ({})", ctx.info.name);
        return Err(ApiError::bad_request(message));
    }
    Ok(())
}

async fn create_instead(
    ctx: &Ctx<'_>,
    mut object: Value,
    options: &WriteOptions,
    warnings: Vec<String>,
) -> Result<Output, ApiError> {
    if !prepare::text(&object, "resourceVersion").is_empty() && prepare::text(&object, "resourceVersion") != "0" {
        return Err(ApiError::not_found(ctx.kind().subject(), &ctx.info.name));
    }
    let what = crate::dispatch::attributes(ctx.head, ctx.info, "create");
    crate::dispatch::admit(ctx.core, &ctx.snapshot(), ctx.identity, &what).await?;
    prepare::metadata(&mut object).shift_remove("resourceVersion");
    create::create(ctx, object, options, Ownership::Writer, warnings).await
}

/// Changes the stored object that the URL names.
///
/// `propose` makes the wanted state of the stored one; it is asked again when others changed the object meanwhile, unless
/// the proposal insists on a resourceVersion, for then the client has to decide.
pub(crate) async fn change(
    ctx: &Ctx<'_>,
    target: Target,
    options: &WriteOptions,
    mut propose: impl FnMut(&Value) -> Result<Proposal, ApiError>,
) -> Result<Output, ApiError> {
    let key = ctx.resource.key(&ctx.info.namespace, &ctx.info.name);
    for _ in 0..ATTEMPTS {
        let snapshot = ctx.snapshot();
        let entry = snapshot.get(&key).ok_or_else(|| ApiError::not_found(ctx.kind().subject(), &ctx.info.name))?;
        let old = parse(crd::current(ctx.core, &ctx.resource, entry).await?.as_ref())?;
        let proposal = propose(&old)?;
        let changed = Changed::new(ctx, &snapshot, target, &old, proposal, options).await?;
        match store(ctx, &key, entry, &old, changed, options.dry_run).await {
            Ok(output) => return Ok(output),
            Err(Failed::Changed | Failed::SideChanged) => {}
            Err(Failed::Error(error)) => return Err(error),
        }
    }
    Err(create::crowded("update", ctx.kind()))
}

async fn store(
    ctx: &Ctx<'_>,
    key: &str,
    entry: &Arc<Entry>,
    old: &Value,
    changed: Changed,
    dry_run: bool,
) -> Result<Output, Failed> {
    let Changed { object, mut sides, warnings } = changed;
    if !is_finished(&object) && same_but_for_times(&object, old) {
        return Ok(Output::new(200, Body::Entry(Arc::clone(entry))).warn(warnings));
    }
    if dry_run {
        return Ok(Output::new(200, Body::Stored(object)).warn(warnings));
    }
    let expect = Expect::At(entry.revision);
    if is_finished(&object) {
        // Its last finalizer went: so does it, with the state that the client wrote as its last.
        service::release(ctx, &object, &mut sides);
        commit(ctx.core, key, expect, None, sides).await?;
        return Ok(Output::new(200, Body::Stored(object)).warn(warnings));
    }
    let written = put(ctx, key, expect, &object, sides).await?;
    Ok(Output::new(200, Body::Entry(written)).warn(warnings))
}

/// Puts an object in the form in which it is stored.
pub(crate) async fn put(
    ctx: &Ctx<'_>,
    key: &str,
    expect: Expect,
    object: &Value,
    sides: Sides,
) -> Result<Arc<Entry>, Failed> {
    let object = crd::storable(ctx.core, &ctx.resource, object).await.map_err(Failed::Error)?;
    commit(ctx.core, key, expect, Some(&object), sides).await
}

/// Whether nothing holds a deleting object any more (api-facts §3.5).
pub(crate) fn is_finished(object: &Value) -> bool {
    prepare::is_deleting(object)
        && prepare::finalizers(object).is_empty()
        && object["metadata"]["deletionGracePeriodSeconds"].as_i64().unwrap_or(0) == 0
        && !holds_namespace(object)
}

/// Whether an object is a Namespace that its content still holds.
pub(crate) fn holds_namespace(object: &Value) -> bool {
    object["kind"] == "Namespace"
        && object["apiVersion"] == "v1"
        && object["spec"]["finalizers"].as_array().is_some_and(|f| !f.is_empty())
}

/// A changed object that passed admission and validation.
struct Changed {
    object: Value,
    sides: Sides,
    warnings: Vec<String>,
}

impl Changed {
    async fn new(
        ctx: &Ctx<'_>,
        snapshot: &Snapshot,
        target: Target,
        old: &Value,
        proposal: Proposal,
        options: &WriteOptions,
    ) -> Result<Self, ApiError> {
        let kind = &ctx.resource.storage;
        let Proposal { object: mut new, managed, mut warnings, mut seen } = proposal;
        prepare::same_object(&new, old, ctx.kind())?;
        prepare::carry_over(&mut new, old);
        if !managed {
            managed::updated(ctx, &mut new, old, &options.manager);
        }
        let asked = request(ctx, snapshot, Operation::Update, &ctx.info.name, options.dry_run);
        let mut admitted = admission::mutate(&asked, &mut new, Some(old))?;
        match &mut seen {
            Seen::Object => dynamic::mutate(&asked, &mut new, Some(old)).await?,
            Seen::Scale(scales) => {
                let [before, after] = &mut **scales;
                dynamic::mutate(&asked, after, Some(before)).await?;
                subresource::take_scale(ctx, &mut new, after);
            }
            Seen::Nothing => {}
        }
        kind.default(&mut new);
        match target {
            Target::Main => kind.prepare_update(&mut new, old),
            Target::Status => kind.prepare_status_update(&mut new, old),
            Target::Part | Target::Binding => {}
        }
        if target != Target::Binding {
            prepare::generation(&mut new, old, kind);
        }
        let mut sides = Sides::default();
        if target == Target::Main {
            service::allocate(ctx, snapshot, &mut new, Some(old), &mut sides)?;
        }
        let mut errors = metadata::validate_update(&new, old);
        errors.extend(match target {
            Target::Main => {
                let mut errors = kind.validate_update(&new, old);
                errors.extend(expressions::check(kind, &new, Some(old)));
                errors
            }
            Target::Status => kind.validate_status_update(&new, old),
            // Checked where it was taken over.
            Target::Part | Target::Binding => Vec::new(),
        });
        invalid(ctx.kind(), &new, errors)?;
        if target == Target::Main {
            ctx.core.authorizer.check_escalation(snapshot, ctx.identity, &ctx.kind().plural, &new, Some(old))?;
            warnings.extend(kind.warnings(&new, Some(old)));
        }
        let checked = admission::validate(&asked, &new, Some(old))?;
        match &seen {
            Seen::Object => dynamic::validate(&asked, &new, Some(old)).await?,
            Seen::Scale(scales) => dynamic::validate(&asked, &scales[1], Some(&scales[0])).await?,
            Seen::Nothing => {}
        }
        admitted.writes.extend(checked.writes);
        sides.add(admitted.writes);
        warnings.extend(admitted.warnings);
        warnings.extend(checked.warnings);
        // Compared with the stored object next, so it carries the same revision.
        prepare::metadata(&mut new).insert("resourceVersion".into(), old["metadata"]["resourceVersion"].clone());
        Ok(Self { object: new, sides, warnings })
    }
}

/// A stored object in the version that was asked for.
pub(crate) fn requested(ctx: &Ctx<'_>, stored: &Value) -> Value {
    convert(stored.clone(), &ctx.resource.storage, ctx.kind())
}
