//! Selectors: which objects a list, a watch, a Service or a controller means.
//!
//! [`LabelSelector`] for labels, written as text (`app=web,tier in (a,b),!old`) or as the object in specs;
//! [`FieldSelector`] for the few fields that each kind declares.

mod field;
mod label;
mod parse;

pub use field::{FieldRequirement, FieldSelector};
pub use label::{LabelSelector, Operator, Requirement};

/// A selector that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SelectorError {
    /// The text of a label selector breaks its grammar.
    #[error("unable to parse requirement: found '{found}', expected: {expected}")]
    Syntax {
        /// What stands there.
        found: String,
        /// What might stand there.
        expected: &'static str,
    },
    /// A key that is no label's.
    #[error("key: Invalid value: {key:?}: {problem}")]
    Key {
        /// The key.
        key: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A value that no label can have.
    #[error("values[{index}][{key}]: Invalid value: {value:?}: {problem}")]
    Value {
        /// The key it stands by.
        key: String,
        /// Its place.
        index: usize,
        /// The value.
        value: String,
        /// What is wrong with it.
        problem: String,
    },
    /// An operator with the wrong number of values.
    #[error("values: Invalid value: {count}: {problem}")]
    Count {
        /// How many there are.
        count: usize,
        /// How many there should be.
        problem: &'static str,
    },
    /// An operator that does not exist.
    #[error("{operator:?} is not a valid label selector operator")]
    Operator {
        /// What was written.
        operator: String,
    },
    /// The object in a spec has the wrong shape.
    #[error("a label selector is an object with matchLabels and matchExpressions")]
    Shape,
    /// A term of a field selector that is none.
    #[error("invalid selector: '{selector}'; can't understand '{term}'")]
    FieldTerm {
        /// The whole selector.
        selector: String,
        /// The term.
        term: String,
    },
    /// A backslash that escapes nothing.
    #[error("invalid field selector: invalid escape sequence in '{term}'")]
    Escape {
        /// The text.
        term: String,
    },
    /// The kind has no such field to select by.
    #[error("field label not supported: {label}")]
    FieldNotSupported {
        /// The field.
        label: String,
    },
    /// More requirements than anyone needs.
    #[error("a selector may have at most {max} requirements")]
    TooMany {
        /// The limit.
        max: usize,
    },
}

/// Most requirements in one selector; each costs a look-up per object.
pub(crate) const REQUIREMENTS_MAX: usize = 1000;

impl From<SelectorError> for crate::status::ApiError {
    fn from(error: SelectorError) -> Self {
        Self::bad_request(error.to_string())
    }
}
