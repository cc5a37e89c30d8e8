//! What a request looks like to those who are asked about it: the fields of `AdmissionRequest` that webhooks are sent and
//! that expressions call `request`. Pure.

use mizzen_api::kind::Kind;
use serde_json::{Value, json};

use super::{Operation, Request};

/// The request as `AdmissionRequest` has it, matched in the version of `kind`, without its objects.
pub(crate) fn request(request: &Request<'_>, kind: &Kind) -> Value {
    let mut facts = json!({"kind": request.object_kind(kind), "resource": resource(kind)});
    let text = |field: &str, value: &str, facts: &mut Value| {
        if !value.is_empty() {
            facts[field] = value.into();
        }
    };
    text("subResource", request.subresource, &mut facts);
    facts["requestKind"] = request.object_kind(request.kind);
    facts["requestResource"] = resource(request.kind);
    text("requestSubResource", request.subresource, &mut facts);
    text("name", request.name, &mut facts);
    text("namespace", request.in_namespace(), &mut facts);
    facts["operation"] = request.operation.name().into();
    facts["userInfo"] = request.identity.to_user_info();
    facts["dryRun"] = request.dry_run.into();
    facts["options"] = request.options.to_value(request);
    facts
}

fn resource(kind: &Kind) -> Value {
    json!({"group": kind.group, "version": kind.version, "resource": kind.plural})
}

impl<'a> Request<'a> {
    /// The namespace as admission sees it: a Namespace is in itself once it exists.
    pub(crate) fn in_namespace(&self) -> &'a str {
        let of_namespace = self.is("", "namespaces") && self.operation != Operation::Create;
        if of_namespace { self.name } else { self.namespace }
    }

    /// Whether the request is about an object of the resource itself, not about a Scale or an Eviction.
    pub(crate) fn is_whole(&self) -> bool {
        self.kind.subresource(self.subresource).is_none_or(|sub| sub.kind == self.kind.kind)
    }

    /// Group, version and kind of the object of the request in the version of `kind`.
    fn object_kind(&self, kind: &Kind) -> Value {
        match kind.subresource(self.subresource) {
            Some(sub) if !self.is_whole() => json!({"group": sub.group, "version": sub.version, "kind": sub.kind}),
            _ => json!({"group": kind.group, "version": kind.version, "kind": kind.kind}),
        }
    }
}
