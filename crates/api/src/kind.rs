//! One descriptor per resource: what generic code must know of a kind, in one table.
//!
//! The facts that discovery shows come from data; what a kind *does* differently from the others is its [`Rules`].
//! The server, discovery, tables, garbage collection and the patch code walk this table and no other list of kinds exists.

use serde_json::Value;

use crate::field::FieldError;
use crate::status::Subject;

/// A served resource in one version.
#[derive(Debug, Clone)]
pub struct Kind {
    /// API group, empty for core.
    pub group: &'static str,
    /// Version served here.
    pub version: &'static str,
    /// `Deployment`.
    pub kind: &'static str,
    /// `DeploymentList`.
    pub list_kind: &'static str,
    /// `deployments`.
    pub plural: &'static str,
    /// `deployment`.
    pub singular: &'static str,
    /// `deploy`.
    pub short_names: &'static [&'static str],
    /// `all`.
    pub categories: &'static [&'static str],
    /// Lives in a namespace.
    pub namespaced: bool,
    /// Verbs as discovery lists them.
    pub verbs: &'static [&'static str],
    /// Sub-resources, in discovery's order.
    pub subresources: &'static [Subresource],
    /// The group under which objects are stored; differs from `group` only where two groups serve the same objects (events).
    pub storage_group: &'static str,
    /// The version whose JSON is stored; equal to `version` for most.
    pub storage_version: &'static str,
    /// How this kind differs from the plain case.
    pub rules: &'static Rules,
}

impl Kind {
    /// `apps/v1`, or `v1` for the core group.
    pub fn api_version(&self) -> String {
        join(self.group, self.version)
    }

    /// The `apiVersion` that stored objects carry.
    pub fn storage_api_version(&self) -> String {
        join(self.storage_group, self.storage_version)
    }

    /// Whether objects of the kind are kept at all; reviews, bindings and component statuses are only answered.
    pub fn is_stored(&self) -> bool {
        self.allows("watch")
    }

    /// Whether stored objects have to be converted before they are served in this version.
    pub fn is_converted(&self) -> bool {
        (self.group, self.version) != (self.storage_group, self.storage_version)
    }

    /// Whether discovery lists the verb.
    pub fn allows(&self, verb: &str) -> bool {
        self.verbs.contains(&verb)
    }

    /// The sub-resource of this name.
    pub fn subresource(&self, name: &str) -> Option<&'static Subresource> {
        self.subresources.iter().find(|s| s.name == name)
    }

    /// The resource as errors name it.
    pub fn subject(&self) -> Subject<'static> {
        Subject { group: self.group, resource: self.plural }
    }
}

fn join(group: &str, version: &str) -> String {
    if group.is_empty() { version.to_string() } else { format!("{group}/{version}") }
}

/// A sub-resource such as `status` or `scale`.
#[derive(Debug, Clone)]
pub struct Subresource {
    /// `status`, `scale`, `binding`, …
    pub name: &'static str,
    /// Group, version and kind of its body; group and version are those of the kind itself for `status`.
    pub group: &'static str,
    /// See `group`.
    pub version: &'static str,
    /// See `group`.
    pub kind: &'static str,
    /// Verbs as discovery lists them.
    pub verbs: &'static [&'static str],
}

/// When `metadata.generation` counts up (api-facts §3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Generation {
    /// The kind has no generation.
    None,
    /// 1 at create, +1 when `spec` changes.
    Spec,
    /// As [`Generation::Spec`], and also when annotations change (Deployment).
    SpecAndAnnotations,
    /// 1 at create, +1 when anything outside `metadata` (and `status`, if it is a sub-resource) changes.
    Content,
    /// As [`Generation::Content`], and also when labels change (EndpointSlice).
    ContentAndLabels,
    /// 1 at create and never more (PriorityClass).
    Once,
}

/// One column of a table.
#[derive(Debug, Clone, Copy)]
pub struct Column {
    /// Heading, as kubectl prints it.
    pub name: &'static str,
    /// OpenAPI type: `string`, `integer`, `date`, …
    pub kind: &'static str,
    /// OpenAPI format: `name` for the first column, else mostly empty.
    pub format: &'static str,
    /// Words for `kubectl get -o wide` tooltips.
    pub description: &'static str,
    /// 0: always shown; 1: with `-o wide`.
    pub priority: i32,
}

/// A field selector beyond `metadata.name` and `metadata.namespace`.
#[derive(Clone, Copy)]
pub struct SelectableField {
    /// `spec.nodeName`.
    pub label: &'static str,
    /// Its value in an object; empty when unset.
    pub value: fn(&Value) -> String,
}

impl std::fmt::Debug for SelectableField {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.label)
    }
}

/// How a kind differs from the plain case. All functions are pure; objects are JSON values in the *storage* version.
#[derive(Debug, Clone)]
pub struct Rules {
    /// Fills defaults (idempotent), as on decoding a request.
    pub default: fn(&mut Value),
    /// Before a create is validated: resets status, sets fields that the server owns. Name, uid and creation time are set before
    /// (a Job's selector is made of them), and defaults were filled.
    pub prepare_create: fn(&mut Value),
    /// Before an update through the main resource is validated: keeps stored status and what else clients may not write. `(new, old)`.
    pub prepare_update: fn(&mut Value, &Value),
    /// Before an update through `/status` is validated: keeps what status writers may not change. `(new, old)`.
    pub prepare_status_update: fn(&mut Value, &Value),
    /// All errors of a new object.
    pub validate: fn(&Value) -> Vec<FieldError>,
    /// All errors of a change through the main resource, immutable fields included. `(new, old)`. The generic code does not call `validate` on update.
    pub validate_update: fn(&Value, &Value) -> Vec<FieldError>,
    /// All errors of a change through `/status`. `(new, old)`.
    pub validate_status_update: fn(&Value, &Value) -> Vec<FieldError>,
    /// Warnings for a new or changed object (`Warning` headers).
    pub warnings: fn(&Value) -> Vec<String>,
    /// When generation counts.
    pub generation: Generation,
    /// Field selectors.
    pub selectable: &'static [SelectableField],
    /// PUT to a missing object creates it.
    pub create_on_update: bool,
    /// PUT without a resourceVersion is allowed.
    pub unconditional_update: bool,
    /// DELETE answers with the object instead of a Status (api-facts §3.6).
    pub returns_deleted: bool,
    /// A delete without a propagation policy orphans dependents.
    pub orphans_by_default: bool,
    /// Columns of its tables after none at all: the whole list, `Name` first and `Age` where shown.
    pub columns: &'static [Column],
    /// The cells of one object, as many as `columns`. `now` in Unix seconds.
    pub row: fn(&Value, i64) -> Vec<Value>,
}
