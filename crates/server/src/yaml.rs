//! YAML answers. Bodies in YAML are read by `mizzen_api::decode`.

use serde_json::Value;

/// `value` as a YAML document.
pub(crate) fn to_string(value: &Value) -> String {
    // Every JSON value can be written as YAML; JSON itself is YAML, so it stands in where the writer would not.
    serde_saphyr::to_string(value).unwrap_or_else(|_| value.to_string())
}
