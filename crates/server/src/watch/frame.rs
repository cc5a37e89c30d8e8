//! One event as bytes, in whatever shape and version the watcher asked for.

use bytes::{BufMut, BytesMut};
use mizzen_api::protobuf;
use mizzen_api::status::ApiError;
use mizzen_store::{Entry, Revision};
use serde_json::{Value, json};

use super::rendered::{Key, Rendered};
use crate::negotiate::{Encoding, Format, Shape};
use crate::registry::Resource;
use crate::render::served;
use crate::shapes::{self, Include};

/// The annotation of the bookmark after the initial events.
const INITIAL_EVENTS_END: &str = "k8s.io/initial-events-end";

/// Writes frames for one watcher.
#[derive(Debug)]
pub(super) struct Frames {
    pub resource: Resource,
    pub format: Format,
    pub include: Include,
    /// A table's columns are sent once a stream.
    pub columns_sent: bool,
}

impl Frames {
    /// An event about an entry; `at` replaces its revision (a deletion's). What has to be encoded is shared through `shared`
    /// with the other watchers of the change.
    pub fn event(
        &mut self,
        out: &mut BytesMut,
        kind: &'static str,
        entry: &Entry,
        at: Option<Revision>,
        shared: Option<&Rendered>,
    ) {
        if self.format.encoding == Encoding::Json
            && self.format.shape == Shape::Full
            && !self.resource.kind.is_converted()
        {
            self.copied(out, kind, entry, at);
            return;
        }
        match shared.and_then(|shared| Some((shared, Key::of(self, kind, entry, at)?))) {
            Some((shared, key)) => {
                let frame = shared.frame(key, || {
                    let mut frame = BytesMut::new();
                    self.encoded(&mut frame, kind, entry, at);
                    frame.freeze()
                });
                out.put_slice(&frame);
            }
            None => self.encoded(out, kind, entry, at),
        }
        self.columns_sent = true;
    }

    /// As the store has it.
    fn copied(&self, out: &mut BytesMut, kind: &str, entry: &Entry, at: Option<Revision>) {
        let value = match at {
            Some(revision) => entry.value_at(revision),
            None => entry.value.clone(),
        };
        out.reserve(value.len() + 40);
        out.put_slice(b"{\"type\":\"");
        out.put_slice(kind.as_bytes());
        out.put_slice(b"\",\"object\":");
        out.put_slice(&value);
        out.put_slice(b"}\n");
    }

    fn encoded(&self, out: &mut BytesMut, kind: &str, entry: &Entry, at: Option<Revision>) {
        let value = match at {
            Some(revision) => entry.value_at(revision),
            None => entry.value.clone(),
        };
        let object: Value = match serde_json::from_slice(&value) {
            Ok(object) => object,
            Err(error) => return self.error(out, &ApiError::internal(error)),
        };
        let object = match self.format.shape {
            Shape::Full => served(&self.resource, object),
            Shape::Table(version) => {
                let metadata = shapes::single_metadata(&object);
                let now = jiff::Timestamp::now().as_second();
                let row = shapes::row(&self.resource, object, version, self.include, now);
                shapes::table(&self.resource.storage, version, metadata, vec![row], !self.columns_sent)
            }
            Shape::Metadata(version) => shapes::partial(&object, version),
        };
        self.put(out, kind, &object);
    }

    /// A bookmark: nothing but a revision; `initial_end` marks the end of the initial events.
    pub fn bookmark(&mut self, out: &mut BytesMut, revision: Revision, initial_end: bool) {
        let kind = self.resource.kind.clone();
        let mut metadata = json!({"resourceVersion": revision.to_string()});
        if initial_end {
            metadata["annotations"] = json!({INITIAL_EVENTS_END: "true"});
        }
        let full = |metadata: Value| json!({"kind": kind.kind, "apiVersion": kind.api_version(), "metadata": metadata});
        let object = match self.format.shape {
            Shape::Full => full(metadata),
            Shape::Metadata(version) => shapes::partial(&full(metadata), version),
            Shape::Table(version) => {
                let table_metadata = json!({"resourceVersion": metadata["resourceVersion"]});
                let cells = vec![Value::Null; self.resource.storage.columns().len()];
                let object = match self.include {
                    Include::Object => full(metadata),
                    Include::None | Include::Metadata => shapes::partial(&full(metadata), version),
                };
                let row = json!({"cells": cells, "object": object});
                let first = !std::mem::replace(&mut self.columns_sent, true);
                shapes::table(&self.resource.storage, version, table_metadata, vec![row], first)
            }
        };
        self.put(out, "BOOKMARK", &object);
    }

    /// The error that ends a stream; a plain Status in every shape.
    pub fn error(&self, out: &mut BytesMut, error: &ApiError) {
        self.put(out, "ERROR", &error.to_status());
    }

    fn put(&self, out: &mut BytesMut, kind: &str, object: &Value) {
        match self.format.encoding {
            // Every kind that can be watched has a protobuf form, and so has Status.
            Encoding::Protobuf => {
                out.put_slice(&protobuf::watch_frame(kind, &protobuf::encode(object).unwrap_or_default()))
            }
            Encoding::Json | Encoding::Yaml => {
                out.put_slice(format!("{{\"type\":\"{kind}\",\"object\":{object}}}\n").as_bytes());
            }
        }
    }
}
