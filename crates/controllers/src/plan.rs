//! What a controller wants done: writes to the API, words for people, and when to look again.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::{Metadata, Resource};
use serde_json::Value;

use crate::meta::{self, Meta};

/// The writes that bring the world nearer to a spec. Empty when all is well.
#[derive(Default)]
pub struct Plan {
    /// Writes, each conditional on what was seen; they are sent at the same time, in no order.
    pub writes: Vec<Write>,
    /// Words for people about an object, recorded as Events.
    pub notes: Vec<Note>,
    /// Look again after this time even if nothing changes.
    pub again_after: Option<Duration>,
    /// What has to be read from the API before there is a plan; everything else is ignored then.
    pub reads: Option<Reads>,
    /// What to do if the API refuses to create something (quota, admission), given its words.
    pub on_refusal: Option<Refusal>,
}

/// The answer to a refused create: what else to write, and what to say.
pub type Refusal = Box<dyn FnOnce(&str, jiff::Timestamp) -> Plan + Send>;

/// What a decision needs that no snapshot holds, and the decision once it is known.
pub struct Reads {
    /// What is read, all at once.
    pub of: Vec<Read>,
    /// The plan, given the answers in the order of `of`. It may ask for more.
    pub then: Then,
}

/// A decision over a snapshot and the answers to what was read.
pub type Then = Box<dyn FnOnce(&mizzen_store::Snapshot, Vec<Answer>, jiff::Timestamp) -> Plan + Send>;

/// One GET.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Read {
    /// Path of the URL.
    pub path: String,
    /// Query parameters, not escaped.
    pub query: Vec<(&'static str, String)>,
}

/// What was read, or why not, in the API's words.
pub type Answer = Result<Value, String>;

impl std::fmt::Debug for Plan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plan").field("writes", &self.writes).field("notes", &self.notes).finish_non_exhaustive()
    }
}

/// One write through the public API.
#[derive(Debug, Clone, PartialEq)]
pub enum Write {
    /// Creates. That it exists already is an error to try again after.
    Create {
        /// The object, with apiVersion, kind, name or generateName.
        object: Value,
    },
    /// Replaces; the object carries the resourceVersion that was seen.
    Replace {
        /// The object.
        object: Value,
        /// `status`, or empty for the object itself.
        subresource: &'static str,
    },
    /// RFC 7396 patch.
    Merge {
        /// Whose.
        target: Target,
        /// `status`, or empty.
        subresource: &'static str,
        /// The patch. With `metadata.resourceVersion` it applies only to what was seen.
        patch: Value,
    },
    /// Deletes this incarnation.
    Delete {
        /// Which.
        target: Target,
        /// Its UID.
        uid: String,
        /// Only as of this revision, if given.
        resource_version: Option<String>,
        /// `Background`, `Foreground`, `Orphan`.
        propagation: Option<&'static str>,
        /// Grace in seconds.
        grace_seconds: Option<i64>,
    },
    /// Deletes all objects of a resource in a namespace, and what they own in the background.
    DeleteCollection {
        /// The resource; its name is empty.
        target: Target,
    },
}

/// An object of any kind.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Target {
    /// API group, empty for core.
    pub group: String,
    /// Version to speak.
    pub version: String,
    /// Plural resource.
    pub plural: String,
    /// Namespace, empty for cluster scope.
    pub namespace: String,
    /// Name, empty for the collection.
    pub name: String,
}

impl Target {
    /// An object of a typed kind.
    pub fn of<K: Resource>(namespace: &str, name: &str) -> Self {
        Self {
            group: K::GROUP.into(),
            version: K::VERSION.into(),
            plural: K::URL_PATH_SEGMENT.into(),
            namespace: namespace.into(),
            name: name.into(),
        }
    }

    /// Its path in the API.
    pub fn path(&self) -> String {
        let mut path = if self.group.is_empty() {
            format!("/api/{}", self.version)
        } else {
            format!("/apis/{}/{}", self.group, self.version)
        };
        if !self.namespace.is_empty() {
            path.push_str("/namespaces/");
            path.push_str(&self.namespace);
        }
        for part in [&self.plural, &self.name] {
            if !part.is_empty() {
                path.push('/');
                path.push_str(part);
            }
        }
        path
    }
}

/// An Event to be recorded.
#[derive(Debug, Clone, PartialEq)]
pub struct Note {
    /// The object it is about: apiVersion, kind, namespace, name, uid, resourceVersion.
    pub about: k8s_openapi::api::core::v1::ObjectReference,
    /// Something is wrong.
    pub warning: bool,
    /// `SuccessfulCreate`.
    pub reason: &'static str,
    /// Words for people.
    pub message: String,
}

/// Why no plan could be made, or not all of it. Nothing was written; it is logged and tried again later.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ControllerError {
    /// A stored object cannot be understood, so it is older than a rule, or damaged.
    #[error("{object}: {field} is unreadable: {message}")]
    Unreadable {
        /// Its key.
        object: String,
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        message: String,
    },
    /// The controller wants to read more than a plan may need.
    #[error("{object}: the controller asks for more and more before it decides")]
    Insatiable {
        /// Its key.
        object: String,
    },
    /// The controller is wrong about this object.
    #[error("{object}: the controller panicked; its message was written before this one")]
    Panicked {
        /// Its key.
        object: String,
    },
}

