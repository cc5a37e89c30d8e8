//! core/v1 ConfigMap and Secret: named values for pods.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::kind::{Column, Rules, SelectableField};
use crate::rules::cells::{self, text};
use crate::rules::fill;
use crate::rules::plain::PLAIN;

/// Rules of ConfigMaps.
pub static CONFIG_MAP: Rules = Rules {
    columns: &[Column::NAME, Column::text("Data", "Number of values."), Column::AGE],
    row: |object, now| {
        let values = cells::len(&object["data"]) + cells::len(&object["binaryData"]);
        vec![cells::name(object), values.into(), cells::age(object, now)]
    },
    ..PLAIN
};

/// Rules of Secrets.
pub static SECRET: Rules = Rules {
    default: default_secret,
    selectable: &[SelectableField {
        label: "type",
        value: |secret| text(&secret["type"]).into(),
    }],
    columns: &[
        Column::NAME,
        Column::text("Type", "What the values are for."),
        Column::text("Data", "Number of values."),
        Column::AGE,
    ],
    row: |object, now| {
        let values = cells::len(&object["data"]).into();
        vec![
            cells::name(object),
            text(&object["type"]).into(),
            values,
            cells::age(object, now),
        ]
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    #[test]
    fn string_data_becomes_data() {
        let mut secret = json!({"data": {"a": "b2xk", "b": "a2VwdA=="}, "stringData": {"a": "new"}});
        super::default_secret(&mut secret);
        assert_eq!(
            secret,
            json!({"data": {"a": "bmV3", "b": "a2VwdA=="}, "type": "Opaque"})
        );
    }
}
