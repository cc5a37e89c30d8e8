//! The evaluator: walks the checked tree over values, counting cost as it goes.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::charge::{self, NEW_LIST, NEW_MAP, NEW_OBJECT};
use crate::error::EvalError;
use crate::library::{Call, Overload, sort_by_keys};
use crate::meter::Meter;
use crate::node::{ElementNode, EntryNode, FieldNode, FoldNode, Node, NodeKind};
use crate::program::Program;
use crate::schema::ObjectType;
use crate::syntax::ast::{Access, FoldKind};
use crate::value::{Key, Map, Value};

type Evaluated<'a> = Result<Value<'a>, EvalError>;

/// The value of a variable, or how to come by it.
#[derive(Debug, Clone)]
pub enum Slot<'a> {
    /// It is this.
    Value(Value<'a>),
    /// It is what an expression gives, evaluated when it is first asked for, against the variables before it.
    Lazy {
        /// The expression.
        program: &'a Program,
        /// How errors call the variable.
        name: &'a str,
    },
    /// It was evaluated, and this came of it.
    Evaluated(Result<Value<'a>, EvalError>),
    /// There is none: an expression that asks for it fails.
    Missing,
}

/// The values of an environment's variables, in its order.
#[derive(Debug, Default)]
pub struct Activation<'a> {
    slots: Vec<Slot<'a>>,
}

impl<'a> Activation<'a> {
    /// These values.
    pub fn new(slots: Vec<Slot<'a>>) -> Self {
        Self { slots }
    }

    /// Sets a variable.
    pub fn set(&mut self, index: usize, slot: Slot<'a>) {
        if index >= self.slots.len() {
            self.slots.resize(index + 1, Slot::Missing);
        }
        self.slots[index] = slot;
    }
}

/// Evaluates `node`.
pub(crate) fn run<'a>(node: &'a Node, activation: &mut Activation<'a>, meter: &mut Meter) -> Evaluated<'a> {
    Machine { activation, meter, locals: Vec::new() }.eval(node)
}

struct Machine<'m, 'a> {
    activation: &'m mut Activation<'a>,
    meter: &'m mut Meter,
    locals: Vec<Value<'a>>,
}

