//! From the schemas of resources to declared types, with the sizes that values can have at most.
//!
//! Reads structural schemas, as CustomResourceDefinitions hold them, as JSON.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use serde_json::{Value as Json, json};

use crate::types::Type;

/// The largest request that Kubernetes reckons with: what is not bounded by a schema is bounded by it.
pub const REQUEST_BYTES_MAX: u64 = 3 * 1024 * 1024;
/// A string of a date and time, with quotation marks.
const DATETIME_BYTES_MAX: u64 = 32;
const DURATION_BYTES_MAX: u64 = 32;
const DATE_BYTES: u64 = 12;
/// Schemas nest this deep at most; what is below is not declared.
const DEPTH_MAX: usize = 128;

/// A declared type: what the checker sees, what an estimate of cost knows of its size, and how JSON becomes a value.
#[derive(Debug)]
pub struct Decl {
    /// The type in the language.
    pub ty: Type,
    /// Characters, bytes, elements or entries at most; 0 where there is nothing to count.
    pub max_elements: u64,
    /// Bytes of JSON at least.
    pub min_bytes: u64,
    /// `null` is a value of it.
    pub nullable: bool,
    /// How it is made up.
    pub shape: Shape,
}

/// How a declared type is made up.
#[derive(Debug)]
pub enum Shape {
    /// A boolean, number or plain string.
    Scalar,
    /// A string of base64.
    Bytes,
    /// A string of a date.
    Date,
    /// A string of a date and a time.
    DateTime,
    /// A string of a duration.
    Duration,
    /// A number, as double.
    Double,
    /// A list.
    List(Arc<Decl>, ListKind),
    /// A map from strings.
    Map(Arc<Decl>),
    /// An object with fields.
    Object(Arc<ObjectType>),
    /// Anything: int-or-string, or a schema that says nothing.
    Dyn,
}

/// How a list takes part in equality and addition (`x-kubernetes-list-type`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListKind {
    /// As it stands.
    Atomic,
    /// Without order or duplicates.
    Set,
    /// By the values of these fields.
    Map(Vec<String>),
}

/// An object type: its fields by the name an expression calls them.
#[derive(Debug)]
pub struct ObjectType {
    /// Its name in messages.
    pub name: String,
    /// The fields.
    pub fields: BTreeMap<String, Field>,
    /// It may have any other field, of any type.
    pub open: bool,
}

/// A field of an object.
#[derive(Debug)]
pub struct Field {
    /// Its type.
    pub decl: Arc<Decl>,
    /// The name in JSON, which differs where CEL cannot spell it.
    pub json_name: String,
}

impl ObjectType {
    /// An object type of fields whose names need no escaping.
    pub fn new(name: impl Into<String>, fields: impl IntoIterator<Item = (&'static str, Arc<Decl>)>) -> Arc<Self> {
        let field = |(name, decl): (&str, _)| (name.to_owned(), Field { decl, json_name: name.to_owned() });
        Arc::new(Self { name: name.into(), fields: fields.into_iter().map(field).collect(), open: false })
    }

    /// An object type of which only the name is known.
    pub fn open(name: impl Into<String>) -> Arc<Self> {
        Arc::new(Self { name: name.into(), fields: BTreeMap::new(), open: true })
    }
}

impl Decl {
    /// A type of no known size.
    pub fn of(ty: Type) -> Arc<Self> {
        let shape = match &ty {
            Type::Object(object) => Shape::Object(object.clone()),
            Type::Bytes => Shape::Bytes,
            Type::Timestamp => Shape::DateTime,
            Type::Duration => Shape::Duration,
            Type::Double => Shape::Double,
            Type::List(of) => Shape::List(Decl::of((**of).clone()), ListKind::Atomic),
            Type::Map(_, of) => Shape::Map(Decl::of((**of).clone())),
            Type::Dyn => Shape::Dyn,
            _ => Shape::Scalar,
        };
        Arc::new(Self { ty, max_elements: REQUEST_BYTES_MAX, min_bytes: 1, nullable: true, shape })
    }

    /// The type that a structural schema describes, its objects named below `name`; `None` where it describes nothing
    /// an expression may see. `root`: it is a whole resource, which has `apiVersion`, `kind` and the names in `metadata`.
    pub fn from_schema(schema: &Json, name: &str, root: bool) -> Option<Arc<Self>> {
        build(schema, name, root, 0)
    }

    /// The type of the elements or values.
    pub fn element(&self) -> Option<&Arc<Decl>> {
        match &self.shape {
            Shape::List(of, _) | Shape::Map(of) => Some(of),
            _ => None,
        }
    }

