//! Long lists that have to be encoded, rendered while they are sent: never more than a piece of them is in memory.
//!
//! Tables, metadata, indented JSON and other versions are written item by item. Protobuf tells the length of the whole list
//! before its first item: the items are encoded twice, first for their lengths alone. That costs time and no memory;
//! clients that page never get here.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use mizzen_api::protobuf;
use mizzen_store::Entry;
use serde_json::{Value, json};

use super::Resource;
use super::list::{PIECE, Page};
use crate::answer::{Answer, Hold, Payload};
use crate::dispatch::Ctx;
use crate::negotiate::{Encoding, Format, Shape};
use crate::render::{parse, served};
use crate::shapes;

/// Lists up to this size are held whole in protobuf rather than encoded twice.
const WHOLE: usize = 1 << 20;
/// Objects encoded at a time for their length, before others have their turn.
const MEASURED_AT_ONCE: usize = 32;

/// How the items of a list are made.
pub(super) struct Items {
    resource: Resource,
    format: Format,
    include: shapes::Include,
    now: i64,
}

impl Items {
    /// As the request wants them.
    pub fn of(ctx: &Ctx<'_>) -> Self {
        let include = shapes::Include::parse(ctx.head.query.get("includeObject"));
        Self { resource: ctx.resource.clone(), format: ctx.format, include, now: ctx.now.as_second() }
    }

    /// One item, or one row of a table.
    pub fn item(&self, object: Value) -> Value {
        match self.format.shape {
            Shape::Full => self.listed(served(&self.resource, object)),
            Shape::Table(version) => shapes::row(&self.resource, object, version, self.include, self.now),
            Shape::Metadata(version) => shapes::partial(&object, version),
        }
    }

    /// The list around them.
    pub fn list(&self, metadata: Value, items: Vec<Value>) -> Value {
        let kind = &self.resource.kind;
        match self.format.shape {
            Shape::Full => json!({
                "kind": kind.list_kind, "apiVersion": kind.api_version(), "metadata": metadata, "items": items,
            }),
            Shape::Table(version) => shapes::table(&self.resource.storage, version, metadata, items, true),
            Shape::Metadata(version) => json!({
                "kind": "PartialObjectMetadataList", "apiVersion": version.api_version(), "metadata": metadata,
                "items": items,
            }),
        }
    }

    /// Items of built-in lists carry no kind of their own (api-facts §2.2); custom resources do.
    fn listed(&self, mut object: Value) -> Value {
        if self.resource.definition.is_some() {
            return object;
        }
        if let Some(fields) = object.as_object_mut() {
            fields.shift_remove("apiVersion");
            fields.shift_remove("kind");
        }
        object
    }

    /// The message of an item; `None`, and a word in the log, for one that cannot be made.
    fn message(&self, entry: &Entry) -> Option<Vec<u8>> {
        let object = readable(entry)?;
        let bytes = protobuf::encode(&served(&self.resource, object))?;
        protobuf::open(&bytes).ok().map(|envelope| envelope.raw.to_vec())
    }
}

/// A stored object; what cannot be read is left out of a list that has begun, and said in the log.
fn readable(entry: &Entry) -> Option<Value> {
    parse(entry).inspect_err(|error| tracing::error!(key = &*entry.key, %error, "left out of a list")).ok()
}

/// The answer with a page in pieces; the page comes back where it is short, or in a form that is not made in pieces.
pub(super) fn answer(items: Items, page: Page) -> Result<Answer, Box<(Items, Page)>> {
    let total: usize = page.entries.iter().map(|entry| entry.value.len()).sum();
    let short = match items.format.encoding {
        Encoding::Json => total <= PIECE,
        Encoding::Protobuf => total <= WHOLE,
        Encoding::Yaml => true,
    };
    if short {
        return Err(Box::new((items, page)));
    }
    let skeleton = items.list(page.metadata(), Vec::new());
    let (format, hold) = (items.format, Hold::default());
    let pieces = match format.encoding {
        Encoding::Protobuf => match Envelope::of(&skeleton) {
            Some(envelope) => in_protobuf(items, page.entries, envelope, Arc::clone(&hold)),
            None => return Err(Box::new((items, page))),
        },
        Encoding::Json | Encoding::Yaml => in_json(items, page.entries, &skeleton, Arc::clone(&hold)),
    };
    let mut answer = Answer::bytes(200, format.content_type(), Bytes::new());
    answer.payload = Payload::List(pieces);
    answer.hold = Some(hold);
    Ok(answer)
}

