//! The values of what the expressions of webhooks and policies may name ([`mizzen_cel::admission`]).

use mizzen_api::kind::Kind;
use mizzen_cel::{Activation, Authorizer as Asked, Check, Decision, ResourceCheck, Slot, Value};
use serde_json::Value as Json;

use super::{Request, facts};
use crate::auth::{Attributes, Decision as Decided, Identity};

/// What is known of a request before its objects: made once, for all expressions about it.
pub(crate) struct Facts<'a> {
    request: Json,
    resource: ResourceCheck,
    authorizer: RequestAuthorizer<'a>,
}

impl<'a> Facts<'a> {
    /// Of a request that was matched in the version of `kind`.
    pub fn new(request: &'a Request<'a>, kind: &Kind) -> Self {
        let resource = ResourceCheck {
            group: request.kind.group.to_string(),
            resource: request.kind.plural.to_string(),
            subresource: request.subresource.into(),
            namespace: request.in_namespace().into(),
            name: request.name.into(),
            ..ResourceCheck::default()
        };
        Self { request: facts::request(request, kind), resource, authorizer: RequestAuthorizer { request } }
    }

    /// The values of the variables for these objects, outside of any namespace and without parameters; `Null` stands for
    /// no object.
    pub fn activation<'v>(&'v self, object: &'v Json, old: &'v Json) -> Activation<'v> {
        Activation::new(vec![
            Slot::Value(Value::untyped(object)),
            Slot::Value(Value::untyped(old)),
            Slot::Value(Value::untyped(&self.request)),
            Slot::Value(Value::authorizer(&self.authorizer)),
            Slot::Value(Value::authorizer_of(&self.authorizer, self.resource.clone())),
            Slot::Value(Value::Null),
            Slot::Value(Value::Null),
        ])
    }
}

/// Answers what expressions ask the authorizer.
struct RequestAuthorizer<'a> {
    request: &'a Request<'a>,
}

impl Asked for RequestAuthorizer<'_> {
    fn check(&self, check: &Check) -> Decision {
        let (service_account, attributes) = match check {
            Check::Path { service_account, path, verb } => {
                (service_account, Attributes { verb, path, ..Attributes::default() })
            }
            Check::Resource { service_account, resource, verb } => {
                let attributes = Attributes {
                    verb,
                    resource_request: true,
                    group: &resource.group,
                    version: "*",
                    resource: &resource.resource,
                    subresource: &resource.subresource,
                    namespace: &resource.namespace,
                    name: &resource.name,
                    field_selector: &resource.field_selector,
                    ..Attributes::default()
                };
                (service_account, attributes)
            }
        };
        let named = service_account.as_ref().map(|(namespace, name)| Identity::service_account(namespace, name));
        let who = named.as_ref().unwrap_or(self.request.identity);
        match self.request.authorizer.decide(self.request.snapshot, who, &attributes) {
            Decided::Allow(reason) => Decision { allowed: true, reason, error: String::new() },
            Decided::NoOpinion(reason) => Decision { allowed: false, reason, error: String::new() },
        }
    }
}
