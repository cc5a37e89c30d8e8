//! Server-side apply and field ownership (api-facts §4.3, §4.4).
//!
//! [`own`] records who wrote what after a create, update or patch. [`apply`] merges a configuration into the live object,
//! refuses to take fields that others own unless forced, and removes what the applier no longer wants.
//! Both are called before admission, with objects in the version of the request and in the form that
//! [`crate::schema::admit`] gives them. Resetting what a client may not write stays with the kind's rules.

mod conflict;
mod managers;
mod merge;
mod overlay;
mod set;
mod walk;

use serde_json::{Map, Value};

use crate::crd::Schema;
use crate::decode::{self, Decoded, Expected, Format, Limits};
use crate::schema::Type;
use crate::status::ApiError;

pub use conflict::{ApplyError, Conflict};
pub use overlay::overlay;
pub use set::FieldSet;

use managers::{Entry, Operation, Sent};
use walk::{Changes, Shape, Style};

/// The manager of the fields of an object that was there before anybody applied to it.
const BEFORE_FIRST_APPLY: &str = "before-first-apply";
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// What the server owns and nobody manages.
const UNMANAGED: &[&[&str]] = &[
    &["f:apiVersion"],
    &["f:kind"],
    &["f:metadata", "f:name"],
    &["f:metadata", "f:namespace"],
    &["f:metadata", "f:creationTimestamp"],
    &["f:metadata", "f:selfLink"],
    &["f:metadata", "f:uid"],
    &["f:metadata", "f:generation"],
    &["f:metadata", "f:managedFields"],
    &["f:metadata", "f:resourceVersion"],
];

/// What the fields of an object are told by.
#[derive(Debug, Clone, Copy)]
pub enum Node<'a> {
    /// The type of a built-in kind.
    Type(Type),
    /// The schema of a custom resource.
    Custom(&'a Schema),
}

impl From<Type> for Node<'_> {
    fn from(ty: Type) -> Self {
        Node::Type(ty)
    }
}

/// What a request can write at all; the rest is reset by the kind and never owned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writable {
    /// Everything: the kind has no status sub-resource.
    All,
    /// Everything but `status`.
    AllButStatus,
    /// `status` alone.
    Status,
}

/// Who writes, and how.
#[derive(Debug, Clone, Copy)]
pub struct Writer<'a> {
    /// The field manager.
    pub manager: &'a str,
    /// `apps/v1`, the version of the request.
    pub api_version: &'a str,
    /// `status`, `scale`, …; empty for the object itself.
    pub subresource: &'a str,
    /// Now, `2026-01-02T03:04:05Z`.
    pub time: &'a str,
    /// What the endpoint writes.
    pub writable: Writable,
}

impl Writer<'_> {
    fn entry(&self, operation: Operation, set: FieldSet) -> Entry {
        Entry {
            manager: self.manager.into(),
            operation,
            api_version: self.api_version.into(),
            subresource: self.subresource.into(),
            time: self.time.into(),
            set,
        }
    }

    /// Takes out of a set what cannot be written here or is never managed.
    fn strip(&self, set: &mut FieldSet) {
        for path in UNMANAGED {
            set.cut(path);
        }
        match self.writable {
            Writable::All => {}
            Writable::AllButStatus => set.cut(&["f:status"]),
            Writable::Status => set.keep_only(&["f:status"]),
        }
        if set.get("f:metadata").is_some_and(|m| m.children().next().is_none()) {
            set.cut(&["f:metadata"]);
        }
    }
}

/// Records in `new` who owns its fields, after a create (`live` is `None`), update or patch by `writer`.
pub fn own(live: Option<&Value>, new: &mut Value, ty: Node<'_>, writer: &Writer<'_>) {
    let sent = if writer.subresource.is_empty() { managers::read(managed_fields(new)) } else { Sent::Nothing };
    set_managed_fields(new, None);
    let root = walk::shape(ty, false);
    let Some(live) = live else {
        let mut entries = if let Sent::Entries(entries) = sent { entries } else { Vec::new() };
        let mut set = walk::fields(new, root, false, Style::Added);
        writer.strip(&mut set);
        take_over(&mut entries, &set, None);
        put(&mut entries, writer.entry(Operation::Update, set));
        set_managed_fields(new, managers::write(entries));
        return;
    };
    let mut entries = match sent {
        Sent::Cleared => return, // Not tracked again until someone applies.
        Sent::Entries(entries) => entries,
        Sent::Nothing => match managers::read(managed_fields(live)) {
            Sent::Entries(entries) => entries,
            Sent::Cleared | Sent::Nothing => return,
        },
    };
    let changes = compare_without_managers(live, new, root);
    let (mut set, mut removed) = (changes.set(), changes.removed);
    writer.strip(&mut set);
    writer.strip(&mut removed);
    if set.is_empty() && removed.is_empty() {
        set_managed_fields(new, managers::write(entries));
        return;
    }
    let before = entries.clone();
    take_over(&mut entries, &set, Some(&removed));
    let mine = writer.entry(Operation::Update, set);
    // What this manager owned stays its own, changed or not, unless it is gone.
    if let Some(previous) = before.into_iter().find(|e| e.is_same_manager(&mine)) {
        let mut kept = previous.set;
        kept.subtract(&removed);
        entries.retain(|e| !e.is_same_manager(&mine));
        let time = if mine.set.is_empty() { previous.time } else { mine.time.clone() };
        entries.push(Entry { set: kept, time, ..mine.clone() });
    }
    put(&mut entries, mine);
    set_managed_fields(new, managers::write(entries));
}

