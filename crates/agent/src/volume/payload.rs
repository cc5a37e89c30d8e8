//! Which files a ConfigMap, Secret or the pod itself gives a volume. Pure.

use std::collections::BTreeMap;

use bytes::Bytes;
use k8s_openapi::api::core::v1::{ConfigMap, DownwardAPIVolumeFile, KeyToPath, Pod, Secret};

use super::atomic::{File, Payload};
use crate::pod::fields::{FieldError, FieldSource};

/// A source cannot give what was asked.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum PayloadError {
    /// A listed key does not exist.
    #[error("{kind} references non-existent {kind} key: {key}")]
    MissingKey {
        /// `configmap` or `secret`.
        kind: &'static str,
        /// The key.
        key: String,
    },
    /// A field of the pod cannot be had.
    #[error(transparent)]
    Field(#[from] FieldError),
}

/// How files are made when their own item does not say.
#[derive(Debug, Clone, Copy)]
pub struct Defaults {
    /// Permission bits.
    pub mode: u32,
    /// Missing keys are skipped.
    pub optional: bool,
}

/// Permission bits as the API writes them.
pub fn mode(value: Option<i32>, default: u32) -> u32 {
    value.and_then(|m| u32::try_from(m).ok()).map_or(default, |m| m & 0o777)
}

/// Files of a ConfigMap.
pub fn config_map(map: &ConfigMap, items: Option<&[KeyToPath]>, defaults: Defaults) -> Result<Payload, PayloadError> {
    let mut all: BTreeMap<&str, Bytes> = BTreeMap::new();
    for (key, text) in map.data.iter().flatten() {
        all.insert(key, Bytes::copy_from_slice(text.as_bytes()));
    }
    for (key, data) in map.binary_data.iter().flatten() {
        all.insert(key, Bytes::copy_from_slice(&data.0));
    }
    select(&all, items, "configmap", defaults)
}

/// Files of a Secret.
pub fn secret(secret: &Secret, items: Option<&[KeyToPath]>, defaults: Defaults) -> Result<Payload, PayloadError> {
    let all = secret.data.iter().flatten().map(|(key, data)| (key.as_str(), Bytes::copy_from_slice(&data.0))).collect();
    select(&all, items, "secret", defaults)
}

fn select(
    all: &BTreeMap<&str, Bytes>,
    items: Option<&[KeyToPath]>,
    kind: &'static str,
    defaults: Defaults,
) -> Result<Payload, PayloadError> {
    let file = |data: &Bytes, mode: u32| File { data: data.clone(), mode, uid: None };
    let Some(items) = items.filter(|i| !i.is_empty()) else {
        return Ok(all.iter().map(|(key, data)| ((*key).to_string(), file(data, defaults.mode))).collect());
    };
    let mut payload = Payload::new();
    for item in items {
        match all.get(item.key.as_str()) {
            Some(data) => {
                payload.insert(item.path.clone(), file(data, mode(item.mode, defaults.mode)));
            }
            None if defaults.optional => {}
            None => return Err(PayloadError::MissingKey { kind, key: item.key.clone() }),
        }
    }
    Ok(payload)
}

/// Files of the downward API.
pub fn downward(
    pod: &Pod,
    items: &[DownwardAPIVolumeFile],
    default_mode: u32,
    fields: &FieldSource<'_>,
) -> Result<Payload, PayloadError> {
    let mut payload = Payload::new();
    for item in items {
        let text = if let Some(field) = &item.field_ref {
            fields.volume_field(pod, &field.field_path)?
        } else if let Some(resource) = &item.resource_field_ref {
            fields.resource(pod, resource, "")?
        } else {
            continue;
        };
        let file = File { data: Bytes::from(text), mode: mode(item.mode, default_mode), uid: None };
        payload.insert(item.path.clone(), file);
    }
    Ok(payload)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn items_choose_keys_and_modes() {
        let map: ConfigMap =
            serde_json::from_value(json!({"metadata": {}, "data": {"a": "1", "b": "2"}, "binaryData": {"c": "AAE="}}))
                .unwrap();
        let items = |v: serde_json::Value| -> Vec<KeyToPath> { serde_json::from_value(v).unwrap() };
        let strict = Defaults { mode: 0o644, optional: false };
        let all = config_map(&map, None, strict).unwrap();
        assert_eq!(all.keys().collect::<Vec<_>>(), ["a", "b", "c"]);
        assert_eq!(&all["c"].data[..], [0, 1]);
        let some = config_map(&map, Some(&items(json!([{"key": "a", "path": "x/y", "mode": 0o400}]))), strict).unwrap();
        assert_eq!(some["x/y"].mode, 0o400);
        let missing = items(json!([{"key": "z", "path": "z"}]));
        assert_eq!(
            config_map(&map, Some(&missing), strict),
            Err(PayloadError::MissingKey { kind: "configmap", key: "z".into() })
        );
        assert!(config_map(&map, Some(&missing), Defaults { optional: true, ..strict }).unwrap().is_empty());
    }
}
