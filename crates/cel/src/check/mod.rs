//! The type checker: from a tree as written to one with every name resolved and every node typed.

mod fold;
mod objects;

use std::sync::Arc;

use crate::env::Env;
use crate::error::{CompileError, Problem};
use crate::library::{self, Function, regexes};
use crate::node::{ElementNode, EntryNode, Node, NodeKind};
use crate::syntax::ast::{Access, Element, Entry, Expr, Kind, Literal, op};
use crate::types::{Substitution, Type, most_general};
use crate::value::text::{parse_duration, parse_timestamp};
use crate::value::{Str, Value};

/// Problems that are told of one expression at most.
const PROBLEMS_MAX: usize = 100;

/// Checks `expr`, which was parsed from `source`.
pub(crate) fn check(env: &Env, source: &str, expr: &Expr) -> Result<Node, CompileError> {
    let mut checker = Checker { env, known: Substitution::default(), problems: Vec::new(), locals: Vec::new() };
    let mut node = checker.check(expr);
    if !checker.problems.is_empty() {
        return Err(CompileError::new(source, checker.problems));
    }
    let known = &checker.known;
    node.each_type(&mut |ty| *ty = known.apply(ty, true));
    Ok(node)
}

/// How a type is called by `type()` and by name in expressions.
pub(crate) fn type_name(ty: &Type) -> String {
    match ty {
        Type::Null => "null_type".to_owned(),
        Type::Duration => "google.protobuf.Duration".to_owned(),
        Type::Timestamp => "google.protobuf.Timestamp".to_owned(),
        Type::List(_) => "list".to_owned(),
        Type::Map(..) => "map".to_owned(),
        Type::Optional(_) => "optional_type".to_owned(),
        Type::Type(_) => "type".to_owned(),
        other => other.to_string(),
    }
}

/// The type that a name means.
fn named_type(name: &str) -> Option<Type> {
    Some(match name {
        "bool" => Type::Bool,
        "int" => Type::Int,
        "uint" => Type::Uint,
        "double" => Type::Double,
        "string" => Type::String,
        "bytes" => Type::Bytes,
        "dyn" => Type::Dyn,
        "null_type" => Type::Null,
        "list" => Type::list(Type::Dyn),
        "map" => Type::map(Type::Dyn, Type::Dyn),
        "optional_type" => Type::optional(Type::Dyn),
        "type" => Type::Type(Arc::new(Type::Dyn)),
        "google.protobuf.Duration" => Type::Duration,
        "google.protobuf.Timestamp" => Type::Timestamp,
        other => Type::Opaque(library::name::ALL.iter().find(|name| **name == other)?),
    })
}

struct Local {
    name: String,
    ty: Type,
}

struct Checker<'e> {
    env: &'e Env,
    known: Substitution,
    problems: Vec<Problem>,
    locals: Vec<Local>,
}

