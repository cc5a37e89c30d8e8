//! Why an apply is refused: fields that others own, and configurations that are none.

use std::collections::HashSet;

use serde_json::Value;

use super::managers::Entry;
use super::set::FieldSet;
use super::walk::{self, Shape, Style};
use super::{LAST_APPLIED, Writer};
use crate::status::{ApiError, Details};

/// A field that another manager owns and the applier would change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// `"kubectl" using apps/v1`.
    pub manager: String,
    /// `.spec.replicas`.
    pub path: String,
    pub(super) fields: FieldSet,
}

/// A refused apply.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ApplyError {
    /// The configuration says who manages its fields.
    #[error("metadata.managedFields must be nil")]
    ManagedFields,
    /// Two items of a list have the same keys.
    #[error("failed to create typed patch object ({object}): {path}: duplicate entries for key {key}")]
    Duplicate {
        /// `namespace/name; apps/v1, Kind=Deployment`.
        object: String,
        /// The list.
        path: String,
        /// `[name="a"]`.
        key: String,
    },
    /// An item of a list has none of the keys that name it.
    #[error(
        "failed to create typed patch object ({object}): {path}: element {index}: associative list with keys has an element that omits key field {key:?}"
    )]
    NoKey {
        /// See [`ApplyError::Duplicate`].
        object: String,
        /// The list.
        path: String,
        /// Which item.
        index: usize,
        /// The first key.
        key: String,
    },
    /// Others own fields that would change.
    #[error("{}", conflict_message(.0))]
    Conflicts(Vec<Conflict>),
}

fn conflict_message(conflicts: &[Conflict]) -> String {
    if let [only] = conflicts {
        return format!("Apply failed with 1 conflict: conflict with {}: {}", only.manager, only.path);
    }
    let mut lines = Vec::new();
    let mut last = "";
    for conflict in conflicts {
        if conflict.manager != last {
            lines.push(format!("conflicts with {}:", conflict.manager));
            last = &conflict.manager;
        }
        lines.push(format!("- {}", conflict.path));
    }
    format!("Apply failed with {} conflicts: {}", conflicts.len(), lines.join("\n"))
}

impl ApplyError {
    /// The answer to the client.
    pub fn to_status(&self) -> ApiError {
        let Self::Conflicts(conflicts) = self else {
            return ApiError::bad_request(self.to_string());
        };
        let mut error = ApiError::plain(409, "Conflict", self.to_string());
        error.details = Some(Box::<Details>::default());
        conflicts.iter().fold(error, |error, conflict| {
            error.with_cause("FieldManagerConflict", &format!("conflict with {}", conflict.manager), &conflict.path)
        })
    }
}

/// The fields among `taken` that the entries own, ordered by manager.
pub(super) fn find(entries: &[Entry], taken: &FieldSet) -> Vec<Conflict> {
    if taken.is_empty() {
        return Vec::new();
    }
    let mut conflicts = Vec::new();
    for entry in entries {
        let fields = entry.set.intersection(taken);
        let manager = entry.describe();
        conflicts.extend(fields.paths().into_iter().map(|path| Conflict {
            manager: manager.clone(),
            path,
            fields: fields.clone(),
        }));
    }
    conflicts.sort_by(|a, b| a.manager.cmp(&b.manager));
    conflicts
}

/// Whether all conflicts are on fields that kubectl itself set by client-side apply and nobody changed since: kubectl
/// may take them without force, or nobody could move from the one apply to the other.
pub(super) fn are_of_client_side_apply(
    conflicts: &[Conflict],
    writer: &Writer<'_>,
    live: &Value,
    root: Shape<'_>,
) -> bool {
    let annotation = live["metadata"]["annotations"][LAST_APPLIED].as_str();
    let Some(last) =
        annotation.filter(|_| writer.manager == "kubectl").and_then(|t| serde_json::from_str::<Value>(t).ok())
    else {
        return false;
    };
    let mut unchanged = walk::fields(&last, root, false, Style::Applied);
    let changes = walk::compare(&last, live, root);
    unchanged.subtract(&changes.modified);
    conflicts.iter().all(|conflict| {
        let mut left = conflict.fields.clone();
        left.subtract(&unchanged);
        left.is_empty()
    })
}

/// `namespace/name` of an object, for messages.
pub(super) fn object_name(object: &Value) -> String {
    let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default();
    format!("{}/{}", text("namespace"), text("name"))
}

/// Refuses lists whose items cannot be told apart.
pub(super) fn check_unique(config: &Value, root: Shape<'_>) -> Result<(), ApplyError> {
    let text = |field: &str| config[field].as_str().unwrap_or_default();
    let object = format!("{}; {}, Kind={}", object_name(config), text("apiVersion"), text("kind"));
    unique(config, root, &mut String::new(), &object)
}

fn unique(value: &Value, shape: Shape<'_>, path: &mut String, object: &str) -> Result<(), ApplyError> {
    let length = path.len();
    let duplicate = |path: &str, step: &str| {
        let key = FieldSet::of(false, vec![(step.into(), FieldSet::leaf())]).paths().concat();
        ApplyError::Duplicate { object: object.into(), path: path.into(), key }
    };
    match (value, shape) {
        (Value::Object(map), Shape::Struct(_) | Shape::Fields(_) | Shape::Entries(_)) => {
            for (name, value) in map {
                path.push('.');
                path.push_str(name);
                unique(value, walk::member(shape, name).shape(), path, object)?;
                path.truncate(length);
            }
        }
        (Value::Array(items), Shape::Set) => {
            let mut seen = HashSet::new();
            for item in items {
                let step = walk::value_step(item);
                if !seen.insert(step.clone()) {
                    return Err(duplicate(path, &step));
                }
            }
        }
        (Value::Array(items), Shape::Items(keys, node)) => {
            let mut seen = HashSet::new();
            for (index, item) in items.iter().enumerate() {
                let Some(step) = walk::item_step(item, keys, node) else {
                    let key = keys.first().map(|k| k.to_string()).unwrap_or_default();
                    return Err(ApplyError::NoKey { object: object.into(), path: path.clone(), index, key });
                };
                if !seen.insert(step.clone()) {
                    return Err(duplicate(path, &step));
                }
                path.push_str(&format!("[{index}]"));
                unique(item, walk::shape(node, false), path, object)?;
                path.truncate(length);
            }
        }
        _ => {}
    }
    Ok(())
}
