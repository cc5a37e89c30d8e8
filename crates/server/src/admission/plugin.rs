//! What a plugin is.

use mizzen_api::status::ApiError;
use serde_json::Value;

use super::{Admitted, Request};

/// Request, object, old object, what to add to the answer.
type Mutate = fn(&Request<'_>, &mut Value, Option<&Value>, &mut Admitted) -> Result<(), ApiError>;
type Validate = fn(&Request<'_>, &Value, Option<&Value>, &mut Admitted) -> Result<(), ApiError>;

/// One admission plugin.
pub struct Plugin {
    /// Group and plural of the resources it looks at; empty for all.
    pub resources: &'static [(&'static str, &'static str)],
    /// Its mutating phase.
    pub mutate: Option<Mutate>,
    /// Its validating phase.
    pub validate: Option<Validate>,
}

impl Plugin {
    /// It looks at this resource.
    pub fn wants(&self, request: &Request<'_>) -> bool {
        self.resources.is_empty() || self.resources.iter().any(|(group, plural)| request.is(group, plural))
    }
}
