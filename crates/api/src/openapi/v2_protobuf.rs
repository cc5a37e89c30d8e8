//! The v2 document as protobuf: message `openapi.v2.Document` of gnostic's `OpenAPIv2.proto`, which kubectl reads where
//! it cannot leave validation to the server (api-facts §1.2).
//!
//! The messages repeat the structures of the JSON document, so they are written down as tables and one function walks
//! both. What JSON leaves open (extensions, defaults) travels as YAML text, and JSON is YAML.

use serde_json::Value;

use crate::protobuf::wire::{put_bytes, put_double, put_number};

/// The content type that clients ask for.
pub const V2_PROTOBUF_ASKED: &str = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";
/// The content type of the answer, which is a valid one.
pub const V2_PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

/// Encodes a v2 document. What the tables do not know is left out.
pub fn v2_protobuf(document: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    message(&mut out, &DOCUMENT, document);
    out
}

/// A message: its fields by the keys of a JSON object.
struct Message {
    fields: &'static [(&'static str, u32, Form)],
    /// The number of the list that extensions (`x-…`) go to.
    extensions: Option<u32>,
    /// The number and form of the list of pairs that all other keys go to.
    others: Option<(u32, Form)>,
}

/// How a value is written.
#[derive(Clone, Copy)]
enum Form {
    Text,
    Bool,
    Integer,
    Double,
    /// Anything, as YAML.
    Any,
    Message(&'static Message),
    /// [`SCHEMA`], which contains itself.
    Schema,
    /// A message with one field, for what is no object in JSON.
    Wrapped(u32, &'static Form),
    /// One after the other.
    Each(&'static Form),
    /// As many texts; one text stands for itself.
    Texts,
    /// By the value: a flag or a schema.
    BoolOrSchema,
    /// By `in`: where a parameter is.
    Parameter,
}

/// Without extensions and other keys.
const fn of(fields: &'static [(&'static str, u32, Form)]) -> Message {
    Message { fields, extensions: None, others: None }
}

/// Pairs of a key and a value alone.
const fn pairs(number: u32, form: Form) -> Message {
    Message { fields: &[], extensions: None, others: Some((number, form)) }
}

const fn extended(fields: &'static [(&'static str, u32, Form)], extensions: u32) -> Message {
    Message { fields, extensions: Some(extensions), others: None }
}

use Form::{Any, Bool, BoolOrSchema, Double, Each, Integer, Parameter, Schema, Text, Texts, Wrapped};

static DOCUMENT: Message = extended(
    &[
        ("swagger", 1, Text),
        ("info", 2, Form::Message(&INFO)),
        ("host", 3, Text),
        ("basePath", 4, Text),
        ("schemes", 5, Each(&Text)),
        ("consumes", 6, Each(&Text)),
        ("produces", 7, Each(&Text)),
        ("paths", 8, Form::Message(&PATHS)),
        ("definitions", 9, Form::Message(&SCHEMAS)),
        ("security", 12, Each(&Form::Message(&SECURITY_REQUIREMENT))),
        ("securityDefinitions", 13, Form::Message(&SECURITY_DEFINITIONS)),
    ],
    16,
);
static INFO: Message = extended(&[("title", 1, Text), ("version", 2, Text), ("description", 3, Text)], 7);
static PATHS: Message = Message { fields: &[], extensions: Some(1), others: Some((2, Form::Message(&PATH))) };
static PATH: Message = extended(
    &[
        ("$ref", 1, Text),
        ("get", 2, Form::Message(&OPERATION)),
        ("put", 3, Form::Message(&OPERATION)),
        ("post", 4, Form::Message(&OPERATION)),
        ("delete", 5, Form::Message(&OPERATION)),
        ("options", 6, Form::Message(&OPERATION)),
        ("head", 7, Form::Message(&OPERATION)),
        ("patch", 8, Form::Message(&OPERATION)),
        ("parameters", 9, Each(&Parameter)),
    ],
    10,
);
static OPERATION: Message = extended(
    &[
        ("tags", 1, Each(&Text)),
        ("summary", 2, Text),
        ("description", 3, Text),
        ("operationId", 5, Text),
        ("produces", 6, Each(&Text)),
        ("consumes", 7, Each(&Text)),
        ("parameters", 8, Each(&Parameter)),
        ("responses", 9, Form::Message(&RESPONSES)),
        ("schemes", 10, Each(&Text)),
        ("deprecated", 11, Bool),
        ("security", 12, Each(&Form::Message(&SECURITY_REQUIREMENT))),
    ],
    13,
);
static RESPONSES: Message =
    Message { fields: &[], extensions: Some(2), others: Some((1, Wrapped(1, &Form::Message(&RESPONSE)))) };
