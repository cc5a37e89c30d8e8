//! Which resource a kind is stored as: the built-in table, and the definitions of custom resources in the snapshot.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use mizzen_api::key;
use mizzen_api::kinds::kinds;
use mizzen_store::Snapshot;
use serde_json::Value;

use crate::plan::Target;

/// A resource as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resource {
    /// API group, empty for core.
    pub group: String,
    /// A version that is served.
    pub version: String,
    /// Plural name.
    pub plural: String,
    /// Objects are in namespaces.
    pub namespaced: bool,
    /// Collections can be deleted at once.
    pub deletes_collections: bool,
}

/// The resource whose objects have this apiVersion and kind; `None` if it is not served.
pub fn by_kind(snapshot: &Snapshot, api_version: &str, kind: &str) -> Option<Resource> {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    if let Some(known) = kinds().by_kind(group, version, kind) {
        return Some(built_in(known));
    }
    let mut custom = definitions(snapshot);
    custom.find(|(kind_name, r)| kind_name == kind && r.group == group).map(|(_, r)| r)
}

/// All resources that live in namespaces.
pub fn namespaced(snapshot: &Snapshot) -> Vec<Resource> {
    let mut all: Vec<Resource> = Vec::new();
    for kind in kinds().iter().filter(|k| k.namespaced && k.is_stored()) {
        let found = built_in(kind);
        if !all.iter().any(|r| r.group == found.group && r.plural == found.plural) {
            all.push(found);
        }
    }
    all.extend(definitions(snapshot).map(|(_, r)| r).filter(|r| r.namespaced));
    all
}

fn built_in(kind: &mizzen_api::kind::Kind) -> Resource {
    Resource {
        group: kind.storage_group.to_string(),
        version: kind.storage_version.to_string(),
        plural: kind.plural.to_string(),
        namespaced: kind.namespaced,
        deletes_collections: kind.allows("deletecollection"),
    }
}

fn definitions(snapshot: &Snapshot) -> impl Iterator<Item = (String, Resource)> + '_ {
    let prefix = key::all::<CustomResourceDefinition>();
    let definitions: Vec<_> = snapshot.list_as::<CustomResourceDefinition>(&prefix).collect();
    // What is served in no version cannot be reached.
    let served = definitions.into_iter().filter(|d| d.spec.versions.iter().any(|v| v.served) && is_established(d));
    served.map(|d| (d.spec.names.kind.clone(), of_definition(&d)))
}

fn is_established(definition: &CustomResourceDefinition) -> bool {
    let conditions = definition.status.iter().flat_map(|s| s.conditions.iter().flatten());
    conditions.into_iter().any(|c| c.type_ == "Established" && c.status == "True")
}

/// The resource of a definition: in the version it is stored in, if that is served.
pub(crate) fn of_definition(definition: &CustomResourceDefinition) -> Resource {
    let versions = &definition.spec.versions;
    let best = versions.iter().find(|v| v.storage && v.served).or_else(|| versions.iter().find(|v| v.served));
    let version = best.or_else(|| versions.iter().find(|v| v.storage)).map(|v| v.name.clone()).unwrap_or_default();
    Resource {
        group: definition.spec.group.clone(),
        version,
        plural: definition.spec.names.plural.clone(),
        namespaced: definition.spec.scope == "Namespaced",
        deletes_collections: true,
    }
}

impl Resource {
    /// Where an object of it is stored.
    pub fn key(&self, namespace: &str, name: &str) -> String {
        key::object(&self.group, &self.plural, if self.namespaced { namespace } else { "" }, name)
    }

    /// All of it in a namespace.
    pub fn in_namespace(&self, namespace: &str) -> String {
        key::namespace_prefix(&self.group, &self.plural, namespace)
    }

    /// Its objects in a namespace, or one of them, in the API.
    pub fn target(&self, namespace: &str, name: &str) -> Target {
        Target {
            group: self.group.clone(),
            version: self.version.clone(),
            plural: self.plural.clone(),
            namespace: namespace.into(),
            name: name.into(),
        }
    }
}

/// The object at a key in the API, under the version it is stored in.
pub fn target_of(object_key: &str, object: &Value) -> Option<Target> {
    let (group, plural, namespace, name) = key::parse(object_key)?;
    let api_version = object["apiVersion"].as_str()?;
    let version = api_version.rsplit('/').next()?;
    Some(Target {
        group: group.into(),
        version: version.into(),
        plural: plural.into(),
        namespace: namespace.into(),
        name: name.into(),
    })
}
