//! An object → the bytes that are stored: written once, in a fixed order, with the place where the revision goes.

use mizzen_store::Value as Stored;
use serde_json::{Map, Value};

/// The fields that come first in an object; generic code strips them from lists by their length.
const FIRST: [&str; 3] = ["apiVersion", "kind", "metadata"];

/// The order of metadata; whatever else there is follows.
const METADATA: [&str; 13] = [
    "name",
    "generateName",
    "namespace",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "labels",
    "annotations",
    "ownerReferences",
    "finalizers",
];

/// Encodes an object for the store.
///
/// Whatever `metadata.resourceVersion` it has is replaced by the revision of the commit.
pub(crate) fn encode(object: &Value) -> Stored {
    let mut out = Vec::with_capacity(1024);
    let mut revision_at = None;
    let empty = Map::new();
    let fields = object.as_object().unwrap_or(&empty);
    out.push(b'{');
    for name in FIRST {
        match fields.get(name) {
            Some(Value::Object(metadata)) if name == "metadata" => {
                write_key(&mut out, name);
                revision_at = Some(write_metadata(&mut out, metadata));
            }
            Some(value) => write_field(&mut out, name, value),
            None => {}
        }
    }
    for (name, value) in fields.iter().filter(|(name, _)| !FIRST.contains(&name.as_str())) {
        write_field(&mut out, name, value);
    }
    out.push(b'}');
    // Bodies are limited to 3 MiB, so offsets fit 32 bits.
    Stored { bytes: out.into(), revision_at: revision_at.and_then(|at| u32::try_from(at).ok()) }
}

/// Writes metadata and answers the offset between the quotes of its resourceVersion.
fn write_metadata(out: &mut Vec<u8>, metadata: &Map<String, Value>) -> usize {
    let mut at = out.len();
    out.push(b'{');
    for name in METADATA {
        if name == "resourceVersion" {
            write_key(out, name);
            out.push(b'"');
            at = out.len();
            out.push(b'"');
        } else if let Some(value) = metadata.get(name) {
            write_field(out, name, value);
        }
    }
    for (name, value) in metadata.iter().filter(|(name, _)| !METADATA.contains(&name.as_str())) {
        write_field(out, name, value);
    }
    out.push(b'}');
    at
}

fn write_field(out: &mut Vec<u8>, name: &str, value: &Value) {
    write_key(out, name);
    write_value(out, value);
}

fn write_key(out: &mut Vec<u8>, name: &str) {
    if out.last() != Some(&b'{') {
        out.push(b',');
    }
    write_value(out, name);
    out.push(b':');
}

fn write_value<T: serde::Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) {
    // Writing JSON values and texts to memory cannot fail.
    let written = serde_json::to_writer(&mut *out, value);
    debug_assert!(written.is_ok());
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    #[test]
    fn the_revision_has_its_place() {
        let object = json!({
            "spec": {"a": 1}, "metadata": {"managedFields": [], "labels": {}, "name": "x", "resourceVersion": "7"},
            "kind": "Pod", "apiVersion": "v1",
        });
        let stored = super::encode(&object);
        let text = std::str::from_utf8(&stored.bytes).unwrap();
        let expected = r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"x","resourceVersion":"","labels":{},"managedFields":[]},"spec":{"a":1}}"#;
        assert_eq!(text, expected);
        let at = stored.revision_at.unwrap() as usize;
        assert_eq!(&text[at - 19..at], "\"resourceVersion\":\"");
    }
}
