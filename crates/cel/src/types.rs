//! The types of CEL, what may stand where, and how they are written in messages.

use std::fmt;
use std::sync::Arc;

use crate::schema::ObjectType;

/// A type of the language.
#[derive(Debug, Clone)]
pub enum Type {
    /// Any type; checked when evaluated.
    Dyn,
    /// The type of an expression that was found wrong: it fits everywhere, so that one mistake is told once.
    Error,
    /// `null`.
    Null,
    /// `bool`.
    Bool,
    /// `int`, 64 bits.
    Int,
    /// `uint`, 64 bits.
    Uint,
    /// `double`.
    Double,
    /// `string`.
    String,
    /// `bytes`.
    Bytes,
    /// `google.protobuf.Duration`.
    Duration,
    /// `google.protobuf.Timestamp`.
    Timestamp,
    /// `list(T)`.
    List(Arc<Type>),
    /// `map(K, V)`.
    Map(Arc<Type>, Arc<Type>),
    /// `optional_type(T)`.
    Optional(Arc<Type>),
    /// The type of a type.
    Type(Arc<Type>),
    /// An object with declared fields.
    Object(Arc<ObjectType>),
    /// A type of a library, known by its name only.
    Opaque(&'static str),
    /// A type variable of the checker, or a parameter of a function's declaration.
    Param(u32),
}

impl Type {
    /// `list(of)`.
    pub fn list(of: Type) -> Self {
        Self::List(Arc::new(of))
    }

    /// `map(key, value)`.
    pub fn map(key: Type, value: Type) -> Self {
        Self::Map(Arc::new(key), Arc::new(value))
    }

    /// `optional_type(of)`.
    pub fn optional(of: Type) -> Self {
        Self::Optional(Arc::new(of))
    }

    /// The type of the variable `authorizer`.
    pub fn authorizer() -> Self {
        Self::Opaque(crate::library::name::AUTHORIZER)
    }

    /// The type of the variable `authorizer.requestResource`.
    pub fn resource_check() -> Self {
        Self::Opaque(crate::library::name::RESOURCE_CHECK)
    }

    /// It is `dyn`.
    pub fn is_dyn(&self) -> bool {
        matches!(self, Self::Dyn)
    }

    /// It is `dyn` or the type of a mistake.
    pub(crate) fn is_dyn_or_error(&self) -> bool {
        matches!(self, Self::Dyn | Self::Error)
    }

    /// The type inside an optional, and whether it was one.
    pub(crate) fn unwrap_optional(&self) -> (&Type, bool) {
        match self {
            Self::Optional(of) => (of, true),
            other => (other, false),
        }
    }

    /// `null` may stand for it.
    fn is_nullable(&self) -> bool {
        matches!(
            self,
            Self::Null
                | Self::Dyn
                | Self::Error
                | Self::Optional(_)
                | Self::Opaque(_)
                | Self::Object(_)
                | Self::Duration
                | Self::Timestamp
        )
    }

    /// A value of this type has a size that does not depend on the value.
    pub(crate) fn is_scalar(&self) -> bool {
        match self {
            Self::Bool | Self::Int | Self::Uint | Self::Double | Self::Duration | Self::Timestamp => true,
            Self::Optional(of) => of.is_scalar(),
            _ => false,
        }
    }
}

impl PartialEq for Type {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::List(a), Self::List(b)) | (Self::Optional(a), Self::Optional(b)) => a == b,
            (Self::Map(a, b), Self::Map(c, d)) => a == c && b == d,
            (Self::Type(a), Self::Type(b)) => a == b,
            (Self::Object(a), Self::Object(b)) => Arc::ptr_eq(a, b) || a.name == b.name,
            (Self::Opaque(a), Self::Opaque(b)) => a == b,
            (Self::Param(a), Self::Param(b)) => a == b,
            _ => std::mem::discriminant(self) == std::mem::discriminant(other),
        }
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dyn => f.write_str("dyn"),
            Self::Error => f.write_str("!error!"),
            Self::Null => f.write_str("null"),
            Self::Bool => f.write_str("bool"),
            Self::Int => f.write_str("int"),
            Self::Uint => f.write_str("uint"),
            Self::Double => f.write_str("double"),
            Self::String => f.write_str("string"),
            Self::Bytes => f.write_str("bytes"),
            Self::Duration => f.write_str("duration"),
            Self::Timestamp => f.write_str("timestamp"),
            Self::List(of) => write!(f, "list({of})"),
            Self::Map(key, value) => write!(f, "map({key}, {value})"),
            Self::Optional(of) => write!(f, "optional_type({of})"),
            Self::Type(of) => write!(f, "type({of})"),
            Self::Object(object) => f.write_str(&object.name),
            Self::Opaque(name) => f.write_str(name),
            Self::Param(index) => write!(f, "_var{index}"),
        }
    }
}

/// What is known about the type variables so far.
#[derive(Debug, Clone, Default)]
pub(crate) struct Substitution(Vec<Option<Type>>);

