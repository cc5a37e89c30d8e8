//! What is changed and refused between authorization and validation (api-facts §7).
//!
//! Each plugin is a file; [`PLUGINS`] lists them in Kubernetes' order. [`mutate`] runs all mutating phases before an
//! object is validated, [`validate`] all validating ones after. Plugins read the request's snapshot and nothing else.
//! [`dynamic`] then asks what is configured by objects: policies ([`policy`]) and webhooks ([`webhook`]).

use jiff::Timestamp;
use mizzen_api::kind::Kind;
use mizzen_api::status::ApiError;
use mizzen_store::{Revision, Snapshot};
use serde_json::Value;

use crate::auth::{Authorizer, Identity};
use crate::crd::Compiled;

mod certificates;
mod default_class;
mod default_toleration_seconds;
pub(crate) mod dynamic;
pub(crate) mod expressions;
pub(crate) mod facts;
mod limit_ranger;
pub(crate) mod matching;
mod namespace_lifecycle;
mod node_restriction;
pub(crate) mod notes;
mod options;
mod plugin;
mod pod_resize;
mod pod_security;
mod pods;
pub(crate) mod policy;
mod priority;
mod resource_quota;
mod runtime_class;
mod service_account;
mod storage_object_in_use_protection;
mod taint_nodes_by_condition;
#[cfg(test)]
mod testing;
pub(crate) mod webhook;

pub(crate) use dynamic::Outside;
pub(crate) use options::Options;
use plugin::Plugin;

/// All plugins, in the order in which both phases run.
const PLUGINS: &[&Plugin] = &[
    &namespace_lifecycle::PLUGIN,
    &node_restriction::PLUGIN,
    &limit_ranger::PLUGIN,
    &service_account::PLUGIN,
    &taint_nodes_by_condition::PLUGIN,
    &pod_security::PLUGIN,
    &priority::PLUGIN,
    &default_toleration_seconds::PLUGIN,
    &default_class::STORAGE,
    &storage_object_in_use_protection::PLUGIN,
    &runtime_class::PLUGIN,
    &certificates::PLUGIN,
    &default_class::INGRESS,
    &pod_resize::PLUGIN,
    &resource_quota::PLUGIN,
];

/// What is being done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// POST, or PUT/apply of a missing object.
    Create,
    /// PUT or PATCH.
    Update,
    /// DELETE.
    Delete,
    /// A connecting sub-resource: exec, attach, port-forward, proxy.
    Connect,
}

impl Operation {
    /// As rules and reviews name it.
    pub fn name(self) -> &'static str {
        match self {
            Operation::Create => "CREATE",
            Operation::Update => "UPDATE",
            Operation::Delete => "DELETE",
            Operation::Connect => "CONNECT",
        }
    }
}

/// The circumstances of a write.
pub struct Request<'a> {
    /// What is stored at the moment; what the plugins look up.
    pub snapshot: &'a Snapshot,
    /// The resource.
    pub kind: &'a Kind,
    /// Sub-resource, empty for none.
    pub subresource: &'a str,
    /// What is being done.
    pub operation: Operation,
    /// Namespace, empty for cluster scope.
    pub namespace: &'a str,
    /// Name; empty on create with generateName.
    pub name: &'a str,
    /// Who is asking.
    pub identity: &'a Identity,
    /// What they may do: some plugins ask.
    pub authorizer: &'a Authorizer,
    /// Nothing will be stored.
    pub dry_run: bool,
    /// The time of the request.
    pub now: Timestamp,
    /// Five random characters of `bcdfghjklmnpqrstvwxz2456789`, for the names of generated volumes.
    pub suffix: &'a (dyn Fn() -> String + Sync),
    /// The definition of a custom resource.
    pub(crate) definition: Option<&'a Compiled>,
    /// The options that were sent.
    pub(crate) options: Options<'a>,
    /// The way to webhooks; without it nobody is asked.
    pub(crate) outside: Option<Outside<'a>>,
}

impl Request<'_> {
    /// The resource is this one, in whatever version.
    fn is(&self, group: &str, plural: &str) -> bool {
        self.kind.group == group && self.kind.plural == plural
    }

    /// 403 about the object of the request.
    fn forbidden(&self, object: &Value, why: &str) -> ApiError {
        let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default();
        let names = [self.name, text("name"), text("generateName"), "Unknown"];
        let name = names.into_iter().find(|name| !name.is_empty()).unwrap_or_default();
        ApiError::forbidden(self.kind.subject(), name, why)
    }
}

/// What admission wants beside the object itself.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Admitted {
    /// `Warning` headers.
    pub warnings: Vec<String>,
    /// Writes to put into the same transaction as the object (usage of quotas); left out of dry runs.
    pub writes: Vec<SideWrite>,
}

/// A write to another object that must commit together with the admitted one.
#[derive(Debug, Clone, PartialEq)]
pub struct SideWrite {
    /// Key in the store.
    pub key: String,
    /// The revision of the object that `object` was computed from: the transaction's condition.
    pub expect: Revision,
    /// The new object; its `metadata.resourceVersion` is to be replaced at commit.
    pub object: Value,
}

/// The mutating phase of all plugins, before the object is validated. `object` is `Null` on delete.
pub fn mutate(request: &Request<'_>, object: &mut Value, old: Option<&Value>) -> Result<Admitted, ApiError> {
    let mut admitted = Admitted::default();
    for plugin in PLUGINS.iter().filter(|plugin| plugin.wants(request)) {
        if let Some(mutate) = plugin.mutate {
            mutate(request, object, old, &mut admitted)?;
        }
    }
    Ok(admitted)
}

/// The validating phase of all plugins, after the object was found valid. `object` is `Null` on delete.
pub fn validate(request: &Request<'_>, object: &Value, old: Option<&Value>) -> Result<Admitted, ApiError> {
    let mut admitted = Admitted::default();
    for plugin in PLUGINS.iter().filter(|plugin| plugin.wants(request)) {
        if let Some(validate) = plugin.validate {
            validate(request, object, old, &mut admitted)?;
        }
    }
    if request.dry_run {
        admitted.writes.clear();
    }
    Ok(admitted)
}
