//! Objects of custom resources between their stored form and the version of a request.
//!
//! What was stored under the definition as it is now, in the version asked for, is served as it stands. Everything else is
//! converted, and pruned and defaulted by the schema of the version: only then does an object look as if it had been
//! written today.

use std::borrow::Cow;
use std::sync::Arc;

use mizzen_api::kind::Kind;
use mizzen_api::status::ApiError;
use mizzen_store::{Change, Entry, Event};
use serde_json::Value;

use super::convert::{convert, convert_all};
use crate::dispatch::Ctx;
use crate::registry::Resource;
use crate::registry::encode::encode;
use crate::render::{Body, Output, parse};
use crate::server::Core;

/// A stored entry as an entry in the version of the request; itself for all but custom resources.
pub(crate) async fn current(core: &Core, resource: &Resource, entry: &Arc<Entry>) -> Result<Arc<Entry>, ApiError> {
    if is_current(resource, entry) {
        return Ok(Arc::clone(entry));
    }
    let mut entries = Box::pin(current_all(core, resource, vec![Arc::clone(entry)])).await?;
    entries.pop().ok_or_else(|| ApiError::internal("a conversion lost its object"))
}

/// The same for many, which are converted together.
pub(crate) async fn current_all(
    core: &Core,
    resource: &Resource,
    mut entries: Vec<Arc<Entry>>,
) -> Result<Vec<Arc<Entry>>, ApiError> {
    let Some(compiled) = &resource.definition else { return Ok(entries) };
    let old: Vec<usize> = (0..entries.len()).filter(|at| !is_current(resource, &entries[*at])).collect();
    if old.is_empty() {
        return Ok(entries);
    }
    let objects = old.iter().map(|at| parse(&entries[*at])).collect::<Result<Vec<_>, _>>()?;
    let snapshot = core.store.snapshot();
    let converted = convert_all((&core.callout, &snapshot), &compiled.definition, objects, &resource.kind).await?;
    for (at, object) in old.into_iter().zip(converted) {
        entries[at] = Arc::new(rewritten(&entries[at], &refreshed(object, &resource.kind)));
    }
    Ok(entries)
}

/// The output of a handler in the version of the request.
pub(crate) async fn served(ctx: &Ctx<'_>, mut output: Output) -> Result<Output, ApiError> {
    match &mut output.body {
        Body::Entry(entry) => *entry = current(ctx.core, &ctx.resource, entry).await?,
        Body::List(page) => {
            page.entries = current_all(ctx.core, &ctx.resource, std::mem::take(&mut page.entries)).await?;
        }
        Body::Stored(_) | Body::Other(_) => {}
    }
    if let Some(warning) = ctx.kind().custom.as_ref().and_then(|c| c.deprecation.clone()) {
        output.warnings.insert(0, warning);
    }
    Ok(output)
}

/// Takes over what the definition of a watched resource says now; `false` when it is no longer served.
pub(crate) fn renew(core: &Core, resource: &mut Resource) -> bool {
    let (group, version, plural) = (&resource.kind.group, &resource.kind.version, &resource.kind.plural);
    match core.definitions.find(&core.store.snapshot(), group, version, plural) {
        Some((kind, definition)) => {
            *resource = Resource::custom(kind, definition);
            true
        }
        None => false,
    }
}

/// Events in the version of a watch.
pub(crate) async fn translated(
    core: &Core,
    resource: &Resource,
    events: Vec<Arc<Event>>,
) -> Result<Vec<Arc<Event>>, ApiError> {
    // All entries go through one conversion, and come back in their order.
    let entries = events.iter().flat_map(|event| match &event.change {
        Change::Put { entry, previous } => std::iter::once(entry).chain(previous).cloned().collect::<Vec<_>>(),
        Change::Delete { previous } => vec![Arc::clone(previous)],
    });
    let mut entries = current_all(core, resource, entries.collect()).await?.into_iter();
    let mut next = || entries.next().ok_or_else(|| ApiError::internal("a conversion lost its object"));
    events
        .into_iter()
        .map(|event| {
            let change = match &event.change {
                Change::Put { previous, .. } => {
                    let entry = next()?;
                    Change::Put { entry, previous: previous.as_ref().map(|_| next()).transpose()? }
                }
                Change::Delete { .. } => Change::Delete { previous: next()? },
            };
            Ok(Arc::new(Event { revision: event.revision, change }))
        })
        .collect()
}

