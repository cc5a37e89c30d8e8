//! Which objects a list, watch or deletecollection is about: label selector, field selector, one name.

use mizzen_api::kinds::stored_label;
use mizzen_api::selector::{FieldSelector, LabelSelector, SelectorError};
use mizzen_api::status::ApiError;
use mizzen_store::Entry;

use super::Resource;
use super::meta::Meta;
use crate::query::Query;

/// What is selected.
#[derive(Debug, Clone)]
pub(crate) struct Selection {
    resource: Resource,
    labels: LabelSelector,
    fields: Vec<Term>,
}

/// One requirement on a field.
#[derive(Debug, Clone)]
struct Term {
    field: Field,
    value: String,
    equal: bool,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Field {
    Name,
    Namespace,
    /// A field of the kind, by its place in the kind's list.
    OfKind(usize),
}

impl Selection {
    /// Reads `labelSelector` and `fieldSelector`.
    pub fn parse(resource: &Resource, query: &Query) -> Result<Self, ApiError> {
        let bad = |error: SelectorError| ApiError::bad_request(error.to_string());
        let labels = LabelSelector::parse(query.get("labelSelector").unwrap_or_default()).map_err(bad)?;
        let fields = FieldSelector::parse(query.get("fieldSelector").unwrap_or_default()).map_err(bad)?;
        let fields = fields.renamed(|label| stored_label(&resource.kind, label));
        let kind = &resource.storage;
        fields.check(|field| kind.selectable(field).is_some()).map_err(bad)?;
        let terms = fields.requirements().iter().map(|term| {
            let field = match term.field.as_str() {
                "metadata.name" => Field::Name,
                "metadata.namespace" => Field::Namespace,
                // `check` found it in the list.
                other => Field::OfKind(kind.selectable(other).unwrap_or(usize::MAX)),
            };
            Term { field, value: term.value.clone(), equal: term.equals }
        });
        let fields = terms.collect();
        Ok(Self { resource: resource.clone(), labels, fields })
    }

    /// Also requires this name.
    pub fn named(&mut self, name: &str) -> Result<(), ApiError> {
        if self.name().is_some_and(|other| other != name) {
            return Err(ApiError::bad_request("fieldSelector metadata.name doesn't match requested name"));
        }
        self.fields.push(Term { field: Field::Name, value: name.to_string(), equal: true });
        Ok(())
    }

    /// Whether nothing is left out.
    pub fn is_everything(&self) -> bool {
        self.labels.is_everything() && self.fields.is_empty()
    }

    /// The one name asked for, if it is one.
    pub fn name(&self) -> Option<&str> {
        self.fields.iter().find(|t| t.field == Field::Name && t.equal).map(|t| t.value.as_str())
    }

    /// Whether fields decide that are the kind's own.
    pub fn reads_fields(&self) -> bool {
        self.fields.iter().any(|t| matches!(t.field, Field::OfKind(_)))
    }

    /// Whether an entry is selected.
    pub fn matches(&self, entry: &Entry) -> bool {
        self.is_everything() || self.matches_key(&entry.key) && self.matches_content(entry)
    }

    /// What the key alone decides.
    fn matches_key(&self, key: &str) -> bool {
        let (namespace, name) =
            mizzen_api::key::parse(key).map_or(("", ""), |(_, _, namespace, name)| (namespace, name));
        self.fields.iter().all(|term| match term.field {
            Field::Name => (term.value == name) == term.equal,
            Field::Namespace => (term.value == namespace) == term.equal,
            Field::OfKind(_) => true,
        })
    }

    fn matches_content(&self, entry: &Entry) -> bool {
        if self.labels.is_everything() && !self.reads_fields() {
            return true;
        }
        let kind = &self.resource.storage;
        let meta = Meta::of(entry, kind);
        let by_field = |meta: &Meta, term: &Term| match term.field {
            Field::OfKind(at) => (meta.field(at) == term.value) == term.equal,
            Field::Name | Field::Namespace => true,
        };
        if kind.custom.is_some() && self.reads_fields() {
            // Versions of a custom resource differ in their fields, so these are not kept beside the entry.
            let value = serde_json::from_slice(&entry.value).unwrap_or_default();
            let meta = Meta::from_value(&value, kind);
            return self.fields.iter().all(|t| by_field(&meta, t)) && self.labels.matches(|name| meta.label(name));
        }
        self.fields.iter().all(|t| by_field(&meta, t)) && self.labels.matches(|name| meta.label(name))
    }
}
