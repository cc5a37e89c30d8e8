//! Lists and maps.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map as JsonMap, Value as Json};

use super::{Str, Value};
use crate::error::EvalError;
use crate::meter::Meter;
use crate::schema::{Decl, ListKind, ObjectType, Shape};
use crate::types::Type;

/// Sums of lists nest this deep before they are written out.
const ROPE_DEPTH_MAX: u32 = 256;

/// A list: borrowed from JSON, made by the expression, or the sum of two lists, which is not written out: adding a list
/// to itself again and again costs nothing and must take no memory.
#[derive(Debug, Clone)]
pub struct List<'a>(Items<'a>);

#[derive(Debug, Clone)]
enum Items<'a> {
    Json { items: &'a [Json], decl: Option<&'a Decl> },
    Owned { items: Arc<Vec<Value<'a>>>, kind: Option<&'a ListKind> },
    Sum(Arc<Sum<'a>>),
}

#[derive(Debug)]
struct Sum<'a> {
    left: List<'a>,
    right: List<'a>,
    len: u64,
    depth: u32,
}

impl<'a> List<'a> {
    pub(crate) fn json(items: &'a [Json], decl: Option<&'a Decl>) -> Self {
        Self(Items::Json { items, decl })
    }

    /// A list of these values.
    pub fn owned(items: Vec<Value<'a>>) -> Self {
        Self(Items::Owned { items: Arc::new(items), kind: None })
    }

    /// As [`List::owned`], with a kind that decides how it is compared and added to.
    pub(crate) fn of_kind(items: Vec<Value<'a>>, kind: Option<&'a ListKind>) -> Self {
        Self(Items::Owned { items: Arc::new(items), kind })
    }

    /// The number of elements.
    pub fn len(&self) -> u64 {
        match &self.0 {
            Items::Json { items, .. } => items.len() as u64,
            Items::Owned { items, .. } => items.len() as u64,
            Items::Sum(sum) => sum.len,
        }
    }

    /// There are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How it is compared and added to.
    pub(crate) fn kind(&self) -> Option<&'a ListKind> {
        let kind = match &self.0 {
            Items::Json { decl, .. } => match decl.map(|decl| &decl.shape) {
                Some(Shape::List(_, kind)) => Some(kind),
                _ => None,
            },
            Items::Owned { kind, .. } => *kind,
            Items::Sum(_) => None,
        };
        kind.filter(|kind| **kind != ListKind::Atomic)
    }

    /// The element at `index`.
    pub(crate) fn get(&self, index: u64) -> Option<Result<Value<'a>, EvalError>> {
        let (mut list, mut index) = (self, index);
        loop {
            match &list.0 {
                Items::Json { items, decl } => {
                    let item = items.get(usize::try_from(index).ok()?)?;
                    return Some(Value::from_json(item, decl.and_then(|decl| decl.element()).map(|of| &**of)));
                }
                Items::Owned { items, .. } => return items.get(usize::try_from(index).ok()?).cloned().map(Ok),
                Items::Sum(sum) if index < sum.left.len() => list = &sum.left,
                Items::Sum(sum) => {
                    index -= sum.left.len();
                    list = &sum.right;
                }
            }
        }
    }

    /// The elements in order.
    pub(crate) fn iter(&self) -> Iter<'a> {
        Iter { rest: vec![(self.clone(), 0)] }
    }

    /// Calls `visit` with each element that can be read, until it fails.
    ///
    /// # Errors
    /// The failure.
    pub fn each<E>(&self, mut visit: impl FnMut(&Value<'a>) -> Result<(), E>) -> Result<(), E> {
        self.iter().flatten().try_for_each(|item| visit(&item))
    }

    /// Both lists, one after the other.
    pub(crate) fn concat(self, other: Self, meter: &mut Meter) -> Result<Self, EvalError> {
        if other.is_empty() {
            return Ok(self);
        }
        if self.is_empty() {
            return Ok(other);
        }
        let depth = |list: &Self| if let Items::Sum(sum) = &list.0 { sum.depth } else { 0 };
        let depth = 1 + depth(&self).max(depth(&other));
        let len = self.len().saturating_add(other.len());
        let sum = Self(Items::Sum(Arc::new(Sum { left: self, right: other, len, depth })));
        if depth < ROPE_DEPTH_MAX {
            return Ok(sum);
        }
        let mut items = Vec::new();
        for item in sum.iter() {
            meter.items(1)?;
            items.push(item?);
        }
        Ok(Self::owned(items))
    }
}

