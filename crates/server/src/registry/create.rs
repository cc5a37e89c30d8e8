//! POST: a new object.

use bytes::Bytes;
use mizzen_api::field::FieldError;
use mizzen_api::key;
use mizzen_api::kind::Kind;
use mizzen_api::kinds::convert;
use mizzen_api::rules::metadata;
use mizzen_api::status::ApiError;
use mizzen_store::{Expect, Snapshot};
use serde_json::Value;

use super::commit::{ATTEMPTS, Failed, Sides};
use super::update::put;
use super::{body, managed, names, prepare, service, subresource};
use crate::admission::{self, Admitted, Operation, Options, Outside, dynamic};
use crate::auth::reviews;
use crate::crd;
use crate::dispatch::Ctx;
use crate::expressions;
use crate::options::WriteOptions;
use crate::render::{Body, Output};

/// How often another name is tried when a generated one is taken.
const NAME_ATTEMPTS: usize = 8;

/// Answers a POST to a collection.
pub(crate) async fn handle(ctx: &Ctx<'_>, sent: &Bytes) -> Result<Output, ApiError> {
    let options = WriteOptions::parse(ctx.head.query, ctx.head.header(http::header::USER_AGENT), false)?;
    let mut warnings = Vec::new();
    let object = body::object(ctx, sent, options.field_validation, &mut warnings)?;
    if reviews::is_review(&ctx.kind().group, &ctx.kind().plural) {
        return review(ctx, object).await;
    }
    if ctx.kind().plural == "bindings" {
        return subresource::bind_from_collection(ctx, object).await;
    }
    create(ctx, to_storage(ctx, object), &options, Ownership::Writer, warnings).await
}

async fn review(ctx: &Ctx<'_>, mut object: Value) -> Result<Output, ApiError> {
    let snapshot = ctx.snapshot();
    dynamic::both(&request(ctx, &snapshot, Operation::Create, "", false), &mut object, None).await?;
    let authenticator = &ctx.core.authenticator;
    let outside = match authenticator.outside().filter(|_| ctx.kind().plural == "tokenreviews") {
        Some(outside) => {
            let token = object["spec"]["token"].as_str().unwrap_or_default();
            Box::pin(outside.identity(&ctx.core.callout, &snapshot, token, ctx.now)).await
        }
        None => None,
    };
    let context = reviews::Context {
        authenticator,
        outside,
        asked: std::cell::OnceCell::new(),
        snapshot: &snapshot,
        issuer: &ctx.core.issuer,
        authorizer: &ctx.core.authorizer,
        identity: ctx.identity,
        now: ctx.now,
    };
    let mut answered = reviews::answer(&context, &ctx.kind().plural, &ctx.info.namespace, object)?;
    let asked = context.asked.into_inner();
    if let (Some(chain), Some(asked)) = (ctx.core.authorizer.chain(), asked) {
        let (authorizer, callout) = (&ctx.core.authorizer, &ctx.core.callout);
        let verdict = Box::pin(chain.decide(authorizer, callout, &snapshot, asked.who(), &asked.what())).await;
        answered["status"] = reviews::status_of(verdict);
    }
    Ok(Output::new(201, Body::Other(answered)))
}

/// An object as sent, in its storage version and with defaults.
pub(crate) fn to_storage(ctx: &Ctx<'_>, object: Value) -> Value {
    defaulted(ctx, convert(object, ctx.kind(), &ctx.resource.storage))
}

/// An object in its storage version, with defaults.
pub(crate) fn defaulted(ctx: &Ctx<'_>, mut object: Value) -> Value {
    ctx.resource.storage.default(&mut object);
    object
}

/// Whether the owners of a new object's fields are known already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ownership {
    /// The writer owns all of them.
    Writer,
    /// `managedFields` says it (apply).
    Known,
}

/// Creates an object given in its storage version.
pub(crate) async fn create(
    ctx: &Ctx<'_>,
    mut sent: Value,
    options: &WriteOptions,
    ownership: Ownership,
    warnings: Vec<String>,
) -> Result<Output, ApiError> {
    prepare::incoming(&mut sent, ctx.kind(), &ctx.info.namespace)?;
    let generated = prepare::text(&sent, "name").is_empty() && !prepare::text(&sent, "generateName").is_empty();
    let mut names_left = if generated { NAME_ATTEMPTS } else { 1 };
    for _ in 0..ATTEMPTS {
        let snapshot = ctx.snapshot();
        let Draft { object, sides, warnings: own } =
            Draft::new(ctx, &snapshot, sent.clone(), options, ownership, &warnings).await?;
        let name = prepare::text(&object, "name");
        let key = ctx.resource.key(&ctx.info.namespace, name);
        let outcome = if options.dry_run {
            if snapshot.get(&key).is_some() { Err(Failed::Changed) } else { Ok(Body::Stored(object.clone())) }
        } else {
            put(ctx, &key, Expect::Absent, &object, sides).await.map(Body::Entry)
        };
        match outcome {
            Ok(body) => return Ok(Output::new(201, body).warn(own)),
            Err(Failed::Changed) if names_left <= 1 => return Err(taken(ctx, name, generated)),
            Err(Failed::Changed) => names_left -= 1,
            Err(Failed::SideChanged) => {}
            Err(Failed::Error(error)) => return Err(error),
        }
    }
    Err(crowded("create", ctx.kind()))
}

