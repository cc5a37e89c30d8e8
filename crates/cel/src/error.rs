//! What can be wrong with an expression, in the words clients of Kubernetes know.

use std::fmt;

/// Why an expression cannot be used: all that was found, as `ERROR: <input>:1:5: …` with the line and a mark below it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .problems.join("\n"))]
pub struct CompileError {
    /// Each problem, with its place.
    pub problems: Vec<String>,
}

/// One problem at a place in the source, counted in characters from 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    pub at: u32,
    pub message: String,
}

impl CompileError {
    pub(crate) fn new(source: &str, mut problems: Vec<Problem>) -> Self {
        problems.sort_by_key(|problem| problem.at);
        Self { problems: problems.iter().map(|problem| Located { source, problem }.to_string()).collect() }
    }
}

/// A problem as it is shown.
struct Located<'a> {
    source: &'a str,
    problem: &'a Problem,
}

impl fmt::Display for Located<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mut line, mut column, mut start) = (1, 0, 0);
        for (index, (at, char)) in self.source.char_indices().enumerate() {
            if index as u32 == self.problem.at {
                break;
            }
            column += 1;
            if char == '\n' {
                (line, column, start) = (line + 1, 0, at + 1);
            }
        }
        write!(f, "ERROR: <input>:{line}:{}: {}", column + 1, self.problem.message)?;
        let text = self.source[start..].lines().next().unwrap_or_default().replace('\t', " ");
        write!(f, "\n | {text}\n | ")?;
        // A wide character gets a wide dot, so that the mark stands below its place.
        for char in text.chars().take(column) {
            f.write_str(if char.is_ascii() { "." } else { "．" })?;
        }
        for _ in text.chars().count()..column {
            f.write_str(".")?;
        }
        f.write_str(if text.chars().nth(column).is_none_or(|char| char.is_ascii()) { "^" } else { "＾" })
    }
}

/// Why an evaluation gave no value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EvalError {
    /// The expression cost more than it may.
    #[error("operation cancelled: actual cost limit exceeded")]
    CostLimit,
    /// The types of the operands have no such operation.
    #[error("no such overload")]
    NoSuchOverload,
    /// A map or an object has no such field.
    #[error("no such key: {0}")]
    NoSuchKey(String),
    /// A list is not that long.
    #[error("index out of bounds: {0}")]
    OutOfBounds(i64),
    /// Division of an integer by zero.
    #[error("division by zero")]
    DivisionByZero,
    /// Remainder of an integer by zero.
    #[error("modulus by zero")]
    ModulusByZero,
    /// The result does not fit the type, which is named.
    #[error("{0} overflow")]
    Overflow(&'static str),
    /// A function refuses its arguments, with its reason.
    #[error("{0}")]
    Function(String),
}

impl EvalError {
    /// A function's reason.
    pub(crate) fn function(reason: impl Into<String>) -> Self {
        Self::Function(reason.into())
    }
}
