//! What an expression costs at most, from the sizes that a schema allows.
//!
//! Kubernetes refuses CRD rules by this number, so it is reckoned as there, including what looks odd: a part whose place
//! in the resource is not known is taken for the resource itself, and a declared number counts as of no size.

mod calls;
mod range;

pub use range::Range;

use calls::Argument;

use crate::charge::{NEW_LIST, NEW_MAP, NEW_OBJECT};
use crate::env::Env;
use crate::node::{FoldNode, Node, NodeKind};
use crate::schema::{Decl, Shape};
use crate::syntax::ast::{Access, FoldKind};
use crate::types::Type;
use crate::value::Value;

/// The cost of evaluating `node` once.
pub(crate) fn estimate(node: &Node, env: &Env) -> Range {
    let root = if env.is_empty() { None } else { Some(&**env.decl(0)) };
    Estimator { root, locals: Vec::new() }.info(node).cost
}

/// Where in the resource a part is.
#[derive(Debug, Clone, Copy)]
enum Place<'e> {
    /// It was computed.
    Nowhere,
    Known(&'e Decl),
    /// Somewhere that is not declared.
    Lost,
}

/// Sizes of the keys and values of a list or map.
#[derive(Debug, Clone, Copy)]
struct Entry {
    list: bool,
    key: Range,
    value: Range,
}

impl Entry {
    fn union(self, other: Self) -> Self {
        Self { list: self.list, key: self.key.union(other.key), value: self.value.union(other.value) }
    }
}

/// What is known of a part of the expression.
#[derive(Debug, Clone, Copy)]
struct Info<'e> {
    cost: Range,
    place: Place<'e>,
    size: Option<Range>,
    entry: Option<Entry>,
}

impl Info<'_> {
    fn size(&self) -> Range {
        self.size.unwrap_or(Range::UNKNOWN)
    }
}

#[derive(Debug, Clone, Copy)]
struct Local<'e> {
    place: Place<'e>,
    size: Option<Range>,
    entry: Option<Entry>,
}

struct Estimator<'e> {
    /// What the first variable is.
    root: Option<&'e Decl>,
    locals: Vec<Local<'e>>,
}

impl<'e> Estimator<'e> {
    /// A part of what is at `place`.
    fn below(&self, place: Place<'e>, part: impl FnOnce(&'e Decl) -> Option<&'e Decl>) -> Place<'e> {
        match place {
            Place::Nowhere => self.root.map_or(Place::Lost, Place::Known),
            Place::Known(decl) => part(decl).map_or(Place::Lost, Place::Known),
            Place::Lost => Place::Lost,
        }
    }

    fn element(decl: &'e Decl) -> Option<&'e Decl> {
        decl.element().map(|of| &**of)
    }

    /// The size by place, else by type.
    fn sized(place: Place<'e>, ty: &Type) -> Option<Range> {
        match place {
            Place::Known(decl) => Some(Range::of(0, decl.max_elements)),
            _ => ty.is_scalar().then_some(Range::fixed(1)),
        }
    }

    fn computed(cost: Range, size: Option<Range>, ty: &Type) -> Info<'e> {
        let size = size.or_else(|| Self::sized(Place::Nowhere, ty));
        Info { cost, place: Place::Nowhere, size, entry: None }
    }