fn taken(ctx: &Ctx<'_>, name: &str, generated: bool) -> ApiError {
    let mut error = ApiError::already_exists(ctx.kind().subject(), name);
    if generated {
        error.message.push_str(", the server was not able to generate a unique name for the object");
    }
    error
}

/// Others kept changing what goes with the object: clients wait a moment and try again by themselves.
pub(crate) fn crowded(what: &str, kind: &Kind) -> ApiError {
    let message = format!(
        "The {what} operation against {} could not be completed at this time, please try again.",
        kind.subject()
    );
    ApiError::too_many_requests(message, 1)
}

/// A new object that passed admission and validation.
struct Draft {
    object: Value,
    sides: Sides,
    warnings: Vec<String>,
}

impl Draft {
    async fn new(
        ctx: &Ctx<'_>,
        snapshot: &Snapshot,
        mut object: Value,
        options: &WriteOptions,
        ownership: Ownership,
        warnings: &[String],
    ) -> Result<Self, ApiError> {
        let kind = &ctx.resource.storage;
        if ownership == Ownership::Writer {
            // Before admission: what the plugins add belongs to nobody, so that a later apply does not take it away.
            managed::created(ctx, &mut object, &options.manager);
        }
        let mut admitted = admit(ctx, snapshot, &mut object, options).await?;
        kind.default(&mut object);
        name(&mut object, ctx.kind())?;
        prepare::born(&mut object, kind, names::uid(), ctx.now);
        kind.prepare_create(&mut object);
        let mut sides = Sides::default();
        in_namespace(ctx, snapshot, &mut sides);
        crd::still_defined(ctx, snapshot, &object, &mut sides)?;
        service::allocate(ctx, snapshot, &mut object, None, &mut sides)?;
        let mut errors = metadata::validate(&kind.group, &kind.plural, kind.namespaced, &object);
        errors.extend(kind.validate(&object));
        errors.extend(expressions::check(kind, &object, None));
        invalid(ctx.kind(), &object, errors)?;
        ctx.core.authorizer.check_escalation(snapshot, ctx.identity, &ctx.kind().plural, &object, None)?;
        let asked = request(ctx, snapshot, Operation::Create, prepare::text(&object, "name"), options.dry_run);
        let checked = admission::validate(&asked, &object, None)?;
        dynamic::validate(&asked, &object, None).await?;
        admitted.writes.extend(checked.writes);
        sides.add(admitted.writes);
        let mut warnings = warnings.to_vec();
        warnings.extend(admitted.warnings);
        warnings.extend(checked.warnings);
        warnings.extend(kind.warnings(&object, None));
        Ok(Self { object, sides, warnings })
    }
}

/// Nothing is created in a namespace that begins to go meanwhile: what its controller did not see would stay for ever.
fn in_namespace(ctx: &Ctx<'_>, snapshot: &Snapshot, sides: &mut Sides) {
    let key = key::object("", "namespaces", "", &ctx.info.namespace);
    if ctx.kind().namespaced
        && let Some(entry) = snapshot.get(&key)
    {
        sides.expect.push((key, Expect::At(entry.revision)));
    }
}

async fn admit(
    ctx: &Ctx<'_>,
    snapshot: &Snapshot,
    object: &mut Value,
    options: &WriteOptions,
) -> Result<Admitted, ApiError> {
    let name = prepare::text(object, "name").to_string();
    let asked = request(ctx, snapshot, Operation::Create, &name, options.dry_run);
    let admitted = admission::mutate(&asked, object, None)?;
    dynamic::mutate(&asked, object, None).await?;
    Ok(admitted)
}

/// The circumstances of a write, for admission.
pub(crate) fn request<'a>(
    ctx: &'a Ctx<'_>,
    snapshot: &'a Snapshot,
    operation: Operation,
    name: &'a str,
    dry_run: bool,
) -> admission::Request<'a> {
    admission::Request {
        snapshot,
        kind: ctx.kind(),
        subresource: &ctx.info.subresource,
        operation,
        namespace: if ctx.kind().namespaced { &ctx.info.namespace } else { "" },
        name,
        identity: ctx.identity,
        authorizer: &ctx.core.authorizer,
        dry_run,
        now: ctx.now,
        suffix: &names::suffix,
        definition: ctx.resource.definition.as_deref(),
        options: Options::Write(ctx.head.query),
        outside: Some(Outside {
            webhooks: &ctx.core.webhooks,
            policies: &ctx.core.policies,
            definitions: &ctx.core.definitions,
            callout: &ctx.core.callout,
            notes: &ctx.head.notes,
        }),
    }
}

/// Gives the object its name.
fn name(object: &mut Value, kind: &Kind) -> Result<(), ApiError> {
    if !prepare::text(object, "name").is_empty() {
        return Ok(());
    }
    let base = prepare::text(object, "generateName");
    if base.is_empty() {
        let error = FieldError::required("metadata.name", "name or generateName is required");
        return Err(ApiError::invalid(&kind.group, &kind.kind, "", &[error]));
    }
    let name = names::generate(base);
    prepare::metadata(object).insert("name".into(), name.into());
    Ok(())
}

/// 422 if there are errors.
pub(crate) fn invalid(kind: &Kind, object: &Value, mut errors: Vec<FieldError>) -> Result<(), ApiError> {
    if errors.is_empty() {
        return Ok(());
    }
    let mut told = Vec::new();
    errors.retain(|e| {
        let fresh = !told.contains(e);
        told.push(e.clone());
        fresh
    });
    Err(ApiError::invalid(&kind.group, &kind.kind, prepare::text(object, "name"), &errors))
}
