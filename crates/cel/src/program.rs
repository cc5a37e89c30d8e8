//! Expressions that were compiled.

use crate::check::check;
use crate::cost::{self, Range};
use crate::env::Env;
use crate::error::{CompileError, EvalError};
use crate::eval::{Activation, run};
use crate::meter::{Meter, PER_CALL_LIMIT};
use crate::node::Node;
use crate::syntax;
use crate::types::Type;
use crate::value::Value;

/// A checked expression, ready to be evaluated any number of times.
#[derive(Debug)]
pub struct Program {
    node: Node,
    cost: Range,
}

/// What all evaluations about one thing may still cost.
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    left: u64,
    exceeded: bool,
}

impl Budget {
    /// A budget of so much cost: [`crate::RUNTIME_BUDGET`] for the rules of an object.
    pub fn new(cost: u64) -> Self {
        Self { left: cost, exceeded: false }
    }

    /// What is left.
    pub fn left(&self) -> u64 {
        self.left
    }

    /// More was spent than there was.
    pub fn is_exceeded(&self) -> bool {
        self.exceeded
    }

    fn spend(&mut self, cost: u64) -> Result<(), EvalError> {
        self.exceeded |= cost > self.left;
        self.left = self.left.saturating_sub(cost);
        if self.exceeded { Err(EvalError::CostLimit) } else { Ok(()) }
    }
}

/// Compiles `source` against the variables of `env`.
///
/// # Errors
/// What is wrong with the text or its types, all of it, with places.
pub fn compile(source: &str, env: &Env) -> Result<Program, CompileError> {
    let expr = syntax::parse(source)?;
    let node = check(env, source, &expr)?;
    let cost = cost::estimate(&node, env);
    Ok(Program { node, cost })
}

impl Program {
    /// The type of what it evaluates to.
    pub fn ty(&self) -> &Type {
        &self.node.ty
    }

    /// The cost of an evaluation, estimated from the sizes that the declared types allow.
    pub fn cost(&self) -> Range {
        self.cost
    }

    /// It reads the variable at this place of its environment.
    pub fn reads(&self, variable: usize) -> bool {
        self.node.reads(variable)
    }

    pub(crate) fn node(&self) -> &Node {
        &self.node
    }

    /// Evaluates it. What it costs is taken from `budget`, and is [`PER_CALL_LIMIT`] at most.
    ///
    /// # Errors
    /// Why there is no value. [`EvalError::CostLimit`] also when the budget is used up.
    pub fn eval<'a>(&'a self, activation: &mut Activation<'a>, budget: &mut Budget) -> Result<Value<'a>, EvalError> {
        let mut meter = Meter::new(PER_CALL_LIMIT);
        let result = run(&self.node, activation, &mut meter);
        budget.spend(meter.cost)?;
        result
    }
}
