//! Structural schemas, compiled: the JSON schema of a definition's version in the form that objects are walked by.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use regex::Regex;
use serde_json::Value;

use super::format::{Format, NumberFormat};
use super::pattern;
use crate::kind::Name;

/// The JSON type that a schema names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JsonType {
    /// A map or structure.
    Object,
    /// A list.
    Array,
    /// Text.
    String,
    /// A whole number.
    Integer,
    /// Any number.
    Number,
    /// `true` or `false`.
    Boolean,
}

impl JsonType {
    fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "object" => Self::Object,
            "array" => Self::Array,
            "string" => Self::String,
            "integer" => Self::Integer,
            "number" => Self::Number,
            "boolean" => Self::Boolean,
            _ => return None,
        })
    }

    /// Its name in schemas.
    pub fn name(self) -> &'static str {
        match self {
            Self::Object => "object",
            Self::Array => "array",
            Self::String => "string",
            Self::Integer => "integer",
            Self::Number => "number",
            Self::Boolean => "boolean",
        }
    }
}

/// How a list merges, and what must be unique in it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum ListType {
    /// Replaced as a whole.
    #[default]
    Atomic,
    /// Unique items.
    Set,
    /// Items that these fields identify.
    Map(Vec<Name>),
}

/// The entries of an object that `properties` does not name.
#[derive(Debug, Default)]
pub enum Additional {
    /// Unknown fields.
    #[default]
    Unknown,
    /// Anything.
    Any,
    /// Of this schema.
    Of(Box<Schema>),
}

/// One node of a schema.
#[derive(Debug, Default)]
pub struct Schema {
    /// The type; none where the value may be of several.
    pub ty: Option<JsonType>,
    /// `null` is kept.
    pub nullable: bool,
    /// Named fields.
    pub properties: BTreeMap<String, Schema>,
    /// Fields with other names.
    pub additional: Additional,
    /// Items of a list.
    pub items: Option<Box<Schema>>,
    /// What an absent field is filled with.
    pub default: Option<Value>,
    /// `x-kubernetes-preserve-unknown-fields`.
    pub preserve_unknown: bool,
    /// `x-kubernetes-embedded-resource`, and the root.
    pub embedded_resource: bool,
    /// `x-kubernetes-int-or-string`.
    pub int_or_string: bool,
    /// `x-kubernetes-list-type`.
    pub list_type: ListType,
    /// `x-kubernetes-map-type: atomic`.
    pub atomic_map: bool,
    /// What a value must fulfil beside its type.
    pub limits: Limits,
    /// Some default is below.
    pub(super) has_defaults: bool,
}

/// Value validations.
#[derive(Debug, Default)]
pub struct Limits {
    pub(super) format: Option<Format>,
    pub(super) number: Option<NumberFormat>,
    pub(super) maximum: Option<Bound>,
    pub(super) minimum: Option<Bound>,
    pub(super) multiple_of: Option<f64>,
    pub(super) max_length: Option<u64>,
    pub(super) min_length: Option<u64>,
    pub(super) pattern: Option<Pattern>,
    pub(super) max_items: Option<u64>,
    pub(super) min_items: Option<u64>,
    pub(super) unique_items: bool,
    pub(super) max_properties: Option<u64>,
    pub(super) min_properties: Option<u64>,
    pub(super) required: Vec<String>,
    pub(super) choices: Option<Vec<Value>>,
    pub(super) all_of: Vec<Schema>,
    pub(super) any_of: Vec<Schema>,
    pub(super) one_of: Vec<Schema>,
    pub(super) not: Option<Box<Schema>>,
}

/// A largest or smallest number.
#[derive(Debug)]
pub(super) struct Bound {
    pub value: f64,
    /// The number itself is out of bounds.
    pub exclusive: bool,
}

/// A regular expression with its text, compiled when first needed.
#[derive(Debug)]
pub(super) struct Pattern {
    pub text: String,
    regex: OnceLock<Option<Regex>>,
}

impl Pattern {
    /// Whether a text matches; none does where the pattern cannot be compiled.
    pub fn matches(&self, text: &str) -> bool {
        self.regex.get_or_init(|| pattern::compile(&self.text).ok()).as_ref().is_some_and(|regex| regex.is_match(text))
    }
}

