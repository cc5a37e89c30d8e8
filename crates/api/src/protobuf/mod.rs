//! Objects as protobuf (`application/vnd.kubernetes.protobuf`), which Go clients send by default (api-facts §2.2).
//!
//! Messages are not JSON's structures: some are inlined there, and quantities, times and raw JSON have forms of their
//! own. The numbers of fields are part of [`crate::schema`]; an object that was decoded is in the form that
//! [`crate::schema::admit`] gives.

mod decode;
mod encode;
pub(crate) mod wire;

use serde_json::Value;

use crate::schema::{self, Object};

pub use wire::ProtobufError;

/// The content type of one object.
pub const CONTENT_TYPE: &str = "application/vnd.kubernetes.protobuf";
/// The content type of a watch.
pub const WATCH_CONTENT_TYPE: &str = "application/vnd.kubernetes.protobuf;stream=watch";

/// What an object's bytes start with.
const MAGIC: &[u8] = b"k8s\0";
const DELETE_OPTIONS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions";

/// An object in its envelope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Envelope<'a> {
    /// `apps/v1`.
    pub api_version: &'a str,
    /// `Deployment`.
    pub kind: &'a str,
    /// The message of the object, without `apiVersion` and `kind`.
    pub raw: &'a [u8],
}

/// The type that is sent under an `apiVersion` and `kind`.
fn type_of(api_version: &str, kind: &str) -> Option<&'static Object> {
    if kind == "DeleteOptions" {
        return schema::by_name(DELETE_OPTIONS);
    }
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    schema::by_gvk(group, version, kind)
}

/// Opens an envelope.
///
/// # Errors
/// [`ProtobufError`] when the bytes are none.
pub fn open(bytes: &[u8]) -> Result<Envelope<'_>, ProtobufError> {
    let mut unknown = wire::Reader::new(bytes.strip_prefix(MAGIC).ok_or(ProtobufError::NoMagic)?);
    let mut envelope = Envelope { api_version: "", kind: "", raw: &[] };
    while let Some((number, field)) = unknown.next()? {
        match number {
            1 => {
                let mut meta = wire::Reader::new(field.bytes()?);
                while let Some((number, field)) = meta.next()? {
                    match number {
                        1 => envelope.api_version = field.text()?,
                        2 => envelope.kind = field.text()?,
                        _ => {}
                    }
                }
            }
            2 => envelope.raw = field.bytes()?,
            3 if !field.bytes()?.is_empty() => return Err(ProtobufError::Encoded),
            _ => {}
        }
    }
    Ok(envelope)
}

/// Decodes an object in its envelope. `default` is its `apiVersion` and `kind` where the envelope says none.
///
/// # Errors
/// [`ProtobufError`] when the bytes are no such object, or its kind is not known.
pub fn decode(bytes: &[u8], default: (&str, &str)) -> Result<Value, ProtobufError> {
    let envelope = open(bytes)?;
    let (api_version, kind) = if envelope.kind.is_empty() { default } else { (envelope.api_version, envelope.kind) };
    let Some(ty) = type_of(api_version, kind) else {
        return Err(ProtobufError::UnknownKind { api_version: api_version.into(), kind: kind.into() });
    };
    let mut map = decode::object(envelope.raw, ty)?;
    map.shift_insert(0, "apiVersion".into(), api_version.into());
    map.shift_insert(1, "kind".into(), kind.into());
    Ok(Value::Object(map))
}

/// Encodes an object or list in its envelope. `None` if its kind is not known.
pub fn encode(object: &Value) -> Option<Vec<u8>> {
    let text = |field: &str| object.get(field).and_then(Value::as_str).unwrap_or_default();
    let (api_version, kind) = (text("apiVersion"), text("kind"));
    let ty = type_of(api_version, kind)?;
    let mut meta = Vec::new();
    wire::put_bytes(&mut meta, 1, api_version.as_bytes());
    wire::put_bytes(&mut meta, 2, kind.as_bytes());
    let mut raw = Vec::new();
    encode::object(&mut raw, object, ty);
    let mut out = Vec::with_capacity(raw.len() + meta.len() + 24);
    out.extend_from_slice(MAGIC);
    wire::put_bytes(&mut out, 1, &meta);
    wire::put_bytes(&mut out, 2, &raw);
    wire::put_bytes(&mut out, 3, b"");
    wire::put_bytes(&mut out, 4, b"");
    Some(out)
}

/// A frame of a watch: its length, then the event. `object` is what [`encode`] made.
pub fn watch_frame(kind_of_event: &str, object: &[u8]) -> Vec<u8> {
    let mut raw = Vec::with_capacity(object.len() + 8);
    wire::put_bytes(&mut raw, 1, object);
    let mut event = Vec::with_capacity(raw.len() + 24);
    wire::put_bytes(&mut event, 1, kind_of_event.as_bytes());
    wire::put_bytes(&mut event, 2, &raw);
    let mut frame = Vec::with_capacity(event.len() + 4);
    // An event is an object and a few bytes, far from the 4 GiB that a length could not tell.
    frame.extend_from_slice(&u32::try_from(event.len()).unwrap_or(u32::MAX).to_be_bytes());
    frame.append(&mut event);
    frame
}

#[cfg(test)]
mod tests;