/// An object as it is to be stored.
pub(crate) async fn storable<'o>(
    core: &Core,
    resource: &Resource,
    object: &'o Value,
) -> Result<Cow<'o, Value>, ApiError> {
    let Some(compiled) = &resource.definition else { return Ok(Cow::Borrowed(object)) };
    let definition = &compiled.definition;
    if resource.kind.version == definition.storage {
        return Ok(Cow::Borrowed(object));
    }
    let Some(storage) = definition.version(&definition.storage) else {
        return Err(ApiError::internal(format_args!("no version of {} is stored", resource.kind.plural)));
    };
    let snapshot = core.store.snapshot();
    let converted = Box::pin(convert((&core.callout, &snapshot), definition, object.clone(), &storage.kind)).await?;
    Ok(Cow::Owned(pruned(converted, &storage.kind)))
}

/// Whether an entry can be served as it stands.
fn is_current(resource: &Resource, entry: &Entry) -> bool {
    let Some(compiled) = &resource.definition else { return true };
    entry.revision > compiled.since && has_version(entry, &resource.kind)
}

/// Whether an entry is stored in the version of a kind; entries begin with it.
fn has_version(entry: &Entry, kind: &Kind) -> bool {
    let rest = entry.value.strip_prefix(b"{\"apiVersion\":\"".as_slice());
    let rest = rest.and_then(|r| r.strip_prefix(kind.group.as_bytes())).and_then(|r| r.strip_prefix(b"/"));
    rest.and_then(|r| r.strip_prefix(kind.version.as_bytes())).is_some_and(|r| r.first() == Some(&b'"'))
}

fn refreshed(mut object: Value, kind: &Kind) -> Value {
    if let Some(custom) = &kind.custom {
        custom.refresh(&mut object);
    }
    object
}

/// What a webhook returns is held to the schema as well; what it left out stays out until it is read.
fn pruned(mut object: Value, kind: &Kind) -> Value {
    if let Some(custom) = &kind.custom {
        custom.prune(&mut object);
    }
    object
}

/// The entry with another object in it.
fn rewritten(entry: &Entry, object: &Value) -> Entry {
    let stored = encode(object);
    let revision = entry.revision.to_string();
    let Some(at) = stored.revision_at else {
        return Entry::new(Arc::clone(&entry.key), stored.bytes, entry.revision, entry.created, 0..0);
    };
    let mut bytes = Vec::with_capacity(stored.bytes.len() + revision.len());
    let split = at as usize;
    bytes.extend_from_slice(&stored.bytes[..split]);
    bytes.extend_from_slice(revision.as_bytes());
    bytes.extend_from_slice(&stored.bytes[split..]);
    let end = at + u32::try_from(revision.len()).unwrap_or_default();
    Entry::new(Arc::clone(&entry.key), bytes.into(), entry.revision, entry.created, at..end)
}

#[cfg(test)]
mod tests {
    use mizzen_store::Revision;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_rewritten_entry_keeps_its_revision() {
        let stored = encode(&json!({"apiVersion": "g/v1", "kind": "K", "metadata": {"name": "a"}}));
        let entry = Entry::new("g/ks/n/a".into(), stored.bytes, Revision(12), Revision(3), 0..0);
        let object = json!({"apiVersion": "g/v2", "kind": "K", "metadata": {"name": "a"}, "spec": {}});
        let written = rewritten(&entry, &object);
        assert_eq!(
            &written.value[..],
            br#"{"apiVersion":"g/v2","kind":"K","metadata":{"name":"a","resourceVersion":"12"},"spec":{}}"#
        );
        let deleted = written.value_at(Revision(345));
        assert!(std::str::from_utf8(&deleted).unwrap().contains(r#""resourceVersion":"345""#));
    }
}
