//! What generic code asks about stored objects, parsed once an entry and kept beside it.

use std::sync::Arc;

use mizzen_api::kind::Kind;
use mizzen_store::Entry;
use serde_json::Value;

/// The labels and selectable fields of a stored object.
#[derive(Debug, Default)]
pub(crate) struct Meta {
    labels: Box<[(Box<str>, Box<str>)]>,
    /// As many as the kind has selectable fields, in its order.
    fields: Box<[Box<str>]>,
}

/// The part of an object that labels are read from without decoding the rest.
#[derive(serde::Deserialize)]
struct Head<'a> {
    #[serde(borrow)]
    metadata: HeadMeta<'a>,
}

#[derive(serde::Deserialize)]
struct HeadMeta<'a> {
    #[serde(borrow, default)]
    labels: Option<std::collections::BTreeMap<std::borrow::Cow<'a, str>, std::borrow::Cow<'a, str>>>,
}

impl Meta {
    /// The metadata of an entry of this (storage) kind.
    pub fn of(entry: &Entry, kind: &Kind) -> Arc<Meta> {
        entry.derived(|entry| Self::parse(entry, kind))
    }

    fn parse(entry: &Entry, kind: &Kind) -> Self {
        if kind.custom.is_some() || !kind.has_selectable() {
            let head: Option<Head<'_>> = serde_json::from_slice(&entry.value).ok();
            let labels = head.and_then(|h| h.metadata.labels).unwrap_or_default();
            let labels = labels.into_iter().map(|(k, v)| (k.into(), v.into())).collect();
            return Self { labels, fields: Box::default() };
        }
        let value: Value = serde_json::from_slice(&entry.value).unwrap_or_default();
        Self::from_value(&value, kind)
    }

    /// The same of an object that is not stored.
    pub fn from_value(value: &Value, kind: &Kind) -> Self {
        let labels = value["metadata"]["labels"].as_object();
        let labels = labels.into_iter().flatten().filter_map(|(k, v)| Some((k.as_str().into(), v.as_str()?.into())));
        let fields = kind.selected_values(value).into_iter().map(Into::into);
        Self { labels: labels.collect(), fields: fields.collect() }
    }

    /// A label's value.
    pub fn label(&self, name: &str) -> Option<&str> {
        self.labels.iter().find(|(k, _)| **k == *name).map(|(_, v)| &**v)
    }

    /// The value of the kind's selectable field at this place in its list.
    pub fn field(&self, at: usize) -> &str {
        self.fields.get(at).map_or("", |f| f)
    }
}
