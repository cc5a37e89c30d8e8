//! Sets of fields, as `managedFields` writes them (`FieldsV1`): a tree whose steps are `f:<name>`, `k:<keys of an item>`,
//! `v:<value in a set>` and `i:<index>`; `.` says that the step itself is in the set and not only what is below it.

use std::cmp::Ordering;

use serde_json::{Map, Value};

/// A set of fields below some value.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FieldSet {
    /// The value itself is in the set.
    pub(super) member: bool,
    /// Sorted by step, none of them empty.
    children: Vec<(Box<str>, FieldSet)>,
}

impl FieldSet {
    /// The value itself and nothing below.
    pub(super) fn leaf() -> Self {
        Self { member: true, children: Vec::new() }
    }

    /// A set of these steps in any order; empty ones are left out.
    pub(super) fn of(member: bool, mut children: Vec<(Box<str>, FieldSet)>) -> Self {
        children.retain(|(_, child)| !child.is_empty());
        children.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        // A list may hold two items of one key; together they are one step.
        children.dedup_by(|later, first| {
            later.0 == first.0 && {
                first.1.add(&later.1);
                true
            }
        });
        Self { member, children }
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        !self.member && self.children.is_empty()
    }

    /// What is below a step.
    pub(super) fn get(&self, step: &str) -> Option<&FieldSet> {
        self.children.binary_search_by(|(s, _)| (**s).cmp(step)).ok().map(|at| &self.children[at].1)
    }

    /// The steps and what is below them.
    pub(super) fn children(&self) -> impl Iterator<Item = (&str, &FieldSet)> {
        self.children.iter().map(|(step, child)| (&**step, child))
    }

    /// Adds all of `other`.
    pub(super) fn add(&mut self, other: &FieldSet) {
        self.member |= other.member;
        if self.children.is_empty() {
            self.children.clone_from(&other.children);
            return;
        }
        let has_all = other.children.iter().all(|(step, _)| self.get(step).is_some());
        if has_all {
            for (step, child) in &other.children {
                if let Ok(at) = self.children.binary_search_by(|(s, _)| s.cmp(step)) {
                    self.children[at].1.add(child);
                }
            }
            return;
        }
        // Both are sorted, so they are merged in one pass, however large they are.
        let mut merged = Vec::with_capacity(self.children.len() + other.children.len());
        let mut theirs = other.children.iter().peekable();
        for (step, mut child) in std::mem::take(&mut self.children) {
            while let Some(added) = theirs.next_if(|(s, _)| *s < step) {
                merged.push(added.clone());
            }
            if let Some((_, more)) = theirs.next_if(|(s, _)| *s == step) {
                child.add(more);
            }
            merged.push((step, child));
        }
        merged.extend(theirs.cloned());
        self.children = merged;
    }

    /// Takes away each member of `other`; what is below a member stays unless it is a member as well.
    pub(super) fn subtract(&mut self, other: &FieldSet) {
        self.member &= !other.member;
        if other.children.is_empty() {
            return;
        }
        self.children.retain_mut(|(step, child)| {
            if let Some(gone) = other.get(step) {
                child.subtract(gone);
            }
            !child.is_empty()
        });
    }

    /// The members of both.
    pub(super) fn intersection(&self, other: &FieldSet) -> FieldSet {
        let mut children = Vec::new();
        let (mut a, mut b) = (self.children.iter().peekable(), other.children.iter().peekable());
        while let (Some((step, left)), Some((other_step, right))) = (a.peek(), b.peek()) {
            match step.cmp(other_step) {
                Ordering::Less => drop(a.next()),
                Ordering::Greater => drop(b.next()),
                Ordering::Equal => {
                    let both = left.intersection(right);
                    if !both.is_empty() {
                        children.push((step.clone(), both));
                    }
                    a.next();
                    b.next();
                }
            }
        }
        FieldSet { member: self.member && other.member, children }
    }

    /// Takes away the value at a path and all below it.
    pub(super) fn cut(&mut self, path: &[&str]) {
        let [step, rest @ ..] = path else { return };
        let Ok(at) = self.children.binary_search_by(|(s, _)| (**s).cmp(step)) else {
            return;
        };
        if !rest.is_empty() {
            self.children[at].1.cut(rest);
        }
        if rest.is_empty() || self.children[at].1.is_empty() {
            self.children.remove(at);
        }
    }

    /// Keeps only what is at or below one of these steps of the top level.
    pub(super) fn keep_only(&mut self, steps: &[&str]) {
        self.children.retain(|(step, _)| steps.contains(&&**step));
    }

