//! Reviews: objects that are answered and never stored (authentication.k8s.io, authorization.k8s.io).

use jiff::Timestamp;
use mizzen_api::status::ApiError;
use mizzen_store::Snapshot;
use serde_json::Value;

use super::{Authorizer, Identity, tokens::TokenIssuer};

/// What a review is answered from.
pub struct Context<'a> {
    /// The state.
    pub snapshot: &'a Snapshot,
    /// Verifies tokens.
    pub issuer: &'a TokenIssuer,
    /// Decides access.
    pub authorizer: &'a Authorizer,
    /// Who asks.
    pub identity: &'a Identity,
    /// The time of the request.
    pub now: Timestamp,
}

/// Whether [`answer`] answers creates of this resource.
pub fn is_review(group: &str, resource: &str) -> bool {
    matches!(
        (group, resource),
        ("authentication.k8s.io", "tokenreviews" | "selfsubjectreviews")
            | (
                "authorization.k8s.io",
                "subjectaccessreviews"
                    | "selfsubjectaccessreviews"
                    | "localsubjectaccessreviews"
                    | "selfsubjectrulesreviews"
            )
    )
}

/// The review with its status filled; answered 201. `namespace` is that of the URL.
pub fn answer(context: &Context<'_>, resource: &str, namespace: &str, review: Value) -> Result<Value, ApiError> {
    let _ = (context, resource, namespace, review);
    Err(ApiError::no_resource())
}
