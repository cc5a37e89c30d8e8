//! Walks over ranges, and over optionals.

use super::{Checker, Local, error};
use crate::node::{FoldNode, Node, NodeKind};
use crate::syntax::ast::{Expr, Fold, FoldKind, op};
use crate::types::Type;

impl Checker<'_> {
    pub(super) fn fold(&mut self, fold: &Fold) -> Node {
        let range = self.check(&fold.range);
        let (first, second) = self.range_types(fold.range.at, &range.ty, fold.var2.is_some());
        let depth = self.locals.len();
        self.locals.push(Local { name: fold.var.clone(), ty: first.clone() });
        if let Some(name) = &fold.var2 {
            self.locals.push(Local { name: name.clone(), ty: second });
        }
        let filter = fold.filter.as_ref().map(|filter| self.check(filter));
        let body = self.check(&fold.body);
        self.locals.truncate(depth);
        let ty = self.result_type(fold, &range, &first, &body);
        if let (Some(node), Some(expr)) = (&filter, &fold.filter) {
            self.choose(expr.at, &node.ty, &ty);
        }
        let two = fold.var2.is_some();
        Node { ty, kind: NodeKind::Fold(Box::new(FoldNode { kind: fold.kind, range, two, filter, body })) }
    }

    /// The types of the variables.
    fn range_types(&mut self, at: u32, range: &Type, two: bool) -> (Type, Type) {
        let range = self.known.apply(range, false);
        match &range {
            Type::List(of) if two => (Type::Int, (**of).clone()),
            Type::List(of) => ((**of).clone(), Type::Dyn),
            Type::Map(key, value) => ((**key).clone(), (**value).clone()),
            Type::Dyn | Type::Error | Type::Param(_) => {
                self.known.assign(&Type::Dyn, &range);
                (Type::Dyn, Type::Dyn)
            }
            other => {
                let message = format!(
                    "expression of type '{other}' cannot be range of a comprehension (must be list, map, or dynamic)"
                );
                self.problem(at, message);
                (Type::Error, Type::Error)
            }
        }
    }

    fn result_type(&mut self, fold: &Fold, range: &Node, first: &Type, body: &Node) -> Type {
        let at = fold.body.at;
        match fold.kind {
            FoldKind::All | FoldKind::Exists => {
                if !self.known.assign(&body.ty, &Type::Bool) {
                    self.mismatch(at, &Type::Bool, &body.ty);
                }
                Type::Bool
            }
            FoldKind::ExistsOne => {
                self.choose(at, &body.ty, &Type::Int);
                Type::Bool
            }
            FoldKind::Filter => {
                let ty = Type::list(first.clone());
                self.choose(at, &body.ty, &ty);
                ty
            }
            FoldKind::List => Type::list(body.ty.clone()),
            FoldKind::Map => {
                // The keys of a list are its indices.
                Type::map(first.clone(), body.ty.clone())
            }
            FoldKind::MapEntry => {
                let (key, value) = (self.known.fresh(), self.known.fresh());
                let ty = Type::map(key, value);
                if !self.known.assign(&body.ty, &ty) {
                    let found = [ty.clone(), body.ty.clone()];
                    self.no_overload(at, "cel.@mapInsert", &found, false);
                }
                ty
            }
            FoldKind::SortBy => {
                let list = Type::list(self.known.fresh());
                if !self.known.assign(&range.ty, &list) {
                    self.mismatch(fold.range.at, &list, &range.ty);
                }
                let key = self.known.apply(&body.ty, false);
                let ordered = key.is_scalar()
                    || matches!(key, Type::String | Type::Bytes | Type::Dyn | Type::Error | Type::Param(_));
                if !ordered {
                    self.no_overload(at, "@sortByAssociatedKeys", &[range.ty.clone(), Type::list(key)], true);
                }
                range.ty.clone()
            }
        }
    }

    /// A condition decides whether an element counts.
    fn choose(&mut self, at: u32, condition: &Type, of: &Type) {
        if !self.known.assign(condition, &Type::Bool) {
            self.no_overload(at, op::CONDITIONAL, &[condition.clone(), of.clone(), of.clone()], false);
        }
    }

    pub(super) fn optional_map(&mut self, at: u32, target: &Expr, name: &str, body: &Expr, flat: bool) -> Node {
        let target = self.check(target);
        let inner = self.known.fresh();
        if !self.known.assign(&target.ty, &Type::optional(inner.clone())) {
            self.no_overload(at, "hasValue", std::slice::from_ref(&target.ty), true);
            return error();
        }
        let ty = self.known.apply(&inner, false);
        self.locals.push(Local { name: name.to_owned(), ty });
        let body_node = self.check(body);
        self.locals.pop();
        let ty = if flat {
            let result = Type::optional(self.known.fresh());
            if !self.known.assign(&body_node.ty, &result) {
                let found = [Type::Bool, body_node.ty.clone(), result.clone()];
                self.no_overload(at, op::CONDITIONAL, &found, false);
            }
            self.known.apply(&result, false)
        } else {
            Type::optional(body_node.ty.clone())
        };
        Node { ty, kind: NodeKind::OptionalMap { target: Box::new(target), body: Box::new(body_node), flat } }
    }
}
