//! `metadata.managedFields`: reading and writing the entries, who is who, how many there may be, in what order.

use serde_json::{Map, Value, json};

use super::set::FieldSet;

/// Most `Update` entries; the oldest beyond are merged into one (as in Kubernetes).
const UPDATERS_MAX: usize = 10;
const ANCIENT: &str = "ancient-changes";

/// Whether fields were applied, or written in another way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Operation {
    Apply,
    Update,
}

impl Operation {
    fn name(self) -> &'static str {
        match self {
            Operation::Apply => "Apply",
            Operation::Update => "Update",
        }
    }
}

/// What one manager owns.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entry {
    pub manager: String,
    pub operation: Operation,
    pub api_version: String,
    pub subresource: String,
    /// RFC 3339; empty if unknown.
    pub time: String,
    pub set: FieldSet,
}

impl Entry {
    /// An applier is the same whatever version it applies in; an updater is not.
    pub fn is_same_manager(&self, other: &Entry) -> bool {
        self.operation == other.operation
            && self.manager == other.manager
            && self.subresource == other.subresource
            && (self.operation == Operation::Apply || self.api_version == other.api_version)
    }

    /// `"kubectl" using apps/v1`, as conflicts name it.
    pub fn describe(&self) -> String {
        let mut text = format!("{:?}", self.manager);
        if !self.subresource.is_empty() {
            text.push_str(&format!(" with subresource {:?}", self.subresource));
        }
        if self.operation == Operation::Update {
            text.push_str(&format!(" using {}", self.api_version));
        }
        text
    }

    fn from_json(value: &Value) -> Option<Entry> {
        let map = value.as_object()?;
        let text = |field: &str| match map.get(field) {
            None | Some(Value::Null) => Some(String::new()),
            Some(Value::String(text)) => Some(text.clone()),
            Some(_) => None,
        };
        let operation = match text("operation")?.as_str() {
            "Apply" => Operation::Apply,
            "Update" => Operation::Update,
            _ => return None,
        };
        if text("fieldsType")? != "FieldsV1" {
            return None;
        }
        let set = map.get("fieldsV1").map_or(Some(FieldSet::default()), FieldSet::from_json)?;
        let (manager, api_version) = (text("manager")?, text("apiVersion")?);
        Some(Entry { manager, operation, api_version, subresource: text("subresource")?, time: text("time")?, set })
    }

    fn to_json(&self) -> Value {
        let mut map = Map::new();
        let mut put = |field: &str, text: &str| {
            if !text.is_empty() {
                map.insert(field.into(), text.into());
            }
        };
        put("manager", &self.manager);
        put("operation", self.operation.name());
        put("apiVersion", &self.api_version);
        put("time", &self.time);
        put("fieldsType", "FieldsV1");
        map.insert("fieldsV1".into(), self.set.to_json());
        if !self.subresource.is_empty() {
            map.insert("subresource".into(), self.subresource.as_str().into());
        }
        Value::Object(map)
    }
}

/// What an object says of its managers.
#[derive(Debug, PartialEq)]
pub(super) enum Sent {
    /// Nothing, or something unreadable.
    Nothing,
    /// `[]` or `[{}]`: forget them.
    Cleared,
    /// These.
    Entries(Vec<Entry>),
}

/// Reads `metadata.managedFields`.
pub(super) fn read(managed: Option<&Value>) -> Sent {
    match managed {
        Some(Value::Array(entries)) if entries.is_empty() || *entries == [json!({})] => Sent::Cleared,
        Some(Value::Array(entries)) => {
            entries.iter().map(Entry::from_json).collect::<Option<Vec<Entry>>>().map_or(Sent::Nothing, Sent::Entries)
        }
        _ => Sent::Nothing,
    }
}