/// The elements of a list.
pub(crate) struct Iter<'a> {
    /// Lists to walk, the next one last, and where each was left.
    rest: Vec<(List<'a>, u64)>,
}

impl<'a> Iterator for Iter<'a> {
    type Item = Result<Value<'a>, EvalError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (list, at) = self.rest.last_mut()?;
            if let Items::Sum(sum) = &list.0 {
                let (left, right) = (sum.left.clone(), sum.right.clone());
                self.rest.pop();
                self.rest.extend([(right, 0), (left, 0)]);
                continue;
            }
            if let Some(item) = list.get(*at) {
                *at += 1;
                return Some(item);
            }
            self.rest.pop();
        }
    }
}

/// A key of a map. Numbers that are equal are one key, whatever their type.
#[derive(Debug, Clone)]
pub(crate) enum Key<'a> {
    Bool(bool),
    Int(i64),
    /// Beyond the range of signed integers.
    Uint(u64),
    String(Str<'a>),
}

impl Key<'_> {
    fn rank(&self) -> (u8, i128, &str) {
        match self {
            Self::Bool(value) => (0, i128::from(*value), ""),
            Self::Int(value) => (1, i128::from(*value), ""),
            Self::Uint(value) => (1, i128::from(*value), ""),
            Self::String(text) => (2, 0, text),
        }
    }
}

impl PartialEq for Key<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.rank() == other.rank()
    }
}

impl Eq for Key<'_> {}

impl PartialOrd for Key<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Key<'_> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.rank().cmp(&other.rank())
    }
}

impl<'a> Key<'a> {
    /// The key that this value is, if it can be one.
    pub fn of(value: &Value<'a>) -> Option<Self> {
        Some(match value {
            Value::Bool(value) => Self::Bool(*value),
            Value::Int(value) => Self::Int(*value),
            Value::Uint(value) => i64::try_from(*value).map_or(Self::Uint(*value), Self::Int),
            Value::Double(value) if value.fract() == 0.0 && value.abs() < 9.0e18 => Self::Int(*value as i64),
            Value::String(text) => Self::String(text.clone()),
            _ => return None,
        })
    }

    /// The value that this key is.
    pub fn value(&self) -> Value<'a> {
        match self {
            Self::Bool(value) => Value::Bool(*value),
            Self::Int(value) => Value::Int(*value),
            Self::Uint(value) => Value::Uint(*value),
            Self::String(text) => Value::String(text.clone()),
        }
    }
}

/// A map or an object: borrowed from JSON, or made by the expression.
#[derive(Debug, Clone)]
pub struct Map<'a>(pub(super) Entries<'a>);

#[derive(Debug, Clone)]
pub(super) enum Entries<'a> {
    Json {
        entries: &'a JsonMap<String, Json>,
        decl: Option<&'a Decl>,
    },
    Owned(Arc<BTreeMap<Key<'a>, Value<'a>>>),
    /// An object that an expression made.
    Object {
        ty: Arc<ObjectType>,
        fields: Arc<BTreeMap<Key<'a>, Value<'a>>>,
    },
}

impl<'a> Map<'a> {
    pub(crate) fn json(entries: &'a JsonMap<String, Json>, decl: Option<&'a Decl>) -> Self {
        Self(Entries::Json { entries, decl })
    }

    pub(crate) fn owned(entries: BTreeMap<Key<'a>, Value<'a>>) -> Self {
        Self(Entries::Owned(Arc::new(entries)))
    }

