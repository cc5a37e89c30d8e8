//! core/v1 ConfigMap and Secret: named values for pods.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::field::FieldError;
use crate::kind::{Column, Rules, SelectableField};
use crate::names;
use crate::rules::cells::{self, flag, text};
use crate::rules::check::{At, Errors, same};
use crate::rules::fill;
use crate::rules::plain::PLAIN;

/// Rules of ConfigMaps.
pub static CONFIG_MAP: Rules = Rules {
    validate: validate_config_map,
    validate_update: update_config_map,
    columns: &[Column::NAME, Column::text("Data", "Number of values."), Column::AGE],
    row: |object, now| {
        let values = cells::len(&object["data"]) + cells::len(&object["binaryData"]);
        vec![cells::name(object), values.into(), cells::age(object, now)]
    },
    ..PLAIN
};

/// Rules of Secrets.
pub static SECRET: Rules = Rules {
    validate: validate_secret,
    validate_update: update_secret,
    default: default_secret,
    selectable: &[SelectableField { label: "type", value: |secret| text(&secret["type"]).into() }],
    columns: &[
        Column::NAME,
        Column::text("Type", "What the values are for."),
        Column::text("Data", "Number of values."),
        Column::AGE,
    ],
    row: |object, now| {
        let values = cells::len(&object["data"]).into();
        vec![cells::name(object), text(&object["type"]).into(), values, cells::age(object, now)]
    },
    ..PLAIN
};

/// `stringData` is for writers only: it goes into `data`, over what is there.
fn default_secret(object: &mut Value) {
    let Some(object) = object.as_object_mut() else { return };
    fill::text(object, "type", "Opaque");
    let Some(Value::Object(strings)) = fill::remove(object, "stringData") else {
        return;
    };
    if strings.is_empty() {
        return;
    }
    let Some(data) = fill::child(object, "data") else {
        return;
    };
    for (key, value) in strings {
        if let Value::String(value) = value {
            data.insert(key, STANDARD.encode(value).into());
        }
    }
}

/// All values of one object together (1 MiB).
const SIZE_MAX: usize = 1 << 20;

fn validate_config_map(object: &Value) -> Vec<FieldError> {
    let (data, binary, mut errors) = (&object["data"], &object["binaryData"], Errors::default());
    let mut size = 0;
    for (key, value) in data.as_object().into_iter().flatten() {
        key_form(key, "data", &mut errors);
        if binary.get(key).is_some() {
            errors.invalid(&At::ROOT.field("data").key(key), key, "duplicate of key present in binaryData");
        }
        size += text(value).len();
    }
    for (key, value) in binary.as_object().into_iter().flatten() {
        key_form(key, "binaryData", &mut errors);
        size += decoded_len(value);
    }
    if size > SIZE_MAX {
        errors.too_long(&At::ROOT, SIZE_MAX);
    }
    errors.0
}

fn key_form(key: &str, field: &str, errors: &mut Errors) {
    let wrong = names::config_key(key);
    if !wrong.is_empty() {
        errors.all(&At::ROOT.field(field).key(key), key, wrong);
    }
}

/// Bytes in base64 text.
fn decoded_len(value: &Value) -> usize {
    let text = text(value).trim_end_matches('=');
    text.len() / 4 * 3 + (text.len() % 4).saturating_sub(1)
}

/// An object that was declared immutable stays so, with all its values.
fn keeps_values(new: &Value, old: &Value, fields: &[&str], errors: &mut Errors) {
    const FIXED: &str = "field is immutable when `immutable` is set";
    if !flag(&old["immutable"]) {
        return;
    }
    if !flag(&new["immutable"]) {
        errors.forbidden(&At::ROOT.field("immutable"), FIXED);
    }
    for field in fields {
        if !same(&new[*field], &old[*field]) {
            errors.forbidden(&At::ROOT.field(field), FIXED);
        }
    }
}

fn update_config_map(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = Errors::default();
    keeps_values(new, old, &["data", "binaryData"], &mut errors);
    errors.0.extend(validate_config_map(new));
    errors.0
}

