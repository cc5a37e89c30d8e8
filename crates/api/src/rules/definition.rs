//! apiextensions.k8s.io/v1 CustomResourceDefinition.

use serde_json::{Value, json};

use crate::kind::{Column, Rules};
use crate::rules::admission;
use crate::rules::cells;
use crate::rules::fill::{self, Fields};
use crate::rules::plain::{WITH_SPEC_AND_STATUS, WITH_STATUS};

/// Rules of CustomResourceDefinitions.
pub static DEFINITION: Rules = Rules {
    default: default_definition,
    prepare_create: prepare_definition,
    unconditional_update: false,
    columns: &[Column::NAME, Column::CREATED_AT],
    row: cells::name_and_created,
    ..WITH_SPEC_AND_STATUS
};

fn default_definition(object: &mut Value) {
    let Some(object) = object.as_object_mut() else { return };
    let Some(spec) = fill::child(object, "spec") else {
        return;
    };
    if let Some(names) = fill::child(spec, "names") {
        let kind = names.get("kind").and_then(Value::as_str).unwrap_or_default().to_string();
        if !kind.is_empty() {
            fill::text(names, "singular", &kind.to_lowercase());
            fill::text(names, "listKind", &format!("{kind}List"));
        }
    }
    fill::optional(spec, "conversion", json!({"strategy": "None"}));
    let webhook = fill::existing(spec, "conversion").and_then(|c| fill::existing(c, "webhook"));
    if let Some(client) = webhook.and_then(|w| fill::existing(w, "clientConfig")) {
        admission::service_port(client);
    }
    stored_versions(object);
}

/// The first stored version is the one that is stored now.
fn stored_versions(object: &mut Fields) {
    let empty = Vec::new();
    let versions = object.get("spec").and_then(|s| s["versions"].as_array()).unwrap_or(&empty);
    let Some(stored) = versions.iter().find(|v| v["storage"] == true).map(|v| v["name"].clone()) else {
        return;
    };
    let Some(status) = fill::child(object, "status") else {
        return;
    };
    if fill::is_empty(status, "storedVersions") {
        status.insert("storedVersions".into(), json!([stored]));
    }
}

fn prepare_definition(object: &mut Value) {
    (WITH_STATUS.prepare_create)(object);
    if let Some(object) = object.as_object_mut() {
        stored_versions(object);
    }
}