    /// The type of a field.
    pub fn field(&self, name: &str) -> Option<&Field> {
        match &self.shape {
            Shape::Object(object) => object.fields.get(name),
            _ => None,
        }
    }

    fn sized(ty: Type, max_elements: u64, min_bytes: u64, shape: Shape) -> Self {
        Self { ty, max_elements, min_bytes, nullable: false, shape }
    }
}

/// Plain strings, as the fields of a resource's root have them.
static STRING: LazyLock<Json> = LazyLock::new(|| json!({"type": "string"}));
static META: LazyLock<Json> = LazyLock::new(
    || json!({"type": "object", "properties": {"name": {"type": "string"}, "generateName": {"type": "string"}}}),
);

fn build(schema: &Json, name: &str, root: bool, depth: usize) -> Option<Arc<Decl>> {
    if depth > DEPTH_MAX {
        return None;
    }
    let flag = |key: &str| schema[key] == true;
    let mut decl = if flag("x-kubernetes-int-or-string") {
        let max = schema["maxLength"].as_i64().map_or(REQUEST_BYTES_MAX - 2, |max| clamp(max).saturating_mul(4));
        Decl::sized(Type::Dyn, max, 1, Shape::Dyn)
    } else {
        match schema["type"].as_str().unwrap_or_default() {
            "array" => list(schema, name, depth)?,
            "object" => object(schema, name, root || flag("x-kubernetes-embedded-resource"), depth)?,
            "string" => string(schema),
            "boolean" => Decl::sized(Type::Bool, 0, 4, Shape::Scalar),
            "number" => Decl::sized(Type::Double, 0, 1, Shape::Double),
            "integer" => Decl::sized(Type::Int, 0, 1, Shape::Scalar),
            _ => return None,
        }
    };
    decl.nullable = flag("nullable");
    Some(Arc::new(decl))
}

fn list(schema: &Json, name: &str, depth: usize) -> Option<Decl> {
    let of = build(&schema["items"], &format!("{name}.@idx"), false, depth + 1)?;
    let max = match schema["maxItems"].as_i64() {
        Some(max) => clamp(max),
        None => (REQUEST_BYTES_MAX - 2) / (of.min_bytes + 1),
    };
    let kind = match schema["x-kubernetes-list-type"].as_str() {
        Some("set") => ListKind::Set,
        Some("map") => ListKind::Map(strings(&schema["x-kubernetes-list-map-keys"])),
        _ => ListKind::Atomic,
    };
    Some(Decl::sized(Type::list(of.ty.clone()), max, 2, Shape::List(of, kind)))
}

fn object(schema: &Json, name: &str, root: bool, depth: usize) -> Option<Decl> {
    let values = &schema["additionalProperties"];
    if values.is_object() && !root {
        let of = build(values, &format!("{name}.@elem"), false, depth + 1)?;
        let max = match schema["maxProperties"].as_i64() {
            Some(max) => clamp(max),
            None => (REQUEST_BYTES_MAX - 2) / (of.min_bytes + 6),
        };
        return Some(Decl::sized(Type::map(Type::String, of.ty.clone()), max, 2, Shape::Map(of)));
    }
    let mut properties: BTreeMap<&str, &Json> = BTreeMap::new();
    if let Some(declared) = schema["properties"].as_object() {
        properties.extend(declared.iter().map(|(name, schema)| (name.as_str(), schema)));
    }
    if root {
        for name in ["apiVersion", "kind"] {
            properties.insert(name, &STRING);
        }
        let named = |meta: &Json| meta["properties"]["name"].is_object();
        if properties.get("metadata").is_none_or(|meta| !named(meta)) {
            properties.insert("metadata", &META);
        }
    }
    let required = strings(&schema["required"]);
    let (mut fields, mut min_bytes) = (BTreeMap::new(), 2);
    for (json_name, schema) in properties {
        let escaped = escape(json_name);
        let path = format!("{name}.{}", escaped.as_deref().unwrap_or(json_name));
        let Some(decl) = build(schema, &path, false, depth + 1) else { continue };
        if schema.get("default").is_none() && required.iter().any(|required| required == json_name) {
            min_bytes += json_name.len() as u64 + decl.min_bytes + 4;
        }
        if let Some(escaped) = escaped {
            fields.insert(escaped, Field { decl, json_name: json_name.to_owned() });
        }
    }
    let object = Arc::new(ObjectType { name: name.to_owned(), fields, open: false });
    Some(Decl::sized(Type::Object(object.clone()), 0, min_bytes, Shape::Object(object)))
}

fn string(schema: &Json) -> Decl {
    let max_length = schema["maxLength"].as_i64().map(clamp);
    let unbounded = REQUEST_BYTES_MAX - 2;
    match schema["format"].as_str() {
        Some("byte") => Decl::sized(Type::Bytes, max_length.unwrap_or(unbounded), 2, Shape::Bytes),
        Some("duration") => Decl::sized(Type::Duration, DURATION_BYTES_MAX, 3, Shape::Duration),
        Some("date") => Decl::sized(Type::Timestamp, DATE_BYTES, DATE_BYTES, Shape::Date),
        Some("date-time") => Decl::sized(Type::Timestamp, DATETIME_BYTES_MAX, 21, Shape::DateTime),
        _ => {
            let longest = || {
                let values = schema["enum"].as_array().filter(|values| !values.is_empty())?;
                values.iter().filter_map(Json::as_str).map(|value| value.len() as u64).max().or(Some(0))
            };
            // A character is four bytes at most.
            let max = max_length.map(|max| max.saturating_mul(4)).or_else(longest).unwrap_or(unbounded);
            Decl::sized(Type::String, max, 2, Shape::Scalar)
        }
    }
}

fn strings(list: &Json) -> Vec<String> {
    list.as_array().into_iter().flatten().filter_map(Json::as_str).map(str::to_owned).collect()
}

fn clamp(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

/// Words of the language that no field may be called by.
const RESERVED: &[&str] = &[
    "true",
    "false",
    "null",
    "in",
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
];

/// The name by which an expression calls the property `name`, or `None` if there is no way to.
pub fn escape(name: &str) -> Option<String> {
    if name.is_empty() || name.starts_with(|first: char| first.is_ascii_digit()) {
        return None;
    }
    if RESERVED.contains(&name) {
        return Some(format!("__{name}__"));
    }
    let mut escaped = String::with_capacity(name.len());
    let mut rest = name;
    while let Some(char) = rest.chars().next() {
        let mut width = char.len_utf8();
        match char {
            '_' if rest.starts_with("__") => {
                escaped.push_str("__underscores__");
                width = 2;
            }
            '.' => escaped.push_str("__dot__"),
            '-' => escaped.push_str("__dash__"),
            '/' => escaped.push_str("__slash__"),
            char if char.is_ascii_alphanumeric() || char == '_' => escaped.push(char),
            _ => return None,
        }
        rest = &rest[width..];
    }
    Some(escaped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_the_language_cannot_spell_are_escaped() {
        for (name, escaped) in [
            ("replicas", Some("replicas")),
            ("namespace", Some("__namespace__")),
            ("a.b-c/d", Some("a__dot__b__dash__c__slash__d")),
            ("a__b", Some("a__underscores__b")),
            ("a___b", Some("a__underscores___b")),
            ("$ref", None),
            ("1st", None),
            ("", None),
        ] {
            assert_eq!(escape(name).as_deref(), escaped, "{name}");
        }
    }

    #[test]
    fn sizes_follow_from_the_schema_or_from_the_largest_request() {
        let schema = json!({"type": "object", "properties": {
            "short": {"type": "string", "maxLength": 10},
            "any": {"type": "string"},
            "color": {"type": "string", "enum": ["red", "green"]},
            "list": {"type": "array", "items": {"type": "integer"}},
            "few": {"type": "array", "maxItems": 3, "items": {"type": "string"}},
            "map": {"type": "object", "additionalProperties": {"type": "boolean"}},
            "port": {"x-kubernetes-int-or-string": true},
            "unknown": {"x-kubernetes-preserve-unknown-fields": true},
        }});
        let decl = Decl::from_schema(&schema, "selfType", false).unwrap();
        let max = |name: &str| decl.field(name).unwrap().decl.max_elements;
        assert_eq!(max("short"), 40);
        assert_eq!(max("any"), REQUEST_BYTES_MAX - 2);
        assert_eq!(max("color"), 5);
        assert_eq!(max("list"), (REQUEST_BYTES_MAX - 2) / 2);
        assert_eq!(max("few"), 3);
        assert_eq!(max("map"), (REQUEST_BYTES_MAX - 2) / 10);
        assert_eq!(max("port"), REQUEST_BYTES_MAX - 2);
        assert!(decl.field("unknown").is_none(), "what has no type is not seen");
    }

    #[test]
    fn the_root_of_a_resource_has_its_names() {
        let decl = Decl::from_schema(&json!({"type": "object"}), "t", true).unwrap();
        assert!(decl.field("kind").is_some());
        assert!(decl.field("metadata").unwrap().decl.field("generateName").is_some());
    }
}