/// Adds an entry, or its fields to the one that is there.
fn put(entries: &mut Vec<Entry>, mine: Entry) {
    match entries.iter_mut().find(|e| e.is_same_manager(&mine)) {
        Some(there) => there.set.add(&mine.set),
        None => entries.push(mine),
    }
}

/// Takes fields away from everyone.
fn take_over(entries: &mut [Entry], taken: &FieldSet, removed: Option<&FieldSet>) {
    for entry in entries {
        entry.set.subtract(taken);
        if let Some(removed) = removed {
            entry.set.subtract(removed);
        }
    }
}

/// Compares two objects but for their managed fields: those of `new` must be gone already.
fn compare_without_managers(live: &Value, new: &Value, root: Shape<'_>) -> Changes {
    let mut changes = walk::compare(live, new, root);
    for set in [&mut changes.added, &mut changes.modified, &mut changes.removed] {
        set.cut(&["f:metadata", "f:managedFields"]);
    }
    changes
}

/// The result of an apply.
#[derive(Debug, Clone, PartialEq)]
pub struct Applied {
    /// The object, with its managed fields.
    pub object: Value,
    /// Whether anything changed, ownership included; if not, nothing need be written.
    pub changed: bool,
}

/// Applies `config` as the writer's whole intent.
///
/// # Errors
/// [`ApplyError`]: the configuration is not one that can be applied, or it conflicts with other managers and `force` is not set.
pub fn apply(
    live: Option<&Value>,
    mut config: Value,
    ty: Node<'_>,
    writer: &Writer<'_>,
    force: bool,
) -> Result<Applied, ApplyError> {
    if managed_fields(&config).is_some() {
        return Err(ApplyError::ManagedFields);
    }
    let root = walk::shape(ty, false);
    conflict::check_unique(&config, root)?;
    if let Value::Object(map) = &mut config {
        match writer.writable {
            Writable::All => {}
            Writable::AllButStatus => drop(map.shift_remove("status")),
            Writable::Status => {
                map.retain(|name, _| matches!(name.as_str(), "apiVersion" | "kind" | "metadata" | "status"))
            }
        }
    }
    let wanted = walk::fields(&config, root, false, Style::Applied);
    let mut set = wanted.clone();
    writer.strip(&mut set);
    let mine = writer.entry(Operation::Apply, set);
    let Some(live) = live else {
        let mut object = config;
        set_managed_fields(&mut object, managers::write(vec![mine]));
        return Ok(Applied { object, changed: true });
    };
    apply_to_live(live, config, root, (writer, mine, &wanted), force)
}

