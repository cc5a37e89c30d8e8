//! How a value falls into fields, by its type: which parts merge one by one, and what each of them is called.

use std::fmt::Write as _;

use serde_json::Value;

use super::Node;
use super::set::FieldSet;
use crate::crd::{JsonType, ListType, Schema};
use crate::kind::Name;
use crate::schema::{Field, ListKind, Object, Type};

/// How a value merges.
#[derive(Clone, Copy)]
pub(super) enum Shape<'a> {
    /// As a whole.
    Whole,
    /// By named field.
    Struct(&'static Object),
    /// By named field and by key, as the schema of a custom resource says.
    Fields(&'a Schema),
    /// By key, each with this type.
    Entries(Type),
    /// A list, by value.
    Set,
    /// A list, by the keys of its items.
    Items(&'a [Name], Node<'a>),
}

/// The shape of a value. Values without a schema merge by key, their lists as a whole.
pub(super) fn shape<'a>(node: Node<'a>, granular: bool) -> Shape<'a> {
    let ty = match node {
        Node::Type(ty) => ty,
        Node::Custom(schema) => return custom_shape(schema),
    };
    match ty {
        Type::Object(object) if object.atomic && !granular => Shape::Whole,
        Type::Object(object) => Shape::Struct(object),
        Type::Map(map) if map.atomic => Shape::Whole,
        Type::Map(map) => Shape::Entries(map.value),
        Type::List(list) => match list.kind {
            ListKind::Atomic => Shape::Whole,
            ListKind::Set => Shape::Set,
            ListKind::Map(keys) => Shape::Items(keys, Node::Type(list.item)),
        },
        Type::Json | Type::Raw | Type::SchemaOrArray | Type::SchemaOrBool | Type::SchemaOrStrings => {
            Shape::Entries(Type::Json)
        }
        _ => Shape::Whole,
    }
}

fn custom_shape(schema: &Schema) -> Shape<'_> {
    let is_object = schema.ty == Some(JsonType::Object) || schema.ty.is_none() && !schema.properties.is_empty();
    match (schema.ty, &schema.list_type) {
        _ if is_object && schema.atomic_map => Shape::Whole,
        _ if is_object => Shape::Fields(schema),
        (Some(JsonType::Array), ListType::Set) => Shape::Set,
        (Some(JsonType::Array), ListType::Map(keys)) => {
            Shape::Items(keys, schema.items.as_deref().map_or(Node::Type(Type::Json), Node::Custom))
        }
        (None, _) if schema.preserve_unknown => Shape::Entries(Type::Json),
        _ => Shape::Whole,
    }
}

/// A member of a struct or map.
pub(super) struct Member<'a> {
    node: Node<'a>,
    /// It merges by field against its type's habit.
    granular: bool,
    /// It is a field with a name of its own, not an entry of a map.
    declared: bool,
    /// Go always writes it, so that it is never itself added.
    always_there: bool,
}

impl<'a> Member<'a> {
    fn entry(node: Node<'a>) -> Self {
        Self { node, granular: false, declared: false, always_there: false }
    }

    fn field(field: &'static Field) -> Self {
        let always_there = is_always_there(field);
        Self { node: Node::Type(field.ty), granular: field.granular, declared: true, always_there }
    }

    /// How it merges.
    pub fn shape(&self) -> Shape<'a> {
        shape(self.node, self.granular)
    }
}

/// The member of this name.
pub(super) fn member<'a>(shape: Shape<'a>, name: &str) -> Member<'a> {
    match shape {
        Shape::Struct(object) => object.field(name).map_or(Member::entry(Node::Type(Type::Json)), Member::field),
        Shape::Entries(ty) => Member::entry(Node::Type(ty)),
        Shape::Fields(schema) => custom_member(schema, name),
        _ => Member::entry(Node::Type(Type::Json)),
    }
}

