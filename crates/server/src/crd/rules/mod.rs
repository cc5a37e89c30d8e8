//! The rules of custom resources: `x-kubernetes-validations` (api-facts §8).
//!
//! [`compile`] makes of a version's schema a tree of those nodes that have rules, or have them below. [`evaluate`] walks it
//! together with an object and what the object replaces. [`definition`] checks rules when a definition is written.
//! What is not compiled here is not said: a rule that cannot be compiled any more refuses objects, as in Kubernetes.

mod compile;
mod definition;
mod evaluate;
mod field_path;

use std::sync::Arc;

use mizzen_api::crd::Rules;
use mizzen_api::field::FieldError;
use serde_json::Value;

pub(crate) use definition::check as check_definition;

use compile::Node;

/// The rules of a version.
#[derive(Debug)]
struct Compiled(Node);

impl Rules for Compiled {
    fn validate(&self, object: &Value, old: Option<&Value>) -> Vec<FieldError> {
        evaluate::all(&self.0, object, old)
    }
}

/// The rules of a version's schema (`openAPIV3Schema`); `None` if it has none.
pub(super) fn compile(schema: &Value) -> Option<Arc<dyn Rules>> {
    Some(Arc::new(Compiled(Node::root(schema)?)))
}
