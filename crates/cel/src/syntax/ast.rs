//! The tree of an expression as it was written, macros recognised.

use std::sync::Arc;

use crate::error::Problem;

/// How deep an expression may be nested. Everything after the parser may recurse as deep as the tree is, and has to fit
/// the stack of a thread of the server even in a build for tests. Kubernetes has 250; what people write has 20.
pub(crate) const DEPTH_MAX: u32 = 160;

/// An expression and its place, in characters from 0.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Expr {
    pub at: u32,
    pub kind: Kind,
    /// Levels of the tree from here down.
    height: u32,
}

impl Expr {
    /// The node of the tree, unless the tree becomes too high.
    pub fn new(at: u32, kind: Kind) -> Result<Self, Problem> {
        let height = 1 + kind.children_height();
        if height > DEPTH_MAX {
            return Err(too_deep(at));
        }
        Ok(Self { at, kind, height })
    }
}

/// What is said of an expression that is nested too deep.
pub(crate) fn too_deep(at: u32) -> Problem {
    Problem { at, message: format!("expression recursion limit exceeded: {DEPTH_MAX}") }
}

impl Kind {
    fn children_height(&self) -> u32 {
        let max = |heights: &mut dyn Iterator<Item = u32>| heights.max().unwrap_or(0);
        match self {
            Self::Literal(_) | Self::Ident(_) => 0,
            Self::Select { operand, .. } => operand.height,
            Self::Call { target, args, .. } => {
                max(&mut args.iter().map(|arg| arg.height)).max(target.as_ref().map_or(0, |target| target.height))
            }
            Self::List(elements) => max(&mut elements.iter().map(|element| element.value.height)),
            Self::Map(entries) => max(&mut entries.iter().map(|entry| entry.key.height.max(entry.value.height))),
            Self::Struct { fields, .. } => max(&mut fields.iter().map(|field| field.value.height)),
            Self::Fold(fold) => {
                let filter = fold.filter.as_ref().map_or(0, |filter| filter.height);
                fold.range.height.max(filter).max(fold.body.height)
            }
            Self::OptionalMap { target, body, .. } => target.height.max(body.height),
        }
    }
}

/// What an expression is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Kind {
    Literal(Literal),
    Ident(String),
    Select {
        operand: Box<Expr>,
        field: String,
        access: Access,
    },
    /// Operators are calls too, by their names in [`op`]. `&&` and `||` have all operands of a chain.
    Call {
        function: String,
        target: Option<Box<Expr>>,
        args: Vec<Expr>,
    },
    List(Vec<Element>),
    Map(Vec<Entry>),
    Struct {
        name: String,
        fields: Vec<FieldInit>,
    },
    Fold(Box<Fold>),
    /// `target.optMap(name, body)`; `flat`: `optFlatMap`, whose body is an optional itself.
    OptionalMap {
        target: Box<Expr>,
        name: String,
        body: Box<Expr>,
        flat: bool,
    },
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Literal {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    String(Arc<str>),
    Bytes(Arc<[u8]>),
}

/// How a field is selected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// `a.b`
    Plain,
    /// `a.?b`
    Optional,
    /// `has(a.b)`
    Test,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Element {
    pub value: Expr,
    pub optional: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    pub key: Expr,
    pub value: Expr,
    pub optional: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct FieldInit {
    pub at: u32,
    pub name: String,
    pub value: Expr,
    pub optional: bool,
}

/// A macro that walks a range.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Fold {
    pub kind: FoldKind,
    pub range: Expr,
    pub var: String,
    pub var2: Option<String>,
    pub filter: Option<Expr>,
    pub body: Expr,
}

/// What a fold makes of its range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FoldKind {
    All,
    Exists,
    ExistsOne,
    /// `map`, `transformList`
    List,
    /// `filter`
    Filter,
    /// `transformMap`
    Map,
    /// `transformMapEntry`
    MapEntry,
    /// `sortBy`
    SortBy,
}

/// Names of the operators as functions.
pub(crate) mod op {
    pub const CONDITIONAL: &str = "_?_:_";
    pub const AND: &str = "_&&_";
    pub const OR: &str = "_||_";
    pub const NOT: &str = "!_";
    pub const NEGATE: &str = "-_";
    pub const INDEX: &str = "_[_]";
    pub const OPTIONAL_INDEX: &str = "_[?_]";
    pub const ADD: &str = "_+_";
    pub const SUBTRACT: &str = "_-_";
    pub const MULTIPLY: &str = "_*_";
    pub const DIVIDE: &str = "_/_";
    pub const MODULO: &str = "_%_";
    pub const EQUAL: &str = "_==_";
    pub const NOT_EQUAL: &str = "_!=_";
    pub const LESS: &str = "_<_";
    pub const LESS_EQUAL: &str = "_<=_";
    pub const GREATER: &str = "_>_";
    pub const GREATER_EQUAL: &str = "_>=_";
    pub const IN: &str = "@in";
}
