//! The parameters of a binding.

use std::sync::Arc;

use mizzen_api::key;
use mizzen_api::kind::KindRef;
use mizzen_api::kinds::{convert, kinds};
use mizzen_store::Entry;
use serde_json::Value;

use super::compile::{Binding, ParamKind, Policy};
use crate::admission::Request;
use crate::admission::dynamic::Asking;
use crate::crd::{self, Compiled};

/// The resource of a policy's parameters.
pub(super) struct Source {
    kind: KindRef,
    definition: Option<Arc<Compiled>>,
}

/// The resource of a kind of parameters.
///
/// # Errors
/// There is none.
pub(super) fn source(request: &Request<'_>, asking: &Asking<'_>, policy: &Policy) -> Result<Option<Source>, String> {
    let Some(ParamKind { group, version, kind }) = &policy.param_kind else { return Ok(None) };
    if let Some(kind) = kinds().by_kind(group, version, kind) {
        return Ok(Some(Source { kind: kind.into(), definition: None }));
    }
    let definitions = asking.outside.definitions;
    let told = definitions.told(request.snapshot);
    let found = told.into_iter().find(|told| told.group == *group && told.version == *version && told.kind == *kind);
    let defined = found.and_then(|found| definitions.find(request.snapshot, group, version, &found.plural));
    match defined {
        Some((kind, definition)) => Ok(Some(Source { kind, definition: Some(definition) })),
        None => Err(format!("failed to find resource referenced by paramKind: '{group}/{version}, Kind={kind}'")),
    }
}

/// The parameters with which a binding is evaluated, one after the other: `Null` where it has none.
///
/// # Errors
/// The binding asks for what cannot be, or requires parameters and there are none.
pub(super) async fn collect(
    request: &Request<'_>,
    asking: &Asking<'_>,
    source: Option<&Source>,
    binding: &Binding,
) -> Result<Vec<Value>, String> {
    let (Some(source), Some(wanted)) = (source, &binding.param_ref) else { return Ok(vec![Value::Null]) };
    let kind = &*source.kind;
    let namespace = match (kind.namespaced, wanted.namespace.as_str(), request.in_namespace()) {
        (false, "", _) => "",
        (false, ..) => {
            return Err("paramRef.namespace must not be provided for a cluster-scoped `paramKind`".to_owned());
        }
        (true, "", "") => {
            let why = "cannot use namespaced paramRef in policy binding that matches cluster-scoped resources";
            return Err(why.to_owned());
        }
        (true, "", own) => own,
        (true, given, _) => given,
    };
    let (group, plural) = (&*kind.storage_group, &*kind.plural);
    let entries: Vec<Arc<Entry>> = match &wanted.selector {
        None => {
            request.snapshot.get(&key::object(group, plural, namespace, &wanted.name)).cloned().into_iter().collect()
        }
        Some(_) => {
            let prefix = match namespace {
                "" => key::resource_prefix(group, plural),
                namespace => key::namespace_prefix(group, plural, namespace),
            };
            request.snapshot.prefix(&prefix).cloned().collect()
        }
    };
    let mut params = Vec::new();
    for entry in entries {
        let object = read(request, asking, source, &entry).await?;
        if wanted.selector.as_ref().is_none_or(|selector| selector.matches_object(&object)) {
            params.push(object);
        }
    }
    if params.is_empty() && wanted.required {
        return Err("no params found for policy binding with `Deny` parameterNotFoundAction".to_owned());
    }
    Ok(params)
}

async fn read(request: &Request<'_>, asking: &Asking<'_>, source: &Source, entry: &Entry) -> Result<Value, String> {
    let object: Value = serde_json::from_slice(&entry.value).map_err(|error| error.to_string())?;
    let kind = &*source.kind;
    let Some(compiled) = &source.definition else {
        let storage = kinds().storage(&kind.group, &kind.plural).unwrap_or(kind);
        return Ok(convert(object, storage, kind));
    };
    if object["apiVersion"] == kind.api_version().as_str() {
        return Ok(object);
    }
    let way = (asking.outside.callout, request.snapshot);
    let mut object = crd::convert(way, &compiled.definition, object, kind).await.map_err(|error| error.message)?;
    if let Some(custom) = &kind.custom {
        custom.refresh(&mut object);
    }
    Ok(object)
}