impl Checker<'_> {
    fn problem(&mut self, at: u32, message: String) {
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(Problem { at, message });
        }
    }

    fn mismatch(&mut self, at: u32, expected: &Type, found: &Type) {
        let (expected, found) = (self.known.apply(expected, false), self.known.apply(found, false));
        self.problem(at, format!("expected type '{expected}' but found '{found}'"));
    }

    fn undeclared(&mut self, at: u32, name: &str) -> Node {
        self.problem(at, format!("undeclared reference to '{name}' (in container '')"));
        error()
    }

    fn check(&mut self, expr: &Expr) -> Node {
        match &expr.kind {
            Kind::Literal(value) => literal(value),
            Kind::Ident(name) => self.ident(expr.at, name),
            Kind::Select { operand, field, access } => self.select(expr, operand, field, *access),
            Kind::Call { function, target, args } => self.call(expr.at, function, target.as_deref(), args),
            Kind::List(elements) => self.list(elements),
            Kind::Map(entries) => self.map(entries),
            Kind::Struct { name, fields } => self.object(expr.at, name, fields),
            Kind::Fold(fold) => self.fold(fold),
            Kind::OptionalMap { target, name, body, flat } => self.optional_map(expr.at, target, name, body, *flat),
        }
    }

    fn ident(&mut self, at: u32, name: &str) -> Node {
        if let Some(index) = self.locals.iter().rposition(|local| local.name == name) {
            return Node { ty: self.locals[index].ty.clone(), kind: NodeKind::Local(index) };
        }
        self.global(name).unwrap_or_else(|| self.undeclared(at, name))
    }

    /// A variable or a type by its whole name.
    fn global(&self, name: &str) -> Option<Node> {
        if let Some(index) = self.env.position(name) {
            return Some(Node { ty: self.env.decl(index).ty.clone(), kind: NodeKind::Var(index) });
        }
        let ty = named_type(name)?;
        let kind = NodeKind::Const(Value::Type(ty.clone()));
        Some(Node { ty: Type::Type(Arc::new(ty)), kind })
    }

    /// `a.b.c` as one name, if it is one and does not start with a variable of a fold.
    fn qualified(&self, expr: &Expr) -> Option<String> {
        match &expr.kind {
            Kind::Ident(name) if self.locals.iter().all(|local| local.name != *name) => Some(name.clone()),
            Kind::Select { operand, field, access: Access::Plain } => {
                Some(format!("{}.{field}", self.qualified(operand)?))
            }
            _ => None,
        }
    }

    fn select(&mut self, expr: &Expr, operand: &Expr, field: &str, access: Access) -> Node {
        if access == Access::Plain
            && let Some(node) = self.qualified(expr).and_then(|name| self.global(&name))
        {
            return node;
        }
        // Variables that live below a common name look like the fields of an object.
        if let Some(prefix) =
            self.qualified(operand).filter(|name| self.env.is_prefix(name) && self.global(name).is_none())
        {
            return match (access, self.global(&format!("{prefix}.{field}"))) {
                (Access::Test, Some(_)) => Node { ty: Type::Bool, kind: NodeKind::Const(Value::Bool(true)) },
                (Access::Optional, Some(node)) => self.wrap_optional(node),
                _ => {
                    self.problem(expr.at, format!("undefined field '{field}'"));
                    error()
                }
            };
        }
        let operand = self.check(operand);
        let ty = self.field_type(expr.at, &operand.ty, field, access == Access::Optional);
        let ty = if access == Access::Test { Type::Bool } else { self.known.apply(&ty, false) };
        Node { ty, kind: NodeKind::Select { operand: Box::new(operand), field: field.to_owned(), access } }
    }

    fn wrap_optional(&mut self, node: Node) -> Node {
        let overloads = library::function("optional.of").map(|of| of.overloads.iter().collect()).unwrap_or_default();
        let ty = Type::optional(node.ty.clone());
        Node { ty, kind: NodeKind::Call { function: "optional.of", overloads, args: vec![node], regex: None } }
    }

    fn field_type(&mut self, at: u32, operand: &Type, field: &str, optional: bool) -> Type {
        let operand = self.known.apply(operand, false);
        let (target, was_optional) = operand.unwrap_optional();
        let ty = match target {
            Type::Map(_, value) => (**value).clone(),
            Type::Object(object) => match object.fields.get(field) {
                Some(field) => field.decl.ty.clone(),
                None if object.open => Type::Dyn,
                None => {
                    self.problem(at, format!("undefined field '{field}'"));
                    Type::Error
                }
            },
            Type::Param(_) => {
                self.known.assign(&Type::Dyn, target);
                Type::Dyn
            }
            Type::Dyn | Type::Error => Type::Dyn,
            other => {
                self.problem(at, format!("type '{other}' does not support field selection"));
                Type::Dyn
            }
        };
        if optional || was_optional { Type::optional(ty) } else { ty }
    }

    fn call(&mut self, at: u32, name: &str, target: Option<&Expr>, args: &[Expr]) -> Node {
        match name {
            op::AND | op::OR => return self.logical(name, args),
            op::CONDITIONAL => return self.conditional(at, args),
            _ => {}
        }
        let mut nodes = args.iter().map(|arg| self.check(arg)).collect::<Vec<_>>();
        if let Some(target) = target {
            let namespaced = self.qualified(target).map(|prefix| format!("{prefix}.{name}"));
            if let Some(function) = namespaced.as_deref().and_then(library::function) {
                return self.resolve(at, function, false, nodes, args);
            }
            nodes.insert(0, self.check(target));
        }
        match library::function(name) {
            Some(function) => self.resolve(at, function, target.is_some(), nodes, args),
            None => self.undeclared(at, name),
        }
    }

    fn logical(&mut self, name: &str, args: &[Expr]) -> Node {
        let mut nodes = Vec::with_capacity(args.len());
        for arg in args {
            let node = self.check(arg);
            if !self.known.assign(&node.ty, &Type::Bool) {
                self.mismatch(arg.at, &Type::Bool, &node.ty);
            }
            nodes.push(node);
        }
        Node { ty: Type::Bool, kind: if name == op::AND { NodeKind::And(nodes) } else { NodeKind::Or(nodes) } }
    }

    fn conditional(&mut self, at: u32, args: &[Expr]) -> Node {
        let [condition, yes, no] = args else { return error() };
        let parts = [self.check(condition), self.check(yes), self.check(no)];
        let result = self.known.fresh();
        let found = parts.each_ref().map(|part| part.ty.clone());
        if !self.known.assign_all(&found, &[Type::Bool, result.clone(), result.clone()]) {
            self.no_overload(at, op::CONDITIONAL, &found, false);
            return error();
        }
        Node { ty: self.known.apply(&result, false), kind: NodeKind::Conditional(Box::new(parts)) }
    }

    fn no_overload(&mut self, at: u32, name: &str, args: &[Type], member: bool) {
        let mut shown = args.iter().map(|arg| self.known.apply(arg, true).to_string()).collect::<Vec<_>>();
        let receiver = if member { format!("{}.", shown.remove(0)) } else { String::new() };
        let signature = format!("{receiver}({})", shown.join(", "));
        self.problem(at, format!("found no matching overload for '{name}' applied to '{signature}'"));
    }

    fn resolve(&mut self, at: u32, function: &'static Function, member: bool, nodes: Vec<Node>, args: &[Expr]) -> Node {
        let found = nodes.iter().map(|node| node.ty.clone()).collect::<Vec<_>>();
        let mut overloads = Vec::new();
        let mut result: Option<Type> = None;
        for overload in function.overloads.iter().filter(|overload| overload.member == member) {
            let first = self.known.fresh_block(overload.generics);
            let wanted = overload.params.iter().map(|param| instantiate(param, first)).collect::<Vec<_>>();
            if !self.known.assign_all(&found, &wanted) {
                continue;
            }
            overloads.push(overload);
            let given = self.known.apply(&instantiate(&overload.result, first), false);
            result = Some(match result {
                None => given,
                Some(before) if before.is_dyn() || before == given => before,
                Some(_) => Type::Dyn,
            });
        }
        let Some(ty) = result else {
            self.no_overload(at, &function.name, &found, member);
            return error();
        };
        let regex = self.literal_arguments(&function.name, &nodes, args);
        Node { ty, kind: NodeKind::Call { function: &function.name, overloads, args: nodes, regex } }
    }

    /// Patterns, durations and times that are written out are read now; those that cannot be are wrong now.
    fn literal_arguments(&mut self, name: &str, nodes: &[Node], args: &[Expr]) -> Option<Box<regex::Regex>> {
        let text = |node: &Node| match &node.kind {
            NodeKind::Const(Value::String(text)) => Some(text.to_string()),
            _ => None,
        };
        let at = args.last().map_or(0, |arg| arg.at);
        match name {
            "duration" if nodes.first().and_then(text).is_some_and(|text| parse_duration(&text).is_none()) => {
                self.problem(at, "invalid duration argument".to_owned());
            }
            "timestamp" if nodes.first().and_then(text).is_some_and(|text| parse_timestamp(&text).is_none()) => {
                self.problem(at, "invalid timestamp argument".to_owned());
            }
            name if regexes::takes_pattern(name) => {
                let pattern = nodes.get(1).and_then(text).map(|text| regexes::precompile(&text))?;
                if pattern.is_none() && name == "matches" {
                    self.problem(at, "invalid matches argument".to_owned());
                }
                return pattern.map(Box::new);
            }
            _ => {}
        }
        None
    }

    /// The type of both, in a list or a map that is written out.
    fn join(&mut self, at: u32, before: Option<Type>, ty: Type) -> Type {
        let Some(before) = before else { return ty };
        if self.known.assign(&before, &ty) {
            return most_general(&before, &ty);
        }
        self.mismatch(at, &before, &ty);
        Type::Error
    }

    /// The type of a value that is put in only if it is there.
    fn unwrapped(&mut self, at: u32, ty: &Type) -> Type {
        let ty = self.known.apply(ty, false);
        let (inner, optional) = ty.unwrap_optional();
        if !optional && !inner.is_dyn_or_error() {
            self.mismatch(at, &Type::optional(ty.clone()), &ty);
        }
        inner.clone()
    }

    fn list(&mut self, elements: &[Element]) -> Node {
        let (mut nodes, mut of) = (Vec::new(), None);
        for Element { value, optional } in elements {
            let node = self.check(value);
            let ty = if *optional { self.unwrapped(value.at, &node.ty) } else { node.ty.clone() };
            of = Some(self.join(value.at, of, ty));
            nodes.push(ElementNode { value: node, optional: *optional });
        }
        let ty = Type::list(of.unwrap_or_else(|| self.known.fresh()));
        // A list of constants is one.
        let constant = |element: &ElementNode| match &element.value.kind {
            NodeKind::Const(value) if !element.optional => Some(value.clone()),
            _ => None,
        };
        match nodes.iter().map(constant).collect::<Option<Vec<_>>>() {
            Some(values) => Node { ty, kind: NodeKind::Const(Value::list(values)) },
            None => Node { ty, kind: NodeKind::List(nodes) },
        }
    }

    fn map(&mut self, entries: &[Entry]) -> Node {
        let (mut nodes, mut key_type, mut value_type) = (Vec::new(), None, None);
        for Entry { key, value, optional } in entries {
            let key_node = self.check(key);
            key_type = Some(self.join(key.at, key_type, key_node.ty.clone()));
            let node = self.check(value);
            let ty = if *optional { self.unwrapped(value.at, &node.ty) } else { node.ty.clone() };
            value_type = Some(self.join(value.at, value_type, ty));
            nodes.push(EntryNode { key: key_node, value: node, optional: *optional });
        }
        let mut or_fresh = |ty: Option<Type>| ty.unwrap_or_else(|| self.known.fresh());
        let ty = Type::map(or_fresh(key_type), or_fresh(value_type));
        Node { ty, kind: NodeKind::Map(nodes) }
    }
}