    fn info(&mut self, node: &Node) -> Info<'e> {
        match &node.kind {
            NodeKind::Const(value) => Self::constant(value, &node.ty),
            NodeKind::Var(_) => {
                let place = self.root.map_or(Place::Lost, Place::Known);
                Info { cost: Range::fixed(1), place, size: Self::sized(place, &node.ty), entry: None }
            }
            NodeKind::Local(index) => {
                let local = self.locals[*index];
                let size = Self::sized(local.place, &node.ty).or(local.size);
                Info { cost: Range::fixed(1), place: local.place, size, entry: local.entry }
            }
            NodeKind::Select { operand, field, access } => self.select(node, operand, field, *access),
            NodeKind::Call { .. } => self.call(node),
            NodeKind::And(args) | NodeKind::Or(args) => {
                let costs = args.iter().map(|arg| self.info(arg).cost).collect::<Vec<_>>();
                let sum = costs.iter().copied().fold(Range::default(), Range::plus);
                // The first may decide alone.
                let cost = Range::of(costs.first().map_or(0, |first| first.min), sum.max);
                Self::computed(cost, None, &Type::Bool)
            }
            NodeKind::Conditional(parts) => {
                let [condition, yes, no] = parts.each_ref().map(|part| self.info(part));
                let entry = yes.entry.zip(no.entry).map(|(yes, no)| yes.union(no));
                let cost = condition.cost.plus(yes.cost.union(no.cost));
                Info { cost, place: Place::Nowhere, size: Some(yes.size().union(no.size())), entry }
            }
            NodeKind::List(elements) => {
                let infos = elements.iter().map(|element| self.info(&element.value)).collect::<Vec<_>>();
                Self::collection(infos.into_iter().map(|value| (None, value)), NEW_LIST)
            }
            NodeKind::Map(entries) => {
                let infos = entries.iter().map(|entry| (Some(self.info(&entry.key)), self.info(&entry.value)));
                Self::collection(infos.collect::<Vec<_>>().into_iter(), NEW_MAP)
            }
            NodeKind::Struct { fields, .. } => {
                let costs = fields.iter().map(|field| self.info(&field.value).cost);
                let cost = costs.fold(Range::fixed(NEW_OBJECT), Range::plus);
                Self::computed(cost, None, &node.ty)
            }
            NodeKind::Fold(fold) => self.fold(fold, &node.ty),
            NodeKind::OptionalMap { target, body, flat } => self.optional_map(target, body, *flat, &node.ty),
        }
    }

    fn constant(value: &Value<'static>, ty: &Type) -> Info<'e> {
        match value {
            Value::List(list) => {
                let items = list.iter().flatten().map(|item| (None, Self::constant(&item, &Type::Dyn)));
                Self::collection(items, NEW_LIST)
            }
            Value::Type(_) => Self::computed(Range::fixed(1), None, ty),
            value => Self::computed(Range::default(), Some(Range::fixed(value.size())), ty),
        }
    }

    /// A list or map that is written out.
    fn collection(parts: impl Iterator<Item = (Option<Info<'e>>, Info<'e>)>, base: u64) -> Info<'e> {
        let (mut cost, mut count) = (Range::fixed(base), 0);
        let mut sizes: Option<(Range, Range)> = None;
        for (key, value) in parts {
            count += 1;
            cost = cost.plus(value.cost).plus(key.map_or(Range::default(), |key| key.cost));
            let (key, value) = (key.map_or(Range::fixed(1), |key| key.size()), value.size());
            sizes = Some(sizes.map_or((key, value), |(keys, values)| (keys.union(key), values.union(value))));
        }
        let list = base == NEW_LIST;
        let (key, value) = sizes.unwrap_or((Range::fixed(u64::from(list)), Range::default()));
        let entry = Some(Entry { list, key, value });
        Info { cost, place: Place::Nowhere, size: Some(Range::fixed(count)), entry }
    }

    fn select(&mut self, node: &Node, operand: &Node, field: &str, access: Access) -> Info<'e> {
        let target = self.info(operand);
        match access {
            Access::Test => Self::computed(target.cost, None, &node.ty),
            Access::Optional => Self::computed(target.cost.plus(Range::fixed(1)), None, &node.ty),
            Access::Plain => {
                let costs = matches!(operand.ty, Type::Map(..) | Type::Object(_));
                let place = self.below(target.place, |decl| match &decl.shape {
                    Shape::Object(_) => decl.field(field).map(|field| &*field.decl),
                    _ => None,
                });
                let cost = target.cost.plus(Range::fixed(u64::from(costs)));
                Info { cost, place, size: Self::sized(place, &node.ty), entry: None }
            }
        }
    }

    fn call(&mut self, node: &Node) -> Info<'e> {
        let NodeKind::Call { function, overloads, args, .. } = &node.kind else {
            return Self::computed(Range::default(), None, &node.ty);
        };
        let infos = args.iter().map(|arg| self.info(arg)).collect::<Vec<_>>();
        let sum = infos.iter().map(|info| info.cost).fold(Range::default(), Range::plus);
        if *function == "dyn" {
            let of = infos.first().copied();
            let (size, entry) = of.map_or((None, None), |of| (of.size, of.entry));
            return Info { cost: sum.plus(Range::fixed(1)), place: Place::Nowhere, size, entry };
        }
        let arguments = args.iter().zip(&infos).map(|(node, info)| self.argument(node, info)).collect::<Vec<_>>();
        let mut cost: Option<Range> = None;
        let mut size: Option<Range> = None;
        for overload in overloads {
            let (own, result) = calls::cost(function, overload, &arguments);
            cost = Some(cost.map_or(own, |cost| cost.union(own)));
            size = match (size, result) {
                (Some(size), Some(result)) => Some(size.union(result)),
                (size, result) => size.or(result),
            };
        }
        let cost = sum.plus(cost.unwrap_or_default());
        let first = infos.first();
        if *function == "_[_]" {
            let place = self.below(first.map_or(Place::Nowhere, |first| first.place), Self::element);
            let known = first.and_then(|first| first.entry).map(|entry| entry.value);
            return Info { cost, place, size: known.or_else(|| Self::sized(place, &node.ty)), entry: None };
        }
        let mut info = Self::computed(cost, size, &node.ty);
        if *function == "_+_" {
            info.entry = match &infos[..] {
                [Info { entry: Some(one), .. }, Info { entry: Some(other), .. }] => Some(one.union(*other)),
                _ => None,
            };
        }
        info
    }

    fn argument(&self, node: &Node, info: &Info<'e>) -> Argument {
        let element = match &node.ty {
            Type::List(of) => {
                let size = match info.place {
                    Place::Known(decl) => Self::element(decl).map(|of| Range::of(0, of.max_elements)),
                    _ => None,
                };
                Some(((**of).clone(), size.unwrap_or(Range::UNKNOWN)))
            }
            _ => None,
        };
        let number = match &node.kind {
            NodeKind::Const(Value::Int(number)) => Some(u64::try_from(*number).unwrap_or(0)),
            _ => None,
        };
        Argument { ty: node.ty.clone(), size: info.size(), element, number }
    }

    fn fold(&mut self, fold: &FoldNode, ty: &Type) -> Info<'e> {
        let range = self.info(&fold.range);
        let list = range.entry.map_or(matches!(fold.range.ty, Type::List(_)), |entry| entry.list);
        let key = Local {
            // Lists have no declared indices, maps no declared sizes of keys.
            place: self.below(range.place, |_| None),
            size: range.entry.map(|entry| entry.key),
            entry: None,
        };
        let value = Local {
            place: self.below(range.place, Self::element),
            size: range.entry.map(|entry| entry.value),
            entry: None,
        };
        let depth = self.locals.len();
        if fold.two {
            self.locals.extend([key, value]);
        } else {
            self.locals.push(if list { value } else { key });
        }
        let filter = fold.filter.as_ref().map(|filter| self.info(filter).cost);
        let body = self.info(&fold.body);
        let first = self.locals[depth];
        self.locals.truncate(depth);
        let first_size = first.size.unwrap_or(Range::UNKNOWN);

        let fixed = Range::fixed;
        let count = range.size();
        // What the macro's loop costs beside the body: the condition, the read of the result so far, what is added to it.
        let (before, step, after) = match fold.kind {
            FoldKind::All => (0, Range::of(3, body.cost.max.saturating_add(3)), 1),
            FoldKind::Exists => (0, Range::of(4, body.cost.max.saturating_add(4)), 1),
            FoldKind::ExistsOne => (0, body.cost.plus(Range::of(1, 2)), 2),
            FoldKind::Filter => (NEW_LIST, body.cost.plus(Range::of(1, NEW_LIST + 3)), 1),
            FoldKind::List => (NEW_LIST, body.cost.plus(fixed(NEW_LIST + 2)), 1),
            FoldKind::Map => (NEW_MAP, body.cost.plus(fixed(3)), 1),
            FoldKind::MapEntry => (NEW_MAP, body.cost.plus(fixed(2)), 1),
            FoldKind::SortBy => (2 * NEW_LIST + 2, body.cost.plus(fixed(NEW_LIST + 2)), NEW_LIST + 2),
        };
        let step = filter.map_or(step, |filter| filter.plus(step.union(fixed(1))));
        let mut cost = range.cost.plus(fixed(before + after)).plus(count.times(step));
        if fold.kind == FoldKind::SortBy {
            cost = cost.plus(count.times(count).scaled(2.0));
        }
        let (size, element) = match fold.kind {
            FoldKind::All | FoldKind::Exists | FoldKind::ExistsOne => (fixed(1), None),
            FoldKind::Filter => (count, Some(first_size)),
            FoldKind::List => (count, Some(body.size())),
            _ => (count, None),
        };
        let entry = element.map(|value| Entry { list: true, key: fixed(1), value: Range::of(0, value.max) });
        Info { entry, ..Self::computed(cost, Some(size), ty) }
    }

    fn optional_map(&mut self, target: &Node, body: &Node, flat: bool, ty: &Type) -> Info<'e> {
        let target = self.info(target);
        let one = Range::fixed(1);
        self.locals.push(Local { place: Place::Lost, size: target.size, entry: target.entry });
        let body = self.info(body);
        self.locals.pop();
        // target.hasValue() ? optional.of(bind(target.value(), body)) : optional.none()
        let bind = Range::fixed(NEW_LIST).plus(target.cost).plus(one).plus(body.cost);
        let of = if flat { bind } else { bind.plus(one) };
        let cost = target.cost.plus(one).plus(of.union(one));
        Self::computed(cost, body.size, ty)
    }
}