impl<'a> Machine<'_, 'a> {
    fn eval(&mut self, node: &'a Node) -> Evaluated<'a> {
        match &node.kind {
            NodeKind::Const(value) => Ok(value.clone()),
            NodeKind::Var(index) => self.variable(*index),
            NodeKind::Local(index) => {
                self.meter.charge(1)?;
                // The checker counted the same folds.
                Ok(self.locals[*index].clone())
            }
            NodeKind::Select { operand, field, access } => self.select(operand, field, *access),
            NodeKind::Call { function, overloads, args, regex } => {
                self.call(function, overloads, args, regex.as_deref())
            }
            NodeKind::And(args) => self.logical(args, false),
            NodeKind::Or(args) => self.logical(args, true),
            NodeKind::Conditional(parts) => match self.eval(&parts[0])? {
                Value::Bool(true) => self.eval(&parts[1]),
                Value::Bool(false) => self.eval(&parts[2]),
                _ => Err(EvalError::NoSuchOverload),
            },
            NodeKind::List(elements) => self.list(elements),
            NodeKind::Map(entries) => self.map(entries),
            NodeKind::Struct { ty, fields } => self.object(ty, fields),
            NodeKind::Fold(fold) => self.fold(fold),
            NodeKind::OptionalMap { target, body, flat } => self.optional_map(target, body, *flat),
        }
    }

    fn variable(&mut self, index: usize) -> Evaluated<'a> {
        self.meter.charge(1)?;
        let (program, name) = match self.activation.slots.get(index) {
            Some(Slot::Value(value)) => return Ok(value.clone()),
            Some(Slot::Evaluated(result)) => return result.clone(),
            Some(Slot::Lazy { program, name }) => (*program, *name),
            Some(Slot::Missing) | None => return Err(EvalError::function("no such attribute")),
        };
        // A variable only knows those before it, so this ends.
        self.activation.slots[index] = Slot::Missing;
        let result = match run(program.node(), self.activation, self.meter) {
            Err(EvalError::CostLimit) => return Err(EvalError::CostLimit),
            Err(why) => Err(EvalError::Function(format!("composited variable {name:?} fails to evaluate: {why}"))),
            Ok(value) => Ok(value),
        };
        self.activation.slots[index] = Slot::Evaluated(result.clone());
        result
    }

    fn select(&mut self, operand: &'a Node, field: &'a str, access: Access) -> Evaluated<'a> {
        let operand = self.eval(operand)?;
        if access != Access::Test {
            self.meter.charge(1)?;
        }
        let (target, optional) = match &operand {
            Value::Optional(None) if access == Access::Test => return Ok(Value::Bool(false)),
            Value::Optional(None) => return Ok(Value::Optional(None)),
            Value::Optional(Some(value)) => (&**value, true),
            value => (value, access == Access::Optional),
        };
        let Value::Map(map) = target else {
            return match access {
                Access::Optional => Ok(Value::Optional(None)),
                _ => Err(EvalError::NoSuchOverload),
            };
        };
        match access {
            Access::Test => Ok(Value::Bool(map.has(field))),
            _ if optional && !map.has(field) => Ok(Value::Optional(None)),
            _ => match map.field(field).transpose()? {
                Some(value) if optional => Ok(Value::some(value)),
                Some(value) => Ok(value),
                None => Err(EvalError::NoSuchKey(field.to_owned())),
            },
        }
    }

    /// `&&` and `||`: an operand that decides makes up for others that fail.
    fn logical(&mut self, args: &'a [Node], deciding: bool) -> Evaluated<'a> {
        let mut failed = None;
        for arg in args {
            match self.eval(arg) {
                Ok(Value::Bool(value)) if value == deciding => return Ok(Value::Bool(deciding)),
                Ok(Value::Bool(_)) => {}
                Ok(_) => failed = failed.or(Some(EvalError::NoSuchOverload)),
                Err(EvalError::CostLimit) => return Err(EvalError::CostLimit),
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        failed.map_or(Ok(Value::Bool(!deciding)), Err)
    }

    fn call(
        &mut self,
        function: &str,
        overloads: &'a [&'static Overload],
        args: &'a [Node],
        regex: Option<&'a regex::Regex>,
    ) -> Evaluated<'a> {
        // Calls of one or two arguments, which most are, need no memory of their own.
        let mut one = [Value::Null];
        let mut two = [Value::Null, Value::Null];
        let mut more = Vec::new();
        let values: &mut [Value<'a>] = match args.len() {
            1 => &mut one,
            2 => &mut two,
            count => {
                more.resize(count, Value::Null);
                &mut more
            }
        };
        for (index, arg) in args.iter().enumerate() {
            values[index] = self.eval(arg)?;
            if index == 0 && matches!(function, "or" | "orValue") {
                match (&values[0], function) {
                    (Value::Optional(Some(_)), "or") => return Ok(values[0].clone()),
                    (Value::Optional(Some(value)), _) => return Ok((**value).clone()),
                    _ => {}
                }
            }
        }
        let fits = |overload: &&&Overload| values.iter().zip(&overload.params).all(|(value, param)| value.fits(param));
        let overload = overloads.iter().find(fits).ok_or(EvalError::NoSuchOverload)?;
        let cost = charge::before(overload.cost, values, self.meter)?;
        self.meter.charge(cost)?;
        let result = (overload.eval)(&mut Call { meter: self.meter, regex }, values)?;
        self.meter.charge(charge::after(overload.cost, &result))?;
        Ok(result)
    }

    fn list(&mut self, elements: &'a [ElementNode]) -> Evaluated<'a> {
        let mut items = Vec::with_capacity(elements.len());
        for element in elements {
            match (self.eval(&element.value)?, element.optional) {
                (Value::Optional(None), true) => {}
                (Value::Optional(Some(value)), true) => items.push((*value).clone()),
                (_, true) => return Err(EvalError::NoSuchOverload),
                (value, false) => items.push(value),
            }
        }
        self.meter.charge(NEW_LIST)?;
        Ok(Value::list(items))
    }

    fn map(&mut self, nodes: &'a [EntryNode]) -> Evaluated<'a> {
        let mut entries = BTreeMap::new();
        for node in nodes {
            let key = self.eval(&node.key)?;
            let value = self.eval(&node.value)?;
            match (value, node.optional) {
                (Value::Optional(None), true) => continue,
                (Value::Optional(Some(value)), true) => insert(&mut entries, &key, (*value).clone())?,
                (_, true) => return Err(EvalError::NoSuchOverload),
                (value, false) => insert(&mut entries, &key, value)?,
            }
        }
        self.meter.charge(NEW_MAP)?;
        Ok(Value::Map(Map::owned(entries)))
    }

    fn object(&mut self, ty: &Arc<ObjectType>, nodes: &'a [FieldNode]) -> Evaluated<'a> {
        let mut fields = BTreeMap::new();
        for node in nodes {
            let value = match (self.eval(&node.value)?, node.optional) {
                (Value::Optional(None), true) => continue,
                (Value::Optional(Some(value)), true) => (*value).clone(),
                (_, true) => return Err(EvalError::NoSuchOverload),
                (value, false) => value,
            };
            fields.insert(Key::String(crate::value::Str::Borrowed(&node.name)), value);
        }
        self.meter.charge(NEW_OBJECT)?;
        Ok(Value::Map(Map::object(ty.clone(), fields)))
    }

    fn optional_map(&mut self, target: &'a Node, body: &'a Node, flat: bool) -> Evaluated<'a> {
        // What the calls that the macro stands for cost: hasValue, value, the empty range of the binding, of.
        let target = self.eval(target)?;
        self.meter.charge(1)?;
        let value = match target {
            Value::Optional(None) => return Ok(Value::Optional(None)),
            Value::Optional(Some(value)) => (*value).clone(),
            _ => return Err(EvalError::NoSuchOverload),
        };
        self.meter.charge(if flat { 1 } else { 2 })?;
        self.locals.push(value);
        let result = self.eval(body);
        self.locals.pop();
        match (result?, flat) {
            (value, false) => Ok(Value::some(value)),
            (value @ Value::Optional(_), true) => Ok(value),
            _ => Err(EvalError::NoSuchOverload),
        }
    }

    fn fold(&mut self, fold: &'a FoldNode) -> Evaluated<'a> {
        let range = self.eval(&fold.range)?;
        let depth = self.locals.len();
        let result = self.walk(fold, range);
        self.locals.truncate(depth);
        result
    }

    fn walk(&mut self, fold: &'a FoldNode, range: Value<'a>) -> Evaluated<'a> {
        let mut result = Folding::new(fold.kind);
        match range {
            Value::List(list) => {
                for (index, item) in list.iter().enumerate() {
                    let item = item?;
                    let done = match fold.two {
                        true => self.step(fold, &mut result, Value::Int(index as i64), Some(item))?,
                        false => self.step(fold, &mut result, item, None)?,
                    };
                    if done {
                        break;
                    }
                }
            }
            Value::Map(map) => {
                for key in map.keys() {
                    let value = if fold.two { map.get(&key).transpose()? } else { None };
                    if self.step(fold, &mut result, key, value)? {
                        break;
                    }
                }
            }
            _ => return Err(EvalError::NoSuchOverload),
        }
        // The result is read once more.
        self.meter.charge(if fold.kind == FoldKind::ExistsOne { 2 } else { 1 })?;
        result.finish()
    }

    /// One element; true: the rest does not matter. What is charged is what the loop of the macro costs in Kubernetes:
    /// the condition to go on, the read of the result so far, and what is put into it.
    fn step(
        &mut self,
        fold: &'a FoldNode,
        result: &mut Folding<'a>,
        first: Value<'a>,
        second: Option<Value<'a>>,
    ) -> Result<bool, EvalError> {
        self.meter.step(1)?;
        let depth = self.locals.len();
        let kept = first.clone();
        self.locals.push(first);
        self.locals.extend(second);
        let done = self.element(fold, result, kept);
        self.locals.truncate(depth);
        done
    }

    fn element(&mut self, fold: &'a FoldNode, result: &mut Folding<'a>, first: Value<'a>) -> Result<bool, EvalError> {
        if let Some(filter) = &fold.filter {
            match self.eval(filter)? {
                Value::Bool(true) => {}
                Value::Bool(false) => {
                    self.meter.charge(1)?;
                    return Ok(false);
                }
                _ => return Err(EvalError::NoSuchOverload),
            }
        }
        match result {
            Folding::All { deciding, failed } => {
                self.meter.charge(if *deciding { 4 } else { 3 })?;
                match self.eval(&fold.body) {
                    Ok(Value::Bool(value)) if value == *deciding => {
                        *result = Folding::Decided(value);
                        return Ok(true);
                    }
                    Ok(Value::Bool(_)) => {}
                    Ok(_) => *failed = failed.take().or(Some(EvalError::NoSuchOverload)),
                    Err(EvalError::CostLimit) => return Err(EvalError::CostLimit),
                    Err(error) => *failed = failed.take().or(Some(error)),
                }
            }
            Folding::Decided(_) => return Ok(true),
            Folding::Count(count) => match self.eval(&fold.body)? {
                Value::Bool(true) => {
                    self.meter.charge(2)?;
                    *count += 1;
                }
                Value::Bool(false) => self.meter.charge(1)?,
                _ => return Err(EvalError::NoSuchOverload),
            },
            Folding::List(items) => match fold.kind {
                FoldKind::Filter => match self.eval(&fold.body)? {
                    Value::Bool(true) => {
                        self.meter.charge(NEW_LIST + 3)?;
                        items.push(first);
                    }
                    Value::Bool(false) => self.meter.charge(1)?,
                    _ => return Err(EvalError::NoSuchOverload),
                },
                _ => {
                    self.meter.charge(NEW_LIST + 2)?;
                    items.push(self.eval(&fold.body)?);
                }
            },
            Folding::Map(entries) => {
                self.meter.charge(3)?;
                let value = self.eval(&fold.body)?;
                insert(entries, &first, value)?;
            }
            Folding::Entries(entries) => {
                self.meter.charge(2)?;
                let Value::Map(map) = self.eval(&fold.body)? else { return Err(EvalError::NoSuchOverload) };
                for key in map.keys() {
                    self.meter.step(1)?;
                    if let Some(value) = map.get(&key) {
                        insert(entries, &key, value?)?;
                    }
                }
            }
            Folding::Sorted(keyed) => {
                self.meter.charge(NEW_LIST + 2)?;
                keyed.push((self.eval(&fold.body)?, first));
                // Everything is compared with everything: what the next one adds to the square of the number.
                self.meter.charge(4 * keyed.len() as u64)?;
            }
        }
        Ok(false)
    }
}

fn insert<'a>(entries: &mut BTreeMap<Key<'a>, Value<'a>>, key: &Value<'a>, value: Value<'a>) -> Result<(), EvalError> {
    let Some(key) = Key::of(key) else {
        return Err(EvalError::Function(format!("unsupported key type: {}", key.type_of())));
    };
    match entries.entry(key) {
        std::collections::btree_map::Entry::Vacant(entry) => {
            entry.insert(value);
            Ok(())
        }
        std::collections::btree_map::Entry::Occupied(entry) => {
            let key = match entry.key() {
                Key::String(text) => text.to_string(),
                other => format!("{:?}", other.value()),
            };
            Err(EvalError::Function(format!("insert failed: key {key} already exists")))
        }
    }
}

/// What a fold has made so far.
enum Folding<'a> {
    /// `all`, `exists`: no element has decided yet.
    All {
        deciding: bool,
        failed: Option<EvalError>,
    },
    Decided(bool),
    Count(u64),
    List(Vec<Value<'a>>),
    Map(BTreeMap<Key<'a>, Value<'a>>),
    Entries(BTreeMap<Key<'a>, Value<'a>>),
    Sorted(Vec<(Value<'a>, Value<'a>)>),
}

impl<'a> Folding<'a> {
    fn new(kind: FoldKind) -> Self {
        match kind {
            FoldKind::All => Self::All { deciding: false, failed: None },
            FoldKind::Exists => Self::All { deciding: true, failed: None },
            FoldKind::ExistsOne => Self::Count(0),
            FoldKind::List | FoldKind::Filter => Self::List(Vec::new()),
            FoldKind::Map => Self::Map(BTreeMap::new()),
            FoldKind::MapEntry => Self::Entries(BTreeMap::new()),
            FoldKind::SortBy => Self::Sorted(Vec::new()),
        }
    }

    fn finish(self) -> Evaluated<'a> {
        match self {
            Self::All { failed: Some(error), .. } => Err(error),
            Self::All { deciding, failed: None } => Ok(Value::Bool(!deciding)),
            Self::Decided(value) => Ok(Value::Bool(value)),
            Self::Count(count) => Ok(Value::Bool(count == 1)),
            Self::List(items) => Ok(Value::list(items)),
            Self::Map(entries) | Self::Entries(entries) => Ok(Value::Map(Map::owned(entries))),
            Self::Sorted(keyed) => sort_by_keys(keyed),
        }
    }
}
