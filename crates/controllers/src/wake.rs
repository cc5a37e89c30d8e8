//! How changes wake controllers: from an event to the keys of the objects to look at again.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Namespace, ReplicationController};
use mizzen_api::key;
use mizzen_api::selector::LabelSelector;
use mizzen_store::{Change, Entry, Event, Snapshot};

use crate::replica_set::Replicas;
use crate::shell::{Start, Wake};

/// All objects of a kind are looked at first.
pub(crate) fn every<K: k8s_openapi::Resource>() -> Start {
    Arc::new(|snapshot| snapshot.prefix(&key::all::<K>()).map(|e| e.key.to_string()).collect())
}

/// Changes of a kind wake the object itself.
pub(crate) fn itself<K: k8s_openapi::Resource>() -> (String, Wake) {
    (key::all::<K>(), Arc::new(|_, event| vec![event.key().to_string()]))
}

/// Changes of a kind wake the namespace they are in.
pub(crate) fn namespace_of<K: k8s_openapi::Resource>() -> (String, Wake) {
    let wake = |_: &Snapshot, event: &Event| {
        key::parse(event.key()).map(|(_, _, namespace, _)| key::of::<Namespace>("", namespace)).into_iter().collect()
    };
    (key::all::<K>(), Arc::new(wake))
}

/// Changes of a kind wake the object of another kind with the same namespace and name.
pub(crate) fn same_name<K: k8s_openapi::Resource, O: k8s_openapi::Resource>() -> (String, Wake) {
    let wake = |_: &Snapshot, event: &Event| {
        key::parse(event.key()).map(|(_, _, namespace, name)| key::of::<O>(namespace, name)).into_iter().collect()
    };
    (key::all::<K>(), Arc::new(wake))
}

/// Metadata, the only part of an object that waking looks at.
#[derive(Debug, Default, serde::Deserialize)]
pub(crate) struct Head {
    #[serde(default)]
    pub metadata: k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta,
}

/// The metadata of an entry; empty if it cannot be read.
pub(crate) fn head(entry: &Entry) -> Head {
    serde_json::from_slice(&entry.value).unwrap_or_default()
}

/// The typed object of an entry; what cannot be read is empty.
pub(crate) fn head_of<K: serde::de::DeserializeOwned + Default>(entry: &Entry) -> K {
    serde_json::from_slice(&entry.value).unwrap_or_default()
}

/// An event's object as it is, and as it was.
pub(crate) fn versions(event: &Event) -> Vec<&Arc<Entry>> {
    match &event.change {
        Change::Put { entry, previous } => std::iter::once(entry).chain(previous).collect(),
        Change::Delete { previous } => vec![previous],
    }
}

/// Changes of a kind wake the controlling owner of kind `O`, before and after.
pub(crate) fn owner<K: k8s_openapi::Resource, O: k8s_openapi::Resource>(kind: &'static str) -> (String, Wake) {
    let wake = move |_: &Snapshot, event: &Event| {
        let owner = |entry: &Arc<Entry>| {
            let meta = head(entry).metadata;
            let mut owners = meta.owner_references.into_iter().flatten();
            let owner = owners.find(|o| o.controller == Some(true) && o.kind == kind)?;
            Some(key::of::<O>(meta.namespace.as_deref().unwrap_or_default(), &owner.name))
        };
        versions(event).into_iter().filter_map(owner).collect()
    };
    (key::all::<K>(), Arc::new(wake))
}

/// Changes of a kind wake the controlling owner of kind `O`, before and after; an object without one wakes all owners
/// whose selector would adopt it.
pub(crate) fn owner_or_adopter<K, O>(kind: &'static str) -> (String, Wake)
where
    K: k8s_openapi::Resource,
    O: k8s_openapi::Resource + Selects + serde::de::DeserializeOwned + Send + Sync + 'static,
{
    let wake = move |snapshot: &Snapshot, event: &Event| {
        let mut keys = Vec::new();
        for entry in versions(event) {
            let meta = head(entry).metadata;
            let namespace = meta.namespace.clone().unwrap_or_default();
            match meta.owner_references.iter().flatten().find(|o| o.controller == Some(true)) {
                Some(owner) if owner.kind == kind => keys.push(key::of::<O>(&namespace, &owner.name)),
                Some(_) => {}
                None => {
                    let prefix = key::in_namespace::<O>(&namespace);
                    let adopts =
                        |e: &&Arc<Entry>| snapshot.get_as::<O>(&e.key).is_some_and(|o| o.selects(meta.labels.as_ref()));
                    keys.extend(snapshot.prefix(&prefix).filter(adopts).map(|e| e.key.to_string()));
                }
            }
        }
        keys.dedup();
        keys
    };
    (key::all::<K>(), Arc::new(wake))
}

pub(crate) type Labels<'a> = Option<&'a std::collections::BTreeMap<String, String>>;

/// An owner that selects what it owns by labels.
pub(crate) trait Selects {
    fn selects(&self, labels: Labels<'_>) -> bool;
}

impl Selects for ReplicaSet {
    fn selects(&self, labels: Labels<'_>) -> bool {
        self.selector().is_ok_and(|s| s.matches_labels(labels))
    }
}

impl Selects for ReplicationController {
    fn selects(&self, labels: Labels<'_>) -> bool {
        self.selector().is_ok_and(|s| s.matches_labels(labels))
    }
}

impl Selects for Deployment {
    fn selects(&self, labels: Labels<'_>) -> bool {
        let selector = self.spec.as_ref().map(|s| &s.selector);
        LabelSelector::from_typed(selector).is_ok_and(|s| s.matches_labels(labels))
    }
}

impl Selects for StatefulSet {
    fn selects(&self, labels: Labels<'_>) -> bool {
        let selector = self.spec.as_ref().map(|s| &s.selector);
        LabelSelector::from_typed(selector).is_ok_and(|s| s.matches_labels(labels))
    }
}

impl Selects for DaemonSet {
    fn selects(&self, labels: Labels<'_>) -> bool {
        let selector = self.spec.as_ref().map(|s| &s.selector);
        LabelSelector::from_typed(selector).is_ok_and(|s| s.matches_labels(labels))
    }
}

impl Selects for Job {
    fn selects(&self, labels: Labels<'_>) -> bool {
        let selector = self.spec.as_ref().and_then(|s| s.selector.as_ref());
        LabelSelector::from_typed(selector).is_ok_and(|s| s.matches_labels(labels))
    }
}
