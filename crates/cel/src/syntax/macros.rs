//! Calls that are not functions: `has`, and the walks over ranges.

use super::ast::{Access, Expr, Fold, FoldKind, Kind};
use crate::error::Problem;

type Parsed<T> = Result<T, Problem>;

/// `name(args)` without a target.
pub(super) fn global(at: u32, name: &str, mut args: Vec<Expr>) -> Parsed<Expr> {
    if name != "has" || args.len() != 1 {
        return Expr::new(at, Kind::Call { function: name.to_owned(), target: None, args });
    }
    let argument = args.remove(0);
    match argument.kind {
        Kind::Select { operand, field, access: Access::Plain } => {
            Expr::new(at, Kind::Select { operand, field, access: Access::Test })
        }
        _ => Err(Problem { at: argument.at, message: "invalid argument to has() macro".to_owned() }),
    }
}

/// `target.name(args)`.
pub(super) fn member(at: u32, target: Expr, name: &str, args: Vec<Expr>) -> Parsed<Expr> {
    if matches!(name, "optMap" | "optFlatMap") && args.len() == 2 {
        return optional_map(at, target, name, args);
    }
    match walk(name, args.len()) {
        Some(walk) => fold(at, target, walk, args),
        None => {
            let target = Some(Box::new(target));
            Expr::new(at, Kind::Call { function: name.to_owned(), target, args })
        }
    }
}

/// A macro over a range: what it makes, how many variables it has, and whether the argument after them is a filter.
#[derive(Clone, Copy)]
struct Walk {
    kind: FoldKind,
    variables: usize,
    filter: bool,
}

fn walk(name: &str, args: usize) -> Option<Walk> {
    let (kind, variables, filter) = match (name, args) {
        ("all", 2) => (FoldKind::All, 1, false),
        ("all", 3) => (FoldKind::All, 2, false),
        ("exists", 2) => (FoldKind::Exists, 1, false),
        ("exists", 3) => (FoldKind::Exists, 2, false),
        ("exists_one" | "existsOne", 2) => (FoldKind::ExistsOne, 1, false),
        ("exists_one" | "existsOne", 3) => (FoldKind::ExistsOne, 2, false),
        ("map", 2) => (FoldKind::List, 1, false),
        ("map", 3) => (FoldKind::List, 1, true),
        ("filter", 2) => (FoldKind::Filter, 1, false),
        ("transformList", 3) => (FoldKind::List, 2, false),
        ("transformList", 4) => (FoldKind::List, 2, true),
        ("transformMap", 3) => (FoldKind::Map, 2, false),
        ("transformMap", 4) => (FoldKind::Map, 2, true),
        ("transformMapEntry", 3) => (FoldKind::MapEntry, 2, false),
        ("transformMapEntry", 4) => (FoldKind::MapEntry, 2, true),
        ("sortBy", 2) => (FoldKind::SortBy, 1, false),
        _ => return None,
    };
    Some(Walk { kind, variables, filter })
}

fn fold(at: u32, range: Expr, walk: Walk, args: Vec<Expr>) -> Parsed<Expr> {
    let mut args = args.into_iter();
    let mut variable = || {
        // As many arguments as the macro has were counted.
        let argument = args.next().unwrap_or_else(|| unreachable!("a macro's arguments were counted"));
        simple_name(&argument).map(|name| (name, argument.at))
    };
    let (var, _) = variable()?;
    let second = if walk.variables == 2 { Some(variable()?) } else { None };
    if let Some((name, at)) = second.as_ref().filter(|(name, _)| *name == var) {
        return Err(Problem { at: *at, message: format!("duplicate variable name: {name}") });
    }
    let mut rest = args.collect::<Vec<_>>();
    let body = rest.pop().unwrap_or_else(|| unreachable!("a macro's arguments were counted"));
    let filter = if walk.filter { rest.pop() } else { None };
    let fold = Fold { kind: walk.kind, range, var, var2: second.map(|(name, _)| name), filter, body };
    Expr::new(at, Kind::Fold(Box::new(fold)))
}

fn simple_name(argument: &Expr) -> Parsed<String> {
    match &argument.kind {
        Kind::Ident(name) => Ok(name.clone()),
        _ => Err(Problem { at: argument.at, message: "argument must be a simple name".to_owned() }),
    }
}

fn optional_map(at: u32, target: Expr, function: &str, mut args: Vec<Expr>) -> Parsed<Expr> {
    let body = Box::new(args.remove(1));
    let Kind::Ident(name) = &args[0].kind else {
        let message = format!("{function}() variable name must be a simple identifier");
        return Err(Problem { at: args[0].at, message });
    };
    let (name, flat) = (name.clone(), function == "optFlatMap");
    Expr::new(at, Kind::OptionalMap { target: Box::new(target), name, body, flat })
}