/// What stands for a part that was found wrong.
fn error() -> Node {
    Node { ty: Type::Error, kind: NodeKind::Const(Value::Null) }
}

fn literal(value: &Literal) -> Node {
    let (ty, value) = match value {
        Literal::Null => (Type::Null, Value::Null),
        Literal::Bool(value) => (Type::Bool, Value::Bool(*value)),
        Literal::Int(value) => (Type::Int, Value::Int(*value)),
        Literal::Uint(value) => (Type::Uint, Value::Uint(*value)),
        Literal::Double(value) => (Type::Double, Value::Double(*value)),
        Literal::String(text) => (Type::String, Value::String(Str::Shared(text.clone()))),
        Literal::Bytes(bytes) => (Type::Bytes, Value::Bytes(bytes.clone())),
    };
    Node { ty, kind: NodeKind::Const(value) }
}

/// A declared type with its parameters as variables, counted from `first`.
fn instantiate(ty: &Type, first: u32) -> Type {
    match ty {
        Type::Param(index) => Type::Param(first + index),
        Type::List(of) => Type::list(instantiate(of, first)),
        Type::Map(key, value) => Type::map(instantiate(key, first), instantiate(value, first)),
        Type::Optional(of) => Type::optional(instantiate(of, first)),
        Type::Type(of) => Type::Type(Arc::new(instantiate(of, first))),
        other => other.clone(),
    }
}
