//! Who owns which fields: `metadata.managedFields` on every write, and server-side apply (api-facts §4.3, §4.4).

use bytes::Bytes;
use mizzen_api::apply::{self, Node, Writable, Writer};
use mizzen_api::kinds::convert;
use mizzen_api::schema::{self, Type};
use mizzen_api::status::ApiError;
use serde_json::Value;

use super::update::{Proposal, Target, change, requested};
use super::{body, create, prepare};
use crate::dispatch::{self, Ctx};
use crate::options::WriteOptions;
use crate::render::Output;

/// The type of the objects of a request.
fn ty<'a>(ctx: &'a Ctx<'_>) -> Node<'a> {
    let kind = ctx.kind();
    match kind.custom.as_ref().and_then(|c| c.schema.as_ref()) {
        Some(schema) => Node::Custom(schema),
        None => Node::Type(schema::of(kind).map_or(Type::Json, Type::Object)),
    }
}

/// What requests to an endpoint can write.
fn writable(ctx: &Ctx<'_>) -> Writable {
    match ctx.info.subresource.as_ref() {
        "status" => Writable::Status,
        _ if ctx.kind().subresource("status").is_some() => Writable::AllButStatus,
        _ => Writable::All,
    }
}

/// Calls `then` with the writer that a request is.
fn with_writer<T>(ctx: &Ctx<'_>, manager: &str, then: impl FnOnce(&Writer<'_>) -> T) -> T {
    then(&Writer {
        manager,
        api_version: &ctx.kind().api_version(),
        subresource: &ctx.info.subresource,
        time: &prepare::time(ctx.now),
        writable: writable(ctx),
    })
}

/// Tracks the fields of a new object, given in its storage version.
pub(crate) fn created(ctx: &Ctx<'_>, object: &mut Value, manager: &str) {
    own(ctx, None, object, manager);
}

/// Tracks a change; both objects in the storage version.
pub(crate) fn updated(ctx: &Ctx<'_>, new: &mut Value, old: &Value, manager: &str) {
    own(ctx, Some(old), new, manager);
}

fn own(ctx: &Ctx<'_>, old: Option<&Value>, new: &mut Value, manager: &str) {
    with_writer(ctx, manager, |writer| {
        if !ctx.kind().is_converted() {
            return apply::own(old, new, ty(ctx), writer);
        }
        // Ownership is told in the fields of the version that was written.
        let old = old.map(|old| requested(ctx, old));
        let mut served = requested(ctx, new);
        apply::own(old.as_ref(), &mut served, ty(ctx), writer);
        let managed = prepare::metadata(&mut served).shift_remove("managedFields");
        let fields = prepare::metadata(new);
        match managed {
            Some(managed) => fields.insert("managedFields".into(), managed),
            None => fields.shift_remove("managedFields"),
        };
    });
}

/// Answers a server-side apply to an object or its status.
pub(crate) async fn apply(ctx: &Ctx<'_>, sent: &Bytes, target: Target) -> Result<Output, ApiError> {
    let options = WriteOptions::parse(ctx.head.query, ctx.head.header(http::header::USER_AGENT), true)?;
    let (config, warnings) = read(ctx, sent, &options)?;
    let key = ctx.resource.key(&ctx.info.namespace, &ctx.info.name);
    if target == Target::Main && ctx.snapshot().get(&key).is_none() {
        match create_applied(ctx, config.clone(), &options, warnings.clone()).await {
            // Somebody else was faster: it is an update now.
            Err(error) if error.reason == "AlreadyExists" => {}
            answered => return answered,
        }
    }
    change(ctx, target, &options, |old| {
        let live = requested(ctx, old);
        let object = merged(ctx, Some(&live), config.clone(), &options)?;
        let object = create::to_storage(ctx, object);
        Ok(Proposal { managed: true, warnings: warnings.clone(), ..Proposal::new(object) })
    })
    .await
}

fn read(ctx: &Ctx<'_>, sent: &Bytes, options: &WriteOptions) -> Result<(Value, Vec<String>), ApiError> {
    let expected = body::expected(ctx);
    let decoded = apply::read_config(sent, &expected, body::limits(ctx))?;
    let warnings = options.field_validation.judge(decoded.problems, &expected)?;
    let mut config = decoded.value;
    let name = prepare::text(&config, "name");
    if !name.is_empty() && name != ctx.info.name {
        let message = format!("the name of the object ({name}) does not match the name on the URL ({})", ctx.info.name);
        return Err(ApiError::bad_request(message));
    }
    let metadata = prepare::metadata(&mut config);
    metadata.insert("name".into(), ctx.info.name.as_ref().into());
    prepare::place(metadata, ctx.kind(), &ctx.info.namespace)?;
    Ok((config, warnings))
}

fn merged(ctx: &Ctx<'_>, live: Option<&Value>, config: Value, options: &WriteOptions) -> Result<Value, ApiError> {
    with_writer(ctx, &options.manager, |writer| {
        let applied = apply::apply(live, config, ty(ctx), writer, options.force).map_err(|e| e.to_status())?;
        Ok(applied.object)
    })
}

async fn create_applied(
    ctx: &Ctx<'_>,
    config: Value,
    options: &WriteOptions,
    warnings: Vec<String>,
) -> Result<Output, ApiError> {
    if !prepare::text(&config, "resourceVersion").is_empty() || !prepare::text(&config, "uid").is_empty() {
        return Err(ApiError::not_found(ctx.kind().subject(), &ctx.info.name));
    }
    let what = dispatch::attributes(ctx.head, ctx.info, "create");
    dispatch::admit(ctx.core, &ctx.snapshot(), ctx.identity, &what).await?;
    let object = merged(ctx, None, config, options)?;
    let stored = convert(object, ctx.kind(), &ctx.resource.storage);
    create::create(ctx, create::defaulted(ctx, stored), options, create::Ownership::Known, warnings).await
}
