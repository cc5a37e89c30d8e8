//! Where an object lives in the store: `group/resource/namespace/name`.
//!
//! The core group is written `core`, a cluster-scoped object has an empty namespace. One resource is one prefix, so a
//! list is a range and a watch is a prefix; the order of keys is the order of lists. All versions of a kind share a key.

use k8s_openapi::Resource;

/// The prefix of every object of a resource, ending in `/`.
pub fn resource_prefix(group: &str, plural: &str) -> String {
    let group = if group.is_empty() { "core" } else { group };
    format!("{group}/{plural}/")
}

/// The prefix of a resource's objects in one namespace, ending in `/`.
pub fn namespace_prefix(group: &str, plural: &str, namespace: &str) -> String {
    format!("{}{namespace}/", resource_prefix(group, plural))
}

/// The key of one object. `namespace` is empty for cluster-scoped kinds.
pub fn object(group: &str, plural: &str, namespace: &str, name: &str) -> String {
    format!("{}{namespace}/{name}", resource_prefix(group, plural))
}

/// [`resource_prefix`] of a typed kind.
pub fn all<K: Resource>() -> String {
    resource_prefix(K::GROUP, K::URL_PATH_SEGMENT)
}

/// [`namespace_prefix`] of a typed kind.
pub fn in_namespace<K: Resource>(namespace: &str) -> String {
    namespace_prefix(K::GROUP, K::URL_PATH_SEGMENT, namespace)
}

/// [`object`] of a typed kind.
pub fn of<K: Resource>(namespace: &str, name: &str) -> String {
    object(K::GROUP, K::URL_PATH_SEGMENT, namespace, name)
}

/// The parts of a key: group (empty for core), resource, namespace, name. `None` if it is no object's key.
pub fn parse(key: &str) -> Option<(&str, &str, &str, &str)> {
    let mut parts = key.splitn(4, '/');
    let (group, plural) = (parts.next()?, parts.next()?);
    let (namespace, name) = (parts.next()?, parts.next()?);
    let group = if group == "core" { "" } else { group };
    (!name.is_empty()).then_some((group, plural, namespace, name))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::{apps::v1::Deployment, core::v1::Node};

    #[test]
    fn keys_parse_back() {
        assert_eq!(super::of::<Deployment>("default", "web"), "apps/deployments/default/web");
        assert_eq!(super::parse("apps/deployments/default/web"), Some(("apps", "deployments", "default", "web")));
        assert_eq!(super::of::<Node>("", "n1"), "core/nodes//n1");
        assert_eq!(super::parse("core/nodes//n1"), Some(("", "nodes", "", "n1")));
        assert_eq!(super::parse("core/nodes/"), None);
    }
}
