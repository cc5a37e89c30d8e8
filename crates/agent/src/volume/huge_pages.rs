//! `emptyDir` of medium `HugePages` or `HugePages-<size>`: a file system of huge pages of one size. Pure.

use std::collections::BTreeSet;
use std::ffi::CString;

use k8s_openapi::api::core::v1::PodSpec;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::quantity;

/// The size of the pages is not clear.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum HugePagesError {
    /// The medium names none, and the pod asks for none or for several.
    #[error("medium HugePages needs requests for huge pages of exactly one size, the pod has {count}")]
    NotOne {
        /// How many sizes the pod asks for.
        count: usize,
    },
    /// The pod does not ask for what the medium names.
    #[error("medium HugePages-{size}: the pod does not request hugepages-{size}")]
    NotRequested {
        /// The size.
        size: String,
    },
}

/// Options of the mount for a medium.
pub(super) fn mount_options(medium: &str, spec: &PodSpec) -> Result<CString, HugePagesError> {
    let all = spec.init_containers.iter().flatten().chain(&spec.containers).map(|c| &c.resources);
    let requests = all.chain([&spec.resources]).flatten().filter_map(|r| r.requests.as_ref()).flat_map(|r| r.keys());
    let sizes: BTreeSet<&str> = requests.filter_map(|name| name.strip_prefix("hugepages-")).collect();
    let size = match medium.strip_prefix("HugePages-") {
        Some(size) if sizes.contains(size) => size,
        Some(size) => return Err(HugePagesError::NotRequested { size: size.into() }),
        None => match sizes.iter().collect::<Vec<_>>().as_slice() {
            [size] => size,
            sizes => return Err(HugePagesError::NotOne { count: sizes.len() }),
        },
    };
    let bytes = quantity::units(&Quantity(size.to_string())).unwrap_or(0);
    Ok(CString::new(format!("pagesize={bytes}")).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_size_is_the_medium_s_or_the_only_one() {
        let spec = |names: &[&str]| -> PodSpec {
            let requests: serde_json::Map<_, _> =
                names.iter().map(|n| (format!("hugepages-{n}"), json!("1Gi"))).collect();
            serde_json::from_value(json!({"containers": [{"name": "c", "resources": {"requests": requests}}]})).unwrap()
        };
        for (medium, sizes, want) in [
            ("HugePages", vec!["2Mi"], Ok("pagesize=2097152")),
            ("HugePages-1Gi", vec!["2Mi", "1Gi"], Ok("pagesize=1073741824")),
            ("HugePages", vec!["2Mi", "1Gi"], Err(HugePagesError::NotOne { count: 2 })),
            ("HugePages", vec![], Err(HugePagesError::NotOne { count: 0 })),
            ("HugePages-2Mi", vec![], Err(HugePagesError::NotRequested { size: "2Mi".into() })),
        ] {
            let got = mount_options(medium, &spec(&sizes));
            assert_eq!(got, want.map(|w| CString::new(w).unwrap()), "{medium} {sizes:?}");
        }
    }
}
