//! The generic registry: every kind is created, read, changed and deleted by the same code, steered by its descriptor.
//!
//! Reads copy stored bytes. Writes decode, default, admit, validate and commit ([`create`], [`update`], [`patch`],
//! [`delete`]); what a few kinds need beyond that is in [`subresource`] and [`service`].

pub(crate) mod body;
pub(crate) mod commit;
pub(crate) mod create;
pub(crate) mod delete;
pub(crate) mod encode;
pub(crate) mod list;
pub(crate) mod managed;
pub(crate) mod meta;
pub(crate) mod names;
pub(crate) mod patch;
pub(crate) mod prepare;
pub(crate) mod read;
pub(crate) mod select;
pub(crate) mod service;
mod streamed;
pub(crate) mod subresource;
pub(crate) mod update;

use std::sync::Arc;

use mizzen_api::key;
use mizzen_api::kind::{Kind, KindRef};
use mizzen_api::kinds::kinds;

use crate::crd::Compiled;

/// A resource in the version it is asked for, and as it is stored.
#[derive(Debug, Clone)]
pub(crate) struct Resource {
    /// As asked for.
    pub kind: KindRef,
    /// The version that generic code handles; the same for most. For custom resources it is the version asked for, and
    /// what is stored is converted where it is read and written.
    pub storage: KindRef,
    /// The definition of a custom resource.
    pub definition: Option<Arc<Compiled>>,
}

impl Resource {
    /// A built-in kind with its storage kind.
    pub fn new(kind: &'static Kind) -> Self {
        let stored = || kinds().storage(&kind.group, &kind.plural).unwrap_or(kind);
        let storage = if kind.is_converted() { stored() } else { kind };
        Self { kind: kind.into(), storage: storage.into(), definition: None }
    }

    /// A custom resource.
    pub fn custom(kind: KindRef, definition: Arc<Compiled>) -> Self {
        Self { storage: kind.clone(), kind, definition: Some(definition) }
    }

    /// The key of an object.
    pub fn key(&self, namespace: &str, name: &str) -> String {
        let namespace = if self.kind.namespaced { namespace } else { "" };
        key::object(&self.storage.group, &self.storage.plural, namespace, name)
    }

    /// The prefix of all objects, or of those in one namespace.
    pub fn prefix(&self, namespace: &str) -> String {
        if self.kind.namespaced && !namespace.is_empty() {
            key::namespace_prefix(&self.storage.group, &self.storage.plural, namespace)
        } else {
            key::resource_prefix(&self.storage.group, &self.storage.plural)
        }
    }
}
