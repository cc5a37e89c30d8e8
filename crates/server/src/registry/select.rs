//! Which objects a list, watch or deletecollection is about: label selector, field selector, one name.

use mizzen_api::field::FieldError;
use mizzen_api::status::ApiError;
use mizzen_store::Entry;

use super::Resource;
use super::labels::Labels;
use super::meta::Meta;
use crate::query::Query;

/// What is selected.
#[derive(Debug, Clone)]
pub(crate) struct Selection {
    resource: Resource,
    labels: Option<Labels>,
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
    pub fn parse(resource: Resource, query: &Query) -> Result<Self, ApiError> {
        let labels = query.get("labelSelector").map(Labels::parse).transpose()?;
        let fields = match query.get("fieldSelector") {
            Some(text) => terms(resource, text)?,
            None => Vec::new(),
        };
        Ok(Self { resource, labels, fields })
    }

    /// Everything.
    pub fn everything(resource: Resource) -> Self {
        Self { resource, labels: None, fields: Vec::new() }
    }

    /// Also requires this name.
    pub fn named(&mut self, name: &str) -> Result<(), ApiError> {
        if self.name().is_some_and(|other| other != name) {
            let error = FieldError::invalid("metadata.name", name, "fieldSelector metadata.name doesn't match requested name");
            return Err(ApiError::bad_request(error.to_string()));
        }
        self.fields.push(Term { field: Field::Name, value: name.to_string(), equal: true });
        Ok(())
    }

    /// Whether nothing is left out.
    pub fn is_everything(&self) -> bool {
        self.labels.is_none() && self.fields.is_empty()
    }

    /// The one name asked for, if it is one.
    pub fn name(&self) -> Option<&str> {
        self.fields.iter().find(|t| t.field == Field::Name && t.equal).map(|t| t.value.as_str())
    }

    /// Whether an entry is selected.
    pub fn matches(&self, entry: &Entry) -> bool {
        if self.is_everything() {
            return true;
        }
        let (namespace, name) = place(&entry.key);
        let by_key = |term: &Term| match term.field {
            Field::Name => (term.value == name) == term.equal,
            Field::Namespace => (term.value == namespace) == term.equal,
            Field::OfKind(_) => true,
        };
        if !self.fields.iter().all(by_key) {
            return false;
        }
        if self.labels.is_none() && !self.fields.iter().any(|t| matches!(t.field, Field::OfKind(_))) {
            return true;
        }
        let meta = Meta::of(entry, self.resource.storage);
        let by_field = |term: &Term| match term.field {
            Field::OfKind(at) => (meta.field(at) == term.value) == term.equal,
            _ => true,
        };
        self.fields.iter().all(by_field) && self.labels.as_ref().is_none_or(|l| l.matches(|name| meta.label(name)))
    }
}

/// Namespace and name from a key.
fn place(key: &str) -> (&str, &str) {
    mizzen_api::key::parse(key).map_or(("", ""), |(_, _, namespace, name)| (namespace, name))
}

fn terms(resource: Resource, text: &str) -> Result<Vec<Term>, ApiError> {
    let mut terms = Vec::new();
    for part in text.split(',').map(str::trim).filter(|p| !p.is_empty()) {
        let (label, value, equal) = if let Some((label, value)) = part.split_once("!=") {
            (label, value, false)
        } else if let Some((label, value)) = part.split_once("==").or_else(|| part.split_once('=')) {
            (label, value, true)
        } else {
            let message = format!("invalid selector: '{text}'; can't understand '{part}'");
            return Err(ApiError::bad_request(message));
        };
        let field = match label {
            "metadata.name" => Field::Name,
            "metadata.namespace" => Field::Namespace,
            _ => {
                let found = resource.storage.rules.selectable.iter().position(|f| f.label == label);
                Field::OfKind(found.ok_or_else(|| unsupported(label))?)
            }
        };
        terms.push(Term { field, value: value.to_string(), equal });
    }
    Ok(terms)
}

fn unsupported(label: &str) -> ApiError {
    ApiError::bad_request(format!("field label not supported: {label}"))
}
