//! The table of kinds: every resource that is served, in discovery's order, read once from `data/kinds.tsv`.
//!
//! What a kind *does* comes from `crate::rules`; what it *is* comes from the data. Nothing else lists kinds.

mod convert;
mod table;

use std::sync::LazyLock;

use crate::kind::Kind;

pub use convert::{convert, stored_label};

/// The built-in kinds.
pub fn kinds() -> &'static KindTable {
    static TABLE: LazyLock<KindTable> =
        LazyLock::new(|| KindTable::new(table::read(include_str!("../../data/kinds.tsv"))));
    &TABLE
}

/// Kinds by resource and by kind.
#[derive(Debug)]
pub struct KindTable {
    all: &'static [Kind],
    by_resource: Vec<&'static Kind>,
    by_kind: Vec<&'static Kind>,
}

impl KindTable {
    fn new(all: &'static [Kind]) -> Self {
        let mut by_resource: Vec<&Kind> = all.iter().collect();
        by_resource.sort_by(|a, b| a.resource_order().cmp(&b.resource_order()));
        let mut by_kind: Vec<&Kind> = all.iter().collect();
        by_kind.sort_by(|a, b| a.kind_order().cmp(&b.kind_order()));
        Self { all, by_resource, by_kind }
    }

    /// All kinds in discovery's order: core first, then groups by priority, versions by preference, resources by name.
    pub fn iter(&self) -> std::slice::Iter<'static, Kind> {
        self.all.iter()
    }

    /// The kind served at `/apis/<group>/<version>/…/<plural>`; the core group is empty.
    pub fn by_resource(&self, group: &str, version: &str, plural: &str) -> Option<&'static Kind> {
        let at = self.by_resource.binary_search_by(|k| k.resource_order().cmp(&(plural, group, version)));
        at.ok().map(|i| self.by_resource[i])
    }

    /// The kind of an object with this group, version and kind.
    pub fn by_kind(&self, group: &str, version: &str, kind: &str) -> Option<&'static Kind> {
        let at = self.by_kind.binary_search_by(|k| k.kind_order().cmp(&(kind, group, version)));
        at.ok().map(|i| self.by_kind[i])
    }

    /// The kind in whose JSON the objects of a resource are stored, whichever of its groups and versions is asked for.
    pub fn storage(&self, group: &str, plural: &str) -> Option<&'static Kind> {
        let asked = self.all.iter().find(|k| k.group == group && k.plural == plural)?;
        self.by_resource(&asked.storage_group, &asked.storage_version, plural)
    }

    /// Groups in discovery's order, each with its versions in order of preference. Core is the empty group, and first.
    pub fn groups(&self) -> Vec<(&'static str, Vec<&'static str>)> {
        let mut groups: Vec<(&'static str, Vec<&'static str>)> = Vec::new();
        for kind in self.all {
            match groups.iter_mut().find(|(g, _)| *g == kind.group) {
                Some((_, versions)) if versions.contains(&&*kind.version) => {}
                Some((_, versions)) => versions.push(&kind.version),
                None => groups.push((&kind.group, vec![&kind.version])),
            }
        }
        groups
    }
}

#[cfg(test)]
mod tests {
    use super::kinds;

    #[test]
    fn kinds_are_found_by_resource_and_by_kind() {
        for (group, version, plural, kind, list, namespaced, stored) in [
            ("", "v1", "pods", "Pod", "PodList", true, true),
            ("apps", "v1", "deployments", "Deployment", "DeploymentList", true, true),
            ("", "v1", "namespaces", "Namespace", "NamespaceList", false, true),
            ("authentication.k8s.io", "v1", "tokenreviews", "TokenReview", "TokenReviewList", false, false),
            ("", "v1", "componentstatuses", "ComponentStatus", "ComponentStatusList", false, false),
        ] {
            let found = kinds().by_resource(group, version, plural).expect(plural);
            assert_eq!((&*found.kind, &*found.list_kind), (kind, list));
            assert_eq!((found.namespaced, found.is_stored()), (namespaced, stored), "{plural}");
            assert!(std::ptr::eq(found, kinds().by_kind(group, version, kind).expect(kind)));
        }
        assert!(kinds().by_resource("", "v1", "deployments").is_none());
        assert!(kinds().by_resource("apps", "v2", "deployments").is_none());
    }

    #[test]
    fn the_whole_table_is_sound() {
        let all: Vec<_> = kinds().iter().collect();
        assert_eq!(all.len(), 68);
        for kind in all {
            let storage = kinds().storage(&kind.group, &kind.plural).expect(&kind.plural);
            assert!(!storage.is_converted(), "{}", kind.plural);
            assert!(kind.verbs.iter().all(|v| !v.is_empty()));
        }
        assert_eq!(kinds().storage("events.k8s.io", "events").map(|k| &*k.group), Some(""));
        assert_eq!(kinds().storage("autoscaling", "horizontalpodautoscalers").map(|k| &*k.version), Some("v2"));
        let eviction = kinds().by_resource("", "v1", "pods").and_then(|k| k.subresource("eviction")).expect("eviction");
        assert_eq!((&*eviction.group, &*eviction.version, &*eviction.kind), ("policy", "v1", "Eviction"));
        let groups = kinds().groups();
        assert_eq!(groups.iter().map(|(g, _)| *g).take(3).collect::<Vec<_>>(), ["", "apiregistration.k8s.io", "apps"]);
        assert!(groups.contains(&("autoscaling", vec!["v2", "v1"])));
    }
}