fn validate_secret(object: &Value) -> Vec<FieldError> {
    let (data, at, mut errors) = (&object["data"], At::ROOT.field("data"), Errors::default());
    let mut size = 0;
    for (key, value) in data.as_object().into_iter().flatten() {
        key_form(key, "data", &mut errors);
        size += decoded_len(value);
    }
    if size > SIZE_MAX {
        errors.too_long(&at, SIZE_MAX);
    }
    match text(&object["type"]) {
        "kubernetes.io/service-account-token" => {
            let key = "kubernetes.io/service-account.name";
            let at = At::ROOT.field("metadata");
            errors.required_text(&at.field("annotations").key(key), &object["metadata"]["annotations"][key], "");
        }
        "kubernetes.io/dockercfg" => docker_config(data, ".dockercfg", &at, &mut errors),
        "kubernetes.io/dockerconfigjson" => docker_config(data, ".dockerconfigjson", &at, &mut errors),
        "kubernetes.io/basic-auth" if data["username"].is_null() && data["password"].is_null() => {
            errors.required(&at.key("username"), "");
            errors.required(&at.key("password"), "");
        }
        "kubernetes.io/ssh-auth" => errors.required_text(&at.key("ssh-privatekey"), &data["ssh-privatekey"], ""),
        "kubernetes.io/tls" => {
            for key in ["tls.crt", "tls.key"] {
                if data.get(key).is_none() {
                    errors.required(&at.key(key), "");
                }
            }
        }
        _ => {}
    }
    errors.0
}

/// Credentials of registries, as the Docker client keeps them: a JSON object.
fn docker_config(data: &Value, key: &str, at: &At<'_>, errors: &mut Errors) {
    let Some(encoded) = data[key].as_str() else {
        errors.required(&at.key(key), "");
        return;
    };
    let decoded = STANDARD.decode(encoded).unwrap_or_default();
    if let Err(error) = serde_json::from_slice::<serde_json::Map<String, Value>>(&decoded) {
        errors.invalid(&at.key(key), "<secret contents redacted>", error.to_string());
    }
}

fn update_secret(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = Errors::default();
    errors.immutable(&At::ROOT.field("type"), &new["type"], &old["type"]);
    keeps_values(new, old, &["data"], &mut errors);
    errors.0.extend(validate_secret(new));
    errors.0
}

#[cfg(test)]
mod tests {
    use crate::rules::check::testing::check;
    use serde_json::json;

    #[test]
    fn string_data_becomes_data() {
        let mut secret = json!({"data": {"a": "b2xk", "b": "a2VwdA=="}, "stringData": {"a": "new"}});
        super::default_secret(&mut secret);
        assert_eq!(secret, json!({"data": {"a": "bmV3", "b": "a2VwdA=="}, "type": "Opaque"}));
    }

    #[test]
    fn keys_sizes_and_types() {
        for (case, secret, errors) in [
            ("good", json!({"data": {"a": "eA=="}}), &[][..]),
            ("key", json!({"data": {"a/b": "eA=="}}), &["data[a/b]: Invalid value: \"a/b\": a valid config key must"]),
            ("tls", json!({"type": "kubernetes.io/tls", "data": {"tls.crt": ""}}), &["data[tls.key]: Required value"]),
            (
                "docker",
                json!({"type": "kubernetes.io/dockerconfigjson", "data": {".dockerconfigjson": "eA=="}}),
                &["data[.dockerconfigjson]: Invalid value: \"<secret contents redacted>\": "],
            ),
            (
                "size",
                json!({"data": {"a": "A".repeat(4 * (1 << 20))}}),
                &["data: Too long: may not be more than 1048576 bytes"],
            ),
        ] {
            check(case, &super::validate_secret(&secret), errors);
        }
        for (text, bytes) in [("", 0), ("eA==", 1), ("eHg=", 2), ("eHh4", 3), ("eHh4eA==", 4)] {
            assert_eq!(super::decoded_len(&json!(text)), bytes, "{text}");
        }
    }

    #[test]
    fn immutable_means_it() {
        let old = json!({"immutable": true, "data": {"a": "b"}});
        check("same", &super::update_config_map(&old, &old), &[]);
        let errors = ["immutable: Forbidden: field is immutable when", "data: Forbidden: field is immutable when"];
        check("changed", &super::update_config_map(&json!({"data": {"a": "c"}}), &old), &errors);
        let errors = ["type: Invalid value: \"b\": field is immutable"];
        check("type", &super::update_secret(&json!({"type": "b"}), &json!({"type": "a"})), &errors);
    }
}
