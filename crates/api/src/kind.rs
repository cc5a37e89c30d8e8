//! One descriptor per resource: what generic code must know of a kind, in one table.
//!
//! The facts that discovery shows come from data; what a kind *does* differently from the others is its [`Rules`].
//! The server, discovery, tables, garbage collection and the patch code walk this table and no other list of kinds exists.

use std::borrow::Cow;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::crd::Custom;
use crate::field::FieldError;
use crate::status::Subject;

/// A name that is part of the program, or came at run time with a CustomResourceDefinition.
pub type Name = Cow<'static, str>;

/// A served resource in one version.
#[derive(Debug, Clone)]
pub struct Kind {
    /// API group, empty for core.
    pub group: Name,
    /// Version served here.
    pub version: Name,
    /// `Deployment`.
    pub kind: Name,
    /// `DeploymentList`.
    pub list_kind: Name,
    /// `deployments`.
    pub plural: Name,
    /// `deployment`.
    pub singular: Name,
    /// `deploy`.
    pub short_names: Vec<Name>,
    /// `all`.
    pub categories: Vec<Name>,
    /// Lives in a namespace.
    pub namespaced: bool,
    /// Verbs as discovery lists them.
    pub verbs: &'static [&'static str],
    /// Sub-resources, in discovery's order.
    pub subresources: Vec<Subresource>,
    /// The group under which objects are stored; differs from `group` only where two groups serve the same objects (events).
    pub storage_group: Name,
    /// The version whose JSON is stored; equal to `version` for most.
    pub storage_version: Name,
    /// How this kind differs from the plain case.
    pub rules: &'static Rules,
    /// What a CustomResourceDefinition says of the kind; `None` for built-in kinds.
    pub custom: Option<Arc<Custom>>,
}

/// A kind that is part of the program, or one that a definition made and that lives as long as someone uses it.
#[derive(Debug, Clone)]
pub enum KindRef {
    /// From the table.
    BuiltIn(&'static Kind),
    /// From a CustomResourceDefinition.
    Custom(Arc<Kind>),
}

impl std::ops::Deref for KindRef {
    type Target = Kind;

    fn deref(&self) -> &Kind {
        match self {
            KindRef::BuiltIn(kind) => kind,
            KindRef::Custom(kind) => kind,
        }
    }
}

impl From<&'static Kind> for KindRef {
    fn from(kind: &'static Kind) -> Self {
        KindRef::BuiltIn(kind)
    }
}

impl Kind {
    /// What resources are ordered by.
    pub(crate) fn resource_order(&self) -> (&str, &str, &str) {
        (&self.plural, &self.group, &self.version)
    }

    /// What kinds are ordered by.
    pub(crate) fn kind_order(&self) -> (&str, &str, &str) {
        (&self.kind, &self.group, &self.version)
    }

    /// `apps/v1`, or `v1` for the core group.
    pub fn api_version(&self) -> String {
        join(&self.group, &self.version)
    }

    /// The `apiVersion` that stored objects carry.
    pub fn storage_api_version(&self) -> String {
        join(&self.storage_group, &self.storage_version)
    }

    /// Whether objects of the kind are kept at all; reviews, bindings and component statuses are only answered.
    pub fn is_stored(&self) -> bool {
        self.allows("watch")
    }

    /// Whether stored objects have to be converted before they are served in this version. Custom resources are always
    /// handled in the version of the request, and converted where they are read and written.
    pub fn is_converted(&self) -> bool {
        self.custom.is_none() && (self.version != self.storage_version || self.group != self.storage_group)
    }

    /// Whether discovery lists the verb.
    pub fn allows(&self, verb: &str) -> bool {
        self.verbs.contains(&verb)
    }

    /// The sub-resource of this name.
    pub fn subresource(&self, name: &str) -> Option<&Subresource> {
        self.subresources.iter().find(|s| s.name == name)
    }

    /// The resource as errors name it.
    pub fn subject(&self) -> Subject<'_> {
        Subject { group: &self.group, resource: &self.plural }
    }

    /// Fills defaults (idempotent), as on decoding a request.
    pub fn default(&self, object: &mut Value) {
        match &self.custom {
            None => (self.rules.default)(object),
            Some(custom) => custom.default(object),
        }
    }

    /// Resets what clients may not write in a new object.
    pub fn prepare_create(&self, object: &mut Value) {
        match &self.custom {
            None => (self.rules.prepare_create)(object),
            Some(custom) => custom.prepare_create(object),
        }
    }

    /// Resets what clients may not write through the main resource.
    pub fn prepare_update(&self, new: &mut Value, old: &Value) {
        match &self.custom {
            None => (self.rules.prepare_update)(new, old),
            Some(custom) => custom.prepare_update(new, old),
        }
    }

    /// Resets what clients may not write through `/status`.
    pub fn prepare_status_update(&self, new: &mut Value, old: &Value) {
        match &self.custom {
            None => (self.rules.prepare_status_update)(new, old),
            Some(custom) => custom.prepare_status_update(new, old),
        }
    }

    /// What people should know about a new (`old` is `None`) or changed object.
    pub fn warnings(&self, object: &Value, old: Option<&Value>) -> Vec<String> {
        match &self.custom {
            None => (self.rules.warnings)(object),
            Some(custom) => custom.warnings(object, old),
        }
    }

    /// All errors of a new object.
    pub fn validate(&self, object: &Value) -> Vec<FieldError> {
        match &self.custom {
            None => (self.rules.validate)(object),
            Some(custom) => custom.validate(object),
        }
    }

    /// All errors of a change through the main resource.
    pub fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        match &self.custom {
            None => (self.rules.validate_update)(new, old),
            Some(custom) => custom.validate_update(new, old),
        }
    }

    /// All errors of a change through `/status`.
    pub fn validate_status_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        match &self.custom {
            None => (self.rules.validate_status_update)(new, old),
            Some(custom) => custom.validate_status_update(new, old),
        }
    }

    /// The columns of tables, as tables define them.
    pub fn columns(&self) -> Vec<Value> {
        match &self.custom {
            None => self.rules.columns.iter().map(Column::definition).collect(),
            Some(custom) => custom.columns(),
        }
    }

    /// The cells of one object, as many as [`Kind::columns`]. `now` in Unix seconds.
    pub fn row(&self, object: &Value, now: i64) -> Vec<Value> {
        match &self.custom {
            None => (self.rules.row)(object, now),
            Some(custom) => custom.row(object, now),
        }
    }

    /// Whether the kind has field selectors beyond name and namespace.
    pub fn has_selectable(&self) -> bool {
        match &self.custom {
            None => !self.rules.selectable.is_empty(),
            Some(custom) => custom.has_selectable(),
        }
    }

    /// The place of a field selector among those that the kind has.
    pub fn selectable(&self, label: &str) -> Option<usize> {
        match &self.custom {
            None => self.rules.selectable.iter().position(|field| field.label == label),
            Some(custom) => custom.selectable(label),
        }
    }

    /// The values of all selectable fields of an object, in their order.
    pub fn selected_values(&self, object: &Value) -> Vec<String> {
        match &self.custom {
            None => self.rules.selectable.iter().map(|field| (field.value)(object)).collect(),
            Some(custom) => custom.selected_values(object),
        }
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
    pub group: Name,
    /// See `group`.
    pub version: Name,
    /// See `group`.
    pub kind: Name,
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

impl Column {
    /// As a table defines it.
    pub fn definition(&self) -> Value {
        json!({
            "name": self.name,
            "type": self.kind,
            "format": self.format,
            "description": self.description,
            "priority": self.priority,
        })
    }
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