fn custom_member<'a>(schema: &'a Schema, name: &str) -> Member<'a> {
    let declared = |node| Member { declared: true, ..Member::entry(node) };
    if schema.embedded_resource {
        match name {
            "metadata" => return declared(Node::Type(crate::crd::object_meta().map_or(Type::Json, Type::Object))),
            "apiVersion" | "kind" => return declared(Node::Type(Type::String)),
            _ => {}
        }
    }
    match schema.property(name) {
        (Some(below), true) => declared(Node::Custom(below)),
        (Some(below), false) => Member::entry(Node::Custom(below)),
        (None, _) => Member::entry(Node::Type(Type::Json)),
    }
}

/// `f:<name>`.
pub(super) fn field_step(name: &str) -> Box<str> {
    let mut step = String::with_capacity(name.len() + 2);
    step.push_str("f:");
    step.push_str(name);
    step.into_boxed_str()
}

/// `v:<json>`.
pub(super) fn value_step(value: &Value) -> Box<str> {
    format!("v:{value}").into_boxed_str()
}

/// `k:{"name":"c"}`, keys sorted and defaulted; `None` for an item that has none of them.
pub(super) fn item_step(item: &Value, keys: &[Name], node: Node<'_>) -> Option<Box<str>> {
    let map = item.as_object()?;
    let mut step = String::from("k:{");
    let mut sorted: [&str; 8] = [""; 8];
    let count = keys.len().min(sorted.len());
    sorted.iter_mut().zip(keys).for_each(|(slot, key)| *slot = key);
    sorted[..count].sort_unstable();
    let mut found = false;
    for key in &sorted[..count] {
        let default;
        let value = match map.get(*key) {
            Some(value) => value,
            None => {
                default = default_key(key, node);
                match &default {
                    Some(value) => value,
                    None => continue,
                }
            }
        };
        // Writing to a String cannot fail.
        let _ = write!(step, "{}\"{key}\":{value}", if found { "," } else { "" });
        found = true;
    }
    step.push('}');
    (found && keys.iter().any(|k| map.contains_key(&**k))).then(|| step.into_boxed_str())
}

/// The default of a key of list items: of built-in kinds only the protocol of ports has one.
fn default_key(key: &str, node: Node<'_>) -> Option<Value> {
    match node {
        Node::Type(_) => (key == "protocol").then(|| "TCP".into()),
        Node::Custom(item) => item.properties.get(key)?.default.clone(),
    }
}

/// The step of the item at `index`, which is told by its place if it has no keys.
pub(super) fn list_step(item: &Value, index: usize, keys: &[Name], node: Node<'_>) -> Box<str> {
    item_step(item, keys, node).unwrap_or_else(|| format!("i:{index}").into_boxed_str())
}

/// Whether Go always writes a field, so that it is never itself added: structs that are no pointers, required lists.
fn is_always_there(field: &Field) -> bool {
    field.always_there || (field.kept && matches!(field.ty, Type::List(_) | Type::Map(_)))
}

/// What counts as owned.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    /// By an apply: what the configuration says. A struct or list is owned through what is in it.
    Applied,
    /// By a create or update: also the structs and lists that came with their content.
    Added,
}

/// All fields of a value. `member`: the value itself is one.
pub(super) fn fields(value: &Value, shape_of: Shape<'_>, member_itself: bool, style: Style) -> FieldSet {
    let children: Vec<(Box<str>, FieldSet)> = match (value, shape_of) {
        (Value::Object(map), Shape::Struct(_) | Shape::Fields(_) | Shape::Entries(_)) => {
            let below = |(name, value): (&String, &Value)| {
                let member = member(shape_of, name);
                let itself = match (member.declared, style) {
                    (false, _) => true,
                    (true, Style::Applied) => false,
                    (true, Style::Added) => !member.always_there,
                };
                (field_step(name), fields(value, member.shape(), itself, style))
            };
            map.iter().map(below).collect()
        }
        (Value::Array(items), Shape::Set) => items.iter().map(|i| (value_step(i), FieldSet::leaf())).collect(),
        (Value::Array(items), Shape::Items(keys, node)) => {
            let below = |(at, item): (usize, &Value)| {
                (list_step(item, at, keys, node), fields(item, shape(node, false), true, style))
            };
            items.iter().enumerate().map(below).collect()
        }
        _ => return FieldSet::leaf(),
    };
    let empty = children.is_empty() && (value.is_object() || style == Style::Added);
    FieldSet::of(member_itself || empty, children)
}