fn in_json(items: Items, entries: Vec<Arc<Entry>>, skeleton: &Value, hold: Hold) -> BoxStream<'static, Bytes> {
    // The list of items, empty in the skeleton, is its last field.
    let (text, tail) = match items.format.pretty {
        true => (format!("{skeleton:#}"), "\n  ]\n}\n"),
        false => (skeleton.to_string(), "]}"),
    };
    let head = text.rfind("[]").map_or(text.len(), |at| at + 1);
    let mut start = Some(Bytes::from(text[..head].to_string()));
    let mut entries = entries.into_iter();
    let mut hold = Some(hold);
    let mut first = true;
    let pieces = std::iter::from_fn(move || {
        hold.as_ref()?;
        let mut out = BytesMut::with_capacity(PIECE + (PIECE >> 3));
        out.extend(start.take());
        while out.len() < PIECE {
            let Some(entry) = entries.next() else {
                out.put_slice(tail.as_bytes());
                hold = None;
                break;
            };
            let Some(object) = readable(&entry) else { continue };
            if !std::mem::take(&mut first) {
                out.put_u8(b',');
            }
            let item = items.item(object);
            if items.format.pretty {
                // Texts have no line breaks of their own: JSON writes them as escapes.
                out.put_slice(b"\n    ");
                out.put_slice(format!("{item:#}").replace('\n', "\n    ").as_bytes());
            } else {
                out.put_slice(item.to_string().as_bytes());
            }
        }
        Some(out.freeze())
    });
    stream::iter(pieces).boxed()
}

/// The bytes around the items of a list.
struct Envelope {
    /// Up to the length of the list.
    head: Vec<u8>,
    /// The beginning of the list: its metadata.
    metadata: Vec<u8>,
    /// What follows the list.
    tail: Vec<u8>,
}

impl Envelope {
    fn of(skeleton: &Value) -> Option<Self> {
        let whole = protobuf::encode(skeleton)?;
        let metadata = protobuf::open(&whole).ok()?.raw.to_vec();
        let mut length = Vec::new();
        put_varint(&mut length, metadata.len());
        // The two empty fields after the list have two bytes each.
        let tail = whole.len().checked_sub(4)?;
        let head = tail.checked_sub(metadata.len() + length.len())?;
        Some(Self { head: whole[..head].to_vec(), metadata, tail: whole[tail..].to_vec() })
    }
}

/// Field 2 of every list: its items, each a message.
const ITEM: u8 = 2 << 3 | 2;

fn put_varint(out: &mut Vec<u8>, mut value: usize) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn framed(message: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(message.len() + 6);
    out.push(ITEM);
    put_varint(&mut out, message.len());
    out.extend_from_slice(message);
    out
}

fn in_protobuf(items: Items, entries: Vec<Arc<Entry>>, envelope: Envelope, hold: Hold) -> BoxStream<'static, Bytes> {
    struct State {
        items: Items,
        entries: std::vec::IntoIter<Arc<Entry>>,
        envelope: Option<Envelope>,
        tail: Vec<u8>,
        hold: Option<Hold>,
    }
    let state =
        State { items, entries: entries.into_iter(), envelope: Some(envelope), tail: Vec::new(), hold: Some(hold) };
    stream::unfold(state, |mut state| async move {
        state.hold.as_ref()?;
        let mut out = BytesMut::with_capacity(PIECE + (PIECE >> 3));
        if let Some(envelope) = state.envelope.take() {
            let mut length = envelope.metadata.len();
            for some in state.entries.as_slice().chunks(MEASURED_AT_ONCE) {
                length += some.iter().filter_map(|e| state.items.message(e)).map(|m| framed(&m).len()).sum::<usize>();
                tokio::task::yield_now().await;
            }
            let mut head = envelope.head;
            put_varint(&mut head, length);
            out.put_slice(&head);
            out.put_slice(&envelope.metadata);
            state.tail = envelope.tail;
        }
        while out.len() < PIECE {
            let Some(entry) = state.entries.next() else {
                out.put_slice(&state.tail);
                state.hold = None;
                break;
            };
            if let Some(message) = state.items.message(&entry) {
                out.put_slice(&framed(&message));
            }
        }
        Some((out.freeze(), state))
    })
    .boxed()
}