static RESPONSE: Message = extended(&[("description", 1, Text), ("schema", 2, Wrapped(1, &Schema))], 5);
static BODY_PARAMETER: Message = extended(
    &[("description", 1, Text), ("name", 2, Text), ("in", 3, Text), ("required", 4, Bool), ("schema", 5, Schema)],
    6,
);
static QUERY_PARAMETER: Message = extended(
    &[
        ("required", 1, Bool),
        ("in", 2, Text),
        ("description", 3, Text),
        ("name", 4, Text),
        ("allowEmptyValue", 5, Bool),
        ("type", 6, Text),
        ("format", 7, Text),
        ("default", 10, Any),
        ("uniqueItems", 20, Bool),
        ("enum", 21, Each(&Any)),
    ],
    23,
);
/// Parameters in the path and in headers.
static PATH_PARAMETER: Message = extended(
    &[
        ("required", 1, Bool),
        ("in", 2, Text),
        ("description", 3, Text),
        ("name", 4, Text),
        ("type", 5, Text),
        ("format", 6, Text),
        ("default", 9, Any),
        ("uniqueItems", 19, Bool),
        ("enum", 20, Each(&Any)),
    ],
    22,
);
static SECURITY_REQUIREMENT: Message = pairs(1, Form::Message(&TEXTS));
static TEXTS: Message = of(&[("", 1, Each(&Text))]);
static SECURITY_DEFINITIONS: Message = pairs(1, Wrapped(2, &Form::Message(&API_KEY)));
static API_KEY: Message =
    extended(&[("type", 1, Text), ("name", 2, Text), ("in", 3, Text), ("description", 4, Text)], 5);
static SCHEMAS: Message = pairs(1, Schema);
static SCHEMA: Message = extended(
    &[
        ("$ref", 1, Text),
        ("format", 2, Text),
        ("title", 3, Text),
        ("description", 4, Text),
        ("default", 5, Any),
        ("multipleOf", 6, Double),
        ("maximum", 7, Double),
        ("exclusiveMaximum", 8, Bool),
        ("minimum", 9, Double),
        ("exclusiveMinimum", 10, Bool),
        ("maxLength", 11, Integer),
        ("minLength", 12, Integer),
        ("pattern", 13, Text),
        ("maxItems", 14, Integer),
        ("minItems", 15, Integer),
        ("uniqueItems", 16, Bool),
        ("maxProperties", 17, Integer),
        ("minProperties", 18, Integer),
        ("required", 19, Each(&Text)),
        ("enum", 20, Each(&Any)),
        ("additionalProperties", 21, BoolOrSchema),
        ("type", 22, Texts),
        ("items", 23, Wrapped(1, &Schema)),
        ("allOf", 24, Each(&Schema)),
        ("properties", 25, Form::Message(&SCHEMAS)),
        ("discriminator", 26, Text),
        ("readOnly", 27, Bool),
        ("example", 30, Any),
    ],
    31,
);

/// Writes the fields of a message.
fn message(out: &mut Vec<u8>, kind: &Message, value: &Value) {
    if let [("", number, form)] = kind.fields {
        // A list that JSON has no object around.
        return field(out, *number, *form, value);
    }
    for (key, value) in value.as_object().into_iter().flatten() {
        if let Some((_, number, form)) = kind.fields.iter().find(|(name, ..)| name == key) {
            field(out, *number, *form, value);
        } else if key.starts_with("x-")
            && let Some(number) = kind.extensions
        {
            pair(out, number, key, Any, value);
        } else if let Some((number, form)) = kind.others {
            pair(out, number, key, form, value);
        }
    }
}

/// Writes a key with its value, as a message.
fn pair(out: &mut Vec<u8>, number: u32, key: &str, form: Form, value: &Value) {
    nested(out, number, |inner| {
        put_bytes(inner, 1, key.as_bytes());
        field(inner, 2, form, value);
    });
}

fn nested(out: &mut Vec<u8>, number: u32, write: impl FnOnce(&mut Vec<u8>)) {
    let mut inner = Vec::new();
    write(&mut inner);
    put_bytes(out, number, &inner);
}

/// Writes a field. A value of another type than the form's is left out.
fn field(out: &mut Vec<u8>, number: u32, form: Form, value: &Value) {
    match form {
        Text => {
            if let Some(text) = value.as_str() {
                put_bytes(out, number, text.as_bytes());
            }
        }
        Bool => {
            if let Some(flag) = value.as_bool() {
                put_number(out, number, flag.into());
            }
        }
        Integer => {
            if let Some(integer) = value.as_i64() {
                put_number(out, number, integer);
            }
        }
        Double => {
            if let Some(double) = value.as_f64() {
                put_double(out, number, double);
            }
        }
        Any => nested(out, number, |inner| put_bytes(inner, 2, value.to_string().as_bytes())),
        Form::Message(kind) => nested(out, number, |inner| message(inner, kind, value)),
        Schema => nested(out, number, |inner| message(inner, &SCHEMA, value)),
        Wrapped(inside, form) => nested(out, number, |inner| field(inner, inside, *form, value)),
        Each(form) => value.as_array().into_iter().flatten().for_each(|item| field(out, number, *form, item)),
        Texts if value.is_array() => nested(out, number, |inner| field(inner, 1, Each(&Text), value)),
        Texts => nested(out, number, |inner| field(inner, 1, Text, value)),
        BoolOrSchema if value.is_boolean() => nested(out, number, |inner| field(inner, 2, Bool, value)),
        BoolOrSchema => nested(out, number, |inner| field(inner, 1, Schema, value)),
        Parameter => nested(out, number, |inner| nested(inner, 1, |inner| parameter(inner, value))),
    }
}