/// What changed between two objects.
#[derive(Debug, Default)]
pub(super) struct Changes {
    pub added: FieldSet,
    pub modified: FieldSet,
    pub removed: FieldSet,
}

impl Changes {
    /// What was added or modified.
    pub fn set(&self) -> FieldSet {
        let mut set = self.added.clone();
        set.add(&self.modified);
        set
    }
}

#[derive(Default)]
struct Parts {
    added: Vec<(Box<str>, FieldSet)>,
    modified: Vec<(Box<str>, FieldSet)>,
    removed: Vec<(Box<str>, FieldSet)>,
}

impl Parts {
    fn changed(&mut self, step: &dyn Fn() -> Box<str>, changes: Changes) {
        for (into, set) in [
            (&mut self.added, changes.added),
            (&mut self.modified, changes.modified),
            (&mut self.removed, changes.removed),
        ] {
            if !set.is_empty() {
                into.push((step(), set));
            }
        }
    }

    fn finish(self) -> Changes {
        Changes {
            added: FieldSet::of(false, self.added),
            modified: FieldSet::of(false, self.modified),
            removed: FieldSet::of(false, self.removed),
        }
    }
}

/// Compares two values of one shape.
pub(super) fn compare(old: &Value, new: &Value, shape_of: Shape<'_>) -> Changes {
    match (old, new, shape_of) {
        (Value::Object(old), Value::Object(new), Shape::Struct(_) | Shape::Fields(_) | Shape::Entries(_)) => {
            let mut parts = Parts::default();
            for (name, value) in new {
                let member = member(shape_of, name);
                let (step, below) = (|| field_step(name), member.shape());
                match old.get(name) {
                    Some(before) => parts.changed(&step, compare(before, value, below)),
                    None => {
                        parts.added.push((step(), fields(value, below, !member.always_there, Style::Added)));
                    }
                }
            }
            for (name, value) in old.iter().filter(|(name, _)| !new.contains_key(*name)) {
                let below = member(shape_of, name).shape();
                parts.removed.push((field_step(name), fields(value, below, true, Style::Added)));
            }
            parts.finish()
        }
        (Value::Array(old), Value::Array(new), Shape::Set) => {
            let steps = |items: &[Value]| items.iter().map(value_step).collect::<Vec<_>>();
            compare_lists((&steps(old), old), (&steps(new), new), Shape::Whole)
        }
        (Value::Array(old), Value::Array(new), Shape::Items(keys, node)) => {
            let steps = |items: &[Value]| {
                items.iter().enumerate().map(|(at, i)| list_step(i, at, keys, node)).collect::<Vec<_>>()
            };
            compare_lists((&steps(old), old), (&steps(new), new), shape(node, false))
        }
        _ if old == new => Changes::default(),
        _ => Changes { modified: FieldSet::leaf(), ..Changes::default() },
    }
}

fn compare_lists(old: (&[Box<str>], &[Value]), new: (&[Box<str>], &[Value]), item: Shape<'_>) -> Changes {
    let index = |steps: &[Box<str>]| -> std::collections::HashMap<Box<str>, usize> {
        steps.iter().enumerate().map(|(at, step)| (step.clone(), at)).collect()
    };
    let (before, after) = (index(old.0), index(new.0));
    let mut parts = Parts::default();
    for (at, step) in new.0.iter().enumerate().filter(|(at, step)| after.get(*step) == Some(at)) {
        match before.get(step) {
            Some(&there) => parts.changed(&|| step.clone(), compare(&old.1[there], &new.1[at], item)),
            None => parts.added.push((step.clone(), fields(&new.1[at], item, true, Style::Added))),
        }
    }
    for (at, step) in old.0.iter().enumerate().filter(|(_, step)| !after.contains_key(*step)) {
        parts.removed.push((step.clone(), fields(&old.1[at], item, true, Style::Added)));
    }
    parts.finish()
}
