//! apiextensions.k8s.io/v1 CustomResourceDefinition.

use serde_json::{Value, json};

use crate::crd::{self, Approval};
use crate::field::FieldError;
use crate::kind::{Column, Rules};
use crate::names;
use crate::rules::admission;
use crate::rules::cells::{self, list, text};
use crate::rules::check::{At, Errors};
use crate::rules::fill::{self, Fields};
use crate::rules::plain::{WITH_SPEC_AND_STATUS, WITH_STATUS};

/// Rules of CustomResourceDefinitions.
pub static DEFINITION: Rules = Rules {
    validate,
    validate_update,
    default: default_definition,
    prepare_create: prepare_definition,
    prepare_update: prepare_definition_update,
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

/// A version that is stored from now on is remembered, for objects in it will have to be read.
fn prepare_definition_update(new: &mut Value, old: &Value) {
    (WITH_STATUS.prepare_update)(new, old);
    let stored = list(&new["spec"]["versions"]).iter().find(|v| v["storage"] == true).map(|v| v["name"].clone());
    let Some(stored) = stored else { return };
    match new["status"]["storedVersions"].as_array_mut() {
        Some(versions) if versions.contains(&stored) => {}
        Some(versions) => versions.push(stored),
        None => new["status"]["storedVersions"] = json!([stored]),
    }
}

/// Formats that columns of a table can have.
const COLUMN_FORMATS: [&str; 8] = ["byte", "date", "date-time", "double", "float", "int32", "int64", "password"];

/// Types that columns of a table can have.
const COLUMN_TYPES: [&str; 5] = ["boolean", "date", "integer", "number", "string"];

/// Errors of a new definition, all but those inside its schemas.
fn validate(object: &Value) -> Vec<FieldError> {
    let (spec, at, mut errors) = (&object["spec"], At::ROOT.field("spec"), Errors::default());
    let (group, plural) = (text(&spec["group"]), text(&spec["names"]["plural"]));
    let (name, wanted) = (text(&object["metadata"]["name"]), format!("{plural}.{group}"));
    if name != wanted {
        let detail = "must be spec.names.plural+\".\"+spec.group".to_string();
        errors.invalid(&At::ROOT.field("metadata").field("name"), name, detail);
    }
    errors.required_form(&at.field("group"), &spec["group"], names::dns1123_subdomain);
    if !group.is_empty() && !group.contains('.') {
        errors.invalid(&at.field("group"), group, "should be a domain with at least one dot");
    }
    errors.required_one_of(&at.field("scope"), &spec["scope"], &["Cluster", "Namespaced"]);
    validate_names(&spec["names"], &at.field("names"), &mut errors);
    versions(spec, &at.field("versions"), &mut errors);
    conversion(&spec["conversion"], &at.field("conversion"), &mut errors);
    approval(object, &mut errors);
    if spec["preserveUnknownFields"] == true {
        let detail =
            "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead";
        errors.invalid(&at.field("preserveUnknownFields"), true, detail);
    }
    errors.0
}

fn approval(object: &Value, errors: &mut Errors) {
    let (group, annotations) = (text(&object["spec"]["group"]), &object["metadata"]["annotations"]);
    let at = At::ROOT.field("metadata");
    let at = at.field("annotations");
    let at = at.key(crd::APPROVED);
    match Approval::of(group, annotations) {
        Some(missing @ Approval::Missing) => errors.required(&at, &missing.message()),
        Some(invalid @ Approval::Invalid) => errors.invalid(&at, &annotations[crd::APPROVED], invalid.message()),
        _ => {}
    }
}

fn validate_names(kinds: &Value, at: &At<'_>, errors: &mut Errors) {
    for field in ["plural", "singular"] {
        errors.required_form(&at.field(field), &kinds[field], names::dns1035_label);
    }
    for field in ["kind", "listKind"] {
        let name = text(&kinds[field]);
        if name.is_empty() {
            errors.required(&at.field(field), "");
        }
        let wrong = names::dns1035_label(&name.to_lowercase());
        if !name.is_empty() && !wrong.is_empty() {
            let detail = format!("may have mixed case, but should otherwise match: {}", wrong.join(","));
            errors.invalid(&at.field(field), name, detail);
        }
    }
    if !text(&kinds["kind"]).is_empty() && kinds["kind"] == kinds["listKind"] {
        errors.invalid(&at.field("listKind"), &kinds["listKind"], "kind and listKind may not be the same");
    }
    for field in ["shortNames", "categories"] {
        let at = at.field(field);
        for (i, name) in list(&kinds[field]).iter().enumerate() {
            errors.all(&at.index(i), name, names::dns1035_label(text(name)));
        }
    }
}

fn versions(spec: &Value, at: &At<'_>, errors: &mut Errors) {
    let versions = list(&spec["versions"]);
    let spec_at = At::ROOT.field("spec");
    // What all versions say alike Kubernetes keeps, and tells, as one for all of them.
    let shared = |field: &str| {
        let first = &versions[0][field];
        !first.is_null() && versions.iter().all(|version| version[field] == *first)
    };
    for (i, version) in versions.iter().enumerate() {
        let at = at.index(i);
        let name = text(&version["name"]);
        let wrong = names::dns1035_label(name);
        if !wrong.is_empty() {
            errors.invalid(&at.field("name"), name, wrong.join(","));
        }
        deprecation(version, &at, errors);
        let place = |field: &'static str, all: &'static str| {
            let alike = shared(field);
            (!alike || i == 0).then(|| if alike { spec_at.field(all) } else { at.field(field) })
        };
        let schema = &version["schema"]["openAPIV3Schema"];
        if schema.is_null() {
            errors.required(&at.field("schema").field("openAPIV3Schema"), "schemas are required");
        } else if let Some(here) = place("schema", "validation") {
            let has_status = version["subresources"]["status"].is_object();
            crd::check_schema(schema, has_status, &here.field("openAPIV3Schema"), errors);
        }
        if let Some(here) = place("subresources", "subresources") {
            scale(&version["subresources"]["scale"], &here.field("scale"), errors);
        }
        if let Some(here) = place("additionalPrinterColumns", "additionalPrinterColumns") {
            for (j, column) in list(&version["additionalPrinterColumns"]).iter().enumerate() {
                printer_column(column, &here.index(j), errors);
            }
        }
        if let Some(here) = place("selectableFields", "selectableFields") {
            selectable(version, &here, errors);
        }
    }
    let named = |version: &Value| text(&version["name"]).to_string();
    if (1..versions.len()).any(|i| versions[..i].iter().any(|other| named(other) == named(&versions[i]))) {
        errors.invalid(at, versions, "must contain unique version names");
    }
    if versions.iter().filter(|version| version["storage"] == true).count() != 1 {
        errors.invalid(at, versions, "must have exactly one version marked as storage version");
    }
}

fn deprecation(version: &Value, at: &At<'_>, errors: &mut Errors) {
    let at = at.field("deprecationWarning");
    let Some(warning) = version["deprecationWarning"].as_str() else { return };
    if version["deprecated"] != true {
        return errors.invalid(&at, warning, "can only be set for deprecated versions");
    }
    if warning.len() > 256 {
        errors.invalid(&at, warning, "must be <= 256 characters long");
    }
    if warning.is_empty() {
        errors.invalid(&at, warning, "must not be an empty string");
    }
    if let Some((index, _)) = warning.char_indices().find(|(_, c)| c.is_control()) {
        let detail =
            format!("must only contain printable UTF-8 characters; non-printable character found at index {index}");
        errors.invalid(&at, warning, detail);
    }
}

fn printer_column(column: &Value, at: &At<'_>, errors: &mut Errors) {
    errors.required_text(&at.field("name"), &column["name"], "");
    let detail = format!("must be one of {}", COLUMN_TYPES.join(","));
    match text(&column["type"]) {
        "" => errors.required(&at.field("type"), &detail),
        known if COLUMN_TYPES.contains(&known) => {}
        other => errors.invalid(&at.field("type"), other, detail),
    }
    let format = text(&column["format"]);
    if !format.is_empty() && !COLUMN_FORMATS.contains(&format) {
        errors.invalid(&at.field("format"), format, format!("must be one of {}", COLUMN_FORMATS.join(",")));
    }
    match text(&column["jsonPath"]) {
        "" => errors.required(&at.field("JSONPath"), ""),
        path => simple_path(path, &at.field("JSONPath"), errors),
    }
}

fn simple_path(path: &str, at: &At<'_>, errors: &mut Errors) {
    if !path.starts_with('.') {
        errors.invalid(at, path, "must be a simple json path starting with .");
    }
}

fn scale(scale: &Value, at: &At<'_>, errors: &mut Errors) {
    if scale.is_null() {
        return;
    }
    for (field, start) in [("specReplicasPath", ".spec."), ("statusReplicasPath", ".status.")] {
        let at = at.field(field);
        match text(&scale[field]) {
            "" => errors.required(&at, ""),
            path if !path.starts_with('.') => simple_path(path, &at, errors),
            path if !path.starts_with(start) => {
                errors.invalid(&at, path, format!("should be a json path under {}", start.trim_end_matches('.')));
            }
            _ => {}
        }
    }
    let (path, at) = (text(&scale["labelSelectorPath"]), at.field("labelSelectorPath"));
    if !path.is_empty() && !path.starts_with('.') {
        simple_path(path, &at, errors);
    } else if !path.is_empty() && !path.starts_with(".spec.") && !path.starts_with(".status.") {
        errors.invalid(&at, path, "should be a json path under either .spec or .status");
    }
}

/// Most fields of a version that can be selected by.
const SELECTABLE_MAX: usize = 8;

fn selectable(version: &Value, at: &At<'_>, errors: &mut Errors) {
    let mut seen: Vec<&str> = Vec::new();
    for (i, field) in list(&version["selectableFields"]).iter().enumerate() {
        let (path, at) = (text(&field["jsonPath"]), at.index(i));
        let at = at.field("jsonPath");
        if path.is_empty() {
            errors.required(&at, "");
            continue;
        }
        let Some(found) = crd::field_at(&version["schema"]["openAPIV3Schema"], path, false) else {
            errors.invalid(&at, path, "is an invalid path: does not refer to a valid field");
            continue;
        };
        if path == ".metadata" || path.starts_with(".metadata.") {
            errors.invalid(&at, path, "must not point to fields in metadata");
        }
        if !matches!(text(&found["type"]), "string" | "boolean" | "integer") {
            let detail = "must point to a field of type string, boolean or integer. Enum string fields and strings with formats are allowed.";
            errors.invalid(&at, path, detail);
        }
        if seen.contains(&path) {
            errors.duplicate(&at, path);
        } else {
            seen.push(path);
        }
    }
    if seen.len() > SELECTABLE_MAX {
        errors.0.push(FieldError::too_many(at.to_string(), seen.len(), SELECTABLE_MAX));
    }
}

fn conversion(conversion: &Value, at: &At<'_>, errors: &mut Errors) {
    errors.required_one_of(&at.field("strategy"), &conversion["strategy"], &["None", "Webhook"]);
    let webhook = &conversion["webhook"];
    match text(&conversion["strategy"]) {
        "Webhook" if webhook["clientConfig"].is_null() => {
            errors.required(&at.field("webhookClientConfig"), "required when strategy is set to Webhook");
        }
        "Webhook" => {
            admission::client_config(&webhook["clientConfig"], &at.field("webhookClientConfig"), errors);
            let versions = list(&webhook["conversionReviewVersions"]);
            let at = at.field("conversionReviewVersions");
            if versions.is_empty() {
                errors.required(&at, "");
            } else if !versions.iter().any(|version| version == "v1" || version == "v1beta1") {
                errors.invalid(&at, versions, "must include at least one of v1, v1beta1");
            }
        }
        _ if !webhook.is_null() => {
            errors.forbidden(&at.field("webhookClientConfig"), "should not be set when strategy is not set to Webhook");
        }
        _ => {}
    }
}

/// Errors of a changed definition: what is stored must stay readable.
fn validate_update(new: &Value, old: &Value) -> Vec<FieldError> {
    // What was let in stays, or nobody could take its finalizers off once a rule is stricter.
    let unchanged = new["spec"] == old["spec"];
    let (mut errors, at) = (Errors(if unchanged { Vec::new() } else { validate(new) }), At::ROOT.field("spec"));
    let is_established = cells::has_condition(old, "Established");
    let (spec, stored) = (&new["spec"], &old["spec"]);
    errors.immutable(&at.field("group"), &spec["group"], &stored["group"]);
    if is_established {
        errors.immutable(&at.field("scope"), &spec["scope"], &stored["scope"]);
        let names_at = at.field("names");
        for field in ["kind", "plural"] {
            errors.immutable(&names_at.field(field), &spec["names"][field], &stored["names"][field]);
        }
    }
    let status_at = At::ROOT.field("status");
    let stored_at = status_at.field("storedVersions");
    for (i, version) in list(&new["status"]["storedVersions"]).iter().enumerate() {
        if !list(&spec["versions"]).iter().any(|one| one["name"] == *version) {
            let name = text(version);
            let detail = format!(
                "missing from spec.versions; {name} was previously a storage version, and must remain in \
                spec.versions until a storage migration ensures no data remains persisted in {name} and removes {name} from \
                status.storedVersions"
            );
            errors.invalid(&stored_at.index(i), version, detail);
        }
    }
    errors.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::check::testing::{Case, check};

    #[test]
    fn definitions_have_one_stored_version() {
        let definition = |change: fn(&mut Value)| {
            let mut object = json!({"metadata": {"name": "widgets.example.com"}, "spec": {"group": "example.com", "scope": "Namespaced",
                "names": {"plural": "widgets", "kind": "Widget"}, "versions": [{"name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object"}}}]}});
            change(&mut object);
            default_definition(&mut object);
            object
        };
        let good = definition(|_| {});
        assert_eq!(
            good["spec"]["names"],
            json!({"plural": "widgets", "kind": "Widget", "singular": "widget", "listKind": "WidgetList"})
        );
        assert_eq!(good["status"]["storedVersions"], json!(["v1"]));
        let cases: [Case; 5] = [
            ("good", |_| {}, &[]),
            (
                "name",
                |d| d["metadata"]["name"] = json!("x"),
                &["metadata.name: Invalid value: \"x\": must be spec.names.plural+\".\"+spec.group"],
            ),
            (
                "none stored",
                |d| d["spec"]["versions"][0]["storage"] = json!(false),
                &["spec.versions: Invalid value: ["],
            ),
            (
                "no schema",
                |d| d["spec"]["versions"][0]["schema"] = json!({}),
                &["spec.versions[0].schema.openAPIV3Schema: Required value"],
            ),
            (
                "kind",
                |d| d["spec"]["names"]["kind"] = json!("A b"),
                &[
                    "spec.names.singular: Invalid value: \"a b\"",
                    "spec.names.kind: Invalid value: \"A b\": may have mixed case",
                    "spec.names.listKind: Invalid value: \"A bList\": may have mixed case",
                ],
            ),
        ];
        for (case, change, errors) in cases {
            check(case, &validate(&definition(change)), errors);
        }
        let mut established = good.clone();
        established["status"]["conditions"] = json!([{"type": "Established", "status": "True"}]);
        let other = definition(|d| d["spec"]["scope"] = json!("Cluster"));
        check(
            "scope",
            &validate_update(&other, &established),
            &["spec.scope: Invalid value: \"Cluster\": field is immutable"],
        );
    }
}