impl Schema {
    /// The schema of whole objects: `openAPIV3Schema`, whose metadata is that of every object.
    pub fn root(schema: &Value) -> Self {
        let mut root = Self::read(schema);
        root.embedded_resource = true;
        root
    }

    /// Compiles a schema. What is not understood is left out, for admission let only sound schemas in.
    pub fn read(schema: &Value) -> Self {
        let flag = |name: &str| schema[name] == true;
        let text = |name: &str| schema[name].as_str().unwrap_or_default();
        let properties: BTreeMap<String, Schema> = schema["properties"]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(name, property)| (name.clone(), Self::read(property)))
            .collect();
        let additional = match &schema["additionalProperties"] {
            Value::Bool(true) => Additional::Any,
            Value::Object(fields) if fields.is_empty() => Additional::Any,
            object @ Value::Object(_) => Additional::Of(Box::new(Self::read(object))),
            _ => Additional::Unknown,
        };
        let items = schema["items"].is_object().then(|| Box::new(Self::read(&schema["items"])));
        let ty = JsonType::parse(text("type"));
        let default = schema.get("default").filter(|d| !d.is_null()).cloned();
        let below = |s: &Schema| s.has_defaults || s.default.is_some();
        let has_defaults = properties.values().any(below)
            || items.as_deref().is_some_and(below)
            || matches!(&additional, Additional::Of(s) if below(s));
        Self {
            ty,
            nullable: flag("nullable"),
            properties,
            additional,
            items,
            default,
            preserve_unknown: flag("x-kubernetes-preserve-unknown-fields"),
            embedded_resource: flag("x-kubernetes-embedded-resource"),
            int_or_string: flag("x-kubernetes-int-or-string"),
            list_type: match text("x-kubernetes-list-type") {
                "set" => ListType::Set,
                "map" => {
                    ListType::Map(strings(&schema["x-kubernetes-list-map-keys"]).into_iter().map(Name::Owned).collect())
                }
                _ => ListType::Atomic,
            },
            atomic_map: text("x-kubernetes-map-type") == "atomic",
            limits: Limits::read(schema, ty),
            has_defaults,
        }
    }

    /// The schema of a named field, and whether it has a name of its own.
    pub fn property(&self, name: &str) -> (Option<&Schema>, bool) {
        match (self.properties.get(name), &self.additional) {
            (Some(schema), _) => (Some(schema), true),
            (None, Additional::Of(schema)) => (Some(schema), false),
            (None, _) => (None, false),
        }
    }

    /// The schema at a path of field names.
    pub fn at<'a>(&self, mut path: impl Iterator<Item = &'a str>) -> Option<&Schema> {
        path.try_fold(self, |schema, name| schema.property(name).0)
    }
}

impl Limits {
    fn read(schema: &Value, ty: Option<JsonType>) -> Self {
        let count = |name: &str| schema[name].as_f64().map(|n| n.max(0.0) as u64);
        let bound = |name: &str, exclusive: &str| {
            schema[name].as_f64().map(|value| Bound { value, exclusive: schema[exclusive] == true })
        };
        let schemas =
            |name: &str| schema[name].as_array().into_iter().flatten().map(Schema::read).collect::<Vec<Schema>>();
        let pattern = schema["pattern"].as_str().filter(|p| !p.is_empty());
        Self {
            format: schema["format"].as_str().and_then(|name| Format::known(name, ty)),
            number: NumberFormat::of(schema["format"].as_str().unwrap_or_default(), ty),
            maximum: bound("maximum", "exclusiveMaximum"),
            minimum: bound("minimum", "exclusiveMinimum"),
            multiple_of: schema["multipleOf"].as_f64(),
            max_length: count("maxLength"),
            min_length: count("minLength"),
            pattern: pattern.map(|text| Pattern { text: text.into(), regex: OnceLock::new() }),
            max_items: count("maxItems"),
            min_items: count("minItems"),
            unique_items: schema["uniqueItems"] == true,
            max_properties: count("maxProperties"),
            min_properties: count("minProperties"),
            required: strings(&schema["required"]),
            choices: schema["enum"].as_array().filter(|e| !e.is_empty()).cloned(),
            all_of: schemas("allOf"),
            any_of: schemas("anyOf"),
            one_of: schemas("oneOf"),
            not: schema["not"].is_object().then(|| Box::new(Schema::read(&schema["not"]))),
        }
    }
}

fn strings(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_string).collect()
}