/// Writes a parameter: of the body, or by its place.
fn parameter(out: &mut Vec<u8>, value: &Value) {
    let (number, kind) = match value["in"].as_str() {
        Some("body") => return field(out, 1, Form::Message(&BODY_PARAMETER), value),
        Some("header") => (1, &PATH_PARAMETER),
        Some("path") => (4, &PATH_PARAMETER),
        _ => (3, &QUERY_PARAMETER),
    };
    nested(out, 2, |inner| field(inner, number, Form::Message(kind), value));
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{DOCUMENT, Form, Message, v2_protobuf};
    use crate::kinds::kinds;
    use crate::protobuf::wire::{Content, Reader};

    /// The bytes at a path of field numbers; of repeated ones the first.
    fn at<'a>(bytes: &'a [u8], path: &[u32]) -> Option<&'a [u8]> {
        let [number, rest @ ..] = path else { return Some(bytes) };
        let mut reader = Reader::new(bytes);
        while let Some((found, content)) = reader.next().expect("well formed") {
            if found == *number
                && let Content::Bytes(inner) = content
            {
                return at(inner, rest);
            }
        }
        None
    }

    #[test]
    fn fields_have_their_numbers() {
        let document = json!({
            "swagger": "2.0", "info": {"title": "K"},
            "paths": {"/a": {"patch": {"parameters": [{"in": "query", "name": "q", "type": "string"}],
                "responses": {"200": {"description": "OK", "schema": {"$ref": "#/definitions/T"}}},
                "x-kubernetes-action": "patch"}, "parameters": [{"in": "path", "name": "p"}, {"in": "body", "name": "b"}]}},
            "definitions": {"T": {"type": "object", "required": ["a"], "properties": {"a": {"type": "array", "items": {"type": "string"}}},
                "additionalProperties": {"type": "integer"}}},
            "security": [{"BearerToken": []}],
            "securityDefinitions": {"BearerToken": {"type": "apiKey", "name": "authorization"}},
        });
        let bytes = v2_protobuf(&document);
        for (path, expected) in [
            (&[1][..], "2.0"),
            (&[2, 1], "K"),
            (&[8, 2, 1], "/a"),
            (&[8, 2, 2, 8, 8, 1, 2, 3, 4], "q"),
            (&[8, 2, 2, 8, 9, 1, 1], "200"),
            (&[8, 2, 2, 8, 9, 1, 2, 1, 2, 1, 1], "#/definitions/T"),
            (&[8, 2, 2, 8, 13, 1], "x-kubernetes-action"),
            (&[8, 2, 2, 8, 13, 2, 2], "\"patch\""),
            (&[8, 2, 2, 9, 1, 2, 4, 4], "p"),
            (&[9, 1, 1], "T"),
            (&[9, 1, 2, 22, 1], "object"),
            (&[9, 1, 2, 19], "a"),
            (&[9, 1, 2, 21, 1, 22, 1], "integer"),
            (&[9, 1, 2, 25, 1, 2, 23, 1, 22, 1], "string"),
            (&[12, 1, 1], "BearerToken"),
            (&[13, 1, 2, 2, 1], "apiKey"),
        ] {
            let found = at(&bytes, path).map(|b| String::from_utf8_lossy(b).into_owned());
            assert_eq!(found.as_deref(), Some(expected), "{path:?}");
        }
    }

    /// Every key of the real document has a place.
    fn check(kind: &Message, value: &Value, path: &str) {
        if matches!(kind.fields, [("", ..)]) {
            return;
        }
        for (key, value) in value.as_object().into_iter().flatten() {
            let path = format!("{path}/{key}");
            let form = match kind.fields.iter().find(|(name, ..)| name == key) {
                Some((_, _, form)) => *form,
                None if key.starts_with("x-") && kind.extensions.is_some() => Form::Any,
                None => kind.others.unwrap_or_else(|| panic!("{path} has no place")).1,
            };
            check_form(form, value, &path);
        }
    }

    fn check_form(form: Form, value: &Value, path: &str) {
        match form {
            Form::Message(kind) => check(kind, value, path),
            Form::Schema => check(&super::SCHEMA, value, path),
            Form::Wrapped(_, form) => check_form(*form, value, path),
            Form::Each(form) => value.as_array().into_iter().flatten().for_each(|v| check_form(*form, v, path)),
            _ => {}
        }
    }

    #[test]
    fn nothing_of_the_document_is_left_out() {
        let document = crate::openapi::v2(kinds().iter());
        check(&DOCUMENT, &document, "");
        let bytes = v2_protobuf(&document);
        assert!(bytes.len() > 1 << 20, "{} bytes", bytes.len());
    }
}
