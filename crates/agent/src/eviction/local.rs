//! Limits on local storage: of `emptyDir` volumes, of containers, of the pod. The kernel does not hold them, eviction does. Pure.

use k8s_openapi::api::core::v1::{Pod, PodSpec};
use mizzen_api::quantity::Format;

use super::rank::{PodUse, show};
use crate::pod::{resources, roles};
use crate::quantity::{amount, units};

const STORAGE: &str = "ephemeral-storage";

/// Whether a pod has limits that only measuring can hold.
pub fn is_limited(spec: &PodSpec) -> bool {
    let limits = |list: Option<&std::collections::BTreeMap<String, _>>| list.is_some_and(|l| l.contains_key(STORAGE));
    spec.volumes.iter().flatten().any(|v| v.empty_dir.as_ref().is_some_and(|e| e.size_limit.is_some()))
        || roles::members(spec).any(|m| limits(m.container.resources.as_ref().and_then(|r| r.limits.as_ref())))
}

/// What a pod that uses too much is told; `None` if it does not.
pub fn excess(pod: &Pod, used: &PodUse) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    for volume in spec.volumes.iter().flatten() {
        let limit = volume.empty_dir.as_ref().and_then(|e| e.size_limit.as_ref());
        let size = used.volumes.iter().find(|(name, _)| *name == volume.name).map_or(0, |(_, bytes)| *bytes);
        if let Some(limit) = limit
            && let Some(most) = units(limit).filter(|l| *l > 0)
            && size > most
        {
            return Some(format!("Usage of EmptyDir volume \"{}\" exceeds the limit \"{}\". ", volume.name, limit.0));
        }
    }
    // As a whole it is limited only if every container is.
    let limit = |r: &k8s_openapi::api::core::v1::ResourceRequirements| amount(r.limits.as_ref(), STORAGE);
    let every = spec.containers.iter().all(|c| c.resources.as_ref().and_then(limit).is_some());
    let whole = resources::effective(spec, STORAGE, limit);
    if every && whole > 0 && used.disk > whole {
        let whole = show(whole, Format::BinarySi);
        return Some(format!("Pod ephemeral local storage usage exceeds the total limit of containers {whole}. "));
    }
    used.containers.iter().find_map(|container| {
        let (spec, _) = roles::find(spec, &container.name)?;
        let limit = spec.resources?.limits?.remove(STORAGE)?;
        (container.disk > units(&limit)?).then(|| {
            format!("Container {} exceeded its local ephemeral storage limit \"{}\". ", container.name, limit.0)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eviction::rank::ContainerUse;
    use serde_json::json;

    #[test]
    fn limits_are_told_in_order() {
        let pod: Pod = serde_json::from_value(json!({"spec": {
            "volumes": [{"name": "v", "emptyDir": {"sizeLimit": "10Mi"}}, {"name": "free", "emptyDir": {}}],
            "containers": [
                {"name": "a", "resources": {"limits": {"ephemeral-storage": "20Mi"}}},
                {"name": "b", "resources": {"limits": {"ephemeral-storage": "30Mi"}}}]}}))
        .unwrap();
        assert!(is_limited(pod.spec.as_ref().unwrap()));
        // MiB of the volume, container a, container b, the whole.
        for (volume, a, b, whole, want) in [
            (10, 20, 30, 50, ""),
            (11, 99, 99, 99, "Usage of EmptyDir volume \"v\" exceeds the limit \"10Mi\". "),
            (1, 21, 30, 51, "Pod ephemeral local storage usage exceeds the total limit of containers 50Mi. "),
            (1, 21, 1, 22, "Container a exceeded its local ephemeral storage limit \"20Mi\". "),
        ] {
            let container = |name: &str, mib: i64| ContainerUse { name: name.into(), disk: mib << 20, memory: 0 };
            let used = PodUse {
                disk: whole << 20,
                containers: vec![container("a", a), container("b", b)],
                volumes: vec![("v".into(), volume << 20), ("free".into(), 1 << 40)],
                ..PodUse::default()
            };
            assert_eq!(excess(&pod, &used).unwrap_or_default(), want);
        }
    }
}
