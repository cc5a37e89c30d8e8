//! Role-based access control over a snapshot (api-facts §6.4).
//!
//! [`Index`] is what all RBAC objects of a snapshot say, ordered by who is asked about. It is derived, so it can be
//! thrown away at any time; the authorizer keeps it for as long as no RBAC object changes.

mod aggregation;
mod escalation;
mod index;
mod rule;

pub use aggregation::{aggregated_rules, resolve_aggregation};
pub use escalation::check;
pub use index::Index;
pub use rule::matches;