    pub(crate) fn object(ty: Arc<ObjectType>, fields: BTreeMap<Key<'a>, Value<'a>>) -> Self {
        Self(Entries::Object { ty, fields: Arc::new(fields) })
    }

    /// The number of entries.
    pub fn len(&self) -> usize {
        match &self.0 {
            Entries::Json { entries, .. } => entries.len(),
            Entries::Owned(entries) => entries.len(),
            Entries::Object { fields, .. } => fields.len(),
        }
    }

    /// There are no entries.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Calls `visit` with each name and value that can be read, until it fails; entries without a string as key are left out.
    ///
    /// # Errors
    /// The failure.
    pub fn each<E>(&self, mut visit: impl FnMut(&str, &Value<'a>) -> Result<(), E>) -> Result<(), E> {
        for key in self.keys() {
            if let (Value::String(name), Some(Ok(value))) = (&key, self.get(&key)) {
                visit(name, &value)?;
            }
        }
        Ok(())
    }

    /// The type of the object it is, if an expression made it as one.
    pub fn object_type(&self) -> Option<&Arc<ObjectType>> {
        match &self.0 {
            Entries::Object { ty, .. } => Some(ty),
            _ => None,
        }
    }

    pub(crate) fn type_of(&self) -> Type {
        match &self.0 {
            Entries::Object { ty, .. } => Type::Object(ty.clone()),
            Entries::Json { decl: Some(decl), .. } if matches!(decl.ty, Type::Object(_)) => decl.ty.clone(),
            _ => Type::map(Type::Dyn, Type::Dyn),
        }
    }

    /// The value of a field by the name an expression calls it.
    pub fn field(&self, name: &str) -> Option<Result<Value<'a>, EvalError>> {
        match &self.0 {
            Entries::Json { entries, decl } => match decl.map(|decl| &decl.shape) {
                Some(Shape::Object(object)) => {
                    let field = object.fields.get(name)?;
                    let value = entries.get(&field.json_name)?;
                    Some(Value::from_json(value, Some(&field.decl)))
                }
                Some(Shape::Map(of)) => Some(Value::from_json(entries.get(name)?, Some(of))),
                _ => Some(Value::from_json(entries.get(name)?, None)),
            },
            Entries::Owned(entries) | Entries::Object { fields: entries, .. } => {
                entries.get(&Key::String(Str::Shared(name.into()))).cloned().map(Ok)
            }
        }
    }

    /// The field is set: there, and of an object not `null`.
    pub(crate) fn has(&self, name: &str) -> bool {
        match &self.0 {
            Entries::Json { entries, decl: Some(decl) } => match &decl.shape {
                Shape::Object(object) => {
                    let value = object.fields.get(name).and_then(|field| entries.get(&field.json_name));
                    value.is_some_and(|value| !value.is_null())
                }
                _ => entries.contains_key(name),
            },
            _ => self.field(name).is_some(),
        }
    }

    /// The value at a key of any type.
    pub(crate) fn get(&self, key: &Value<'a>) -> Option<Result<Value<'a>, EvalError>> {
        match (&self.0, key) {
            (_, Value::String(name)) => self.field(name),
            (Entries::Owned(entries), key) => entries.get(&Key::of(key)?).cloned().map(Ok),
            _ => None,
        }
    }

    /// The keys, in no order that means anything.
    pub(crate) fn keys(&self) -> Vec<Value<'a>> {
        match &self.0 {
            Entries::Json { entries, decl } => match decl.map(|decl| &decl.shape) {
                Some(Shape::Object(object)) => {
                    let set = object.fields.iter().filter(|(_, field)| entries.contains_key(&field.json_name));
                    set.map(|(name, _)| Value::str(name)).collect()
                }
                _ => entries.keys().map(|name| Value::str(name)).collect(),
            },
            Entries::Owned(entries) | Entries::Object { fields: entries, .. } => {
                entries.keys().map(Key::value).collect()
            }
        }
    }
}
