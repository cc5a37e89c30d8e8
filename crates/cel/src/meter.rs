//! What an evaluation has cost, and what it may cost.

use crate::error::EvalError;

/// The cost an expression may have in one evaluation, as Kubernetes sets it: about a tenth of a second.
pub const PER_CALL_LIMIT: u64 = 1_000_000;
/// The cost that all expressions about one object, or of one policy binding, may have together.
pub const RUNTIME_BUDGET: u64 = 10_000_000;
/// The cost that all match conditions of one webhook or policy may have together.
pub const MATCH_CONDITIONS_BUDGET: u64 = 2_500_000;

/// Elements that may be looked at without a cost of their own (deep inside of what is compared, written or sorted).
/// Kubernetes has no such bound; nothing it lets through comes near.
const STEPS_MAX: u64 = 5_000_000;
/// Bytes that all strings and lists made by functions in one evaluation may have together.
const BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Counts the cost of one evaluation.
#[derive(Debug)]
pub(crate) struct Meter {
    pub cost: u64,
    limit: u64,
    steps: u64,
    bytes: u64,
}

impl Meter {
    pub fn new(limit: u64) -> Self {
        Self { cost: 0, limit, steps: 0, bytes: 0 }
    }

    /// No limit of cost; still one of work.
    pub fn unlimited() -> Self {
        Self::new(u64::MAX)
    }

    /// Counts cost.
    pub fn charge(&mut self, cost: u64) -> Result<(), EvalError> {
        self.cost = self.cost.saturating_add(cost);
        if self.cost > self.limit { Err(EvalError::CostLimit) } else { Ok(()) }
    }

    /// Counts work that has no cost.
    pub fn step(&mut self, steps: u64) -> Result<(), EvalError> {
        self.steps = self.steps.saturating_add(steps);
        if self.steps > STEPS_MAX { Err(EvalError::CostLimit) } else { Ok(()) }
    }

    /// Counts elements that are about to be put into a new list.
    pub fn items(&mut self, count: u64) -> Result<(), EvalError> {
        self.step(count)?;
        let bytes = count.saturating_mul(size_of::<crate::value::Value<'_>>() as u64);
        self.allocate(usize::try_from(bytes).unwrap_or(usize::MAX))
    }

    /// Counts bytes that are about to be allocated.
    pub fn allocate(&mut self, bytes: usize) -> Result<(), EvalError> {
        self.bytes = self.bytes.saturating_add(bytes as u64);
        if self.bytes > BYTES_MAX { Err(EvalError::CostLimit) } else { Ok(()) }
    }
}
