//! Objects of custom resources between their stored form and the version of a request.
//!
//! What was stored under the definition as it is now, in the version asked for, is served as it stands. Everything else is
//! converted, and pruned and defaulted by the schema of the version: only then does an object look as if it had been
//! written today.

use std::borrow::Cow;
use std::sync::Arc;

use mizzen_api::crd::Conversion;
use mizzen_api::kind::Kind;
use mizzen_api::status::ApiError;
use mizzen_store::{Change, Entry, Event};
use serde_json::Value;

use super::Compiled;
use crate::dispatch::Ctx;
use crate::registry::Resource;
use crate::registry::encode::encode;
use crate::render::{Body, Output, parse};
use crate::server::Core;

/// A stored entry as an entry in the version of the request; itself for all but custom resources.
pub(crate) async fn current(resource: &Resource, entry: &Arc<Entry>) -> Result<Arc<Entry>, ApiError> {
    if is_current(resource, entry) {
        return Ok(Arc::clone(entry));
    }
    let mut entries = current_all(resource, vec![Arc::clone(entry)]).await?;
    entries.pop().ok_or_else(|| ApiError::internal("a conversion lost its object"))
}

/// The same for many, which are converted together.
pub(crate) async fn current_all(resource: &Resource, entries: Vec<Arc<Entry>>) -> Result<Vec<Arc<Entry>>, ApiError> {
    let Some(compiled) = &resource.definition else { return Ok(entries) };
    let mut out = Vec::with_capacity(entries.len());
    for entry in entries {
        if is_current(resource, &entry) {
            out.push(entry);
            continue;
        }
        let object = convert(compiled, parse(&entry)?, &resource.kind).await?;
        out.push(Arc::new(rewritten(&entry, &refreshed(object, &resource.kind))));
    }
    Ok(out)
}

/// The output of a handler in the version of the request.
pub(crate) async fn served(ctx: &Ctx<'_>, mut output: Output) -> Result<Output, ApiError> {
    match &mut output.body {
        Body::Entry(entry) => *entry = current(&ctx.resource, entry).await?,
        Body::List(page) => page.entries = current_all(&ctx.resource, std::mem::take(&mut page.entries)).await?,
        Body::Stored(_) | Body::Other(_) => {}
    }
    if let Some(warning) = ctx.kind().custom.as_ref().and_then(|c| c.deprecation.clone()) {
        output.warnings.insert(0, warning);
    }
    Ok(output)
}

/// Events in the version of a watch; `None` when that is no longer served. The definition is followed as it changes.
pub(crate) async fn follow(
    core: &Core,
    resource: &mut Resource,
    events: Vec<Arc<Event>>,
) -> Result<Option<Vec<Arc<Event>>>, ApiError> {
    let (group, version, plural) = (&resource.kind.group, &resource.kind.version, &resource.kind.plural);
    let Some((kind, definition)) = core.definitions.find(&core.store.snapshot(), group, version, plural) else {
        return Ok(None);
    };
    *resource = Resource::custom(kind, definition);
    let mut out = Vec::with_capacity(events.len());
    for event in events {
        let change = match &event.change {
            Change::Put { entry, previous } => {
                let previous = match previous {
                    Some(previous) => Some(current(resource, previous).await?),
                    None => None,
                };
                Change::Put { entry: current(resource, entry).await?, previous }
            }
            Change::Delete { previous } => Change::Delete { previous: current(resource, previous).await? },
        };
        out.push(Arc::new(Event { revision: event.revision, change }));
    }
    Ok(Some(out))
}

/// An object as it is to be stored.
pub(crate) async fn storable<'o>(resource: &Resource, object: &'o Value) -> Result<Cow<'o, Value>, ApiError> {
    let Some(compiled) = &resource.definition else { return Ok(Cow::Borrowed(object)) };
    if resource.kind.version == compiled.definition.storage {
        return Ok(Cow::Borrowed(object));
    }
    let Some(storage) = compiled.definition.version(&compiled.definition.storage) else {
        return Err(ApiError::internal(format_args!("no version of {} is stored", resource.kind.plural)));
    };
    convert(compiled, object.clone(), &storage.kind).await.map(Cow::Owned)
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

/// An object in another version of its kind.
pub(crate) async fn convert(compiled: &Compiled, mut object: Value, to: &Kind) -> Result<Value, ApiError> {
    let wanted = to.api_version();
    if object["apiVersion"] == wanted.as_str() {
        return Ok(object);
    }
    match &compiled.definition.conversion {
        Conversion::None => {
            object["apiVersion"] = wanted.into();
            Ok(object)
        }
        Conversion::Webhook(_) => {
            let from = object["apiVersion"].as_str().unwrap_or_default();
            let (group, version) = from.split_once('/').unwrap_or(("", from));
            Err(ApiError::internal(format_args!(
                "conversion webhook for {group}/{version}, Kind={} failed: webhooks are not called yet",
                to.kind
            )))
        }
    }
}

fn refreshed(mut object: Value, kind: &Kind) -> Value {
    if let Some(custom) = &kind.custom {
        custom.refresh(&mut object);
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