impl Substitution {
    /// A variable that stands for nothing yet.
    pub fn fresh(&mut self) -> Type {
        self.0.push(None);
        Type::Param(u32::try_from(self.0.len() - 1).unwrap_or(u32::MAX))
    }

    /// As many variables in a row; the index of the first.
    pub fn fresh_block(&mut self, count: u32) -> u32 {
        let first = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
        self.0.extend((0..count).map(|_| None));
        first
    }

    fn find(&self, index: u32) -> Option<&Type> {
        self.0.get(index as usize).and_then(Option::as_ref)
    }

    fn bind(&mut self, index: u32, to: Type) {
        if let Some(slot) = self.0.get_mut(index as usize) {
            *slot = Some(to);
        }
    }

    /// `of` with all that is known put in; `closed`: what is not known becomes `dyn`.
    pub fn apply(&self, of: &Type, closed: bool) -> Type {
        match of {
            Type::Param(index) => match self.find(*index) {
                Some(bound) => self.apply(bound, closed),
                None if closed => Type::Dyn,
                None => of.clone(),
            },
            Type::List(of) => Type::list(self.apply(of, closed)),
            Type::Map(key, value) => Type::map(self.apply(key, closed), self.apply(value, closed)),
            Type::Optional(of) => Type::optional(self.apply(of, closed)),
            Type::Type(of) => Type::Type(Arc::new(self.apply(of, closed))),
            other => other.clone(),
        }
    }

    /// All of `from` may stand where `to` are wanted; remembers what that says about variables.
    pub fn assign_all(&mut self, from: &[Type], to: &[Type]) -> bool {
        let before = self.0.clone();
        let fits = from.len() == to.len() && from.iter().zip(to).all(|(from, to)| self.unify(from, to));
        if !fits {
            self.0 = before;
        }
        fits
    }

    /// `from` may stand where `to` is wanted.
    pub fn assign(&mut self, from: &Type, to: &Type) -> bool {
        self.assign_all(std::slice::from_ref(from), std::slice::from_ref(to))
    }

    fn unify(&mut self, one: &Type, other: &Type) -> bool {
        if let Type::Param(variable) = other {
            let (valid, bound) = self.substitutes(one, *variable);
            if valid || bound {
                return valid;
            }
        }
        if let Type::Param(variable) = one {
            return self.substitutes(other, *variable).0;
        }
        if one.is_dyn_or_error() || other.is_dyn_or_error() {
            return true;
        }
        match (one, other) {
            (Type::Null, other) => other.is_nullable(),
            (one, Type::Null) => one.is_nullable(),
            (Type::Type(_), Type::Type(_)) => true,
            (Type::List(a), Type::List(b)) | (Type::Optional(a), Type::Optional(b)) => self.unify(a, b),
            (Type::Map(a, b), Type::Map(c, d)) => self.unify(a, c) && self.unify(b, d),
            (one, other) => one == other,
        }
    }

    /// `of` may be what `variable` stands for; and whether the variable stood for something before.
    fn substitutes(&mut self, of: &Type, variable: u32) -> (bool, bool) {
        if *of == Type::Param(variable) {
            return (true, true);
        }
        if let Some(bound) = self.find(variable).cloned() {
            if *of == bound {
                return (true, true);
            }
            if !self.unify(of, &bound) {
                return (false, true);
            }
            let general = most_general(of, &bound);
            if !self.occurs(variable, &general) {
                self.bind(variable, general);
            }
            return (true, true);
        }
        if self.occurs(variable, of) {
            return (false, false);
        }
        self.bind(variable, of.clone());
        (true, false)
    }

    /// The variable is somewhere in `within`: binding it would make an infinite type.
    fn occurs(&self, variable: u32, within: &Type) -> bool {
        match within {
            Type::Param(index) if *index == variable => true,
            Type::Param(index) => self.find(*index).is_some_and(|bound| self.occurs(variable, bound)),
            Type::List(of) | Type::Optional(of) | Type::Type(of) => self.occurs(variable, of),
            Type::Map(key, value) => self.occurs(variable, key) || self.occurs(variable, value),
            _ => false,
        }
    }
}

/// The one of two types that fit each other which says less.
pub(crate) fn most_general(one: &Type, other: &Type) -> Type {
    if equal_or_less_specific(one, other) { one.clone() } else { other.clone() }
}

fn equal_or_less_specific(one: &Type, other: &Type) -> bool {
    match (one, other) {
        (Type::Dyn | Type::Param(_), _) => true,
        (_, Type::Dyn | Type::Param(_)) => false,
        (Type::List(a), Type::List(b)) | (Type::Optional(a), Type::Optional(b)) => equal_or_less_specific(a, b),
        (Type::Map(a, b), Type::Map(c, d)) => equal_or_less_specific(a, c) && equal_or_less_specific(b, d),
        (Type::Type(_), Type::Type(_)) => true,
        (one, other) => one == other,
    }
}