fn apply_to_live(
    live: &Value,
    config: Value,
    root: Shape<'_>,
    (writer, mut mine, wanted): (&Writer<'_>, Entry, &FieldSet),
    force: bool,
) -> Result<Applied, ApplyError> {
    let before = managed_fields(live).cloned();
    let mut live = live.clone();
    set_managed_fields(&mut live, None);
    let mut entries = match managers::read(before.as_ref()) {
        Sent::Entries(entries) => entries,
        Sent::Cleared | Sent::Nothing => vec![first_owner(&live, root, writer)],
    };
    let last = entries.iter().position(|e| e.is_same_manager(&mine)).map(|at| entries.remove(at));

    let mut merged = live.clone();
    merge::merge(&mut merged, config, root);
    if let Some(last) = &last {
        let owners: Vec<&FieldSet> = entries.iter().map(|e| &e.set).chain([wanted]).collect();
        merge::prune(&mut merged, root, &last.set, &owners);
    }
    let changes = walk::compare(&live, &merged, root);
    let (mut taken, mut removed) = (changes.set(), changes.removed);
    writer.strip(&mut taken);
    writer.strip(&mut removed);
    let conflicts = conflict::find(&entries, &taken);
    if !conflicts.is_empty() && !force && !conflict::are_of_client_side_apply(&conflicts, writer, &live, root) {
        return Err(ApplyError::Conflicts(conflicts));
    }
    take_over(&mut entries, &taken, Some(&removed));
    if let Some(last) = last
        && last.set == mine.set
        && last.api_version == mine.api_version
        && taken.is_empty()
        && removed.is_empty()
    {
        mine.time = last.time;
    }
    entries.push(mine);
    let managed = managers::write(entries);
    let changed = merged != live || managed != before;
    set_managed_fields(&mut merged, managed);
    Ok(Applied { object: merged, changed })
}

/// What an object holds that nobody is known to own.
fn first_owner(live: &Value, root: Shape<'_>, writer: &Writer<'_>) -> Entry {
    let mut set = walk::fields(live, root, false, Style::Added);
    let plain = Writer { writable: Writable::All, subresource: "", manager: BEFORE_FIRST_APPLY, ..*writer };
    plain.strip(&mut set);
    plain.entry(Operation::Update, set)
}

fn managed_fields(object: &Value) -> Option<&Value> {
    object.get("metadata")?.get("managedFields")
}

fn set_managed_fields(object: &mut Value, managed: Option<Value>) {
    let Some(map) = object.as_object_mut() else { return };
    match (map.get_mut("metadata"), managed) {
        (Some(Value::Object(metadata)), Some(managed)) => drop(metadata.insert("managedFields".into(), managed)),
        (Some(Value::Object(metadata)), None) => drop(metadata.shift_remove("managedFields")),
        (_, Some(managed)) => {
            map.insert("metadata".into(), Value::Object(Map::from_iter([("managedFields".to_string(), managed)])));
        }
        (_, None) => {}
    }
}

/// Whether two objects are equal but for the times of their managers: a write of the one over the other is none.
pub fn same_but_for_times(a: &Value, b: &Value) -> bool {
    let timeless = |entries: Option<&Value>| -> Vec<Map<String, Value>> {
        let entries = entries.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_object);
        entries.map(|e| e.iter().filter(|(k, _)| *k != "time").map(|(k, v)| (k.clone(), v.clone())).collect()).collect()
    };
    let (Value::Object(a), Value::Object(b)) = (a, b) else {
        return a == b;
    };
    let rest = |map: &Map<String, Value>| map.iter().filter(|(k, _)| *k != "metadata").count();
    let same_metadata = match (a.get("metadata"), b.get("metadata")) {
        (Some(Value::Object(a)), Some(Value::Object(b))) => {
            let plain = |map: &Map<String, Value>| map.iter().filter(|(k, _)| *k != "managedFields").count();
            plain(a) == plain(b)
                && a.iter().filter(|(k, _)| *k != "managedFields").all(|(k, v)| b.get(k) == Some(v))
                && timeless(a.get("managedFields")) == timeless(b.get("managedFields"))
        }
        (a, b) => a == b,
    };
    same_metadata && rest(a) == rest(b) && a.iter().filter(|(k, _)| *k != "metadata").all(|(k, v)| b.get(k) == Some(v))
}

/// Reads the body of an apply: YAML (or JSON) of exactly the expected kind, all of whose fields are known.
///
/// `problems` of the result are duplicate fields, for `fieldValidation` to judge.
///
/// # Errors
/// 400, or 413 for a body that is too large.
pub fn read_config(bytes: &[u8], expected: &Expected<'_>, limits: Limits) -> Result<Decoded, ApiError> {
    let format = if bytes.trim_ascii_start().first() == Some(&b'{') { Format::Json } else { Format::Yaml };
    let decoded = decode::object(bytes, format, &Expected { ty: None, custom: None, ..*expected }, limits)?;
    let duplicates = decoded.problems;
    let name = conflict::object_name(&decoded.value);
    let admitted = decode::admit(Decoded { value: decoded.value, problems: Vec::new() }, expected)?;
    if let Some(unknown) = admitted.problems.first() {
        let field = unknown.trim_start_matches("unknown field ").trim_matches('"');
        let gvk = format!("{}, Kind={}", expected.api_version(), expected.kind);
        return Err(ApiError::bad_request(format!(
            "failed to create typed patch object ({name}; {gvk}): .{field}: field not declared in schema"
        )));
    }
    Ok(Decoded { value: admitted.value, problems: duplicates })
}

#[cfg(test)]
mod tests;
