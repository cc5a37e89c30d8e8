//! The tree of a checked expression: every name resolved, every node with its type.

use std::sync::Arc;

use regex::Regex;

use crate::library::Overload;
use crate::schema::ObjectType;
use crate::syntax::ast::{Access, FoldKind};
use crate::types::Type;
use crate::value::Value;

#[derive(Debug)]
pub(crate) struct Node {
    pub ty: Type,
    pub kind: NodeKind,
}

pub(crate) enum NodeKind {
    Const(Value<'static>),
    /// A variable of the environment.
    Var(usize),
    /// A variable of a fold, counted from the outermost.
    Local(usize),
    Select {
        operand: Box<Node>,
        field: String,
        access: Access,
    },
    /// A function, and those of its overloads that the types leave.
    Call {
        function: &'static str,
        overloads: Vec<&'static Overload>,
        args: Vec<Node>,
        regex: Option<Box<Regex>>,
    },
    And(Vec<Node>),
    Or(Vec<Node>),
    Conditional(Box<[Node; 3]>),
    List(Vec<ElementNode>),
    Map(Vec<EntryNode>),
    Struct {
        ty: Arc<ObjectType>,
        fields: Vec<FieldNode>,
    },
    Fold(Box<FoldNode>),
    OptionalMap {
        target: Box<Node>,
        body: Box<Node>,
        flat: bool,
    },
}

impl std::fmt::Debug for NodeKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("node")
    }
}

pub(crate) struct ElementNode {
    pub value: Node,
    pub optional: bool,
}

pub(crate) struct EntryNode {
    pub key: Node,
    pub value: Node,
    pub optional: bool,
}

pub(crate) struct FieldNode {
    pub name: String,
    pub value: Node,
    pub optional: bool,
}

pub(crate) struct FoldNode {
    pub kind: FoldKind,
    pub range: Node,
    /// There is a second variable.
    pub two: bool,
    pub filter: Option<Node>,
    pub body: Node,
}

impl Node {
    /// Calls `visit` with each type in the tree.
    pub fn each_type(&mut self, visit: &mut dyn FnMut(&mut Type)) {
        visit(&mut self.ty);
        match &mut self.kind {
            NodeKind::Const(_) | NodeKind::Var(_) | NodeKind::Local(_) => {}
            NodeKind::Select { operand, .. } => operand.each_type(visit),
            NodeKind::Call { args, .. } | NodeKind::And(args) | NodeKind::Or(args) => {
                args.iter_mut().for_each(|arg| arg.each_type(visit));
            }
            NodeKind::Conditional(parts) => parts.iter_mut().for_each(|part| part.each_type(visit)),
            NodeKind::List(elements) => elements.iter_mut().for_each(|element| element.value.each_type(visit)),
            NodeKind::Map(entries) => entries.iter_mut().for_each(|entry| {
                entry.key.each_type(visit);
                entry.value.each_type(visit);
            }),
            NodeKind::Struct { fields, .. } => fields.iter_mut().for_each(|field| field.value.each_type(visit)),
            NodeKind::Fold(fold) => {
                fold.range.each_type(visit);
                fold.filter.iter_mut().for_each(|filter| filter.each_type(visit));
                fold.body.each_type(visit);
            }
            NodeKind::OptionalMap { target, body, .. } => {
                target.each_type(visit);
                body.each_type(visit);
            }
        }
    }

    /// The variable is read somewhere in the tree.
    pub fn reads(&self, variable: usize) -> bool {
        let any = |nodes: &[Node]| nodes.iter().any(|node| node.reads(variable));
        match &self.kind {
            NodeKind::Const(_) | NodeKind::Local(_) => false,
            NodeKind::Var(index) => *index == variable,
            NodeKind::Select { operand, .. } => operand.reads(variable),
            NodeKind::Call { args, .. } | NodeKind::And(args) | NodeKind::Or(args) => any(args),
            NodeKind::Conditional(parts) => any(&parts[..]),
            NodeKind::List(elements) => elements.iter().any(|element| element.value.reads(variable)),
            NodeKind::Map(entries) => {
                entries.iter().any(|entry| entry.key.reads(variable) || entry.value.reads(variable))
            }
            NodeKind::Struct { fields, .. } => fields.iter().any(|field| field.value.reads(variable)),
            NodeKind::Fold(fold) => {
                let filter = fold.filter.as_ref().is_some_and(|filter| filter.reads(variable));
                filter || fold.range.reads(variable) || fold.body.reads(variable)
            }
            NodeKind::OptionalMap { target, body, .. } => target.reads(variable) || body.reads(variable),
        }
    }
}
