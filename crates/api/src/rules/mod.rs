//! What each kind does differently: defaults, strategy, validation, columns.
//!
//! [`of`] is the one place that ties a resource to its [`Rules`]; a kind's rules live in a file (or folder) of its
//! own and start from one of the consts of [`plain`]. All functions take whatever JSON they are given: an unexpected
//! shape is skipped by defaults and columns, and reported by validation.

pub mod cells;
pub mod plain;

use crate::kind::Rules;

static PLAIN: Rules = plain::PLAIN;

/// The rules of a resource (`group` empty for core), in its storage version. Unknown resources get the plain rules.
pub fn of(group: &str, plural: &str) -> &'static Rules {
    match (group, plural) {
        _ => &PLAIN,
    }
}