impl Write {
    /// Deletes an object in the way that its kind is deleted by default.
    pub fn delete<K: Resource + Metadata<Ty = ObjectMeta>>(object: &K) -> Self {
        Self::Delete {
            target: Target::of::<K>(object.namespace(), object.name()),
            uid: object.uid().to_string(),
            resource_version: None,
            propagation: None,
            grace_seconds: None,
        }
    }
}

impl Plan {
    /// A plan that begins with reading.
    pub fn after_reading(
        of: Vec<Read>,
        then: impl FnOnce(&mizzen_store::Snapshot, Vec<Answer>, jiff::Timestamp) -> Plan + Send + 'static,
    ) -> Self {
        Self { reads: Some(Reads { of, then: Box::new(then) }), ..Self::default() }
    }

    /// Adds a write.
    pub fn write(&mut self, write: Write) {
        self.writes.push(write);
    }

    /// Adds words about an object that goes the usual way.
    pub fn say<K: Resource + Metadata<Ty = ObjectMeta>>(&mut self, about: &K, reason: &'static str, message: String) {
        self.notes.push(Note { about: meta::reference(about), warning: false, reason, message });
    }

    /// Adds words about an object with which something is wrong.
    pub fn warn<K: Resource + Metadata<Ty = ObjectMeta>>(&mut self, about: &K, reason: &'static str, message: String) {
        self.notes.push(Note { about: meta::reference(about), warning: true, reason, message });
    }

    /// Should the API refuse a pod that the plan creates, says so about `owner`, after the words of `what`.
    pub fn warn_if_refused<K: Resource + Metadata<Ty = ObjectMeta>>(&mut self, owner: &K, what: &'static str) {
        let about = meta::reference(owner);
        self.on_refusal = Some(Box::new(move |message, _| {
            let message = format!("{what}: {message}");
            let note = Note { about, warning: true, reason: "FailedCreate", message };
            Plan { notes: vec![note], ..Plan::default() }
        }));
    }

    /// Adds a write of the status of an object, if `new` differs from what is stored.
    pub fn status<K>(&mut self, object: &K, old: &impl serde::Serialize, new: &impl serde::Serialize)
    where
        K: Resource + Metadata<Ty = ObjectMeta>,
    {
        // These are plain data: serialising them cannot fail.
        let (Ok(old), Ok(new)) = (serde_json::to_value(old), serde_json::to_value(new)) else {
            return;
        };
        if old == new {
            return;
        }
        let meta = object.metadata();
        let mut whole = serde_json::json!({"apiVersion": K::API_VERSION, "kind": K::KIND, "status": new});
        if let Ok(meta) = serde_json::to_value(meta) {
            whole["metadata"] = meta;
        }
        let name = |v: &Option<String>| v.clone().unwrap_or_default();
        let target = Target::of::<K>(&name(&meta.namespace), &name(&meta.name));
        let patch = serde_json::json!({
            "metadata": {"resourceVersion": meta.resource_version, "uid": meta.uid},
            "status": replacement(&old, &whole["status"]),
        });
        self.write(Write::Merge { target, subresource: "status", patch });
    }

    /// Looks again after `after` at the latest.
    pub fn again(&mut self, after: Duration) {
        self.again_after = Some(self.again_after.map_or(after, |now| now.min(after)));
    }
}

/// The merge patch that turns `old` into `new`: fields that are gone become null.
fn replacement(old: &Value, new: &Value) -> Value {
    let (Value::Object(old), Value::Object(new)) = (old, new) else {
        return new.clone();
    };
    let mut patch = serde_json::Map::new();
    for (name, value) in new {
        match old.get(name) {
            Some(before) if before == value => {}
            Some(before @ Value::Object(_)) if value.is_object() => {
                patch.insert(name.clone(), replacement(before, value));
            }
            _ => {
                patch.insert(name.clone(), value.clone());
            }
        }
    }
    for name in old.keys().filter(|name| !new.contains_key(*name)) {
        patch.insert(name.clone(), Value::Null);
    }
    Value::Object(patch)
}

#[cfg(test)]
mod tests {
    use super::replacement;
    use serde_json::json;

    #[test]
    fn a_status_patch_removes_what_is_gone() {
        for (old, new, patch) in [
            (json!({"a": 1, "b": 2}), json!({"a": 1}), json!({"b": null})),
            (json!({"a": {"x": 1, "y": 1}}), json!({"a": {"x": 2}}), json!({"a": {"x": 2, "y": null}})),
            (json!({"l": [1]}), json!({"l": [2]}), json!({"l": [2]})),
            (json!(null), json!({"a": 1}), json!({"a": 1})),
        ] {
            assert_eq!(replacement(&old, &new), patch);
        }
    }
}
