//! Fields and resources of a pod as text, for the downward API (`fieldRef`, `resourceFieldRef`). Pure.

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Pod, ResourceFieldSelector};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::roles;
use crate::quantity;

/// A field cannot be had.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum FieldError {
    /// Not a field that can be referred to.
    #[error("unsupported fieldPath: {path}")]
    Path {
        /// The path.
        path: String,
    },
    /// Not a resource that can be referred to.
    #[error("unsupported container resource: {resource}")]
    Resource {
        /// The name.
        resource: String,
    },
    /// The container does not exist.
    #[error("container {container:?} not found in pod")]
    Container {
        /// The name.
        container: String,
    },
}

/// Values that are not in the Pod object.
#[derive(Debug, Clone)]
pub struct FieldSource<'a> {
    /// Addresses of the pod.
    pub pod_ips: &'a [IpAddr],
    /// Addresses of the node.
    pub host_ips: &'a [IpAddr],
    /// What pods may use of the node.
    pub allocatable: &'a BTreeMap<String, Quantity>,
}

impl FieldSource<'_> {
    /// A field as an environment variable shows it.
    pub fn env_field(&self, pod: &Pod, path: &str) -> Result<String, FieldError> {
        let spec = pod.spec.as_ref();
        let join = |ips: &[IpAddr]| ips.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        let first = |ips: &[IpAddr]| ips.first().map(ToString::to_string).unwrap_or_default();
        match path {
            "spec.nodeName" => Ok(spec.and_then(|s| s.node_name.clone()).unwrap_or_default()),
            "spec.serviceAccountName" => Ok(spec.and_then(|s| s.service_account_name.clone()).unwrap_or_default()),
            "status.hostIP" => Ok(first(self.host_ips)),
            "status.hostIPs" => Ok(join(self.host_ips)),
            "status.podIP" => Ok(first(self.pod_ips)),
            "status.podIPs" => Ok(join(self.pod_ips)),
            _ => Self::metadata(pod, path),
        }
    }

    /// A field as a file shows it.
    pub fn volume_field(&self, pod: &Pod, path: &str) -> Result<String, FieldError> {
        match path {
            "metadata.labels" => Ok(lines(pod.metadata.labels.as_ref())),
            "metadata.annotations" => Ok(lines(pod.metadata.annotations.as_ref())),
            _ => Self::metadata(pod, path),
        }
    }

    fn metadata(pod: &Pod, path: &str) -> Result<String, FieldError> {
        let meta = &pod.metadata;
        let entry = |map: Option<&BTreeMap<String, String>>, prefix: &str| {
            let key = path.strip_prefix(prefix)?.strip_suffix("']")?;
            Some(map.and_then(|m| m.get(key)).cloned().unwrap_or_default())
        };
        match path {
            "metadata.name" => Ok(meta.name.clone().unwrap_or_default()),
            "metadata.namespace" => Ok(meta.namespace.clone().unwrap_or_default()),
            "metadata.uid" => Ok(meta.uid.clone().unwrap_or_default()),
            _ => entry(meta.labels.as_ref(), "metadata.labels['")
                .or_else(|| entry(meta.annotations.as_ref(), "metadata.annotations['"))
                .ok_or_else(|| FieldError::Path { path: path.to_string() }),
        }
    }

    /// A resource of a container, divided and rounded up. `own` is the container to take if the reference names none.
    pub fn resource(&self, pod: &Pod, reference: &ResourceFieldSelector, own: &str) -> Result<String, FieldError> {
        let name = reference.container_name.as_deref().filter(|n| !n.is_empty()).unwrap_or(own);
        let container = pod.spec.as_ref().and_then(|s| roles::find(s, name)).map(|(c, _)| c);
        let container = container.ok_or_else(|| FieldError::Container { container: name.to_string() })?;
        let unknown = || FieldError::Resource { resource: reference.resource.clone() };
        let (list, resource) = reference.resource.split_once('.').ok_or_else(unknown)?;
        let known = matches!(resource, "cpu" | "memory" | "ephemeral-storage") || resource.starts_with("hugepages-");
        let resources = container.resources.unwrap_or_default();
        let value = match list {
            _ if !known => return Err(unknown()),
            // Without a limit, a container may use what the node has.
            "limits" => {
                resources.limits.as_ref().and_then(|l| l.get(resource)).or_else(|| self.allocatable.get(resource))
            }
            "requests" => resources.requests.as_ref().and_then(|r| r.get(resource)),
            _ => return Err(unknown()),
        };
        let zero = Quantity("0".into());
        let one = Quantity("1".into());
        let divisor = reference.divisor.as_ref().filter(|d| quantity::millis(d).is_some_and(|m| m > 0)).unwrap_or(&one);
        let (value, divisor) = if resource == "cpu" {
            (quantity::millis(value.unwrap_or(&zero)), quantity::millis(divisor))
        } else {
            (quantity::units(value.unwrap_or(&zero)), quantity::units(divisor))
        };
        let (value, divisor) = (value.unwrap_or(0), divisor.unwrap_or(1).max(1));
        Ok((value / divisor + i64::from(value % divisor != 0)).to_string())
    }
}

/// A map as sorted `key="escaped value"` lines.
fn lines(map: Option<&BTreeMap<String, String>>) -> String {
    let lines: Vec<String> = map.into_iter().flatten().map(|(key, value)| format!("{key}={value:?}")).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn fields_and_resources() {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "n", "uid": "u", "labels": {"b": "2", "a": "x\"y"}},
            "spec": {"nodeName": "w", "containers": [{"name": "c", "resources":
                {"limits": {"cpu": "1500m"}, "requests": {"memory": "100Mi"}}}]},
        }))
        .unwrap();
        let allocatable = BTreeMap::from([("memory".to_string(), Quantity("1Gi".into()))]);
        let ips = ["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()];
        let source = FieldSource { pod_ips: &ips, host_ips: &ips[..1], allocatable: &allocatable };
        for (path, want) in [
            ("metadata.name", "p"),
            ("metadata.labels['b']", "2"),
            ("metadata.annotations['none']", ""),
            ("spec.nodeName", "w"),
            ("status.podIPs", "10.0.0.1,fd00::1"),
            ("status.hostIP", "10.0.0.1"),
        ] {
            assert_eq!(source.env_field(&pod, path).as_deref(), Ok(want), "{path}");
        }
        assert!(source.env_field(&pod, "spec.foo").is_err());
        assert_eq!(source.volume_field(&pod, "metadata.labels").unwrap(), "a=\"x\\\"y\"\nb=\"2\"");
        for (resource, divisor, want) in [
            ("limits.cpu", "1", "2"),
            ("limits.cpu", "1m", "1500"),
            ("requests.memory", "1Mi", "100"),
            ("limits.memory", "1Mi", "1024"),
            ("requests.cpu", "1", "0"),
        ] {
            let reference = ResourceFieldSelector {
                container_name: None,
                divisor: Some(Quantity(divisor.into())),
                resource: resource.into(),
            };
            assert_eq!(source.resource(&pod, &reference, "c").as_deref(), Ok(want), "{resource}/{divisor}");
        }
    }
}