    /// The paths of all members, `.spec.containers[name="c"].image`.
    pub fn paths(&self) -> Vec<String> {
        let mut paths = Vec::new();
        self.collect_paths(&mut String::new(), &mut paths);
        paths
    }

    fn collect_paths(&self, prefix: &mut String, paths: &mut Vec<String>) {
        if self.member {
            paths.push(prefix.clone());
        }
        for (step, child) in &self.children {
            let length = prefix.len();
            push_step(prefix, step);
            child.collect_paths(prefix, paths);
            prefix.truncate(length);
        }
    }

    /// As `fieldsV1`.
    pub fn to_json(&self) -> Value {
        let mut out = Map::new();
        if self.member && !self.children.is_empty() {
            out.insert(".".into(), Value::Object(Map::new()));
        }
        for (step, child) in &self.children {
            out.insert(step.to_string(), child.to_json());
        }
        Value::Object(out)
    }

    /// From `fieldsV1`; `None` if it is no set of fields.
    pub fn from_json(value: &Value) -> Option<FieldSet> {
        let map = value.as_object()?;
        let mut set = Self::below(map)?;
        set.member = map.contains_key(".");
        Some(set)
    }

    fn below(map: &Map<String, Value>) -> Option<FieldSet> {
        let mut children = Vec::with_capacity(map.len());
        for (step, value) in map.iter().filter(|(step, _)| *step != ".") {
            if !["f:", "k:", "v:", "i:"].iter().any(|p| step.starts_with(p)) {
                return None;
            }
            let map = value.as_object()?;
            let mut child = Self::below(map)?;
            child.member = map.is_empty() || map.contains_key(".");
            children.push((step.as_str().into(), child));
        }
        Some(Self::of(false, children))
    }
}

fn push_step(path: &mut String, step: &str) {
    let (kind, text) = step.split_at(2);
    match kind {
        "f:" => {
            path.push('.');
            path.push_str(text);
        }
        "k:" => {
            path.push('[');
            let keys = serde_json::from_str::<Map<String, Value>>(text).unwrap_or_default();
            for (index, (key, value)) in keys.iter().enumerate() {
                if index > 0 {
                    path.push(',');
                }
                path.push_str(&format!("{key}={value}"));
            }
            path.push(']');
        }
        "v:" => path.push_str(&format!("[={text}]")),
        _ => path.push_str(&format!("[{text}]")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::FieldSet;

    fn set(value: serde_json::Value) -> FieldSet {
        FieldSet::from_json(&value).expect("a set")
    }

    #[test]
    fn sets_are_written_as_they_are_read() {
        let value = json!({"f:metadata": {"f:finalizers": {".": {}, "v:\"x\"": {}}, "f:labels": {".": {}, "f:app": {}}},
            "f:spec": {"f:containers": {"k:{\"name\":\"c\"}": {".": {}, "f:image": {}}}, "f:replicas": {}}});
        let parsed = set(value.clone());
        assert_eq!(parsed.to_json().to_string(), value.to_string());
        assert_eq!(
            parsed.paths(),
            [
                ".metadata.finalizers",
                ".metadata.finalizers[=\"x\"]",
                ".metadata.labels",
                ".metadata.labels.app",
                ".spec.containers[name=\"c\"]",
                ".spec.containers[name=\"c\"].image",
                ".spec.replicas"
            ]
        );
        for bad in [json!([]), json!({"x": {}}), json!({"f:a": 1})] {
            assert_eq!(FieldSet::from_json(&bad), None);
        }
    }

    #[test]
    fn sets_are_added_and_subtracted_by_member() {
        let mut both = set(json!({"f:a": {"f:b": {}}, "f:c": {}}));
        both.add(&set(json!({"f:a": {".": {}, "f:d": {}}, "f:b": {}})));
        assert_eq!(both, set(json!({"f:a": {".": {}, "f:b": {}, "f:d": {}}, "f:b": {}, "f:c": {}})));
        both.subtract(&set(json!({"f:a": {".": {}, "f:d": {}}, "f:c": {}, "f:z": {}})));
        assert_eq!(both, set(json!({"f:a": {"f:b": {}}, "f:b": {}})));
        assert_eq!(both.intersection(&set(json!({"f:a": {"f:b": {}}, "f:c": {}}))), set(json!({"f:a": {"f:b": {}}})));
        both.cut(&["f:a", "f:b"]);
        assert_eq!(both, set(json!({"f:b": {}})));
    }
}