/// The entries as an object carries them: none empty, not too many, in order. `None` if there are none.
pub(super) fn write(mut entries: Vec<Entry>) -> Option<Value> {
    entries.retain(|e| !e.set.is_empty());
    cap(&mut entries);
    entries.sort_by(|a, b| {
        let key =
            |e: &Entry| (e.operation, e.time.clone(), e.manager.clone(), e.api_version.clone(), e.subresource.clone());
        key(a).cmp(&key(b))
    });
    (!entries.is_empty()).then(|| entries.iter().map(Entry::to_json).collect())
}

/// Merges the oldest updaters of a version into one entry until there are few enough.
fn cap(entries: &mut Vec<Entry>) {
    let is_plain = |e: &Entry| e.operation == Operation::Update && e.manager != ANCIENT;
    while entries.iter().filter(|e| e.operation == Operation::Update).count() > UPDATERS_MAX {
        let oldest =
            entries.iter().enumerate().filter(|(_, e)| is_plain(e)).min_by(|(_, a), (_, b)| a.time.cmp(&b.time));
        let Some((at, _)) = oldest else { return };
        let mut old = entries.remove(at);
        ANCIENT.clone_into(&mut old.manager);
        old.subresource.clear();
        match entries.iter_mut().find(|e| e.is_same_manager(&old)) {
            Some(bucket) => {
                bucket.set.add(&old.set);
                bucket.time = std::mem::take(&mut bucket.time).max(old.time);
            }
            None => entries.push(old),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Entry, Operation, Sent, read, write};
    use crate::apply::set::FieldSet;

    fn entry(manager: &str, operation: Operation, time: &str) -> Entry {
        let set = FieldSet::from_json(&json!({"f:spec": {format!("f:{manager}"): {}}})).expect("set");
        Entry {
            manager: manager.into(),
            operation,
            api_version: "v1".into(),
            subresource: String::new(),
            time: time.into(),
            set,
        }
    }

    #[test]
    fn entries_are_read_back_in_order() {
        let entries = vec![
            entry("b", Operation::Update, "2026-01-01T00:00:02Z"),
            entry("c", Operation::Update, "2026-01-01T00:00:01Z"),
            entry("a", Operation::Apply, "2026-01-01T00:00:03Z"),
        ];
        let written = write(entries).expect("entries");
        let order: Vec<_> = written.as_array().into_iter().flatten().filter_map(|e| e["manager"].as_str()).collect();
        assert_eq!(order, ["a", "c", "b"]);
        assert_eq!(
            written[0].to_string(),
            r#"{"manager":"a","operation":"Apply","apiVersion":"v1","time":"2026-01-01T00:00:03Z","fieldsType":"FieldsV1","fieldsV1":{"f:spec":{"f:a":{}}}}"#
        );
        let Sent::Entries(back) = read(Some(&written)) else { panic!("readable") };
        assert_eq!(write(back), Some(written));
    }

    #[test]
    fn what_clears_and_what_keeps() {
        for (managed, sent) in [
            (json!([]), Sent::Cleared),
            (json!([{}]), Sent::Cleared),
            (json!(null), Sent::Nothing),
            (json!([{"manager": "a"}]), Sent::Nothing),
            (
                json!([{"manager": "a", "operation": "Update", "fieldsType": "FieldsV1", "fieldsV1": {"x": {}}}]),
                Sent::Nothing,
            ),
        ] {
            assert_eq!(read(Some(&managed)), sent, "{managed}");
        }
    }

    #[test]
    fn the_oldest_updaters_are_merged() {
        let many = (0..14)
            .map(|n| entry(&format!("m{n:02}"), Operation::Update, &format!("2026-01-01T00:00:{n:02}Z")))
            .collect();
        let written = write(many).expect("entries");
        let names: Vec<_> = written.as_array().into_iter().flatten().filter_map(|e| e["manager"].as_str()).collect();
        assert_eq!(names.len(), 10);
        assert_eq!(&names[..2], ["ancient-changes", "m05"]);
        assert_eq!(
            written[0]["fieldsV1"],
            json!({"f:spec": {"f:m00": {}, "f:m01": {}, "f:m02": {}, "f:m03": {}, "f:m04": {}}})
        );
    }
}
